"""Draw the still figures of notebook 40: fills, and D's scores of them."""

import numpy as np
import pandas as pd

from ..results import pictures, plots
from . import answers


def draw_fills(state, names, stage, width, image):
    """Draw a recorded test image as some runs of one architecture fill it at the end of a stage.

    Returns (figure, a frame of each run's hole L1)."""
    dataset, architecture = names[0].split("/")[:2]
    truth, holes = state.image(dataset, image)
    hole = holes[f"{state.about['families'][architecture]}_{width}"]
    shown, errors = {"input": pictures.show_hole(truth[None], hole[None])}, {}
    for name in names:
        setup, fill = name.split("/")[2], state.recorded(name, image)[f"end_fills_{width}"]
        shown[setup] = fill[stage - 1][None]
        errors[setup] = [np.abs(fill[stage - 1] / 255 - truth / 255)[hole > 0].mean()]
    shown["truth"] = truth[None]
    return pictures.draw_grid(shown, f"stage {stage}", holes=hole[None]), pd.DataFrame(errors)


def draw_scores(state, name, stage, width, image):
    """Draw the scores of a run's D, patch by patch: white is the boundary, above it D says "real".

    Returns (figure, a frame of mean scores).
    """
    run = answers.find_run(state, name)
    [found] = answers.fill(state, [], [name], stage, width, image)["runs"]
    truth, _ = state.holed(run, width, image)
    rows = {"real": (truth, found["real"]), "filled": (found["fill"], found["scores"])}
    boundary = run.architecture_entry.objective.adversarial[2]
    reach = max(np.abs(m - boundary).max() for _, maps in rows.values() for m in maps) or 1
    columns = 1 + len(found["real"])
    fig, axes = plots.make_figure(2, columns, figsize=(2.1 * columns + 0.8, 4.2), squeeze=False)
    for row, (title, (seen, maps)) in zip(axes, rows.items(), strict=True):
        row[0].set_title(title)
        for axis, shown in zip(row, [seen, *maps], strict=True):
            drawn = axis.imshow(shown, "RdBu", vmin=boundary - reach, vmax=boundary + reach)
            axis.axis("off")
    fig.colorbar(drawn, ax=axes, label='score (blue: "real")', shrink=0.7)
    fig.suptitle(f"{run.architecture} {run.setup}, end of stage {stage}")
    return fig, pd.DataFrame({title: [m.mean() for m in maps] for title, (_, maps) in rows.items()})
