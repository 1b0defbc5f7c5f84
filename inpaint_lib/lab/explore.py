"""Compute what notebook 40 shows of finished runs: holes filled after any stage, curves, scores.

An image is (H,W,3) uint8, a hole (H,W) uint8, 1 = hole. Images are filled one at a time on the CPU.
"""

import numpy as np
import pandas as pd
import torch

from .. import losses, masks, metrics, models
from ..data import packs
from ..results import pictures, plots
from ..training import artifacts, identity, probe

HOLE = metrics.REGIONS.index("hole")
LINES = ("-", "--", ":", "-.")  # of architectures


def finished(study):
    """Return the finished runs of the study's grid.

    Raises FileNotFoundError, with the command that trains, if there are none.
    """
    changed = identity.changed(study)
    results = [(run, identity.result(run)) for run in study.runs() if run.folder not in changed]
    found = [run for run, result in results if result and result["outcome"] == "finished"]
    if not found:
        how = f"train them with: ./run_all.sh {study.profile}"
        raise FileNotFoundError(f"no finished run in {study.folder}; {how}")
    return found


def pack_of(picked):
    """Return the data of the picked runs. Raises ValueError if none is picked."""
    if not picked:
        raise ValueError("No finished run matches this choice.")
    return packs.existing(picked[0].study, picked[0].dataset)


def name_of(run):
    """Return what a run is called beside others of its data set and seed."""
    return f"{run.architecture} {run.setup}"


# --- holes and how they are filled


def rasterise(points, width, size):
    """Return a stroke as a hole: the pixels whose centre lies within half the width of the line
    through the points (x, y), in pixels from the upper left corner; a single point is a dot.

    Lines are at least sqrt(2) px wide, so that none has gaps; what lies outside is cut off.
    """
    corners = torch.tensor(points, dtype=torch.float64).flip(1)[None]  # (1, n, 2): row, column
    a, b = (corners[:, :-1], corners[:, 1:]) if len(points) > 1 else (corners, corners)
    near = masks.squared_distance_to_segments(a, b, size) <= max(width, 2**0.5) ** 2 / 4 + 1e-9
    return near.any(1)[0].numpy().astype(np.uint8)


def confine(hole, architectures):
    """Return (the part of a hole that all these can fill, why the rest is left out or "")."""
    if not any(map(models.central, architectures)):
        return hole, ""
    quarter = hole.shape[0] // 4
    inside = np.pad(hole[quarter:-quarter, quarter:-quarter], quarter)
    left = int(hole.sum() - inside.sum())
    reason = f"{left} painted px are left out: context_encoder fills the central half only."
    return inside, reason if left else ""


def fill(generator, image, hole):
    """Return (composite, [L1, L2, PSNR] in the hole). Raises ValueError for an empty hole."""
    if not hole.any():
        raise ValueError("There is no hole to fill.")
    [batch] = metrics.inpaint(generator, image[None], hole[None], "cpu", 1)
    values = metrics.per_image(*batch)[0, HOLE].tolist()
    return metrics.to_uint8(losses.composite(*batch))[0], values


def compare(picked, image, holes, stage, width=None):
    """Fill an image with several runs: return a figure, and a frame of metrics in the hole, a row
    per run. Batch norm is calibrated to a width, if given, as in evaluation.

    holes: {architecture: hole}; stage 0 is before training. Raises ValueError for an empty hole.
    """
    pack, rows = pack_of(picked), list(dict.fromkeys(run.architecture for run in picked))
    columns = {run.setup: np.full((len(rows), *image.shape), 255, np.uint8) for run in picked}
    table = {}
    for run in picked:
        generator = artifacts.load_generator(run, stage)
        if width:
            generator = probe.calibrated(run, pack, generator, width, "cpu")
        composite, values = fill(generator, image, holes[run.architecture])
        columns[run.setup][rows.index(run.architecture)] = composite
        table[name_of(run)] = dict(zip(("L1", "L2", "PSNR (dB)"), values, strict=True))
    truth, hole = np.stack([image] * len(rows)), np.stack([holes[name] for name in rows])
    columns = {"input": pictures.show_hole(truth, hole)} | columns | {"truth": truth}
    return pictures.grid(columns, rows=rows, holes=hole), pd.DataFrame(table).T


