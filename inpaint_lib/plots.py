"""Every figure of notebooks and report. Functions take data, return a matplotlib figure and save nothing.

A setup has one colour everywhere (Okabe & Ito 2008, colour-blind safe).
"""

import io
import time

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from . import feed, losses, masks, setups, train

SETUP_COLOURS = {
    "fixed": "#0072B2",
    "progressive": "#D55E00",
    "recon_first": "#009E73",
    "adv_ramp": "#CC79A7",
    "mixed": "#7F7F7F",
}
METRIC_LABELS = {"l1": "L1", "l2": "L2", "psnr": "PSNR (dB)"}
TERM_LABELS = {
    "l1_hole": "L1 in the hole",
    "l1_valid": "L1 outside",
    "perceptual": "perceptual",
    "mse": "squared error in the hole",
    "l1_coarse": "L1, coarse stage",
    "l1_refined": "L1, refined stage",
    "adversarial_g": "adversarial, G",
    "adversarial_d": "adversarial, D",
    "probe_g": "adversarial, G, full-size probe",
    "probe_d": "adversarial, D, full-size probe",
    "d_real": "D's mean score, real",
    "d_fake": "D's mean score, output",
    "d_accuracy": "D's accuracy",
    "unsaturated": "share of steps D is not saturated",
    "adversarial_g_std": "deviation of adversarial, G",
    "adversarial_d_std": "deviation of adversarial, D",
    "grad_norm_g": "gradient norm of G",
    "grad_norm_d": "gradient norm of D",
}
HOLE = np.array([255, 0, 144], np.uint8)  # a colour no photograph has


def figure(*args, **kwargs):
    """plt.subplots with the suite's style; the figure is not registered with pyplot's own display."""
    plt.rcParams.update({"figure.dpi": 72, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
                         "grid.alpha": 0.25, "font.size": 9, "axes.titlesize": 9, "legend.frameon": False})  # fmt: skip
    fig, axes = plt.subplots(*args, **kwargs)
    plt.close(fig)
    return fig, axes


def show_hole(images, masks):
    """Paint the hole over images: (N,H,W,3) uint8, (N,H,W) -> (N,H,W,3) uint8."""
    return np.where(np.asarray(masks)[..., None] > 0, HOLE, images)


def composite(outputs, images, masks):
    """Outputs in the hole, images elsewhere, as uint8 arrays."""
    return np.where(np.asarray(masks)[..., None] > 0, outputs, images)


def grid(columns, title=None, zoom=1.35):
    """Images side by side: `columns` is {heading: (N,H,W,3) uint8}; a row per image, pixels enlarged without blur."""
    n, size = max(len(images) for images in columns.values()), next(iter(columns.values())).shape[2]
    canvas, gap = _tiled(list(columns.values()), n)
    head = 0.1 + 0.18 * max(heading.count("\n") + 1 for heading in columns) + 0.25 * bool(title)  # inches
    fig, axis = figure(figsize=(zoom * len(columns), zoom * n + head))
    axis.imshow(canvas, interpolation="nearest")
    axis.set_xticks([k * (size + gap) + size / 2 for k in range(len(columns))], list(columns))
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    _bare(axis)
    fig.suptitle(title, fontsize=10, y=0.99, va="top") if title else None
    fig.subplots_adjust(0.005, 0.005, 0.995, 1 - head / (zoom * n + head))
    return fig


