"""From paired effects over training seeds to verdicts, exactly as registered in config/hypotheses.yaml.

The unit is the training seed. A hypothesis names two setups; its effect is the mean over seeds, trained with the same seed, of
log(first / second), or of first - second where its scale is `difference`. The t interval lies at 95 %, for primary hypotheses
widened by Holm's method over all registered primaries: those whose cell was not run count as not rejected. Words:

- supported: the interval lies wholly beyond the margin on the good side; refuted: beyond it on the bad side. For
  non_inferiority ("does not suffer") supported means that it ends before the margin on the bad side.
- equivalent: it lies inside the margins by two one-sided tests at 5 % (Schuirmann 1987), for primaries with Holm's method too.
- inconclusive: none of these; and always with fewer than MIN_SEEDS seeds.
- not answered: a run of either side has not learnt (standing.py), or, for the stability of the game, its game is not alive, or
  no pair is whole because runs diverged.
- before a word, `provisional` with fewer seeds than registered, `exploratory` where data, size or budget are not the paper's.

A pair one of whose values is 0 or below has no logarithm: where the scale is `ratio` it is left out, and named in the remark.
A run that diverged leaves its pair: the number of whole pairs is stated, and `outcomes` says what happens if it counts as the
worse. p is two-sided and belongs to supported or refuted: twice the smaller one-sided p value against the margins; p_equivalent
belongs to equivalent. `detectable` is the effect that so many seeds find with 80 % power at the interval's level, given the
deviation seen.
"""

import json
import math
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import yaml
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from ..study import config as configuration
from ..study import files
from ..study.config import Dataset, Many, Setup, Strict, Whole, number

ALPHA, MIN_SEEDS, POWER = 0.05, 3, 0.8
FILE = configuration.FOLDER / "hypotheses.yaml"
COLUMNS = ["hypothesis", "dataset", "architecture", "metric", "scale", "margin", "effect", "ci_low", "ci_high", "p_value",
           "p_equivalent", "deviation", "detectable", "n_images", "n_seeds", "verdict", "remark"]  # fmt: skip
NOT_LEARNT = "not answered: the networks have not learnt"
NOT_ALIVE = "not answered: the adversarial game is not alive"
NO_PAIR = "not answered: no whole pair"
OF_THE_PAPER = ("image_size", "mask_widths", "total_images", "train_images", "test_images", "perceptual_weights")
OF_THE_GAME = "stability"  # the metric that needs a live game


class Hypothesis(Strict):
    """The first setup against the second, in one measure."""

    name: str
    role: Literal["primary", "secondary"]
    setups: Annotated[tuple[Setup, Setup], Many]
    region: str
    metric: str
    width: Literal["full", "smallest"]
    better: Literal["lower", "higher"]
    scale: Literal["ratio", "difference"]
    margin: number(ge=0)
    test: Literal["superiority", "non_inferiority"]


class Registered(Strict):
    """The file: how many primaries there are in all cells together, with how many seeds, what the paper's study is (any other
    is exploratory), a trend in words, and the entries."""

    primaries: Whole
    seeds: Whole
    datasets: Annotated[tuple[Dataset, ...], Many]
    image_size: Whole
    mask_widths: Annotated[tuple[Whole, ...], Many]
    total_images: Whole
    train_images: Whole
    test_images: Whole
    perceptual_weights: str
    trend: str
    hypotheses: list[dict[str, Any]]


def registered(path=FILE, measures=None):
    """The file's content: a Registered whose hypotheses are checked. `measures`: the (region, metric) pairs there are.
    Raises config.ConfigError naming file and entry."""
    stored, entries = configuration.checked(Registered, configuration.read_yaml(path), path.name), []
    for entry in stored.hypotheses:
        where = f"{path.name}: {configuration.short(entry.get('name', entry), str)}"
        entries.append(configuration.checked(Hypothesis, entry, where).model_dump())
        if measures and (entry["region"], entry["metric"]) not in measures:
            raise configuration.ConfigError(f"{where}: there is no metric {entry['metric']!r} of region {entry['region']!r}")
    return stored.model_copy(update={"hypotheses": entries})