def frozen_hole(run, image, width):
    """Return (test image number `image` or the last, the frozen hole of the run's own family)."""
    pack = pack_of([run])
    image = min(image, len(pack.test) - 1)
    return pack.test[image], pack.test_masks(run.model.mask_family, width)[image]


def outputs(picked, stage, image, width):
    """Do `compare` on a test image and the frozen holes of a width."""
    pack_of(picked)
    holes = {run.architecture: frozen_hole(run, image, width)[1] for run in picked}
    return compare(picked, frozen_hole(picked[0], image, width)[0], holes, stage, width)


def curves(picked, term, weight):
    """Draw a logged quantity of several runs: faint as logged, bold smoothed (a moving average).

    Returns (figure, a frame of the last values). Raises ValueError if no picked run logs it.
    """
    pack_of(picked)
    histories = [(run, pd.read_csv(run.folder / "history.csv")) for run in picked]
    logged = [(run, history) for run, history in histories if term in history]
    if not logged:
        raise ValueError("No chosen run logs this quantity.")
    fig, axis = plots.figure(figsize=(8, 3.2), layout="constrained")
    plots.shade_stages(axis, logged[0][1])
    lines, ends = {}, {}
    for run, history in logged:
        line = lines.setdefault(run.architecture, LINES[len(lines) % len(LINES)])
        look = {"color": plots.style(run.setup)["color"], "ls": line}
        smoothed = history[term].ewm(alpha=1 - weight).mean()
        axis.plot(history.step, history[term], lw=1, alpha=0.3, **look)
        axis.plot(history.step, smoothed, lw=2, label=name_of(run), **look)
        ends[name_of(run)] = {"last": history[term].iloc[-1], "last, smoothed": smoothed.iloc[-1]}
    axis.set(title=f"{plots.TERM_LABELS[term]}, smoothing {weight:g}", xlabel="step")
    axis.legend()
    return fig, pd.DataFrame(ends).T


def score_maps(run, networks, image, hole):
    """Return {"real" or "filled": (what D sees in RGB, [its score map (h,w) at each scale])}."""
    (G, D), found = networks, {}
    [(output, real, mask)] = metrics.inpaint(G, image[None], hole[None], "cpu", 1)
    for name, shown in {"real": real, "filled": output}.items():
        with torch.inference_mode():
            seen = run.architecture_entry.objective.seen(shown, real, mask)
            maps = [one[0].mean(0).numpy() for one in losses.scores(D(seen))]  # of all channels
        found[name] = metrics.to_uint8(seen[:, :3])[0], maps
    return found


def scores(picked, stage, image, width):
    """Draw the scores of the first picked run's D; above the boundary (white) D says "real".

    Returns (figure, a frame of mean scores). Raises ValueError if no run is picked.
    """
    pack_of(picked)
    run, means = picked[0], {}
    networks = artifacts.load_networks(run, stage)
    found = score_maps(run, networks, *frozen_hole(run, image, width))
    boundary = run.architecture_entry.objective.adversarial[2]
    reach = max(np.abs(m - boundary).max() for _, maps in found.values() for m in maps) or 1
    columns = 1 + len(found["real"][1])
    fig, axes = plots.figure(2, columns, figsize=(2.1 * columns + 0.8, 4.2), squeeze=False)
    for row, (name, (seen, maps)) in zip(axes, found.items(), strict=True):
        row[0].set_title(f"{name}, as D sees it")
        means[name] = [scores.mean() for scores in maps]
        for axis, shown in zip(row, [seen, *maps], strict=True):
            drawn = axis.imshow(shown, "RdBu", vmin=boundary - reach, vmax=boundary + reach)
            axis.axis("off")
    fig.colorbar(drawn, ax=axes, label='score (blue: "real")', shrink=0.7)
    fig.suptitle(name_of(run))
    return fig, pd.DataFrame(means).T