def sheet(images, columns=12):
    """A contact sheet of (N,H,W,3) uint8."""
    rows = -(-len(images) // columns)
    fig, axis = figure(figsize=(0.85 * columns, 0.85 * rows))
    axis.imshow(_tiled([images[k::columns] for k in range(min(columns, len(images)))], rows)[0], interpolation="nearest")
    axis.set_xticks([])
    _bare(axis)
    fig.tight_layout(pad=0.3)
    return fig


def _tiled(columns, n):
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


def slider(draw, value, low, high, description):
    """A slider that redraws `draw(value) -> figure`, for JupyterLab. It works without an Output widget, whose messages to the
    kernel can stall a headless execution."""

    def png(value):
        buffer = io.BytesIO()
        draw(value).savefig(buffer, format="png")
        return buffer.getvalue()

    image = ipywidgets.Image(value=png(value), format="png")
    control = ipywidgets.IntSlider(value, low, high, description=description, continuous_update=False)
    control.observe(lambda change: setattr(image, "value", png(change["new"])), "value")
    return ipywidgets.VBox([control, image])


def training_batch(run, pack, step):
    """The images of one training step with their holes painted: (B,H,W,3) uint8, exactly what `train.fit` sees."""
    config = run.study.config
    phase = setups.SETUPS[run.setup](setups.Schedule(config.steps, config.mask_widths, run.seed), step)
    images = feed.mapped(pack), run.seed, range(step, step + 1), config.batch_size, torch.device("cpu"), "resident"
    return show_hole(next(feed.batches(*images)).numpy(), train.holes(run, step, phase.mask_width)[:, 0])


def comparison(study, dataset, architectures, rows=8, family=None):
    """Input, the composite of every setup after its last stage (first seed), truth, for the first test images.

    With several architectures the holes are of one `family`, so that all fill the same; by default the training family.
    """
    suffix, columns = f"_{family}" if family else "", {}
    for run in study.runs():
        if run.dataset == dataset and run.architecture in architectures and run.seed == study.config.seeds[0]:
            with np.load(run.folder / "samples.npz") as samples:
                real, mask = samples["real"][:rows], samples[f"mask{suffix}"][:rows]
                output = samples[f"output{suffix}"][:rows] if family else samples["output"][-1][:rows]
            name = run.setup if len(architectures) == 1 else f"{run.architecture}\n{run.setup}"
            columns[name] = composite(output, real, mask)
    return grid({"input": show_hole(real, mask)} | columns | {"truth": real})


def coverage(fractions):
    """Histograms of the realised hole fraction, {family: {width: (N,) fractions}}; dashed: the nominal fraction."""
    fig, axes = figure(1, len(fractions), figsize=(2.6 * len(fractions), 2.3), sharey=True, squeeze=False)
    for axis, (family, by_width) in zip(axes[0], fractions.items(), strict=True):
        for k, (width, (values, nominal)) in enumerate(by_width.items()):
            colour = plt.cm.viridis(k / len(by_width))
            axis.hist(values, bins=np.linspace(0, 0.5, 51), color=colour, alpha=0.7, label=f"{width} px")
            axis.axvline(nominal, color=colour, ls="--", lw=1)
        axis.set(title=family, xlabel="hole fraction", yscale="log")
    axes[0, 0].set_ylabel("test images")
    axes[0, -1].legend(fontsize=7)
    fig.tight_layout()
    return fig


def schedules(setups, schedule):
    """Mask width and loss weights over the iterations, one row per quantity. `setups` is {name: phase function}."""
    steps = np.unique(np.linspace(0, schedule.steps - 1, 400).astype(int))
    fig, axes = figure(3, 1, figsize=(7, 4.2), sharex=True)
    rows = {"mask_width": "mask width (px)", "reconstruction": "reconstruction weight", "adversarial": "adversarial weight"}
    for axis, (name, label) in zip(axes, rows.items(), strict=True):
        for k, (setup, phase) in enumerate(setups.items()):
            values = [getattr(phase(schedule, int(s)), name) for s in steps]
            width = 1.2 + 1.1 * (len(setups) - 1 - k)  # equal curves show as bands
            axis.step(steps, values, where="post", color=SETUP_COLOURS[setup], label=setup, lw=width)
        axis.set_ylabel(label, fontsize=8)
        axis.set_ylim(0, None)
    axes[0].legend(fontsize=7, ncols=2)
    axes[-1].set_xlabel("iteration")
    fig.tight_layout()
    return fig


def training_curves(histories, terms=tuple(TERM_LABELS)):
    """Logged quantities over the iterations. `histories` is {(setup, seed): DataFrame of history.csv}; stages shaded."""
    terms = [t for t in terms if any(t in h for h in histories.values())]
    rows = -(-len(terms) // 3)
    fig, axes = figure(rows, 3, figsize=(8.5, 1.7 * rows), sharex=True, squeeze=False)
    for axis, term in zip(axes.flat, terms, strict=False):
        _shade_stages(axis, next(iter(histories.values())))
        labelled = set()
        for (setup, _), history in histories.items():
            label = None if setup in labelled else setup
            axis.plot(history.step, history[term], color=SETUP_COLOURS[setup], lw=1.2, label=label)
            labelled.add(setup)
        axis.set_title(TERM_LABELS.get(term, term))
    for axis in axes.flat[len(terms) :]:
        axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("iteration")
    axes[0, 0].legend(fontsize=7)
    fig.tight_layout()
    return fig


def _shade_stages(axis, history):
    edges = [0, *history.groupby("stage").step.max()]
    for k, (left, right) in enumerate(zip(edges, edges[1:], strict=False)):
        if k % 2:
            axis.axvspan(left, right, color="0.93", zorder=0)


def per_stage(stages, region="hole"):
    """Metrics after every stage (rows: metric) for every mask width (columns). `stages` holds setup, seed and the columns
    of stages.csv; lines are means over seeds."""
    metrics, widths = list(METRIC_LABELS), sorted(stages.mask_width.unique())
    fig, axes = figure(
        len(metrics), len(widths), figsize=(1 + 2.1 * len(widths), 5.6), sharex=True, sharey="row", squeeze=False
    )
    for i, metric in enumerate(metrics):
        for j, width in enumerate(widths):
            part = stages[(stages.mask_width == width) & (stages.region == region)]
            for setup, group in part.groupby("setup", sort=False):
                mean = group.groupby("stage")[metric].mean()
                axes[i, j].plot(mean.index, mean, "o-", ms=3, color=SETUP_COLOURS[setup], label=setup)
            axes[0, j].set_title(f"{width} px hole")
        axes[i, 0].set_ylabel(METRIC_LABELS[metric])
    for axis in axes[-1]:
        axis.set_xlabel("after stage")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend(fontsize=7)
    fig.tight_layout()
    return fig


def heat_maps(matrix, label="hole L1"):
    """The stage x hole width matrix of each setup, `matrix` as `tables.stage_matrix` for one data set and architecture:
    index (setup, stage), a column per width. One colour scale for all; every cell bears its number."""
    names = list(dict.fromkeys(matrix.index.get_level_values("setup")))
    low, high = float(matrix.min().min()), float(matrix.max().max())
    fig, axes = figure(1, len(names), figsize=(0.9 + 2.4 * len(names), 2.5), squeeze=False, layout="constrained")
    for axis, name in zip(axes[0], names, strict=True):
        part = matrix.loc[name]
        drawn = axis.imshow(part, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for (i, j), value in np.ndenumerate(part.to_numpy()):
            axis.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=6,
                      color="white" if value < (low + high) / 2 else "black")  # fmt: skip
        axis.set_xticks(range(part.shape[1]), part.columns)
        axis.set_yticks(range(part.shape[0]), part.index)
        axis.set(title=name, xlabel="hole width (px)")
        axis.grid(False)
    axes[0, 0].set_ylabel("after stage")
    fig.colorbar(drawn, ax=axes[0].tolist(), label=label, fraction=0.03, pad=0.01)
    return fig


class Live:
    """A picture of the training that redraws itself in a notebook: pass it to `train.fit(run, watch=Live())`.

    Drawing takes at most a twentieth of the time.
    """

    def __init__(self):
        self.handle, self.next_drawing = None, 0.0

    def __call__(self, run, state, bar):
        finished = state.step >= run.study.config.steps
        begun = time.monotonic()
        if begun < self.next_drawing and not finished:
            return
        terms = (*losses.OBJECTIVES[run.architecture].terms[-2:], "adversarial_g", "adversarial_d")
        fig = training_curves({(run.setup, run.seed): pd.DataFrame(state.history)}, terms[-3:])
        fig.suptitle(f"{run.name}: trained" if finished else str(bar), fontsize=8, family="monospace")
        fig.tight_layout()
        if self.handle is None:
            self.handle = display(fig, display_id=True)
        else:
            self.handle.update(fig)
        now = time.monotonic()
        self.next_drawing = now + max(1.0, 20 * (now - begun))
