"""Draw images, holes and fills side by side; which images are shown follows a rule.

Functions return an unsaved matplotlib figure. Images are (N,H,W,3) uint8, holes (N,H,W), 1 =
hole."""

import numpy as np
from matplotlib.collections import LineCollection

from . import frames, plots, select

HOLE = np.array([255, 0, 144], np.uint8)  # a colour no photograph has
OUTLINE = "#FF0090"


def show_hole(images, holes):
    """Return images (N,H,W,3) uint8 with their holes (N,H,W) painted in HOLE."""
    return np.where(np.asarray(holes)[..., None] > 0, HOLE, images)


def draw_grid(columns, title=None, rows=(), holes=(), inches=1.35):
    """Draw {heading: (N,H,W,3) uint8} as columns with a row per image, enlarged without blur.

    rows: N labels at the left. holes: (N,H,W); their outlines are drawn on every column. inches:
    an image's side."""
    headings, columns = zip(*columns.items(), strict=True)
    n, size = max(map(len, columns)), columns[0].shape[2]
    canvas, gap = tile(columns, n)
    head = 0.1 + 0.18 * max(h.count("\n") + 1 for h in headings) + 0.25 * bool(title)  # inches
    left = 0.25 * bool(rows)
    width, height = inches * len(columns) + left, inches * n + head
    fig, axis = plots.make_figure(figsize=(width, height))
    axis.imshow(canvas, interpolation="none")  # a PDF then holds the pixels as they are
    axis.set_xticks([k * (size + gap) + size / 2 for k in range(len(columns))], headings)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    _bare(axis)
    for i, label in enumerate(rows):
        middle = i * (size + gap) + size / 2
        axis.text(-size / 20, middle, label, rotation=90, ha="right", va="center")
    for j in range(len(columns)):
        for i, hole in enumerate(holes):
            lines = trace_outline(hole) + (j * (size + gap), i * (size + gap))
            axis.add_collection(LineCollection(lines, colors=OUTLINE, lw=0.8), autolim=False)
    if title:
        fig.suptitle(title, fontsize=10, y=0.99, va="top")
    fig.subplots_adjust((left + 0.01) / width, 0.005, 0.995, 1 - head / height)
    return fig


def trace_outline(mask):
    """Return the borders of the hole in a mask (H,W) as (K,2,2) segments of (x, y)."""
    hole = np.pad(np.asarray(mask) > 0, 1)
    y, x = np.nonzero(hole[1:] != hole[:-1])  # between rows y - 1 and y
    across = np.stack([np.stack([x - 1, y], 1), np.stack([x, y], 1)], 1)
    y, x = np.nonzero(hole[:, 1:] != hole[:, :-1])
    along = np.stack([np.stack([x, y - 1], 1), np.stack([x, y], 1)], 1)
    return np.concatenate([across, along]) - 0.5


