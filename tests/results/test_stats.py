"""Verdicts on synthetic data whose answer is known."""

import gc

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats as scipy_stats

from inpaint_lib.evaluation import evaluate
from inpaint_lib.results import collect, stats
from inpaint_lib.study import config

MARGIN = 0.001


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch):
    """statsmodels collects garbage at every correction: a quarter of a second each time in a process that holds torch."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


def study(effect, seeds=5, noise=0.0005, cells=6, rng=None, metric="l1"):
    """results.csv of fixed and progressive on `cells` cells: progressive - fixed is effect + noise per seed."""
    rng, rows = rng or np.random.default_rng(0), []
    for cell in range(cells):
        for seed in range(seeds):
            level, d = rng.normal(0.1, 0.02), effect + noise * rng.normal()  # seeds differ much, pairs little
            for setup, value in (("fixed", level), ("progressive", level + d)):
                rows.append([f"d{cell % 2}", f"a{cell // 2}", setup, seed, 2, "square", 16, "hole", metric, value, 64])
    return pd.DataFrame(rows, columns=collect.COLUMNS)


def primary(results):
    found = stats.judge(results)
    return found[found.hypothesis.str.startswith("primary")]


@pytest.mark.parametrize(("effect", "verdict"), [(0.01, "refuted"), (-0.01, "supported"), (0.0, "inconclusive")])
def test_a_planted_effect_over_five_seeds_gets_its_verdict_and_sign(effect, verdict):
    found = primary(study(effect))
    assert len(found) == 6 and set(found.verdict) == {verdict} and set(found.n_seeds) == {5}
    assert list(found.columns) == stats.COLUMNS
    assert np.allclose(found.effect, effect, atol=0.001)
    assert (found.ci_low < found.effect).all() and (found.effect < found.ci_high).all()
    if effect:
        assert (np.sign(found.effect) == np.sign(effect)).all() and (found.p_value < 0.05).all()


def test_higher_is_better_turns_the_sign():
    found = stats.judge(study(1.0, noise=0.01, metric="psnr"))
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
    one = primary(study(-0.002, noise=0.0007, cells=1)).iloc[0]
    d = study(-0.002, noise=0.0007, cells=1).pivot_table("value", "seed", "setup")
    d = (d.progressive - d.fixed).to_numpy()
    single = stats.p_value(d, MARGIN, "lower", "superiority")
    assert one.p_value == pytest.approx(min(1, 6 * single))
    half = scipy_stats.t.ppf(1 - 0.05 / 6 / 2, 4) * d.std(ddof=1) / 5**0.5
    assert one.ci_high - one.effect == pytest.approx(half)


def test_a_metric_that_was_not_measured_is_inconclusive():
    found = stats.judge(study(-0.01))
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
    primaries, entries = stats.registered()
    assert primaries == 6 and [e["name"] for e in entries if e["role"] == "primary"] == ["progressive fills better than fixed"]
    stored = yaml.safe_load(stats.FILE.read_text())
    for key, value in (("better", "bigger"), ("margin", -1), ("margin", "x"), ("role", "third"), ("setups", ["fixed", "fast"])):
        broken = {"primaries": 6, "hypotheses": [stored["hypotheses"][0] | {key: value}]}
        (tmp_path / "h.yaml").write_text(yaml.safe_dump(broken))
        with pytest.raises(config.ConfigError, match=f"h.yaml: progressive fills better than fixed: {key}"):
            stats.registered(tmp_path / "h.yaml")
    assert stats.registered(measures=evaluate.MEASURES)[1] == entries
    (tmp_path / "h.yaml").write_text(yaml.safe_dump({"primaries": 6, "hypotheses": [entries[0] | {"metric": "L1"}]}))
    with pytest.raises(config.ConfigError, match="there is no metric 'L1' of region 'hole'"):
        stats.registered(tmp_path / "h.yaml", evaluate.MEASURES)
    for text, said in (
        ("[", "not valid YAML"),
        ("primaries: 6", "key 'hypotheses' is missing"),
        ("primaries: many\nhypotheses: []", "primaries: expected a whole number, got 'many'"),
        ("primaries: 6\nhypotheses: 3", "hypotheses: expected a list, got 3"),
    ):
        (tmp_path / "h.yaml").write_text(text)
        with pytest.raises(config.ConfigError, match=f"h.yaml: {said}"):
            stats.registered(tmp_path / "h.yaml")
    (tmp_path / "h.yaml").write_text("primaries: 6\nhypotheses: [one]")
    with pytest.raises(config.ConfigError, match="h.yaml: hypotheses: expected keys and values, got 'one'"):
        stats.registered(tmp_path / "h.yaml")


@pytest.mark.parametrize(("d", "p"), [([0.0] * 5, 1.0), ([0.5] * 5, 0.0), ([-0.5] * 5, 0.0)])
def test_differences_without_spread_decide_without_a_warning(d, p):
    assert stats.p_value(d, MARGIN, "lower", "superiority") == p
