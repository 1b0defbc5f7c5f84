"""Every figure of notebooks and report. Functions take data, return a matplotlib figure and save nothing.

A setup has one colour and one marker everywhere (Okabe & Ito 2008, colour-blind safe). Where there are three seeds or more, a
line is their mean and its band the 95 % t interval; with two, both seeds are drawn.
"""

import io
import time

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib.collections import LineCollection

from . import artifacts, data, feed, losses, masks, metrics, setups, stats, tables, train

SETUP_COLOURS = {
    "fixed": "#0072B2",
    "progressive": "#D55E00",
    "recon_first": "#009E73",
    "adv_ramp": "#CC79A7",
    "mixed": "#7F7F7F",
}
SETUP_MARKERS = {"fixed": "o", "progressive": "D", "recon_first": "s", "adv_ramp": "^", "mixed": "X"}
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
OUTLINE = "#FF0090"


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


def grid(columns, title=None, zoom=1.35, rows=None, holes=None):
    """Images side by side: `columns` is {heading: (N,H,W,3) uint8}; a row per image, pixels enlarged without blur.

    rows: N labels at the left. holes (N,H,W): their outlines are drawn on every column.
    """
    n, size = max(len(images) for images in columns.values()), next(iter(columns.values())).shape[2]
    canvas, gap = _tiled(list(columns.values()), n)
    head = 0.1 + 0.18 * max(heading.count("\n") + 1 for heading in columns) + 0.25 * bool(title)  # inches
    left = 0.25 * bool(rows)
    fig, axis = figure(figsize=(zoom * len(columns) + left, zoom * n + head))
    axis.imshow(canvas, interpolation="nearest")
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