def one_sided(d, bound, alternative):
    """p of a one-sided t test of the mean of `d` against a bound; NaN for fewer than two values."""
    d = np.asarray(d, float)
    if len(d) < 2:
        return math.nan
    if np.ptp(d) <= 1e-12 * np.abs(d).max():  # no spread: the t statistic is 0 / 0 or infinite
        return float(d.mean() >= bound if alternative == "less" else d.mean() <= bound)
    return float(stats.ttest_1samp(d, bound, alternative=alternative).pvalue)


def p_value(differences, margin, better, test):
    """Two-sided p of a paired t test of the mean against the margins; NaN for fewer than two seeds."""
    d = (1 if better == "lower" else -1) * np.asarray(differences, float)  # from here, lower is better
    sides = one_sided(d, margin if test == "non_inferiority" else -margin, "less"), one_sided(d, margin, "greater")
    return min(1.0, 2 * min(sides)) if len(d) > 1 else math.nan


def p_equivalent(differences, margin):
    """The larger p of the two one-sided tests against the margins; NaN for fewer than two seeds."""
    return max(one_sided(differences, margin, "less"), one_sided(differences, -margin, "greater"))


def interval(differences, alpha=ALPHA):
    """Two-sided t interval of the mean at level 1 - alpha; (NaN, NaN) for fewer than two values."""
    d = np.asarray(differences, float)
    if len(d) < 2:
        return math.nan, math.nan
    half = half_width(d.std(ddof=1), len(d), alpha)
    return d.mean() - half, d.mean() + half


def half_width(deviation, n, alpha=ALPHA):
    """Of the t interval of a mean of n >= 2 values."""
    return stats.t.ppf(1 - alpha / 2, n - 1) * deviation / math.sqrt(n)


def holm(p_values, family, alpha=ALPHA):
    """Holm's adjusted p values, and the level of each one's interval, which excludes the margins exactly when Holm rejects.
    `family` hypotheses are registered; those beyond `p_values` count as p = 1, as do NaN."""
    p = np.nan_to_num(np.append(np.asarray(p_values, float), np.ones(max(0, family - len(p_values)))), nan=1.0)
    rejected, adjusted, *_ = multipletests(p, alpha, method="holm")
    rank, k = np.empty(len(p), int), int(rejected.sum())
    rank[np.argsort(p, kind="stable")] = np.arange(len(p))
    levels = alpha / (len(p) - np.minimum(rank, min(k, len(p) - 1)))
    return adjusted[: len(p_values)], levels[: len(p_values)]


def verdict(low, high, n_seeds, margin, better, test, equivalent=False):
    if n_seeds < MIN_SEEDS or math.isnan(low):
        return "inconclusive"
    if better == "higher":
        low, high = -high, -low
    if high < (margin if test == "non_inferiority" else -margin):
        return "supported"
    return "refuted" if low > margin else "equivalent" if equivalent and test == "superiority" else "inconclusive"


def detectable(deviation, n_seeds, margin, level):
    """The smallest effect beyond the margin that `n_seeds` seeds find with 80 % power at a level."""
    if n_seeds < 2 or not deviation > 0:
        return math.nan
    return margin + deviation * float(TTestPower().solve_power(nobs=n_seeds, alpha=level, power=POWER))


