"""Draw the charts of notebooks and report: functions of frames that return an unsaved figure.

A setup has the colour and the marker of its entry in setups.SETUPS. A line is the mean over seeds;
from three seeds on a band shows the 95 % t interval, with two seeds both are drawn."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import yaml
from matplotlib.colors import LinearSegmentedColormap

from ..setups import SETUPS
from . import select, stats
from .frames import order
from .notes import TEMPLATES

ACTIVE = LinearSegmentedColormap.from_list("active", ["#f2f2f2", "#8fbfe0", "#2f7fb8"])
METRIC_LABELS = {"l1": "L1", "l2": "L2", "psnr": "PSNR (dB)"}
_COLUMNS = yaml.safe_load((TEMPLATES / "glossary.yaml").read_text("utf-8"))["columns"]
TERM_LABELS = {name: of["label"] for name, of in _COLUMNS.items() if isinstance(of, dict)}


def make_figure(*args, **kwargs):
    """Return plt.subplots, or for a list of rows plt.subplot_mosaic, in the project's style.

    pyplot does not keep the figure open."""
    plt.style.use(TEMPLATES / "style.mplstyle")
    mosaic = args and isinstance(args[0], list)
    fig, axes = (plt.subplot_mosaic if mosaic else plt.subplots)(*args, **kwargs)
    plt.close(fig)
    return fig, axes


def get_style(setup):
    """Return a setup's colour and marker; grey circles for a setup without an entry here."""
    entry = SETUPS.get(setup)
    if entry is None:
        return {"color": "#999999", "marker": "o"}
    return {"color": entry.colour, "marker": entry.marker}


