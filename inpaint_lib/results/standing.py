"""What came of each run before anything is compared: finished or diverged; learnt, useful, alive (protocol 2).

- learnt: with full-size holes, hole L2 lies below that of the mean-colour fill and of the nearest-pixel fill, by a paired
  bootstrap over test images (95 %). useful: below every fill that needs no training, on the images that one was measured on.
- alive: the discriminator's balanced accuracy, mean over the last stage, lies within ALIVE: neither side has lost the game.
"""

import pandas as pd

from ..evaluation import evaluate
from ..study import files
from . import collect, stats

ALIVE = 0.55, 0.95
LEARNT_AGAINST = ("mean colour", "nearest")
COLUMNS = ["dataset", "architecture", "setup", "seed", "outcome", "why", "diverged", "hole_l2", "best_fill", "best_fill_l2",
           "best_fill_images", "learnt", "useful", "d_accuracy", "alive", "device", "precision", "torch"]  # fmt: skip


def of_runs(study):
    """A row per run of the grid: COLUMNS, runs.csv. Raises FileNotFoundError as collect.result_of."""
    rows, errors = [], {d: evaluate.baseline_errors(study.data_folder(d)) for d in study.config.datasets}
    groups = {d: files.read_json(study.data_folder(d) / "manifest.json")["test_groups"] for d in study.config.datasets}
    for run in study.runs():
        result = collect.result_of(run)
        where = {"device": [s["device"] for s in result["sittings"]], "precision": [s["precision"] for s in result["sittings"]],
                 "torch": [s["provenance"]["versions"]["torch"] for s in result["sittings"]]}  # fmt: skip
        row = {"dataset": run.dataset, "architecture": run.architecture, "setup": run.setup, "seed": run.seed,
               "outcome": result["outcome"], "why": result.get("why", ""), "diverged": result["outcome"] == "diverged",
               "learnt": False, "useful": False, "alive": False,
               **{name: " + ".join(sorted(set(values))) for name, values in where.items()}}  # fmt: skip
        if not row["diverged"]:
            fills = {name: errors[run.dataset][name][run.model.mask_family].to_numpy() for name in errors[run.dataset]}
            row |= learning(collect.last_hole(run, "l2"), fills, groups[run.dataset])
            history = pd.read_csv(run.folder / "history.csv")
            row["d_accuracy"] = history.d_accuracy[history.stage == history.stage.max()].mean()
            row["alive"] = bool(ALIVE[0] <= row["d_accuracy"] <= ALIVE[1])
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def learning(own, fills, groups):
    """`learnt` and `useful` of a network from its per-image hole L2 (N,), those of the fills ({name: (n <= N,)}), and the group
    of every image (the photograph it was cut from): images of a group are drawn together. A fill measured on `best_fill_images`
    test images, the first ones, is compared on these: `hole_l2` is over all."""
    below = {}
    for name, errors in fills.items():
        n = len(errors)
        below[name] = stats.bootstrap(own[:n] - errors, groups[:n])[1] < 0
    best = min(fills, key=lambda name: fills[name].mean() / own[: len(fills[name])].mean())  # on the same images
    return {"hole_l2": own.mean(), "best_fill": best, "best_fill_l2": fills[best].mean(), "best_fill_images": len(fills[best]),
            "learnt": all(below[name] for name in LEARNT_AGAINST), "useful": all(below.values())}  # fmt: skip


def summary(runs):
    """What the first screen says before any verdict: one sentence each."""
    n, lost, games = len(runs), int(runs.diverged.sum()), runs[runs.setup != "recon_only"]
    found = [
        f"Of {n} runs {int(runs.learnt.sum())} have learnt to fill better than the mean colour and the nearest pixel, "
        f"{int(runs.useful.sum())} fill better than anything that needs no training, and the adversarial game is alive in "
        f"{int(games.alive.sum())} of {len(games)} (D's balanced accuracy within {ALIVE[0]:.2f} and {ALIVE[1]:.2f} in the last "
        "stage)."
    ]
    for column, words in (("learnt", "Not learnt"), ("alive", "Game not alive")):
        without = runs[~runs[column] & ~runs.diverged & ((column == "learnt") | (runs.setup != "recon_only"))]  # it has no game
        cells = without.groupby(["dataset", "architecture"], sort=False).setup.agg(lambda s: ", ".join(dict.fromkeys(s)))
        if len(cells):
            found.append(f"{words}: " + "; ".join(f"{d} {a} ({of})" for (d, a), of in cells.items()) + ".")
    if lost:
        of = ", ".join(
            f"{r.dataset}/{r.architecture}/{r.setup}/seed{r.seed} ({r.why})" for r in runs[runs.diverged].itertuples()
        )
        others = "Tables show the others." if lost < n else "There are no others: tables show only what needs no training."
        found.append(f"Diverged, which is an outcome and was not tried again: {lost}: {of}. {others}")
    return found
