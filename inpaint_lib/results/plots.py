"""Every figure of notebooks and report. Functions take data, return a matplotlib figure and save nothing.

A setup has one colour and one marker everywhere (Okabe & Ito 2008, colour-blind safe). Where there are three seeds or more, a
line is their mean and its band the 95 % t interval; with two, both seeds are drawn.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from . import stats

SETUP_COLOURS = {
    "fixed": "#0072B2",
    "progressive": "#D55E00",
    "recon_first": "#009E73",
    "adv_ramp": "#CC79A7",
    "mixed": "#7F7F7F",
    "recon_only": "#E69F00",
    "last_only": "#56B4E9",
    "recon_first_rest": "#000000",
}
SETUP_MARKERS = {"fixed": "o", "progressive": "D", "recon_first": "s", "adv_ramp": "^", "mixed": "X", "recon_only": "v",
                 "last_only": "P", "recon_first_rest": "*"}  # fmt: skip
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


def figure(*args, **kwargs):
    """plt.subplots with the suite's style; the figure is not registered with pyplot's own display. Notebooks show it with the
    margins it has: to cut them off, as is usual there, it would be drawn twice."""
    plt.rcParams.update({"figure.dpi": 72, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
                         "grid.alpha": 0.25, "font.size": 9, "axes.titlesize": 9, "legend.frameon": False})  # fmt: skip
    fig, axes = plt.subplots(*args, **kwargs)
    plt.close(fig)
    if inline := sys.modules.get("matplotlib_inline.config"):  # imported here, it would not find the kernel it is in
        inline.InlineBackend.instance().print_figure_kwargs = {"bbox_inches": None}
    return fig, axes


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
            values = [getattr(p, name) if p.trains else np.nan for p in (phase(schedule, int(s)) for s in steps)]
            width = 1.2 + 1.1 * (len(setups) - 1 - k)  # equal curves show as bands
            axis.step(steps, values, where="post", color=SETUP_COLOURS[setup], label=setup, lw=width)
        axis.set_ylabel(label, fontsize=8)
        axis.set_ylim(0, None)
    axes[0].legend(fontsize=7, ncols=2)
    axes[-1].set_xlabel("iteration")
    fig.tight_layout()
    return fig


def _margin():
    """The registered margin of the primaries, %."""
    return 100 * next(h["margin"] for h in stats.registered().hypotheses if h["role"] == "primary")


def answer(effects, verdicts):
    """The study's answer at a glance: hole L1 of each setup against fixed's in per cent, a row per data set and architecture.

    effects: `collect.effects`; ticks are seeds, marks their means. verdicts: the primary rows of `tables.hypotheses`,
    whose intervals are drawn for progressive. Within the registered margin (shaded) a difference would not matter.
    """
    margin = _margin()
    effects = effects.assign(effect=100 * effects.effect)
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
            ends = 100 * found[["ci_low", "ci_high"]].iloc[0]
            axis.plot(ends, [y, y], color=SETUP_COLOURS[setup], lw=2)
            reach = max(reach, ends.abs().max())
    for setup in others:
        axis.plot([], [], label=setup, color=SETUP_COLOURS[setup], marker=SETUP_MARKERS[setup], ls="")
    axis.set_yticks([-k for k in range(len(cells))], [f"{d}, {a}" for d, a in cells])
    axis.set_ylim(-len(cells) + 0.5, 0.5)
    axis.set_xlim(-1.1 * reach, 1.1 * reach)
    axis.set_xlabel("hole L1 against that of fixed, % (left: better than fixed)")
    axis.grid(axis="y", visible=False)
    fig.legend(loc="outside upper center", ncols=len(others), fontsize=8)
    return fig


def pairs(values):
    """The two setups of the registered claim, a line per seed, a panel per data set and architecture. `values`: dataset,
    architecture, setup, seed, value (hole L1)."""
    cells = list(values.groupby(["dataset", "architecture"], sort=False))
    rows, columns = -(-len(cells) // 3), min(3, len(cells))
    fig, axes = figure(rows, columns, figsize=(0.6 + 1.7 * columns, 2.4 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(cells) :]:
        axis.axis("off")
    for axis, ((dataset, architecture), part) in zip(axes.flat, cells, strict=False):
        wide = part.pivot_table("value", "seed", "setup").reindex(columns=["fixed", "progressive"])
        for row in wide.to_numpy():
            axis.plot([0, 1], row, "o-", color=SETUP_COLOURS["progressive" if row[1] < row[0] else "fixed"], lw=1, ms=4)
        axis.set_xticks([0, 1], ["fixed", "progressive"])
        axis.set_xlim(-0.3, 1.3)
        axis.set_title(f"{dataset}\n{architecture}")
    for axis in axes[:, 0]:
        axis.set_ylabel("hole L1")
    return fig


def trend(points):
    """The effect against the budget, a panel per data set and architecture run at two; `points`: trend.points."""
    margin = _margin()
    cells = [(cell, part) for cell, part in points.groupby(["dataset", "architecture"], sort=False)
             if part.total_images.nunique() > 1]  # fmt: skip
    fig, axes = figure(1, len(cells), figsize=(0.8 + 2.2 * len(cells), 2.6), sharey=True, squeeze=False, layout="constrained")
    budgets = sorted(points.total_images.unique())
    for axis, ((dataset, architecture), part) in zip(axes[0], cells, strict=True):
        axis.axhspan(-margin, margin, color="0.92", zorder=0)
        axis.axhline(0, color="0.3", lw=0.8)
        for setup, of in part.groupby("setup", sort=False):
            wide = 100 * of.pivot_table("effect", "total_images", "seed")
            look = dict(color=SETUP_COLOURS[setup], marker=SETUP_MARKERS[setup])
            if setup == "progressive":
                axis.plot(wide, color=look["color"], lw=0.6, alpha=0.5)
            axis.plot(wide.mean(axis=1), label=setup, ms=6 if setup == "progressive" else 4, lw=1.4, **look)
        axis.set_xscale("log", base=4)
        axis.set_xticks(budgets, [f"{b:,}" for b in budgets], fontsize=8)
        axis.set_xlim(budgets[0] / 1.5, budgets[-1] * 1.5)
        axis.minorticks_off()
        axis.set(title=f"{dataset}, {architecture}", xlabel="images shown")
    axes[0, 0].set_ylabel("hole L1 against fixed's (%)")
    axes[0, 0].legend(fontsize=7)
    return fig


def precision(verdicts):
    """How many seeds it takes: half a plain 95 % interval (Holm's method may widen it) against the number of seeds, given the
    deviation seen. Dots: the seeds there are; dashed: the registered margin."""
    seeds, seen = np.arange(2, 21), verdicts[verdicts.deviation > 0]
    fig, axis = figure(figsize=(5.6, 2.6), layout="constrained")
    for row in seen.itertuples():
        half = [100 * stats.half_width(row.deviation, n) for n in seeds]
        (line,) = axis.plot(seeds, half, lw=1, label=f"{row.dataset}, {row.architecture}")
        axis.plot(row.n_seeds, 100 * stats.half_width(row.deviation, row.n_seeds), "o", color=line.get_color(), ms=5)
    axis.axhline(100 * verdicts.margin.iloc[0], color="0.3", ls="--", lw=0.8)
    axis.set(yscale="log", xlabel="seeds", ylabel="half width of the interval (%)", xticks=seeds[::3])
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    if len(seen):
        axis.legend(fontsize=7)
    return fig


def _lines(axis, values, setup, **options):
    """One setup's curve: `values` has a column per seed."""
    look = {"color": SETUP_COLOURS[setup], "lw": 1.2} | options
    mean = values.mean(axis=1)
    if values.shape[1] == 2:
        axis.plot(values, color=look["color"], lw=0.6, alpha=0.6)
    if values.shape[1] >= 3:
        half = stats.half_width(values.to_numpy().std(axis=1, ddof=1), values.shape[1])
        axis.fill_between(mean.index, mean - half, mean + half, color=look["color"], alpha=0.18, lw=0)
    axis.plot(mean.index, mean, label=setup, **look)


def training_curves(histories, terms=tuple(TERM_LABELS)):
    """Logged quantities over the iterations. `histories` is {(setup, seed): DataFrame of history.csv}; stages shaded."""
    terms = [t for t in terms if any(t in h for h in histories.values())]
    rows = -(-len(terms) // 3)
    fig, axes = figure(rows, 3, figsize=(8.5, 1.7 * rows), sharex=True, squeeze=False)
    for axis, term in zip(axes.flat, terms, strict=False):
        shade_stages(axis, next(iter(histories.values())))
        for setup in dict.fromkeys(setup for setup, _ in histories):
            seeds = {seed: h.set_index("step")[term] for (s, seed), h in histories.items() if s == setup}
            _lines(axis, pd.DataFrame(seeds), setup)
        axis.set_title(TERM_LABELS.get(term, term))
    for axis in axes.flat[len(terms) :]:
        axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("iteration")
    _legend(fig, axes[0, 0], across=0.55, down=0.35)
    return fig


def _legend(fig, axis, across, down):
    """The setups above all panels, where no curve is. Panels lie `across` and `down` inches apart: tight_layout would find that
    out by drawing everything twice more."""
    handles, labels = axis.get_legend_handles_labels()
    rows, columns = axis.get_gridspec().get_geometry()
    width, height = fig.get_size_inches()
    left, bottom, right, top = 0.6, 0.45, width - 0.1, height - 0.5
    panel = (right - left + across) / columns - across, (top - bottom + down) / rows - down
    fig.subplots_adjust(left / width, bottom / height, right / width, top / height, across / panel[0], down / panel[1])
    fig.legend(handles, labels, loc="upper center", ncols=len(labels), fontsize=8)


def shade_stages(axis, history):
    edges = [0, *history.groupby("stage").step.max()]
    for k, (left, right) in enumerate(zip(edges, edges[1:], strict=False)):
        if k % 2:
            axis.axvspan(left, right, color="0.93", zorder=0)


def per_stage(stages, region="hole"):
    """Metrics after every stage (rows: metric) for every mask width (columns). `stages` holds setup, seed and the columns
    of stages.csv."""
    names, widths = list(METRIC_LABELS), sorted(stages.mask_width.unique())
    fig, axes = figure(len(names), len(widths), figsize=(1 + 2.1 * len(widths), 5.6), sharex=True, sharey="row", squeeze=False)
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
    _legend(fig, axes[0, 0], across=0.15, down=0.15)
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