def _make_panels(n, size, across=2, sharex=False):
    """Return a figure with n panels, `across` in a row; size(columns, rows): its inches.

    Two in a row are legible on a telephone."""
    rows, columns = -(-n // across), min(across, n)
    look = {"figsize": size(columns, rows), "squeeze": False, "layout": "constrained"}
    fig, axes = make_figure(rows, columns, sharex=sharex, **look)
    for axis in axes.flat[n:]:
        axis.axis("off")
    return fig, axes


def draw_coverage(fractions):
    """Draw histograms of the realised hole fraction; dashed: the nominal fraction.

    fractions: {family: {width: (fractions (N,), nominal fraction)}}."""
    look = {"sharey": True, "squeeze": False, "layout": "constrained"}
    fig, axes = make_figure(1, len(fractions), figsize=(2.6 * len(fractions), 2.3), **look)
    for axis, (family, by_width) in zip(axes[0], fractions.items(), strict=True):
        for k, (width, (values, nominal)) in enumerate(by_width.items()):
            colour = plt.cm.viridis(k / len(by_width))
            bins = np.linspace(0, 0.5, 51)
            axis.hist(values, bins=bins, color=colour, alpha=0.7, label=f"{width} px")
            axis.axvline(nominal, color=colour, ls="--", lw=1)
        axis.set(title=family, xlabel="hole fraction", yscale="log")
    axes[0, 0].set_ylabel("test images")
    axes[0, -1].legend(fontsize=7)
    return fig


def draw_schedules(setups, schedule):
    """Draw mask width and loss weights over the iterations. setups: {name: phase function}."""
    steps = np.unique(np.linspace(0, schedule.steps - 1, 400).astype(int))
    names = ("mask_width", "reconstruction", "adversarial")
    labels = ("hole width (px)", "reconstruction weight", "adversarial weight")
    fig, axes = make_figure(3, 1, figsize=(7, 4.8), sharex=True, layout="constrained")
    for k, (setup, phase) in enumerate(setups.items()):
        phases = [phase(schedule, int(step)) for step in steps]
        width = 1.2 + 1.1 * (len(setups) - 1 - k)  # equal curves show as bands
        for axis, name in zip(axes, names, strict=True):
            values = [getattr(p, name) if p.trains else np.nan for p in phases]
            colour = get_style(setup)["color"]
            axis.step(steps, values, where="post", color=colour, label=setup, lw=width)
    for axis, label in zip(axes, labels, strict=True):
        axis.set_ylabel(label, fontsize=8)
        axis.set_ylim(0, None)
    axes[-1].set_xlabel("iteration")
    _legend(fig, axes[0])
    return fig


def draw_answer(effects, judged):
    """Draw effects on hole L1 in %: a panel per question, below them every setup against fixed.

    Rows are data sets and architectures, ticks seeds, marks their means. effects: columns panel,
    dataset, architecture, setup, seed, effect. judged: rows of stats.judge; their intervals and
    margins are drawn in the panel of their question."""
    cells, others = select.list_cells(effects), order(effects.setup)
    names = list(dict.fromkeys(effects.panel))
    top = [name for name in names if name in set(judged.question)]
    below = [name for name in names if name not in top]
    tall = max(0.34, 0.09 * len(others))
    heights = [0.34] * bool(top) + [tall] * len(below)  # inches a cell
    fig, axes = make_figure(
        [top] * bool(top) + [[name] * max(1, len(top)) for name in below],
        figsize=(6.3, 1.2 + 0.7 * len(heights) + len(cells) * sum(heights)),
        height_ratios=heights,
        layout="constrained",
        sharey=True,
    )
    for name, axis in axes.items():
        asked = judged[judged.question == name]
        margin = 100 * asked.margin.max() if len(asked) else 0
        axis.axvspan(-margin, margin, color="0.9", zorder=0)
        axis.axvline(0, color="0.3", lw=0.8)
        of = effects[effects.panel == name]
        n = of.setup.nunique()
        for (*cell, setup), part in of.groupby(["dataset", "architecture", "setup"], sort=False):
            shown = order(select.get_cell(of, *cell).setup)
            apart = shown.index(setup) - (len(shown) - 1) / 2
            y = -cells.index(tuple(cell)) - 0.85 / n * apart
            if len(part) > 1:
                ticks = {"color": "0.2", "marker": "|", "ms": 7, "ls": "", "zorder": 3}
                axis.plot(100 * part.effect, [y] * len(part), **ticks)
            axis.plot(100 * part.effect.mean(), y, ms=6, ls="", **get_style(setup))
            for row in select.get_cell(asked, *cell).dropna(subset="ci_low").itertuples():
                ends = [100 * row.ci_low, 100 * row.ci_high]
                if row.n_seeds >= stats.MIN_SEEDS:
                    axis.plot(ends, [y, y], color=get_style(setup)["color"], lw=2)
        title, holes = name, "largest hole"
        for row in asked[:1].itertuples():
            title = f"{name}: {row.first}\nagainst {row.second}"
            holes = "all widths" if row.width == "all" else holes
        axis.set_title(f"{title},\n{holes}")
        axis.set_xlabel("% (left: better)")
        axis.grid(axis="y", visible=False)
        for line in np.arange(1, len(cells)) - 0.5:
            axis.axhline(-line, color="0.85", lw=0.6)
    for setup in others:
        axis.plot([], [], label=setup, ls="", **get_style(setup))
    axis.set_yticks([-k for k in range(len(cells))], [f"{d}\n{a}" for d, a in cells])
    axis.set_ylim(-len(cells) + 0.5, 0.5)
    _legend(fig, axis)
    return fig


def draw_pairs(values, setups):
    """Draw a value of some setups: a panel per data set and architecture, a line per seed."""
    cells, ends = select.list_cells(values), {}
    fig, axes = _make_panels(len(cells), lambda columns, rows: (0.6 + 2 * columns, 2.4 * rows))
    for axis, cell in zip(axes.flat, cells, strict=False):
        wide = select.get_cell(values, *cell).pivot_table("value", "setup", "seed")
        wide = wide.reindex([name for name in setups if name in wide.index])
        axis.plot(wide.index, wide, "-", color="0.6", lw=1)
        for name in wide.index:
            axis.plot([name] * wide.shape[1], wide.loc[name], ls="", ms=4, **get_style(name))
        axis.set_xlim(-0.3, len(wide) - 0.7)
        axis.set_title(", ".join(cell))
        ends[axis] = wide.min().min(), wide.max().max()
    ratio = 1.05 * max(high / low for low, high in ends.values())
    for axis, (low, high) in ends.items():  # equal ratios
        middle = (low + high) / 2
        axis.set_ylim(2 * middle / (1 + ratio), 2 * middle * ratio / (1 + ratio))
    for axis in axes[:, 0]:
        axis.set_ylabel("hole L1, all widths")
    return fig


def draw_by_width(effects, margin):
    """Draw effects on hole L1 in % by hole width: a column per reference setup (base).

    Rows are architectures, bars 95 % intervals. effects: columns architecture, base, setup, width,
    effect, low, high (NaN below three seeds)."""
    bases, names = (list(dict.fromkeys(effects[key])) for key in ("base", "architecture"))
    widths = list(dict.fromkeys(effects.width))
    shape = len(names), len(bases)
    look = {"figsize": (0.9 + 2.7 * shape[1], 0.8 + 2.1 * shape[0]), "layout": "constrained"}
    fig, axes = make_figure(*shape, sharex=True, sharey="row", squeeze=False, **look)
    for (i, name), (j, base) in itertools.product(enumerate(names), enumerate(bases)):
        axis, of = axes[i, j], effects[(effects.base == base) & (effects.architecture == name)]
        axis.axhspan(-100 * margin, 100 * margin, color="0.9", zorder=0)
        axis.axhline(0, color="0.3", lw=0.8)
        setups = order(of.setup)
        for k, setup in enumerate(setups):
            part = of[of.setup == setup]
            x = [widths.index(w) + 0.12 * (k - (len(setups) - 1) / 2) for w in part.width]
            shown, single = 100 * part.effect.to_numpy(), (part.width != "all").sum()
            axis.plot(x[:single], shown[:single], lw=0.8, ms=4, label=setup, **get_style(setup))
            axis.plot(x[single:], shown[single:], lw=0, ms=4, **get_style(setup))
            axis.vlines(x, 100 * part.low, 100 * part.high, color=get_style(setup)["color"], lw=1.2)
        axis.set_title(f"{name}, against {base}")
        axis.set_xticks(range(len(widths)), widths)
    for axis in axes[:, 0]:
        axis.set_ylabel("hole L1, %\n(below 0: better)")
    for axis in axes[-1]:
        axis.set_xlabel("hole width (px)")
    _legend(fig, *axes[0])
    return fig


def draw_forgetting(values, width):
    """Draw hole L1 of the smallest holes after every stage, a panel per data set and architecture.

    values: rows of select.get_by_stage with holes of `width` px."""
    cells = select.list_cells(values)
    fig, axes = _make_panels(
        len(cells), lambda columns, rows: (0.8 + 2.5 * columns, 0.5 + 2 * rows)
    )
    for axis, cell in zip(axes.flat, cells, strict=False):
        of = select.get_cell(values, *cell)
        for setup in order(of.setup):
            _lines(axis, of[of.setup == setup].pivot_table("value", "stage", "seed"), setup, ms=4)
        axis.set_title(", ".join(cell))
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"hole L1, {width} px")
    for axis in axes[-1]:
        axis.set_xlabel("after stage")
    _legend(fig, axes[0, 0])
    return fig


