"""Verdicts on synthetic data whose answer is known."""

import dataclasses

import numpy as np
import pytest
import yaml
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

from inpaint_lib.evaluation import measures
from inpaint_lib.results import select, standing, stats
from inpaint_lib.results.resampling import bootstrap
from inpaint_lib.study import config
from tests.results import synthetic

MARGIN = 0.001
PAIR = {"setups": ["fixed", "progressive"], "diverged": (), "seeds": range(5)}
CELL = PAIR | {"datasets": ["faces"], "architectures": ["custom"]}


def of_paper(results, **changes):
    """The same numbers as if of the paper's study, but for `changes`."""
    config, values = dict(results.about["config"]), dict(stats.registered()) | changes
    for key, section in stats.OF_THE_PAPER.items():
        if key != "mask_widths":
            config[section] = config[section] | {key: values[key]}
    return dataclasses.replace(results, about=results.about | {"config": config})


def primary(results):
    return stats.primary(stats.judge(results)).reset_index(drop=True)


def word(text):
    return text.removeprefix("exploratory ").removeprefix("provisional ")


@pytest.mark.parametrize(
    ("effect", "noise", "expected"),
    [(1.1, 0.005, "refuted"), (0.9, 0.005, "supported")]
    + [(1.0, 0.003, "equivalent"), (1.01, 0.02, "inconclusive")],
)
def test_a_planted_effect_over_five_seeds_gets_its_word_and_sign(effect, noise, expected):
    results = synthetic.study(**PAIR, noise=noise, effect={"fixed": 1.0, "progressive": effect})
    found = primary(results)
    assert len(found) == 6 and set(found.verdict) == {f"exploratory {expected}"}
    assert list(found.columns) == stats.COLUMNS and set(found.n_seeds) == {5}
    assert np.allclose(found.effect, effect - 1, atol=0.06)
    assert (found.ci_low < found.effect).all() and (found.effect < found.ci_high).all()
    if abs(effect - 1) > 0.05:
        assert (found.p_value < 0.05).all()
    pairs = select.effects(results).groupby(["dataset", "architecture"], sort=False).effect
    expected = pairs.agg(lambda d: np.expm1(np.log1p(d).mean()))
    assert found.effect.to_numpy() == pytest.approx(expected.to_numpy())


def test_few_seeds_and_studies_of_another_size_stand_before_the_word(monkeypatch):
    plan = stats.registered()
    widths = {"mask_widths": (8, 16), "datasets": ("faces", "scenes")}
    monkeypatch.setattr(stats, "registered", lambda *_: plan.model_copy(update=widths))
    three = synthetic.study(**CELL | {"seeds": range(3)}, noise=0.001)
    assert set(primary(of_paper(three)).verdict) == {"provisional supported"}
    assert set(primary(three).verdict) == {"exploratory provisional supported"}
    five = synthetic.study(**CELL, noise=0.001)
    assert set(primary(of_paper(five)).verdict) == {"supported"}
    for key in stats.OF_THE_PAPER.keys() - {"mask_widths"}:
        found = primary(of_paper(five, **{key: 1}))
        assert set(found.verdict) == {"exploratory supported"}
    for seeds in (1, 2):
        few = synthetic.study(**CELL | {"seeds": range(seeds)}, noise=1e-6)
        assert set(primary(few).verdict) == {"inconclusive"}


def test_no_verdict_where_a_run_does_not_beat_the_trivial_baselines():
    results = synthetic.study(**PAIR)
    rows = "dataset == 'faces' and architecture == 'custom' and setup == 'fixed' and seed == 3"
    worse = synthetic.with_rows(results, "per_image", rows, l2=9.0)
    found = primary(worse).set_index(["dataset", "architecture"]).verdict
    assert found["faces", "custom"] == stats.NOT_BEATEN
    assert found.eq(stats.NOT_BEATEN).sum() == 1
    runs = standing.of_runs(worse)
    assert runs[~runs.beats_trivial].seed.tolist() == [3]


def test_the_stability_of_a_game_that_is_not_active_is_not_judged():
    results = synthetic.study(**CELL)
    for accuracy, active in ((0.7, True), (0.99, False), (0.5, False)):
        of = synthetic.with_rows(results, "history", "setup == 'fixed'", d_accuracy=accuracy)
        found = stats.judge(of).set_index("metric").verdict
        assert (found["stability"] == stats.NOT_ACTIVE) != active
        assert "supported" in found["l1"].iloc[0]
        assert standing.of_runs(of).game_active.all() == active