def judge(results, runs, study=None, path=FILE):
    """hypotheses.csv: a row per hypothesis, data set and architecture of which both setups were run.

    `results` is tidy (collect.COLUMNS), after the last stage and of the training family; `runs` as of standing.of_runs.
    Effects, intervals, margins and `detectable` of scale ratio are given as (ratio - 1); p and deviation are of the logarithms.
    """
    plan, rows, paired = registered(path), [], []
    for entry in plan.hypotheses:
        width = {"full": results.mask_width.max(), "smallest": results.mask_width.min()}[entry["width"]]
        margin = math.log1p(entry["margin"]) if entry["scale"] == "ratio" else entry["margin"]
        part = results[(results.region == entry["region"]) & (results.metric == entry["metric"])]
        part = part[part.mask_width == width]
        for (dataset, architecture), cell in runs.groupby(["dataset", "architecture"], sort=False):
            if not set(entry["setups"]) <= set(cell.setup):
                continue
            part_of = part[(part.dataset == dataset) & (part.architecture == architecture)]
            d, sides = effects(part_of, entry), cell[cell.setup.isin(entry["setups"])]
            paired.append((entry, margin, d.to_numpy(), sides))
            rows.append([f"{entry['role']}: {entry['name']}", dataset, architecture, entry["metric"], entry["scale"],
                         entry["margin"], d.mean(), math.nan, math.nan, p_value(d, margin, entry["better"], entry["test"]),
                         p_equivalent(d, margin), d.std(), math.nan, part_of.n_images.max() if len(part_of) else 0, len(d), "",
                         "; ".join(filter(None, [left_out(part_of, entry), trained_otherwise(sides)]))])  # fmt: skip
    table = pd.DataFrame(rows, columns=COLUMNS)
    primary = [k for k, (entry, *_) in enumerate(paired) if entry["role"] == "primary"]
    levels = dict.fromkeys(range(len(rows)), ALPHA)
    for column in ("p_value", "p_equivalent") if primary else ():
        adjusted, found = holm(table[column][primary], plan.primaries)
        table.loc[primary, column] = np.where(table[column][primary].isna(), math.nan, adjusted)
        if column == "p_value":
            levels |= dict(zip(primary, found, strict=True))
    for k, (entry, margin, d, sides) in enumerate(paired):
        low, high = interval(d, levels[k])
        finds = detectable(table.deviation[k], len(d), margin, levels[k]) if entry["test"] == "superiority" else math.nan
        shown = [low, high, finds if entry["better"] == "higher" else -finds]
        table.loc[k, ["ci_low", "ci_high", "detectable"]] = np.expm1(shown) if entry["scale"] == "ratio" else shown
        if entry["scale"] == "ratio":
            table.loc[k, "effect"] = np.expm1(table.effect[k])
        word = verdict(low, high, len(d), margin, entry["better"], entry["test"], table.p_equivalent[k] <= ALPHA)
        table.loc[k, "verdict"] = _qualified(word, entry, sides, len(d), plan, study, table.dataset[k])
    return table


def effects(part, entry):
    """The paired effects of one cell, a Series over seeds: logarithms of ratios where the entry's scale says so, less the pairs
    that `left_out` names."""
    one, other = _pairs(part, entry)
    if entry["scale"] == "difference":
        return one - other
    return np.log((one / other).where((one > 0) & (other > 0))).dropna()


def left_out(part, entry):
    """In words, the pairs whose ratio has no logarithm: their seeds."""
    one, other = _pairs(part, entry)
    seeds = one.index[((one <= 0) | (other <= 0)) & (entry["scale"] == "ratio")]
    return f"seed {', '.join(map(str, seeds))}: left out, no logarithm (a value of 0 or below)" if len(seeds) else ""


def _pairs(part, entry):
    """The values of an entry's two setups in one cell, Series over the seeds that both have."""
    by_setup = part.pivot_table("value", "seed", "setup").reindex(columns=[*entry["setups"]]).dropna()  # no metric: no seeds
    return [by_setup[setup] for setup in entry["setups"]]


def _qualified(word, entry, sides, n_seeds, plan, study, dataset):
    whole = sides.groupby("seed").diverged.agg(lambda lost: len(lost) > 1 and not lost.any())
    if not whole.any():
        return f"{NO_PAIR}: {int(sides.diverged.sum())} of {len(sides)} runs diverged" if sides.diverged.any() else word
    sides = sides[sides.seed.isin(whole[whole].index)]
    if not sides.learnt.all():
        return NOT_LEARNT
    if entry["metric"] == OF_THE_GAME and not sides.alive.all():
        return NOT_ALIVE
    return qualified(word, n_seeds, plan, study.config if study else plan, dataset)