def draw_games(table):
    """Draw in how many runs the adversarial game is active, by setup (rows) and stage (columns).

    There is a panel per data set and architecture. table: rows of standing.judge_games."""
    cells = select.list_cells(table)
    n_rows = max(select.get_cell(table, *cell).setup.nunique() for cell in cells)
    h = 0.5 + 0.2 * n_rows
    fig, axes = _make_panels(
        len(cells), lambda columns, rows: (1.2 + 2.5 * columns, 0.3 + h * rows)
    )
    for axis, cell in zip(axes.flat, cells, strict=False):
        of = select.get_cell(table, *cell)
        known = of[of.active.notna()].assign(on=lambda t: t.active.astype(float))
        setups, stages = order(of.setup), sorted(of.stage.unique())
        groups = known.groupby(["setup", "stage"]).on
        active, of_runs = (
            count.unstack().reindex(index=setups, columns=stages).to_numpy()
            for count in (groups.sum(), groups.count())
        )
        axis.imshow(active / of_runs, cmap=ACTIVE, vmin=0, vmax=1, aspect="auto")
        for (i, j), n in np.ndenumerate(of_runs):
            text = f"{active[i, j]:.0f}/{n:.0f}" if n > 0 else ""
            axis.text(j, i, text, ha="center", va="center", fontsize=6)
        axis.set_xticks(range(len(stages)), stages)
        axis.set_yticks(range(len(setups)), setups)
        axis.set_title(", ".join(cell))
        axis.grid(False)
    for axis in axes[-1]:
        axis.set_xlabel("stage")
    return fig


