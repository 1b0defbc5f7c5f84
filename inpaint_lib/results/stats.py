"""From paired differences over training seeds to verdicts, exactly as registered in config/hypotheses.yaml.

The unit is the training seed. A hypothesis names two setups; its effect is the mean over seeds of the difference between the
first and the second, trained with the same seed. The t interval lies at 95 %, for primary hypotheses widened by Holm's method
over all registered primaries: those whose cell was not run count as not rejected.

- superiority: supported if the interval lies wholly beyond the margin on the good side, refuted if beyond it on the bad side.
- non_inferiority ("does not suffer"): supported if the interval ends before the margin on the bad side, refuted if beyond it.
- otherwise, and always with fewer than MIN_SEEDS seeds: inconclusive.

p belongs to the same decision, two-sided: twice the smaller one-sided p value against the margins.
"""

import json
import math
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import yaml
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ..study import config as configuration
from ..study import files
from ..study.config import Many, Setup, Strict, Whole, number

ALPHA, MIN_SEEDS = 0.05, 3
FILE = configuration.FOLDER / "hypotheses.yaml"
COLUMNS = ["hypothesis", "dataset", "architecture", "metric", "effect", "ci_low", "ci_high", "p_value", "n_images", "n_seeds",
           "verdict"]  # fmt: skip


class Hypothesis(Strict):
    """The first setup against the second, in one measure."""

    name: str
    role: Literal["primary", "secondary"]
    setups: Annotated[tuple[Setup, Setup], Many]
    region: str
    metric: str
    width: Literal["full", "smallest"]
    better: Literal["lower", "higher"]
    margin: number(ge=0)
    test: Literal["superiority", "non_inferiority"]


class Registered(Strict):
    """The file: how many primaries there are in all cells together, and the entries."""

    primaries: Whole
    hypotheses: list[dict[str, Any]]


def registered(path=FILE, measures=None):
    """The registered hypotheses: (number of primaries, list of dicts). `measures`: the (region, metric) pairs there are.
    Raises config.ConfigError naming file and entry."""
    stored, entries = configuration.checked(Registered, configuration.read_yaml(path), path.name), []
    for entry in stored.hypotheses:
        where = f"{path.name}: {configuration.short(entry.get('name', entry), str)}"
        entries.append(configuration.checked(Hypothesis, entry, where).model_dump())
        if measures and (entry["region"], entry["metric"]) not in measures:
            raise configuration.ConfigError(f"{where}: there is no metric {entry['metric']!r} of region {entry['region']!r}")
    return stored.primaries, entries


def p_value(differences, margin, better, test):
    """Two-sided p of a paired t test of the mean against the margins; NaN for fewer than two seeds."""
    sign = 1 if better == "lower" else -1  # from here, lower is better
    d = sign * np.asarray(differences, float)
    if len(d) < 2:
        return math.nan
    good_side = margin if test == "non_inferiority" else -margin
    if np.ptp(d) <= 1e-12 * np.abs(d).max():  # no spread: the t statistic is 0 / 0 or infinite
        better_p, worse = float(d.mean() >= good_side), float(d.mean() <= margin)
    else:
        worse = stats.ttest_1samp(d, margin, alternative="greater").pvalue
        better_p = stats.ttest_1samp(d, good_side, alternative="less").pvalue
    return float(min(1.0, 2 * min(better_p, worse)))


def interval(differences, alpha=ALPHA):
    """Two-sided t interval of the mean at level 1 - alpha; (NaN, NaN) for fewer than two values."""
    d = np.asarray(differences, float)
    if len(d) < 2:
        return math.nan, math.nan
    half = stats.t.ppf(1 - alpha / 2, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
    return d.mean() - half, d.mean() + half


def verdict(low, high, n_seeds, margin, better, test):
    if n_seeds < MIN_SEEDS or math.isnan(low):
        return "inconclusive"
    if better == "higher":
        low, high = -high, -low
    if high < (margin if test == "non_inferiority" else -margin):
        return "supported"
    return "refuted" if low > margin else "inconclusive"


def holm(p_values, family, alpha=ALPHA):
    """Holm's adjusted p values, and the level of each one's interval, which excludes the margins exactly when Holm rejects.
    `family` hypotheses are registered; those beyond `p_values` count as p = 1, as do NaN."""
    p = np.nan_to_num(np.append(np.asarray(p_values, float), np.ones(max(0, family - len(p_values)))), nan=1.0)
    rejected, adjusted, *_ = multipletests(p, alpha, method="holm")
    rank, k = np.empty(len(p), int), int(rejected.sum())
    rank[np.argsort(p, kind="stable")] = np.arange(len(p))
    levels = alpha / (len(p) - np.minimum(rank, min(k, len(p) - 1)))
    return adjusted[: len(p_values)], levels[: len(p_values)]


def judge(results, path=FILE):
    """hypotheses.csv: a row per hypothesis, data set and architecture of which both setups were run.

    `results` is tidy (tables.COLUMNS), after the last stage and of the training family.
    """
    primaries, entries = registered(path)
    rows, paired = [], []
    for entry in entries:
        width = {"full": results.mask_width.max(), "smallest": results.mask_width.min()}[entry["width"]]
        for (dataset, architecture), cell in results.groupby(["dataset", "architecture"], sort=False):
            if not set(entry["setups"]) <= set(cell.setup):
                continue
            part = cell[(cell.region == entry["region"]) & (cell.metric == entry["metric"]) & (cell.mask_width == width)]
            by_setup = part.pivot_table("value", "seed", "setup").reindex(columns=[*entry["setups"]])  # no metric: no seeds
            d = (by_setup[entry["setups"][0]] - by_setup[entry["setups"][1]]).dropna().to_numpy()
            paired.append((entry, d))
            rows.append([f"{entry['role']}: {entry['name']}", dataset, architecture, entry["metric"], d.mean() if len(d) else
                         math.nan, math.nan, math.nan, p_value(d, entry["margin"], entry["better"], entry["test"]),
                         part.n_images.max() if len(part) else 0, len(d), ""])  # fmt: skip
    table = pd.DataFrame(rows, columns=COLUMNS)
    primary = [k for k, (entry, _) in enumerate(paired) if entry["role"] == "primary"]
    levels = dict.fromkeys(range(len(rows)), ALPHA)
    if primary:
        adjusted, found = holm(table.p_value[primary], primaries)
        one_seed = table.p_value[primary].isna().to_numpy()
        table.loc[primary, "p_value"] = np.where(one_seed, math.nan, adjusted)
        levels |= dict(zip(primary, found, strict=True))
    for k, (entry, d) in enumerate(paired):
        low, high = interval(d, levels[k])
        table.loc[k, ["ci_low", "ci_high"]] = low, high
        table.loc[k, "verdict"] = verdict(low, high, len(d), entry["margin"], entry["better"], entry["test"])
    return table


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
