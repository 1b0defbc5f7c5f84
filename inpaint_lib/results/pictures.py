"""Pictures of notebooks and report: images, holes and fillings side by side, what is shown being chosen by a rule.

Functions return a matplotlib figure and save nothing. Images are (N,H,W,3) uint8, holes (N,H,W), 1 = hole.
"""

import numpy as np
import torch
from matplotlib.collections import LineCollection

from .. import masks, metrics, setups
from ..data import feed, packs
from ..training import artifacts, loop
from . import collect, plots

HOLE = np.array([255, 0, 144], np.uint8)  # a colour no photograph has
OUTLINE = "#FF0090"


def show_hole(images, masks):
    """Paint the hole over images: (N,H,W,3) uint8, (N,H,W) -> (N,H,W,3) uint8."""
    return np.where(np.asarray(masks)[..., None] > 0, HOLE, images)


def composite(outputs, images, masks):
    """Outputs in the hole, images elsewhere, as uint8 arrays."""
    return np.where(np.asarray(masks)[..., None] > 0, outputs, images)


def grid(columns, title=None, zoom=1.35, rows=None, holes=None):
    """Images side by side: `columns` is {heading: (N,H,W,3) uint8}; a row per image, pixels enlarged without blur.

    rows: N labels at the left. holes (N,H,W): their outlines are drawn on every column.
    """
    n, size = max(len(images) for images in columns.values()), next(iter(columns.values())).shape[2]
    canvas, gap = tiled(list(columns.values()), n)
    head = 0.1 + 0.18 * max(heading.count("\n") + 1 for heading in columns) + 0.25 * bool(title)  # inches
    left = 0.25 * bool(rows)
    fig, axis = plots.figure(figsize=(zoom * len(columns) + left, zoom * n + head))
    axis.imshow(canvas, interpolation="none")  # a PDF then holds the pixels as they are
    axis.set_xticks([k * (size + gap) + size / 2 for k in range(len(columns))], list(columns))
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    _bare(axis)
    for i, label in enumerate(rows or ()):
        axis.text(-size / 20, i * (size + gap) + size / 2, label, rotation=90, ha="right", va="center")
    if holes is not None:
        lines = np.concatenate([outline(m) + (0, i * (size + gap)) for i, m in enumerate(holes)])
        for j in range(len(columns)):
            axis.add_collection(LineCollection(lines + (j * (size + gap), 0), colors=OUTLINE, lw=0.8), autolim=False)
    fig.suptitle(title, fontsize=10, y=0.99, va="top") if title else None
    width, height = fig.get_size_inches()
    fig.subplots_adjust((left + 0.01) / width, 0.005, 0.995, 1 - head / height)
    return fig


def outline(mask):
    """The borders between hole and surroundings of a mask (H,W), as (K,2,2) segments of (x, y) in an image's coordinates."""
    hole = np.pad(np.asarray(mask) > 0, 1)
    y, x = np.nonzero(hole[1:] != hole[:-1])  # between rows y - 1 and y
    across = np.stack([np.stack([x - 1, y], 1), np.stack([x, y], 1)], 1)
    y, x = np.nonzero(hole[:, 1:] != hole[:, :-1])
    along = np.stack([np.stack([x, y - 1], 1), np.stack([x, y], 1)], 1)
    return np.concatenate([across, along]) - 0.5