def png(fig, dpi="figure"):
    """A figure as PNG bytes."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def slider(draw, value, low, high, description):
    """A slider that redraws `draw(value) -> figure`, for JupyterLab. It works without an Output widget, whose messages to the
    kernel can stall a headless execution."""

    image = ipywidgets.Image(value=png(draw(value)), format="png")
    control = ipywidgets.IntSlider(value, low, high, description=description, continuous_update=False)
    control.observe(lambda change: setattr(image, "value", png(draw(change["new"]))), "value")
    return ipywidgets.VBox([control, image])


def training_batch(run, pack, step):
    """The images of one training step with their holes painted: (B,H,W,3) uint8, exactly what `train.fit` sees."""
    config = run.study.config
    phase = setups.SETUPS[run.setup](setups.Schedule(config.steps, config.mask_widths, run.seed), step)
    images = feed.mapped(pack), run.seed, range(step, step + 1), config.batch_size, torch.device("cpu"), "resident"
    return show_hole(next(feed.batches(*images)).numpy(), train.holes(run, step, phase.mask_width)[:, 0])


def filled(run, images, family=None, stage=None):
    """What a run's network after `stage` (default: the last) makes of test images `images` (indices) with the frozen full-size
    holes of `family` (default: the training family): (originals, holes, composites)."""
    return _filled_by(artifacts.load_generator(run, stage or len(run.study.config.mask_widths)), run, images, family)


def _filled_by(generator, run, images, family=None):
    pack, device = data.existing(run.study, run.dataset), next(generator.parameters()).device
    real = np.array(pack.test[images])
    hole = pack.test_masks(family or run.model.mask_family, run.study.config.mask_widths[-1], images)
    output = metrics.to_uint8(next(metrics.inpaint(generator, real, hole, device, len(real)))[0])
    return real, hole, composite(output, real, hole)


def first_seed(study, dataset, architecture):
    """The runs of every setup with the first seed."""
    return [r for r in study.runs() if (r.dataset, r.architecture, r.seed) == (dataset, architecture, study.config.seeds[0])]


def comparison(study, dataset, architectures, family=None):
    """Input, the composite of every setup after its last stage (first seed), truth. Rows: the test images that the last of the
    architectures fills best, in the middle and worst, by hole L1 averaged over its setups and seeds: nothing is picked by hand.

    With several architectures the holes are of one `family`, so that all fill the same; by default the training family.
    """
    picked, columns = tables.ranked(study, dataset, architectures[-1]), {}
    for architecture in architectures:
        for run in first_seed(study, dataset, architecture):
            real, hole, image = filled(run, list(picked.values()), family)
            columns[run.setup if len(architectures) == 1 else f"{architecture}\n{run.setup}"] = image
    return grid({"input": show_hole(real, hole)} | columns | {"truth": real}, rows=list(picked), holes=hole)


def evolution(runs, images):
    """Test images with the full-size hole (the rows: every run's `images`), filled by the network after every stage."""
    stages = range(1, len(runs[0].study.config.mask_widths) + 1)
    by_stage = {k: [filled(run, images, stage=k) for run in runs] for k in stages}
    columns = {f"stage {k}": np.concatenate([image for *_, image in found]) for k, found in by_stage.items()}
    real, hole, _ = (np.concatenate(x) for x in zip(*by_stage[stages[-1]], strict=True))
    rows = [run.setup for run in runs] if len(runs) > 1 else None
    return grid({"input": show_hole(real, hole)} | columns | {"truth": real}, rows=rows, holes=hole)


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


def answer(effects, verdicts):
    """The study's answer at a glance: hole L1 of each setup minus that of fixed, a row per data set and architecture.

    effects: `tables.effects`; ticks are seeds, marks their means. verdicts: the primary rows of `tables.hypotheses`,
    whose intervals are drawn for progressive. Within the registered margin (shaded) a difference would not matter.
    """
    margin = next(h["margin"] for h in stats.registered()[1] if h["role"] == "primary")
    cells = list(dict.fromkeys(zip(effects.dataset, effects.architecture, strict=True)))
    others = [s for s in SETUP_COLOURS if s in set(effects.setup)]
    fig, axis = figure(figsize=(5.6, 0.75 + 0.42 * len(cells)), layout="constrained")
    axis.axvspan(-margin, margin, color="0.9", zorder=0)
    axis.axvline(0, color="0.3", lw=0.8)
    reach = max(margin, effects.effect.abs().max())
    for (*cell, setup), part in effects.groupby(["dataset", "architecture", "setup"], sort=False):
        y = -cells.index(tuple(cell)) - 0.17 * (others.index(setup) - (len(others) - 1) / 2)
        look = dict(color=SETUP_COLOURS[setup], marker=SETUP_MARKERS[setup], ls="")
        if len(part) > 1:
            axis.plot(part.effect, [y] * len(part), color="0.2", marker="|", ms=7, ls="", zorder=3)
        axis.plot(part.effect.mean(), y, ms=8 if setup == "progressive" else 5, **look)
        found = verdicts[(verdicts.dataset == cell[0]) & (verdicts.architecture == cell[1])]
        if setup == "progressive" and len(found) and found.n_seeds.iloc[0] >= stats.MIN_SEEDS:
            ends = found[["ci_low", "ci_high"]].iloc[0]
            axis.plot(ends, [y, y], color=SETUP_COLOURS[setup], lw=2)
            reach = max(reach, ends.abs().max())
    for setup in others:
        axis.plot([], [], label=setup, color=SETUP_COLOURS[setup], marker=SETUP_MARKERS[setup], ls="")
    axis.set_yticks([-k for k in range(len(cells))], [f"{d}, {a}" for d, a in cells])
    axis.set_ylim(-len(cells) + 0.5, 0.5)
    axis.set_xlim(-1.1 * reach, 1.1 * reach)
    axis.set_xlabel("hole L1 minus that of fixed (left: better than fixed)")
    axis.grid(axis="y", visible=False)
    fig.legend(loc="outside upper center", ncols=len(others), fontsize=8)
    return fig


def _lines(axis, values, setup, **options):
    """One setup's curve: `values` has a column per seed."""
    look = {"color": SETUP_COLOURS[setup], "lw": 1.2} | options
    mean = values.mean(axis=1)
    if values.shape[1] == 2:
        axis.plot(values, color=look["color"], lw=0.6, alpha=0.6)
    if values.shape[1] >= 3:
        ends = np.array([stats.interval(row) for row in values.to_numpy()])
        axis.fill_between(mean.index, ends[:, 0], ends[:, 1], color=look["color"], alpha=0.18, lw=0)
    axis.plot(mean.index, mean, label=setup, **look)


def training_curves(histories, terms=tuple(TERM_LABELS)):
    """Logged quantities over the iterations. `histories` is {(setup, seed): DataFrame of history.csv}; stages shaded."""
    terms = [t for t in terms if any(t in h for h in histories.values())]
    rows = -(-len(terms) // 3)
    fig, axes = figure(rows, 3, figsize=(8.5, 1.7 * rows), sharex=True, squeeze=False)
    for axis, term in zip(axes.flat, terms, strict=False):
        _shade_stages(axis, next(iter(histories.values())))
        for setup in dict.fromkeys(setup for setup, _ in histories):
            seeds = {seed: h.set_index("step")[term] for (s, seed), h in histories.items() if s == setup}
            _lines(axis, pd.DataFrame(seeds), setup)
        axis.set_title(TERM_LABELS.get(term, term))
    for axis in axes.flat[len(terms) :]:
        axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("iteration")
    _legend(fig, axes[0, 0])
    return fig


def _legend(fig, axis):
    """The setups above all panels, where no curve is."""
    handles, labels = axis.get_legend_handles_labels()
    height = fig.get_figheight()
    fig.tight_layout(rect=(0, 0, 1, 1 - 0.25 / height))
    fig.legend(handles, labels, loc="upper center", ncols=len(labels), fontsize=8)


def _shade_stages(axis, history):
    edges = [0, *history.groupby("stage").step.max()]
    for k, (left, right) in enumerate(zip(edges, edges[1:], strict=False)):
        if k % 2:
            axis.axvspan(left, right, color="0.93", zorder=0)


def per_stage(stages, region="hole"):
    """Metrics after every stage (rows: metric) for every mask width (columns). `stages` holds setup, seed and the columns
    of stages.csv."""
    names, widths = list(METRIC_LABELS), sorted(stages.mask_width.unique())
    fig, axes = figure(
        len(names), len(widths), figsize=(1 + 2.1 * len(widths), 5.6), sharex=True, sharey="row", squeeze=False
    )
    for i, metric in enumerate(names):
        for j, width in enumerate(widths):
            part = stages[(stages.mask_width == width) & (stages.region == region)]
            for setup, group in part.groupby("setup", sort=False):
                values = group.pivot_table(metric, "stage", "seed")
                _lines(axes[i, j], values, setup, marker=SETUP_MARKERS[setup], ms=4)
            axes[0, j].set_title(f"{width} px hole")
        axes[i, 0].set_ylabel(METRIC_LABELS[metric])
    for axis in axes[-1]:
        axis.set_xlabel("after stage")
        axis.xaxis.get_major_locator().set_params(integer=True)
    _legend(fig, axes[0, 0])
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

    Progress with images/s and time left, losses, and what G makes of the first test images with full-size holes. Drawing takes
    at most a twentieth of the time.
    """

    SAMPLES = 10

    def __init__(self):
        self.handle, self.next_drawing = None, 0.0

    def __call__(self, run, state, bar):
        finished = state.step >= run.study.config.steps
        begun = time.monotonic()
        if begun < self.next_drawing and not finished:
            return
        fig = self.draw(run, state, f"{run.name}: trained" if finished else str(bar))
        if self.handle is None:
            self.handle = display(fig, display_id=True)
        else:
            self.handle.update(fig)
        now = time.monotonic()
        self.next_drawing = now + max(1.0, 20 * (now - begun))

    def draw(self, run, state, text):
        history, terms = pd.DataFrame(state.history), losses.OBJECTIVES[run.architecture].terms
        fig, axes = figure(2, 3, figsize=(8.5, 4.2), height_ratios=[1, 1.4], layout="constrained")
        for axis, term in zip(axes[0], (terms[-1], "adversarial_g", "adversarial_d"), strict=True):
            _shade_stages(axis, history)
            axis.plot(history.step, history[term], ".-", color=SETUP_COLOURS[run.setup], lw=1.2, ms=3)
            axis.set(title=TERM_LABELS[term], xlim=(0, run.study.config.steps))
        for axis in axes[1]:
            axis.remove()
        below = fig.add_subplot(axes[1, 0].get_gridspec()[1, :])
        real, hole, filled = _filled_by(state.G, run, slice(self.SAMPLES))
        rows = [show_hole(real, hole), filled, real]
        canvas, gap = _tiled([np.stack(image) for image in zip(*rows, strict=True)], len(rows))
        below.imshow(canvas, interpolation="nearest")
        below.set_xticks([])
        size = real.shape[1]
        below.set_yticks([k * (size + gap) + size / 2 for k in range(3)], ["input", "now", "truth"])
        below.tick_params(length=0)
        below.spines[:].set_visible(False)
        below.grid(False)
        fig.suptitle(text, fontsize=8, family="monospace")
        return fig