@pytest.mark.parametrize("value", [0.0, -0.1])
def test_a_pair_without_a_logarithm_is_left_out_and_named_beside_the_verdict(value):
    rows = "setup == 'fixed' and seed == 3 and metric == 'l1'"
    found = primary(synthetic.with_rows(synthetic.study(**CELL), "values", rows, value=value))
    assert found.n_seeds[0] == 4
    assert found.remark[0] == "seed 3: left out, no logarithm (a value of 0 or below)"


@pytest.mark.parametrize(
    ("column", "value", "left", "remark"),
    [("precision", "bfloat16", 4, "seed 2: left out, precision bfloat16 / float32")]
    + [("device_kind", "cuda", 4, "seed 2: left out, device_kind cpu / cuda")]
    + [("protocol", 1, 4, "seed 2: left out, protocol 1 / 2")]
    + [("torch", "3", 5, "seed 2: torch 2.9 / 3"), ("device", "x", 5, "seed 2: device cpu / x")],
)
def test_runs_of_another_protocol_precision_or_kind_of_device_are_no_pair(
    column, value, left, remark
):
    rows = "setup == 'fixed' and seed == 2"
    found = primary(synthetic.with_rows(synthetic.study(**CELL), "runs", rows, **{column: value}))
    assert (found.n_seeds[0], found.remark[0]) == (left, remark)


def test_a_run_that_diverged_leaves_its_pair_and_counts_as_the_worse_in_the_sensitivity_row():
    name = "faces/custom/{}/seed{}".format
    lost = (name("fixed", 0), name("fixed", 1), name("progressive", 4))
    results = synthetic.study(**CELL | {"diverged": lost})
    assert primary(results).n_seeds[0] == 2
    found = stats.outcomes(results).set_index("setup")
    assert list(found.diverged[["fixed", "progressive"]]) == [2, 1] and set(found.runs) == {5}
    row = found.loc["progressive"]
    assert (row.pairs_better, row.pairs) == (4, 5) and row.p_sign == pytest.approx(2 * (1 + 5) / 32)
    assert row.p_diverged == 1  # one against two


def test_primaries_that_were_not_run_count():
    results = synthetic.study(**CELL)
    d = np.log1p(select.effects(results).effect)
    one, single = primary(results).iloc[0], stats.p_value(d, np.log1p(0.02), "lower", "superiority")
    assert one.p_value == pytest.approx(min(1, 6 * single))
    assert one.deviation == pytest.approx(d.std(ddof=1))
    half = scipy_stats.t.ppf(1 - 0.05 / 6 / 2, 4) * d.std(ddof=1) / 5**0.5
    assert np.log1p(one.ci_high) - np.log1p(one.effect) == pytest.approx(half)


def test_a_metric_that_was_not_measured_is_inconclusive():
    found = stats.judge(synthetic.study(**PAIR)).query("metric == 'fid'")
    assert len(found) == 6 and set(found.n_seeds) == {0}
    assert set(map(word, found.verdict)) == {"inconclusive"}


# --- one comparison


def test_not_to_suffer_is_never_called_equivalent():
    d = np.array([0.013, 0.009, 0.011, 0.006, 0.018])
    assert stats.p_equivalent(d, 0.02) < 0.05
    for test, expected in (("superiority", "equivalent"), ("non_inferiority", "supported")):
        assert stats.verdict(*stats.interval(d), 5, 0.02, "lower", test, True) == expected
    assert stats.verdict(-0.005, 0.022, 5, 0.02, "lower", "non_inferiority", True) == "inconclusive"
    for sign, better in ((1, "lower"), (-1, "higher")):
        ends = stats.interval(sign * (d - 0.2))
        assert stats.verdict(*ends, 5, 0.02, better, "superiority") == "supported"


def test_the_smallest_detectable_effect_is_found_four_times_in_five():
    rng, n, level = np.random.default_rng(4), 2000, 0.05
    effect = -stats.detectable(0.01, 5, 0.02, level)
    rows = effect + 0.01 * rng.normal(size=(n, 5))
    found = np.mean([stats.interval(row, level)[1] < -0.02 for row in rows])
    assert found == pytest.approx(0.8, abs=0.03)


def test_equivalence_errs_at_most_as_often_as_its_level():
    """The true effect is the margin: equivalent is wrong."""
    rows = 0.02 + 0.003 * np.random.default_rng(5).normal(size=(4000, 5))
    assert 0.03 <= np.mean([stats.p_equivalent(row, 0.02) <= 0.05 for row in rows]) <= 0.065


def test_at_the_margin_the_rate_of_false_verdicts_is_nominal():
    """The true effect is -margin: a single 95 % interval errs there in 2.5 % of studies."""
    rows = -MARGIN + 0.001 * np.random.default_rng(1).normal(size=(4000, 5))
    words = [stats.verdict(*stats.interval(row), 5, MARGIN, "lower", "superiority") for row in rows]
    assert 65 <= words.count("supported") <= 135  # binomial, standard deviation 10


