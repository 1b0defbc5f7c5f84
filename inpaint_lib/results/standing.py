"""What became of each run, before anything is compared: finished or diverged, better than the
baselines or not, game active.

- beats_trivial: with the largest hole, hole L2 is below that of the mean colour and of the nearest
  pixel, by a paired bootstrap over test images (95 %). beats_all: below that of every baseline, on
  the images that baseline was measured on.
- game_active: the discriminator's balanced accuracy, mean over the last stage, lies within ACTIVE:
  neither side has lost."""

import numpy as np
import pandas as pd

from . import frames
from .resampling import bootstrap

ACTIVE = 0.55, 0.95
TRIVIAL = ("mean colour", "nearest")
FLAGS = ["beats_trivial", "beats_all", "has_game", "game_active"]
MADE = ["device", "device_kind", "precision", "protocol", "torch"]
MEASURED = ["hole_l2", "best_baseline", "best_baseline_l2", "best_baseline_images", "d_accuracy"]


def of_runs(results):
    """Return a row per run. has_game: whether the last stage has an adversarial loss."""
    runs = results.runs
    found = runs[[*frames.RUN, "outcome", "why"]].assign(diverged=runs.outcome == "diverged")
    rows = [row for dataset in results.about["data"] for row in _beaten(results, dataset)]
    learning = pd.DataFrame(rows, columns=[*frames.RUN, *MEASURED[:-1], *FLAGS[:2]])
    history = results.history[results.history.stage == len(results.widths)]
    columns = ["d_accuracy", "adversarial_weight"]
    game = history.groupby(frames.RUN)[columns].mean().reset_index()
    found = found.merge(learning, on=frames.RUN, how="left").merge(game, on=frames.RUN, how="left")
    found["has_game"] = found.adversarial_weight > 0
    found["game_active"] = found.has_game & found.d_accuracy.between(*ACTIVE)
    found[FLAGS] = found[FLAGS].eq(True)
    found = pd.concat([found, runs[MADE]], axis=1)
    return found[[*frames.RUN, "outcome", "why", "diverged", *MEASURED, *FLAGS, *MADE]]


def _beaten(results, dataset):
    """Yield, for the finished runs on a data set, how they compare with the baselines."""
    groups = results.groups(dataset)
    own, table = (
        of[(of.dataset == dataset) & (of.mask_width == results.widths[-1])]
        for of in (results.per_image, results.baseline_images)
    )
    own = own.pivot(index="image", columns=frames.RUN, values="l2")
    families = [results.family(architecture) for _, architecture, *_ in own]
    errors = {
        name: part.pivot(index="image", columns="mask_family", values="l2")[families].to_numpy()
        for name, part in table.groupby("baseline", sort=False)
    }  # {baseline: (n <= N, runs)}
    own, names, below = own.to_numpy(), list(own), {}
    for n in {len(of) for of in errors.values()} if names else ():
        alike = [name for name, of in errors.items() if len(of) == n]
        differences = np.concatenate([own[:n] - errors[name] for name in alike], 1)
        _, high = bootstrap(differences, groups[:n])
        below |= dict(zip(alike, np.split(high < 0, len(alike)), strict=True))
    for k, run in enumerate(names):
        ratio = {name: of[:, k].mean() / own[: len(of), k].mean() for name, of in errors.items()}
        best = min(ratio, key=ratio.get)
        shown = [own[:, k].mean(), best, errors[best][:, k].mean(), len(errors[best])]
        yield [*run, *shown, all(below[n][k] for n in TRIVIAL), all(b[k] for b in below.values())]


def summary(runs):
    """Return what a reader must know before any verdict: one sentence each."""
    n, lost, games = len(runs), int(runs.diverged.sum()), runs[runs.has_game]
    found = [
        f"Of {n} runs {int(runs.beats_trivial.sum())} beat the trivial baselines (mean colour, "
        f"nearest pixel), {int(runs.beats_all.sum())} beat all baselines, and the adversarial game "
        f"is active in {int(games.game_active.sum())} of {len(games)} (D's balanced accuracy "
        f"within {ACTIVE[0]:.2f} and {ACTIVE[1]:.2f} in the last stage)."
    ]
    finished = runs[~runs.diverged]
    parts = {
        "Trivial baselines not beaten": finished[~finished.beats_trivial],
        "Game not active": finished[finished.has_game & ~finished.game_active],
    }
    for words, part in parts.items():
        cells = part.groupby(frames.CELL, sort=False).setup.unique()
        listed = [f"{d} {a} ({', '.join(of)})" for (d, a), of in cells.items()]
        found += [f"{words}: {'; '.join(listed)}."] if listed else []
    if lost:
        gone = runs[runs.diverged]
        named = zip(frames.names_of(gone), gone.why, strict=True)
        listed = ", ".join(f"{name} ({why})" for name, why in named)
        others = "No run finished: tables show baselines."
        others = "Tables show the others." if lost < n else others
        found.append(f"Diverged, an outcome that is not tried again: {lost}: {listed}. {others}")
    return found
