"""Verdicts on synthetic data whose answer is known."""

import gc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats as scipy_stats

from inpaint_lib.evaluation import evaluate
from inpaint_lib.results import collect, standing, stats
from inpaint_lib.study import config

MARGIN = 0.001


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch):
    """statsmodels collects garbage at every correction: a quarter of a second each time in a process that holds torch."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def study(effect, seeds=5, noise=0.005, cells=6, rng=None, metric="l1", datasets=("celeba", "coco"), region="hole"):
    """results.csv of fixed and progressive on `cells` cells: progressive / fixed is exp(effect + noise) per seed."""
    rng, rows = rng or np.random.default_rng(0), []
    for cell in range(cells):
        for seed in range(seeds):
            level, d = rng.normal(0.1, 0.02), np.exp(effect + noise * rng.normal())  # seeds differ much, pairs little
            for setup, value in (("fixed", level), ("progressive", level * d)):
                rows.append([datasets[cell % 2], f"a{cell // 2}", setup, seed, 2, "square", 16, region, metric, value, 64])
    return pd.DataFrame(rows, columns=collect.COLUMNS)


def runs_of(results, **changes):
    """runs.csv of such a study: all have learnt and are alive, unless told otherwise."""
    runs = results[["dataset", "architecture", "setup", "seed"]].drop_duplicates()
    plain = {"diverged": False, "learnt": True, "useful": True, "alive": True, "device": "GPU",
             "precision": "float32", "torch": "2"}  # fmt: skip
    return runs.assign(**plain | changes)


def judged(results, **changes):
    return stats.judge(results, runs_of(results, **changes))


def primary(results, **changes):
    found = judged(results, **changes)
    return found[found.hypothesis.str.startswith("primary")]


@pytest.mark.parametrize(
    ("effect", "noise", "word"),
    [(0.1, 0.005, "refuted"), (-0.1, 0.005, "supported"), (0.0, 0.005, "equivalent"), (0.01, 0.04, "inconclusive")],
)
def test_a_planted_effect_over_five_seeds_gets_its_word_and_sign(effect, noise, word):
    found = primary(study(effect, noise=noise))
    assert len(found) == 6 and set(found.verdict) == {word} and set(found.n_seeds) == {5}
    assert list(found.columns) == stats.COLUMNS
    assert np.allclose(found.effect, np.expm1(effect), atol=0.05)
    assert (found.ci_low < found.effect).all() and (found.effect < found.ci_high).all()
    if abs(effect) > 0.05:
        assert (np.sign(found.effect) == np.sign(effect)).all() and (found.p_value < 0.05).all()


@pytest.mark.parametrize(
    ("seeds", "datasets", "before"),
    [
        (5, ("celeba", "coco"), ""),
        (4, ("celeba", "coco"), "provisional "),
        (5, ("faces", "scenes"), "exploratory "),
        (3, ("faces", "scenes"), "exploratory provisional "),
    ],
)
def test_few_seeds_and_other_data_stand_before_the_word(seeds, datasets, before):
    assert set(primary(study(-0.3, seeds, datasets=datasets)).verdict) == {before + "supported"}


def test_another_size_or_budget_is_exploratory(monkeypatch):
    results, plan = study(-0.3), stats.registered()
    for key in stats.OF_THE_PAPER:
        other = SimpleNamespace(config=plan.model_copy(update={key: None}))
        found = stats.judge(results, runs_of(results), other)
        assert set(found[found.hypothesis.str.startswith("primary")].verdict) == {"exploratory supported"}


def test_no_verdict_where_a_side_has_not_learnt_nor_on_the_stability_of_a_dead_game():
    results = study(-0.3)
    one = runs_of(results)
    one.loc[(one.dataset == "celeba") & (one.setup == "fixed") & (one.seed == 3), "learnt"] = False
    found = stats.judge(results, one)
    found = found[found.hypothesis.str.startswith("primary")]
    assert set(found[found.dataset == "celeba"].verdict) == {stats.NOT_LEARNT}
    assert set(found[found.dataset == "coco"].verdict) == {"supported"}
    assert set(primary(study(-0.3, seeds=1), learnt=False).verdict) == {stats.NOT_LEARNT}
    results = study(-0.3, metric="stability", region="training")
    for alive, word in ((True, "supported"), (False, stats.NOT_ALIVE)):
        found = judged(results, alive=alive)
        assert set(found[found.metric == "stability"].verdict) == {word}
    assert set(primary(study(-0.3), alive=False).verdict) == {"supported"}


@pytest.mark.parametrize("value", [0.0, -0.1])
def test_a_pair_without_a_logarithm_is_left_out_and_named_beside_the_verdict(value):
    results = study(0.1, cells=1)
    results.loc[(results.seed == 3) & (results.setup == "fixed"), "value"] = value
    found = primary(results).iloc[0]
    assert found.n_seeds == 4 and found.remark == "seed 3: left out, no logarithm (a value of 0 or below)"
    runs = runs_of(results)
    runs.loc[(runs.seed == 2) & (runs.setup == "fixed"), "torch"] = "3"
    assert stats.judge(results, runs).remark[0] == f"{found.remark}; seed 2: torch 2 / 3"


def test_pairs_trained_otherwise_are_named_beside_the_verdict():
    results = study(-0.3, cells=1)
    runs = runs_of(results)
    runs.loc[(runs.setup == "fixed") & (runs.seed == 2), ["precision", "torch"]] = "bfloat16", "2 + 3"
    found = stats.judge(results, runs)
    assert found.remark[0] == "seed 2: precision bfloat16 / float32; seed 2: torch 2 / 3"
    assert not judged(results).remark.any()


def test_a_run_that_diverged_leaves_its_pair_and_counts_as_the_worse_in_the_sensitivity_row():
    results = study(-0.3, cells=1)
    runs = runs_of(results)
    runs.loc[(runs.setup == "fixed") & runs.seed.isin([0, 1]), "diverged"] = True
    runs.loc[(runs.setup == "progressive") & (runs.seed == 4), "diverged"] = True
    left = results.merge(runs[~runs.diverged][["setup", "seed"]], on=["setup", "seed"])
    assert stats.judge(left, runs).n_seeds[0] == 2
    found = stats.outcomes(runs, left).set_index("setup")
    assert list(found.diverged[["fixed", "progressive"]]) == [2, 1] and set(found.runs) == {5}
    row = found.loc["progressive"]
    assert (row.pairs_better, row.pairs) == (4, 5) and row.p_sign == pytest.approx(2 * (1 + 5) / 32)
    assert row.p_diverged == 1  # one against two


def test_where_one_side_diverged_wholly_the_row_says_so():
    results = study(-0.3, cells=1)
    runs = runs_of(results)
    runs.loc[runs.setup == "fixed", "diverged"] = True
    found = stats.judge(results[results.setup != "fixed"], runs)
    assert found.verdict[0] == "not answered: no whole pair: 5 of 10 runs diverged" and found.n_seeds[0] == 0


def test_not_to_suffer_is_never_called_equivalent():
    d = np.array([0.013, 0.009, 0.011, 0.006, 0.018])
    assert stats.p_equivalent(d, 0.02) < 0.05
    for test, word in (("superiority", "equivalent"), ("non_inferiority", "supported")):
        assert stats.verdict(*stats.interval(d), 5, 0.02, "lower", test, True) == word
    assert stats.verdict(-0.005, 0.022, 5, 0.02, "lower", "non_inferiority", True) == "inconclusive"


def test_what_so_many_seeds_find_is_found_four_times_in_five():
    rng, n, level = np.random.default_rng(4), 2000, 0.05
    effect = -stats.detectable(0.01, 5, 0.02, level)
    rows = effect + 0.01 * rng.normal(size=(n, 5))
    found = np.mean([stats.interval(row, level)[1] < -0.02 for row in rows])
    assert found == pytest.approx(0.8, abs=0.03)


def test_equivalence_errs_at_most_as_often_as_its_level():
    """True effect = the margin: equivalent is wrong; two one-sided tests at 5 % err in at most 5 % of studies."""
    rng, n = np.random.default_rng(5), 4000
    wrong = np.mean([stats.p_equivalent(row, 0.02) <= 0.05 for row in 0.02 + 0.003 * rng.normal(size=(n, 5))])
    assert 0.03 <= wrong <= 0.065


def test_higher_is_better_turns_the_sign():
    found = judged(study(0.5, noise=0.001, metric="psnr").assign(value=lambda t: 100 * t.value))
    found = found[found.metric == "psnr"]
    assert set(found.verdict) == {"supported"} and (found.effect > 0).all()


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_are_always_inconclusive(seeds):
    assert set(primary(study(0.5, seeds, noise=1e-6)).verdict) == {"inconclusive"}


def test_at_the_margin_the_rate_of_false_verdicts_is_nominal():
    """True effect = -margin: 'supported' is wrong, and a single 95 % interval errs on that side in 2.5 % of studies."""
    rng, n = np.random.default_rng(1), 4000
    d = -MARGIN + 0.001 * rng.normal(size=(n, 5))
    wrong = sum(
        stats.verdict(*stats.interval(row), 5, MARGIN, "lower", "superiority") == "supported" for row in d
    )  # binomial, standard deviation 10
    assert 65 <= wrong <= 135


def test_holm_keeps_the_error_of_the_whole_family_below_nominal():
    """No effect at all, margin zero: any verdict is wrong; six hypotheses together err in at most 5 % of studies."""
    rng, n, wrong = np.random.default_rng(2), 600, 0
    for _ in range(n):
        d = rng.normal(size=(6, 5))
        p = [stats.p_value(row, 0.0, "lower", "superiority") for row in d]
        adjusted, levels = stats.holm(p, 6)
        wrong += (adjusted <= 0.05).any()
        beyond = [low > 0 or high < 0 for low, high in map(stats.interval, d, levels)]
        assert beyond == list(adjusted <= 0.05)  # interval and p decide alike
    assert 0.025 * n <= wrong <= 0.075 * n  # binomial, standard deviation 0.009 n


def test_power_grows_with_seeds_and_effect():
    rng = np.random.default_rng(3)

    def power(effect, seeds, n=400):
        rows = effect + 0.002 * rng.normal(size=(n, seeds))
        found = [stats.verdict(*stats.interval(row), seeds, MARGIN, "lower", "superiority") for row in rows]
        return np.mean([v == "supported" for v in found])

    assert power(-0.02, 5) > 0.99 and power(-0.003, 5) < power(-0.003, 10) < power(-0.003, 20) and power(-0.0015, 5) < 0.15


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "supported"), (-0.01, "supported"), (0.01, "refuted")])
def test_not_to_suffer_is_non_inferiority(effect, verdict):
    d = effect + np.array([-1, 0, 1, 0.5, -0.5]) * 1e-4
    assert stats.verdict(*stats.interval(d), 5, MARGIN, "lower", "non_inferiority") == verdict
    assert stats.p_value(d, MARGIN, "lower", "non_inferiority") < 0.05


def test_primaries_that_were_not_run_count():
    results = study(-0.03, noise=0.01, cells=1)
    one = primary(results).iloc[0]
    d = results.pivot_table("value", "seed", "setup")
    d = np.log(d.progressive / d.fixed).to_numpy()
    single = stats.p_value(d, np.log1p(0.02), "lower", "superiority")
    assert one.p_value == pytest.approx(min(1, 6 * single)) and one.deviation == pytest.approx(d.std(ddof=1))
    half = scipy_stats.t.ppf(1 - 0.05 / 6 / 2, 4) * d.std(ddof=1) / 5**0.5
    assert np.log1p(one.ci_high) - np.log1p(one.effect) == pytest.approx(half)


def test_a_metric_that_was_not_measured_is_inconclusive():
    found = judged(study(-0.01))
    fid = found[found.metric == "fid"]
    assert len(fid) == 6 and set(fid.verdict) == {"inconclusive"} and set(fid.n_seeds) == {0}


def test_the_bootstrap_draws_whole_groups():
    rng = np.random.default_rng(0)
    d, groups = np.repeat(rng.normal(size=8), 50), np.repeat(np.arange(8), 50)  # 400 images, eight photographs
    low, high = stats.bootstrap(d, groups)
    narrow = stats.bootstrap(d, np.arange(400))
    assert high - low > 4 * (narrow[1] - narrow[0])
    assert low < d.mean() < high and np.isnan(stats.bootstrap(d, np.zeros(400))).all()


def test_the_registered_file_is_whole_and_a_wrong_entry_is_named(tmp_path):
    plan = stats.registered()
    primaries, entries = plan.primaries, plan.hypotheses
    assert primaries == 6 and [e["name"] for e in entries if e["role"] == "primary"] == ["progressive fills better than fixed"]
    stored = yaml.safe_load(stats.FILE.read_text())
    head = {key: value for key, value in stored.items() if key != "hypotheses"}
    for key, value in (("better", "bigger"), ("margin", -1), ("margin", "x"), ("role", "third"), ("setups", ["fixed", "fast"])):
        broken = head | {"hypotheses": [stored["hypotheses"][0] | {key: value}]}
        (tmp_path / "h.yaml").write_text(yaml.safe_dump(broken))
        with pytest.raises(config.ConfigError, match=f"h.yaml: progressive fills better than fixed: {key}"):
            stats.registered(tmp_path / "h.yaml")
    assert stats.registered(measures=evaluate.MEASURES).hypotheses == entries
    (tmp_path / "h.yaml").write_text(yaml.safe_dump(head | {"hypotheses": [stored["hypotheses"][0] | {"metric": "L1"}]}))
    with pytest.raises(config.ConfigError, match="there is no metric 'L1' of region 'hole'"):
        stats.registered(tmp_path / "h.yaml", evaluate.MEASURES)
    for text, said in (
        ("[", "not valid YAML"),
        (yaml.safe_dump(head), "key 'hypotheses' is missing"),
        (yaml.safe_dump(stored | {"primaries": "many"}), "primaries: expected a whole number, got 'many'"),
        (yaml.safe_dump(stored | {"hypotheses": 3}), "hypotheses: expected a list, got 3"),
    ):
        (tmp_path / "h.yaml").write_text(text)
        with pytest.raises(config.ConfigError, match=f"h.yaml: {said}"):
            stats.registered(tmp_path / "h.yaml")
    (tmp_path / "h.yaml").write_text(yaml.safe_dump(stored | {"hypotheses": ["one"]}))
    with pytest.raises(config.ConfigError, match="h.yaml: hypotheses: expected keys and values, got 'one'"):
        stats.registered(tmp_path / "h.yaml")


@pytest.mark.parametrize(("d", "p"), [([0.0] * 5, 1.0), ([0.5] * 5, 0.0), ([-0.5] * 5, 0.0)])
def test_differences_without_spread_decide_without_a_warning(d, p):
    assert stats.p_value(d, MARGIN, "lower", "superiority") == p


def test_a_network_is_compared_with_a_slow_fill_on_the_images_that_one_was_measured_on():
    """Over all images the network errs more than the slow fill did on its first ten, on those ten less; and the other way."""
    own, groups = np.r_[np.full(10, 0.1), np.full(90, 0.9)], list(range(100))
    plain = {"mean colour": np.full(100, 1.0), "nearest": np.full(100, 1.0)}
    found = standing.learning(own, plain | {"biharmonic": np.full(10, 0.2)}, groups)
    assert found["useful"] and found["best_fill"] != "biharmonic"
    found = standing.learning(own[::-1], plain | {"biharmonic": np.full(10, 0.6)}, groups)
    assert found["learnt"] and not found["useful"] and (found["best_fill"], found["best_fill_images"]) == ("biharmonic", 10)