def sheet(images, columns=12):
    """A contact sheet of (N,H,W,3) uint8."""
    rows = -(-len(images) // columns)
    fig, axis = plots.figure(figsize=(0.85 * columns, 0.85 * rows))
    axis.imshow(tiled([images[k::columns] for k in range(min(columns, len(images)))], rows)[0], interpolation="nearest")
    axis.set_xticks([])
    _bare(axis)
    fig.tight_layout(pad=0.3)
    return fig


def tiled(columns, n):
    """One picture of all images: `columns` is a list of (N,H,W,3) uint8 with N <= n -> (picture, gap in pixels)."""
    size = columns[0].shape[2]
    gap = max(1, size // 24)
    canvas = np.full((n * (size + gap) - gap, len(columns) * (size + gap) - gap, 3), 255, np.uint8)
    for j, images in enumerate(columns):
        for i, image in enumerate(images):
            canvas[i * (size + gap) :, j * (size + gap) :][:size, :size] = image
    return canvas, gap


def _bare(axis):
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.grid(False)


def growing_masks(images, masks_by_width):
    """Figure 2 of the paper: the same images with the hole of every stage. `masks_by_width` is {width: (N,H,W)}."""
    shown = {f"stage {k}: {w} px": show_hole(images, m) for k, (w, m) in enumerate(masks_by_width.items(), 1)}
    return grid({"image": images} | shown)


def families(images, width):
    """The four mask families at one nominal width, painted on images."""
    size = images.shape[1]
    frozen = {name: masks.frozen(name, len(images), width, size, seed=0) for name in masks.FAMILIES}
    return grid({name: show_hole(images, mask) for name, mask in frozen.items()}, f"{width} px of {size}")


def training_batch(run, pack, step):
    """The images of one training step with their holes painted: (B,H,W,3) uint8, exactly what `loop.fit` sees."""
    config = run.config
    phase = setups.SETUPS[run.setup](setups.Schedule(config.steps, config.mask_widths, run.seed), step)
    images = feed.mapped(pack), run.seed, range(step, step + 1), config.batch_size, torch.device("cpu"), "resident"
    return show_hole(next(feed.batches(*images)).numpy(), loop.holes(run, step, phase.mask_width)[:, 0])


def filled(run, images, family=None, stage=None):
    """What a run's network after `stage` (default: the last) makes of test images `images` (indices) with the frozen full-size
    holes of `family` (default: the training family): (originals, holes, composites)."""
    return filled_by(artifacts.load_generator(run, stage or len(run.config.mask_widths)), run, images, family)


def filled_by(generator, run, images, family=None):
    pack, device = packs.existing(run.study, run.dataset), next(generator.parameters()).device
    real = np.array(pack.test[images])
    hole = pack.test_masks(family or run.model.mask_family, run.config.mask_widths[-1], images)
    output = metrics.to_uint8(next(metrics.inpaint(generator, real, hole, device, len(real)))[0])
    return real, hole, composite(output, real, hole)


def first_seed(study, dataset, architecture):
    """Of every setup the first finished run, by seed."""
    found = [r for r in collect.finished(study) if (r.dataset, r.architecture) == (dataset, architecture)]
    return list({r.setup: r for r in reversed(found)}.values())[::-1]


def comparison(study, dataset, architectures, family=None):
    """Input, the composite of every setup after its last stage (first seed), truth. Rows: the test images that the last of the
    architectures fills best, in the middle and worst, by hole L1 averaged over its setups and seeds: nothing is picked by hand.

    With several architectures the holes are of one `family`, so that all fill the same; by default the training family.
    """
    picked, columns = collect.ranked(study, dataset, architectures[-1]), {}
    for architecture in architectures:
        for run in first_seed(study, dataset, architecture):
            real, hole, image = filled(run, list(picked.values()), family)
            columns[run.setup if len(architectures) == 1 else f"{architecture}\n{run.setup}"] = image
    return grid({"input": show_hole(real, hole)} | columns | {"truth": real}, rows=list(picked), holes=hole)


def evolution(runs, images):
    """Test images with the full-size hole (the rows: those of every run's `images` that there are), filled by the network after
    every stage."""
    n = len(packs.existing(runs[0].study, runs[0].dataset).test)
    images = [k for k in images if k < n]
    stages = range(1, len(runs[0].study.config.mask_widths) + 1)
    by_stage = {k: [filled(run, images, stage=k) for run in runs] for k in stages}
    columns = {f"stage {k}": np.concatenate([image for *_, image in found]) for k, found in by_stage.items()}
    real, hole, _ = (np.concatenate(x) for x in zip(*by_stage[stages[-1]], strict=True))
    rows = [run.setup for run in runs] if len(runs) > 1 else None
    return grid({"input": show_hole(real, hole)} | columns | {"truth": real}, rows=rows, holes=hole)