def draw_sheet(images):
    """Draw a contact sheet of (N,H,W,3) uint8."""
    columns = min(12, len(images))
    rows = -(-len(images) // columns)
    fig, axis = plots.make_figure(figsize=(0.85 * columns, 0.85 * rows))
    canvas, _ = tile([images[k::columns] for k in range(columns)], rows)
    axis.imshow(canvas, interpolation="nearest")
    axis.set_xticks([])
    _bare(axis)
    fig.tight_layout(pad=0.3)
    return fig


def tile(columns, n):
    """Return all images in one picture, and the gap between them in pixels.

    columns: a list of (N,H,W,3) uint8 with N <= n."""
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


def draw_growing_masks(images, masks_by_width):
    """Draw images with the hole of every stage, as in the paper's Figure 2.

    masks_by_width: {width: (N,H,W)}."""
    stages = enumerate(masks_by_width.items(), 1)
    shown = {f"stage {k}: {width} px": show_hole(images, m) for k, (width, m) in stages}
    return draw_grid({"image": images} | shown)


def rank_images(results, dataset, architecture):
    """Return {"best", "median", "worst": position among the recorded images}.

    The order is that of hole L1 (largest hole, last stage), averaged over setups and seeds."""
    largest = {"mask_width": results.widths[-1], "dataset": dataset, "architecture": architecture}
    l1 = select.get_image_errors(results, "l1", **largest).mean()
    recorded = l1.reindex(results.about["recorded"][dataset]).to_numpy()
    positions = np.argsort(recorded, kind="stable")
    return {"best": positions[0], "median": positions[len(positions) // 2], "worst": positions[-1]}


def _find_fills(results, dataset, architecture, stage, holes):
    """Return {setup: recorded fills (R,H,W,3)} of the first seed that has them.

    holes: family and width, for example "square_32"."""
    found = {}
    for run in frames.name_runs(select.get_cell(results.runs, dataset, architecture)):
        if (key := f"{run}/stage{stage}/{holes}") in results.fills:
            found.setdefault(run.split("/")[2], results.fills[key])
    return found


def draw_comparison(results, dataset, *architectures):
    """Draw input, every setup's output after the last stage, and truth; None without fills.

    The largest hole is of the last architecture's family; rows are the recorded images that this
    architecture fills best, median and worst."""
    picked = rank_images(results, dataset, architectures[-1])
    holes = f"{results.family(architectures[-1])}_{results.widths[-1]}"
    rows, columns = list(picked.values()), {}
    for architecture in architectures:
        found = _find_fills(results, dataset, architecture, len(results.widths), holes)
        if not found:
            return None
        for setup, images in found.items():
            heading = setup if len(architectures) == 1 else f"{architecture}\n{setup}"
            columns[heading] = images[rows]
    truth = results.fills[f"{dataset}/truth"][rows]
    hole = results.fills[f"{dataset}/mask/{holes}"][rows]
    shown = {"input": show_hole(truth, hole)} | columns | {"truth": truth}
    return draw_grid(shown, rows=list(picked), holes=hole)


def choose_setups(setups):
    """Return at most four setups, those of select.SHOWN first."""
    shown = [name for name in select.SHOWN if name in setups]
    return [*shown, *(name for name in setups if name not in shown)][: len(select.SHOWN)]


def draw_sizes(results, dataset, architecture):
    """Draw two recorded images, filled best and median, with holes of several widths (rows).

    Columns are some setups. None without fills."""
    family, last = results.family(architecture), len(results.widths)
    truth = results.fills[f"{dataset}/truth"]
    chosen = np.linspace(0, last - 1, min(3, last)).round().astype(int)
    by_width, masks = {}, {}
    for width in [results.widths[k] for k in chosen]:
        by_width[width] = _find_fills(results, dataset, architecture, last, f"{family}_{width}")
        masks[width] = results.fills.get(f"{dataset}/mask/{family}_{width}")
    found = by_width[results.widths[-1]]
    if not found:
        return None
    images = list(rank_images(results, dataset, architecture).values())[:2]

    def rows(of):  # by width: images below each other
        return np.concatenate([of[width][images] for width in masks])

    real = np.concatenate([truth[images]] * len(masks))
    columns = {"input": show_hole(real, rows(masks))}
    for setup in choose_setups(found):
        columns[setup] = rows({width: of[setup] for width, of in by_width.items()})
    labels = [f"{width} px" for width in masks for _ in images]
    return draw_grid(columns | {"truth": real}, rows=labels, holes=rows(masks), inches=1)


def draw_stage_masks(results, dataset):
    """Draw the hole of every stage on recorded test images; None without recorded masks."""
    for architecture in dict.fromkeys(results.runs.architecture):
        keys = {w: f"{dataset}/mask/{results.family(architecture)}_{w}" for w in results.widths}
        if set(keys.values()) <= results.fills.keys():
            masks = {width: results.fills[key][:4] for width, key in keys.items()}
            return draw_growing_masks(results.fills[f"{dataset}/truth"][:4], masks)
    return None
