"""The registered trend: how the effect of progressive against fixed changes with the budget, over published studies.

Studies belong together if they differ in `total_images` alone. tables/trend.csv of each holds all their effects, a row per
study, data set, architecture, setup and seed; tables/slopes.csv what follows, a row per data set and architecture: the change
of the logarithm of hole L1, progressive over fixed, for four times the budget, by least squares over the budgets for every
seed that ran them all, then mean and plain t interval over seeds. Words, after those of stats.py: the interval lies below 0
(`progressive gains`), above it (`progressive loses`), or neither (`inconclusive`).
"""

import math

import numpy as np
import pandas as pd

from ..study import files
from . import collect, notes, stats

BUDGETS, APART = 3, 4  # how many, and the least factor between neighbours, as registered
SETUPS = ("progressive", "mixed")  # against fixed; slopes are of the first
PAIR = ["dataset", "architecture", "seed"]
MADE = ["device", "precision", "torch"]  # with what a pair was trained
POINTS = ["study", "total_images", "dataset", "architecture", "setup", "seed", "effect", "learnt", *MADE]
COLUMNS = ["dataset", "architecture", "n_budgets", "n_seeds", "change", "ci_low", "ci_high", "p_value", "verdict"]
FILES = ("trend.csv", "slopes.csv")
WORDS = {"supported": "progressive gains", "refuted": "progressive loses", "inconclusive": "inconclusive"}


def points(studies):
    """The effects of studies whose tables are written: a frame, POINTS. `effect`: the ratio less one; `learnt`: both sides."""
    frames = []
    for study in studies:
        folder = study.report / "tables"
        results, runs = pd.read_csv(folder / "results.csv", dtype=collect.TYPES), pd.read_csv(folder / "runs.csv")
        found = collect.effects(study, results).query("setup in @SETUPS")
        learnt = runs.pivot(index=PAIR, columns="setup", values="learnt").reindex(columns=["fixed", *SETUPS]).eq(True)
        learnt = learnt.apply(lambda of, fixed=learnt.fixed: of & fixed).stack().rename("learnt")
        of_fixed = runs[runs.setup == "fixed"].set_index(PAIR)[MADE]
        found = found.join(learnt, on=[*PAIR, "setup"]).join(of_fixed, on=PAIR)
        frames.append(found.assign(study=study.profile, total_images=study.config.total_images)[POINTS])
    return pd.concat(frames, ignore_index=True)


def slopes(found, config):
    """What follows from `points`: a frame, COLUMNS. `change` and interval are ratios less one, for four times the budget."""
    rows, plan = [], stats.registered()
    for (dataset, architecture), cell in found[found.setup == SETUPS[0]].groupby(["dataset", "architecture"], sort=False):
        wide = np.log1p(cell.pivot_table("effect", "seed", "total_images")).dropna()
        budgets = np.array(sorted(cell.total_images.unique()), float)
        slope = np.array([np.polyfit(np.log(budgets) / math.log(4), d, 1)[0] if len(budgets) > 1 else math.nan
                          for d in wide.to_numpy()])  # fmt: skip
        low, high = stats.interval(slope)
        if len(budgets) < BUDGETS:
            word = f"not answered: {len(budgets)} of {BUDGETS} budgets"
        elif (budgets[1:] < APART * budgets[:-1]).any():
            word = f"not answered: budgets less than a factor {APART} apart"
        elif not cell.learnt.all():
            word = stats.NOT_LEARNT
        else:
            word = WORDS[stats.verdict(low, high, len(slope), 0.0, "lower", "superiority")]
            word = stats.qualified(word, len(slope), plan, config, dataset)
        mean = slope.mean() if len(slope) else math.nan
        rows.append([dataset, architecture, len(budgets), len(slope), *np.expm1([mean, low, high]),
                     stats.p_value(slope, 0.0, "lower", "superiority"), word])  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def write(study, studies):
    """Write FILES of a study from itself and the `studies` that differ from it in their budget; none if there are none."""
    folder, together = study.report / "tables", sorted([study, *studies], key=lambda s: (s.config.total_images, s.profile))
    if not studies:
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        return
    found = points(together)
    files.write_csv(folder / "trend.csv", found)
    files.write_csv(folder / "slopes.csv", slopes(found, study.config))


def read(study):
    """(points, slopes) of a study, or None."""
    paths = [study.report / "tables" / name for name in FILES]
    return tuple(map(pd.read_csv, paths)) if all(path.is_file() for path in paths) else None


def sentences(study):
    """What slopes.csv says, a line per data set and architecture; [] without it."""
    if not (kept := read(study)):
        return []
    (found, rows), lines = kept, []
    found = found.groupby(["dataset", "architecture"]).filter(lambda cell: cell.total_images.nunique() > 1)
    for row in rows[rows.n_budgets > 1].itertuples():
        cell = found[(found.dataset == row.dataset) & (found.architecture == row.architecture)]
        budgets = ", ".join(f"{b:,}" for b in sorted(cell.total_images.unique()))
        measured = "" if pd.isna(row.change) else _measured(row)
        lines.append(f"{row.dataset}, {row.architecture}, at {budgets} images: {measured}{row.verdict}.")
    return lines + [f"Mind that the budgets were trained otherwise: {what}." for what in trained_otherwise(found)]


def trained_otherwise(found):
    """In words, in what the pairs of one budget differ from those of another: device, precision, version of torch."""
    for name in MADE:
        by_budget = found.groupby("total_images")[name].agg(lambda of: " and ".join(sorted({*map(str, of)})))
        if by_budget.nunique() > 1:
            yield f"{name} {', '.join(f'{value} at {budget:,} images' for budget, value in by_budget.items())}"


def _measured(row):
    ends = "" if pd.isna(row.ci_low) else f", interval {notes.per_cent(row.ci_low)} to {notes.per_cent(row.ci_high)}"
    return (f"with four times the budget progressive's error against fixed's changes by {notes.per_cent(row.change)} "
            f"({row.n_seeds} seed{'s' * (row.n_seeds != 1)}{ends}): ")  # fmt: skip