def test_holm_keeps_the_error_of_all_primaries_below_nominal_and_is_what_statsmodels_computes():
    """No effect, margin zero: any verdict is wrong; six together err in at most 5 % of studies."""
    rng, n, wrong = np.random.default_rng(2), 600, 0
    for k in range(n):
        d = rng.normal(size=(6, 5))
        p = [stats.p_value(row, 0.0, "lower", "superiority") for row in d]
        adjusted, levels = stats.holm(p, 6)
        wrong += (adjusted <= 0.05).any()
        beyond = [low > 0 or high < 0 for low, high in map(stats.interval, d, levels)]
        assert beyond == list(adjusted <= 0.05)  # interval and p decide alike
        if k < 5:
            assert adjusted == pytest.approx(multipletests(p, method="holm")[1])
    assert 0.025 * n <= wrong <= 0.075 * n  # binomial, standard deviation 0.009 n


@pytest.mark.parametrize(("d", "p"), [([0.0] * 5, 1.0), ([0.5] * 5, 0.0), ([-0.5] * 5, 0.0)])
def test_differences_without_spread_decide_without_a_warning(d, p):
    assert stats.p_value(d, MARGIN, "lower", "superiority") == p


# --- over images


def test_the_bootstrap_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    groups = rng.integers(9, size=50)
    d, names, lows = rng.normal(size=(50, 3)), np.unique(groups), []
    draw = np.random.default_rng(0)
    for _ in range(2000):
        chosen = names[draw.integers(len(names), size=len(names))]
        lows.append(np.concatenate([d[groups == name] for name in chosen]).mean(0))
    expected = np.percentile(lows, [2.5, 97.5], axis=0)
    assert np.array(bootstrap(d, groups)) == pytest.approx(expected, abs=1e-5)
    assert np.ravel(bootstrap(d[:, 1], groups)) == pytest.approx(expected[:, 1], abs=1e-5)


def test_the_bootstrap_draws_groups_and_its_interval_is_that_of_the_normal_for_many_images():
    d, groups = np.repeat(np.random.default_rng(0).normal(size=8), 50), np.repeat(np.arange(8), 50)
    ends, narrow = np.ravel(bootstrap(d, groups)), np.ravel(bootstrap(d, np.arange(400)))
    assert np.diff(ends) > 4 * np.diff(narrow) and ends[0] < d.mean() < ends[1]
    half = 1.96 * d.std() / 20
    assert narrow == pytest.approx([d.mean() - half, d.mean() + half], abs=0.1 * half)
    assert np.isnan(bootstrap(d, np.zeros(400))).all()


def test_a_network_is_compared_with_a_slow_baseline_on_the_images_that_one_was_measured_on():
    """The network is worse on the first four images alone, or better there alone."""
    results = synthetic.study(**CELL | {"seeds": [0]})
    for first, rest, beats_all in ((0.06, 0.001, False), (0.001, 0.04, True)):
        table = results.per_image.assign(
            l2=lambda t, a=first, b=rest: t.image.lt(4).map({True: a, False: b})
        )
        found = standing.of_runs(dataclasses.replace(results, per_image=table))
        assert found.beats_trivial.all() and (found.beats_all == beats_all).all()
    assert set(found.best_baseline_images) <= {4, 24}


def test_the_registered_file_is_complete_and_a_wrong_entry_is_named(tmp_path):
    plan = stats.registered(measures=measures.MEASURES)
    names = [entry["name"] for entry in plan.hypotheses if entry["role"] == "primary"]
    assert plan.primaries == 6 and names == ["progressive fills better than fixed"]
    stored = yaml.safe_load(stats.HYPOTHESES.read_text())
    path = tmp_path / "h.yaml"
    for key, value in {"better": "bigger", "margin": -1, "setups": ["fixed", "x"]}.items():
        entries = [stored["hypotheses"][0] | {key: value}]
        path.write_text(yaml.safe_dump(stored | {"hypotheses": entries}))
        with pytest.raises(config.ConfigError, match=f"h.yaml: {names[0]}: {key}"):
            stats.registered(path)
    entries = [stored["hypotheses"][0] | {"metric": "L1"}]
    path.write_text(yaml.safe_dump(stored | {"hypotheses": entries}))
    with pytest.raises(config.ConfigError, match="no metric 'L1' of 'hole'"):
        stats.registered(path, measures.MEASURES)
    for text in ("[", yaml.safe_dump(stored | {"primaries": "many"})):
        path.write_text(text)
        with pytest.raises(config.ConfigError, match="h.yaml: (not valid YAML|primaries)"):
            stats.registered(path)
