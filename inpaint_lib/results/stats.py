"""From paired effects over training seeds to verdicts, exactly as registered in
config/hypotheses.yaml.

The unit is the training seed. A hypothesis names two setups; its effect is the mean over seeds,
trained with the same seed, of log(first / second), or of first - second where its scale is
`difference`. The t interval lies at 95 %, for primary hypotheses widened by Holm's method over all
registered primaries: those whose cell was not run count as not rejected. Words:

- supported: the interval lies completely beyond the margin on the good side; refuted: beyond it on
  the bad side. For non_inferiority ("does not suffer") supported means that it ends before the
  margin on the bad side.
- equivalent: two one-sided tests at 5 % place the effect inside the margins (Schuirmann 1987), for
  primaries with Holm's method too.
- inconclusive: none of these; and always with fewer than MIN_SEEDS seeds.
- not testable: a run of a pair does not beat the trivial baselines (standing.py), or, for the
  stability of the game, its game is not active, or there is no complete pair.
- before a word, `provisional` with fewer seeds than registered, `exploratory` where data, size or
  budget are not the paper's.

Two runs are a pair if they finished with the same protocol, precision and kind of device. A pair
one of whose values is 0 or below has no logarithm. `remark` names the seeds that are left out. A
run that diverged leaves its pair; `outcomes` says what happens if it counts as the worse. p is
two-sided and belongs to supported or refuted: twice the smaller one-sided p value against the
margins; p_equivalent belongs to equivalent. `detectable` is the smallest detectable effect: 80 %
power at the interval's level, at the observed deviation.
"""

import json
import math
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import TTestPower

from ..study import config as configuration
from ..study import files
from ..study.config import Dataset, Many, Setup, Strict, Whole, number
from . import frames, select, standing

HYPOTHESES = configuration.FOLDER / "hypotheses.yaml"
ALPHA, MIN_SEEDS, POWER = 0.05, 3, 0.8
COLUMNS = ["hypothesis", "dataset", "architecture", "metric", "scale", "margin", "effect"]
COLUMNS += ["ci_low", "ci_high", "p_value", "p_equivalent", "deviation", "detectable"]
COLUMNS += ["n_images", "n_seeds", "verdict", "remark"]
NOT_BEATEN = "not testable: a run does not beat the trivial baselines"
NOT_ACTIVE = "not testable: the adversarial game is not active"
NO_PAIR = "not testable: no complete pair"
ALIKE = ("protocol", "precision", "device_kind")  # what the two runs of a pair share
NOTED = ("device", "torch")  # named where it differs
OF_THE_PAPER = dict.fromkeys(("image_size", "train_images", "test_images"), "data")
OF_THE_PAPER |= dict.fromkeys(("mask_widths", "total_images"), "curriculum")
OF_THE_PAPER |= {"perceptual_weights": "training"}  # key: section; other values are exploratory


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
    """The file: how many primaries there are in all cells together, with how many seeds, what the
    paper's study is (any other is exploratory), and the entries."""

    primaries: Whole
    seeds: Whole
    datasets: Annotated[tuple[Dataset, ...], Many]
    image_size: Whole
    mask_widths: Annotated[tuple[Whole, ...], Many]
    total_images: Whole
    train_images: Whole
    test_images: Whole
    perceptual_weights: str
    trend: str = ""
    hypotheses: list[dict[str, Any]]


def registered(path=HYPOTHESES, measures=None):
    """Return the file's content: a Registered whose hypotheses are checked. `measures`: the
    (region, metric) pairs there are. Raises config.ConfigError naming file and entry."""
    stored = configuration.checked(Registered, configuration.read_yaml(path), path.name)
    entries = []
    for entry in stored.hypotheses:
        where = f"{path.name}: {entry.get('name', entry)}"
        entries.append(configuration.checked(Hypothesis, entry, where).model_dump())
        measure = entry["region"], entry["metric"]
        if measures and measure not in measures:
            raise configuration.ConfigError(f"{where}: no metric {measure[1]!r} of {measure[0]!r}")
    return stored.model_copy(update={"hypotheses": entries})


def digest():
    """Return the hash of the registered hypotheses, comments apart."""
    return files.text_sha256(json.dumps(configuration.read_yaml(HYPOTHESES), sort_keys=True))


# --- one comparison


def one_sided(d, bound, alternative):
    """Return p of a one-sided t test of the mean of `d` against a bound; NaN for fewer than two."""
    d = np.asarray(d, float)
    if len(d) < 2:
        return math.nan
    if np.ptp(d) <= 1e-12 * np.abs(d).max():  # no spread: the t statistic is 0 / 0 or infinite
        return float(d.mean() >= bound if alternative == "less" else d.mean() <= bound)
    return float(stats.ttest_1samp(d, bound, alternative=alternative).pvalue)