def qualified(word, n_seeds, plan, config, dataset):
    """A word with what stands before it: provisional, exploratory."""
    if n_seeds < MIN_SEEDS:
        return word
    foreign = dataset not in plan.datasets or any(getattr(config, key) != getattr(plan, key) for key in OF_THE_PAPER)
    before = [name for name, holds in (("exploratory", foreign), ("provisional", n_seeds < plan.seeds)) if holds]
    return " ".join([*before, word])


def trained_otherwise(sides):
    """In words, the pairs whose two runs differ in device, precision or version of torch, which protocol 2 allows: seeds of the
    runs that differ from their twins, and in what."""
    found = {}
    for seed, pair in sides.groupby("seed"):
        for name in ("device", "precision", "torch"):
            if len(pair) > 1 and len(values := sorted({v for text in pair[name] for v in text.split(" + ")})) > 1:
                found.setdefault(f"{name} {' / '.join(values)}", []).append(str(seed))
    return "; ".join(f"seed {', '.join(seeds)}: {what}" for what, seeds in found.items())


def outcomes(runs, results):
    """What came of the runs of every cell: how many finished and diverged; and for progressive against fixed, in how many pairs
    it filled better when a run that diverged counts as the worse one, with the exact sign test's p, and that of an exact paired
    test on the numbers of those that diverged (McNemar). NaN where there is no such pair."""
    rows = []
    for (dataset, architecture), cell in runs.groupby(["dataset", "architecture"], sort=False):
        l1 = results[(results.dataset == dataset) & (results.architecture == architecture)].query(
            "region == 'hole' and metric == 'l1' and mask_width == mask_width.max()")  # fmt: skip
        wide = l1.pivot_table("value", "seed", "setup") if len(l1) else pd.DataFrame()
        lost = cell.pivot_table("diverged", "seed", "setup", aggfunc="first")
        pair = {"progressive", "fixed"} <= set(lost)
        for setup, part in cell.groupby("setup", sort=False):
            row = [dataset, architecture, setup, len(part), int(part.diverged.sum()), math.nan, math.nan, math.nan, math.nan]
            if pair and setup == "progressive":
                value = {s: wide.get(s, pd.Series(dtype=float)).reindex(lost.index).mask(lost[s].astype(bool), math.inf)
                         for s in ("progressive", "fixed")}  # fmt: skip
                won, worse = (int((value[a] < value[b]).sum()) for a, b in (("progressive", "fixed"), ("fixed", "progressive")))
                only = [int((lost[a].astype(bool) & ~lost[b].astype(bool)).sum())
                        for a, b in (("progressive", "fixed"), ("fixed", "progressive"))]  # fmt: skip
                row[5:] = [won, won + worse, _sign(won, worse), _sign(*only)]
            rows.append(row)
    return pd.DataFrame(rows, columns=["dataset", "architecture", "setup", "runs", "diverged", "pairs_better", "pairs",
                                       "p_sign", "p_diverged"])  # fmt: skip


def _sign(one, other):
    return float(stats.binomtest(one, one + other).pvalue) if one + other else math.nan


def bootstrap(differences, groups, seed=0, resamples=2000):
    """95 % percentile interval of the mean of per-image differences when images are drawn anew, whole groups at a time.

    It says how well these networks were measured, nothing about other trainings: it is never a verdict.
    """
    frame = pd.DataFrame({"d": differences, "group": groups}).groupby("group").d.agg(["sum", "count"])
    if len(frame) < 2:
        return math.nan, math.nan
    done = stats.bootstrap(
        (frame["sum"].to_numpy(), frame["count"].to_numpy()),
        lambda total, count, axis=-1: total.sum(axis) / count.sum(axis),
        paired=True, vectorized=True, n_resamples=resamples, batch=100, method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return tuple(map(float, done.confidence_interval))


def digest(path=FILE):
    """A hash of what is registered, comments apart."""
    return files.text_sha256(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8")), sort_keys=True))