def draw_curves(history):
    """Draw logged quantities over the iterations of one data set and architecture."""
    terms = [t for t in TERM_LABELS if t in history and history[t].notna().any()]
    fig, axes = _make_panels(len(terms), lambda _, rows: (8.5, 0.4 + 1.7 * rows), 3, sharex=True)
    for axis, term in zip(axes.flat, terms, strict=False):
        shade_stages(axis, history)
        for setup in order(history.setup):
            part = history[history.setup == setup]
            _lines(axis, part.pivot_table(term, "step", "seed"), setup, marker="")
        axis.set_title(TERM_LABELS[term])
    for axis in axes[-1]:
        axis.set_xlabel("iteration")
    _legend(fig, axes[0, 0])
    return fig


def shade_stages(axis, history):
    """Shade every second stage of a history with columns stage and step."""
    edges = [0, *history.groupby("stage").step.max()]
    for k, (left, right) in enumerate(zip(edges, edges[1:], strict=False)):
        if k % 2:
            axis.axvspan(left, right, color="0.93", zorder=0)


def draw_stages(values):
    """Draw one architecture's errors in the hole after every stage, by metric and hole width."""
    widths = sorted(values.mask_width.unique())
    shape, size = (len(METRIC_LABELS), len(widths)), (1 + 2.1 * len(widths), 5.6)
    look = {"squeeze": False, "layout": "constrained"}
    fig, axes = make_figure(*shape, figsize=size, sharex=True, sharey="row", **look)
    for row, (metric, label) in zip(axes, METRIC_LABELS.items(), strict=True):
        for axis, width in zip(row, widths, strict=True):
            panel = values[(values.mask_width == width) & (values.metric == metric)]
            for setup in order(panel.setup):
                wide = panel[panel.setup == setup].pivot_table("value", "stage", "seed")
                _lines(axis, wide, setup, ms=4)
        row[0].set_ylabel(label)
    for axis, width in zip(axes[0], widths, strict=True):
        axis.set_title(f"{width} px hole")
    for axis in axes[-1]:
        axis.set_xlabel("after stage")
        axis.xaxis.get_major_locator().set_params(integer=True)
    _legend(fig, axes[0, 0])
    return fig


def draw_heat_maps(matrix):
    """Draw hole L1 by stage and hole width: a panel per setup. matrix: of one cell, as in
    tables.make_stage_matrix."""
    names = list(dict.fromkeys(matrix.index.get_level_values("setup")))
    stages = [name for name in matrix.index.unique("stage") if name.isdigit()]
    low, high = float(matrix.min().min()), float(matrix.max().max())
    fig, axes = _make_panels(len(names), lambda columns, rows: (0.9 + 2.4 * columns, 2.4 * rows), 3)
    for axis, name in zip(axes.flat, names, strict=False):
        part = matrix.loc[name]
        if part.index[0] in stages:
            part = part.reindex(stages)  # a setup may train in some stages only
        drawn = axis.imshow(part, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for (i, j), value in np.ndenumerate(part.to_numpy()):
            colour = "white" if value < (low + high) / 2 else "black"
            text = f"{value:.3f}" if np.isfinite(value) else ""
            axis.text(j, i, text, ha="center", va="center", fontsize=6, color=colour)
        axis.set_xticks(range(part.shape[1]), part.columns)
        axis.set_yticks(range(part.shape[0]), part.index)
        axis.set(title=name, xlabel="hole width (px)")
        axis.grid(False)
    axes[0, 0].set_ylabel("after stage")
    fig.colorbar(drawn, ax=axes.ravel().tolist(), label="hole L1", fraction=0.03, pad=0.01)
    return fig


def _lines(axis, values, setup, **options):
    """Draw one setup's curve. values: a column per seed."""
    look = get_style(setup) | {"lw": 1.2} | options
    mean = values.mean(axis=1)
    if values.shape[1] == 2:
        axis.plot(values, color=look["color"], lw=0.6, alpha=0.6)
    if values.shape[1] >= stats.MIN_SEEDS:
        half = stats.compute_half_width(values.to_numpy().std(axis=1, ddof=1), values.shape[1])
        band = dict(color=look["color"], alpha=0.18, lw=0)
        axis.fill_between(mean.index, mean - half, mean + half, **band)
    axis.plot(mean.index, mean, label=setup, **look)


def _legend(fig, *axes):
    """Add one legend above all panels for the setups of some."""
    named = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    labels, handles = list(named), list(named.values())
    columns = min(len(labels), max(2, int(fig.get_figwidth() / 1.1)))
    fig.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=8)