def p_value(differences, margin, better, test):
    """Return the two-sided p of a paired t test of the mean against the margins, or NaN."""
    sign = 1 if better == "lower" else -1
    d = sign * np.asarray(differences, float)  # from here, lower is better
    good = one_sided(d, margin if test == "non_inferiority" else -margin, "less")
    bad = one_sided(d, margin, "greater")
    return min(1.0, 2 * min(good, bad)) if len(d) > 1 else math.nan


def p_equivalent(differences, margin):
    """Return the larger p of the two one-sided tests against the margins, or NaN."""
    return max(one_sided(differences, margin, "less"), one_sided(differences, -margin, "greater"))


def interval(differences, alpha=ALPHA):
    """Return the two-sided t interval of the mean at level 1 - alpha, or (NaN, NaN)."""
    d = np.asarray(differences, float)
    if len(d) < 2:
        return math.nan, math.nan
    half = half_width(d.std(ddof=1), len(d), alpha)
    return d.mean() - half, d.mean() + half


def half_width(deviation, n, alpha=ALPHA):
    """Return half of the t interval of a mean of n >= 2 values."""
    return stats.t.ppf(1 - alpha / 2, n - 1) * deviation / math.sqrt(n)


def holm(p_values, family, alpha=ALPHA):
    """Return Holm's adjusted p values, and the level of each one's interval, which excludes the
    margins exactly when Holm rejects. `family` hypotheses are registered; those beyond `p_values`
    count as p = 1, as do NaN."""
    p = np.asarray(p_values, float)
    p = np.nan_to_num(np.append(p, np.ones(max(0, family - len(p)))), nan=1.0)
    rank, m = np.empty(len(p), int), len(p)
    rank[order := np.argsort(p, kind="stable")] = np.arange(m)
    steps = np.maximum.accumulate(p[order] * (m - np.arange(m)))
    adjusted = np.minimum(steps, 1)[rank]
    levels = alpha / (m - np.minimum(rank, min(int((adjusted <= alpha).sum()), m - 1)))
    return adjusted[: len(p_values)], levels[: len(p_values)]


def verdict(low, high, n_seeds, margin, better, test, equivalent=False):
    """Return the word for an interval."""
    if n_seeds < MIN_SEEDS or math.isnan(low):
        return "inconclusive"
    if better == "higher":
        low, high = -high, -low
    if high < (margin if test == "non_inferiority" else -margin):
        return "supported"
    if low > margin:
        return "refuted"
    return "equivalent" if equivalent and test == "superiority" else "inconclusive"


def detectable(deviation, n_seeds, margin, level):
    """Return the smallest detectable effect beyond the margin, with 80 % power."""
    if n_seeds < 2 or not deviation > 0:
        return math.nan
    power = TTestPower().solve_power(nobs=n_seeds, alpha=level, power=POWER)
    return margin + deviation * float(power)


# --- all of them


def judge(results):
    """Return a row per hypothesis, data set and architecture of which both setups were run:
    tables/hypotheses.csv.

    Effects, intervals, margins and `detectable` of scale ratio are given as (ratio - 1); p and
    deviation are of the logarithms."""
    plan, rows, found = registered(), [], []
    values, runs = select.trained(results), standing.of_runs(results)
    for entry in plan.hypotheses:
        width = results.widths[-1 if entry["width"] == "full" else 0]
        part = values[(values.region == entry["region"]) & (values.metric == entry["metric"])]
        part = part[part.mask_width == width]
        for cell in select.cells(runs):
            sides = select.of_cell(runs, *cell)
            sides = sides[sides.setup.isin(entry["setups"])]
            if sides.setup.nunique() == 2:
                row, d, margin = _compared(entry, select.of_cell(part, *cell), sides)
                rows.append(row | dict(zip(frames.CELL, cell, strict=True)))
                found.append((entry, d, margin, sides))
    table = pd.DataFrame(rows, columns=COLUMNS)
    primary = [k for k, (entry, *_) in enumerate(found) if entry["role"] == "primary"]
    levels = np.full(len(rows), ALPHA)
    if primary:
        for column in ("p_equivalent", "p_value"):
            p = table[column][primary]
            adjusted, levels[primary] = holm(p, plan.primaries)  # p_value's levels stay
            table.loc[primary, column] = np.where(p.isna(), p, adjusted)
    for k, (entry, d, margin, sides) in enumerate(found):
        low, high = interval(d, levels[k])
        finds = math.nan
        if entry["test"] == "superiority":
            sign = 1 if entry["better"] == "higher" else -1
            finds = sign * detectable(table.deviation[k], len(d), margin, levels[k])
        shown = np.array([table.effect[k], low, high, finds], float)
        shown = np.expm1(shown) if entry["scale"] == "ratio" else shown
        table.loc[k, ["effect", "ci_low", "ci_high", "detectable"]] = shown
        equivalent = table.p_equivalent[k] <= ALPHA
        word = verdict(low, high, len(d), margin, entry["better"], entry["test"], equivalent)
        before = _before(plan, results, table.dataset[k], len(d))
        table.loc[k, "verdict"] = _untestable(entry, sides) or f"{before}{word}"
    return table


