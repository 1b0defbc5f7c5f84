"""Advise which setup to use for a data set, how certain that is, and if its networks are useful.

Error: hole L1 on the training family, the geometric mean over hole widths. Half of the test images
choose a setup, the other half measure it; with few test images all do both, and the text says so.
"""

import numpy as np

from ..models import is_central
from . import notes, select, standing, stats

FEW = 20  # test images
OWN = "folder"  # the data set of a user's images


def advise(results, dataset):
    """Return a dict per architecture, best first: run (its name) and text, a few sentences.

    Architectures are trained with different holes, so they are ordered by their L2 over that of the
    best baseline in the same holes. One that only fills central holes comes last.
    """
    found = []
    for cell in select.list_cells(select.get_finished(results)):
        if cell[0] == dataset:
            rank, name, text = _of_cell(results, *cell)
            found.append({"rank": rank, "run": name, "text": text})
    return sorted(found, key=lambda one: one["rank"])


def _of_cell(results, *cell):
    """Return (sort key, run, text) of a data set and architecture."""
    images = select.get_image_errors(results, "l1", dataset=cell[0], architecture=cell[1])
    n = images.shape[1]
    few = n < FEW
    chooses, measures = (_errors(images if few else images.iloc[:, k::2]) for k in (0, 1))
    runs = select.get_cell(standing.judge_runs(results), *cell)
    safe = [setup for setup in chooses.columns if not runs[runs.setup == setup].diverged.any()]
    order = chooses[safe or list(chooses)].mean().sort_values().index
    best, seed = order[0], int(chooses[order[0]].idxmin())
    row = runs[(runs.setup == best) & (runs.seed == seed)].iloc[0]
    use = f"use {best}" if row.beats_trivial else f"use none yet; the best is {best}"
    texts = [f"{', '.join(cell)}: {use}."]
    texts += _compared(measures, best, order[1:])
    texts.append(
        f"It was chosen and measured on the same {n} test images, so the numbers are optimistic."
        if few
        else f"It was chosen on half of the {n} test images and measured on the other half."
    )
    texts.append(_good(results, row))
    rank = is_central(cell[1]), row.hole_l2 / row.best_baseline_l2
    return rank, "/".join([*cell, best, f"seed{seed}"]), " ".join(texts)


def _errors(images):
    """Return the logarithm of the error: a row per seed, a column per setup."""
    means = images.mean(axis="columns")
    return np.log(means).groupby(["seed", "setup"]).mean().unstack("setup")


def _compared(errors, best, others):
    """Return sentences: how much lower the error of the best setup is than that of the next."""
    if not len(others):
        return ["No other setup was trained."]
    d = errors[others].rsub(errors[best], axis=0)
    (low, high), n = stats.compute_interval(d[others[0]].dropna()), int(d[others[0]].count())
    effect = notes.format_per_cent(np.expm1(d[others[0]].mean()))
    text = f"Its error, over all hole widths, against that of {others[0]}, the next: {effect}"
    if n < stats.MIN_SEEDS:
        need = f"that takes {stats.MIN_SEEDS} seeds (--seeds 0,1,2)"
        of = f"{n} seed{'s' * (n != 1)}"
        return [f"{text} ({of}).", f"How certain this is cannot be said: {need}."]
    ends = " to ".join(notes.format_per_cent(np.expm1(end)) for end in (low, high))
    intervals = {o: stats.compute_interval(d[o].dropna()) for o in others}
    alike = [o for o, (_, upper) in intervals.items() if not upper < 0]
    sure = f"It does not differ clearly from {', '.join(alike)}: use any of them."
    if not alike:
        sure = "It is better than each of the others, on the seeds that also chose it."
    if lower := [o for o, (least, _) in intervals.items() if least > 0]:
        sure = f"The other half of the test images says that {', '.join(lower)} is better: the "
        sure += "halves disagree, so more test images are needed."
    return [f"{text} ({n} seeds, 95 % interval {ends}).", sure]


def _good(results, row):
    """Return whether a run beats the baselines, and what to do if not, a sentence."""
    if row.beats_all:
        return f"It beats all baselines (the best: {row.best_baseline})."
    images = results.about["config"]["curriculum"]["total_images"]
    longer = f"train longer: --set curriculum.total_images={4 * images}, in another INPAINT_OUTPUT"
    if row.beats_trivial:
        return f"It does not beat {row.best_baseline}, which needs no training; {longer}."
    return f"It does not beat the trivial baselines: not good enough to use; {longer}."