def primary(verdicts):
    """Return the rows of the primary hypotheses."""
    return verdicts[verdicts.hypothesis.str.startswith("primary")]


def _compared(entry, part, sides):
    """Return (row, paired effects over seeds, margin) of one hypothesis in one cell."""
    seeds, remarks = _pairs(sides)
    wide = part.pivot_table("value", "seed", "setup").reindex(columns=[*entry["setups"]])
    one, other = (wide.reindex(seeds).dropna()[setup] for setup in entry["setups"])
    margin, d = entry["margin"], one - other
    if entry["scale"] == "ratio":
        usable = (one > 0) & (other > 0)
        for seed in one.index[~usable]:
            remarks.setdefault("left out, no logarithm (a value of 0 or below)", []).append(seed)
        margin, d = math.log1p(margin), np.log(one[usable] / other[usable])
    row = {key: entry[key] for key in ("metric", "scale", "margin")}
    row |= {"hypothesis": f"{entry['role']}: {entry['name']}", "effect": d.mean()}
    row |= {"p_value": p_value(d, margin, entry["better"], entry["test"])}
    row |= {"p_equivalent": p_equivalent(d, margin), "deviation": d.std(), "n_seeds": len(d)}
    row |= {"n_images": part.n_images.max() if len(part) else 0, "verdict": ""}
    listed = [f"seed {', '.join(map(str, of))}: {what}" for what, of in remarks.items()]
    return row | {"remark": "; ".join(listed)}, d.to_numpy(), margin


def _pairs(sides):
    """Return the seeds whose two runs are a pair, and {what differs between the two: seeds}."""
    seeds, remarks = [], {}
    for seed, pair in sides[~sides.diverged].groupby("seed"):
        if len(pair) == 2:
            differ = {n: " / ".join(sorted(set(map(str, pair[n])))) for n in (*ALIKE, *NOTED)}
            differ = {name: text for name, text in differ.items() if pair[name].nunique() > 1}
            apart = [name for name in ALIKE if name in differ]
            for name in apart or differ:
                what = f"{'left out, ' if apart else ''}{name} {differ[name]}"
                remarks.setdefault(what, []).append(seed)
            seeds += [] if apart else [seed]
    return seeds, remarks


def _untestable(entry, sides):
    """Return why the pairs of one hypothesis in one cell allow no verdict, or None."""
    seeds, _ = _pairs(sides)
    if not seeds:
        lost = int(sides.diverged.sum())
        return NO_PAIR + (f": {lost} of {len(sides)} runs diverged" if lost else "")
    paired = sides[sides.seed.isin(seeds)]
    if not paired.beats_trivial.all():
        return NOT_BEATEN
    needs_game = entry["metric"] == "stability"
    return NOT_ACTIVE if needs_game and not paired.game_active.all() else None


def _before(plan, results, dataset, n_seeds):
    """Return what stands before a word: exploratory, provisional."""
    config, asked = results.about["config"], plan.model_dump(mode="json")
    same = [config[section][key] == asked[key] for key, section in OF_THE_PAPER.items()]
    exploratory = "" if all(same) and dataset in plan.datasets else "exploratory "
    provisional = "provisional " if n_seeds < plan.seeds else ""
    return exploratory + provisional if n_seeds >= MIN_SEEDS else ""


def outcomes(results):
    """Return how many runs of every cell and setup finished and diverged: tables/outcomes.csv.

    For progressive against fixed also in how many pairs it fills better when a run that diverged
    counts as the worse one, with the exact sign test's p, and that of an exact paired test on the
    numbers of those that diverged (McNemar)."""
    l1 = select.hole_l1(results)
    runs = results.runs.merge(l1[[*frames.RUN, "value"]], on=frames.RUN, how="left")
    runs = runs.assign(runs=1, diverged=runs.outcome == "diverged")
    runs["value"] = runs.value.mask(runs.diverged, math.inf)
    table = runs.groupby([*frames.CELL, "setup"], sort=False)[["runs", "diverged"]].sum()
    table[["pairs_better", "pairs", "p_sign", "p_diverged"]] = math.nan
    for cell, part in runs.groupby(frames.CELL, sort=False):
        wide = part.pivot(index="seed", columns="setup", values="value")
        if {"progressive", "fixed"} <= set(wide):
            one, other = (wide.dropna()[setup] for setup in ("progressive", "fixed"))
            won, worse = int((one < other).sum()), int((one > other).sum())
            alone = int((np.isinf(one) & ~np.isinf(other)).sum())
            other_alone = int((np.isinf(other) & ~np.isinf(one)).sum())
            counted = [won, won + worse, _sign(won, worse), _sign(alone, other_alone)]
            table.loc[(*cell, "progressive"), "pairs_better":] = counted
    return table.reset_index()


def _sign(one, other):
    return float(stats.binomtest(one, one + other).pvalue) if one + other else math.nan
