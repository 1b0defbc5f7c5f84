"""The tables of a study, each a function of its Results; `write` puts them into a folder."""

from pathlib import Path

import numpy as np
import pandas as pd

from ..setups import SETUPS
from ..study import files
from . import frames, notes, resampling, select, standing, stats
from .frames import CELL

SHOWN = {  # (region, metric): column, digits, which is better
    ("hole", "l1"): (("hole", "L1"), 4, "lower"),
    ("hole", "l2"): (("hole", "L2"), 4, "lower"),
    ("hole", "psnr"): (("hole", "PSNR"), 2, "higher"),
    ("whole_composite", "l1"): (("whole", "L1"), 4, "lower"),
    ("whole_composite", "psnr"): (("whole", "PSNR"), 2, "higher"),
    ("whole_composite", "ssim"): (("whole", "SSIM"), 3, "higher"),
    ("whole_composite", "lpips"): (("whole", "LPIPS"), 3, "lower"),
    ("hole_window", "lpips"): (("hole's window", "LPIPS"), 3, "lower"),
    ("whole_composite", "fid"): (("distribution", "FID"), 2, "lower"),
    ("whole_composite", "kid"): (("distribution", "KID"), 4, "lower"),
    ("whole_composite", "is"): (("distribution", "IS"), 2, "higher"),
    ("hole", "colour"): (("colour", "Delta E"), 2, "lower"),
    ("hole", "continuity"): (("continuity", "gradient"), 4, "lower"),
    ("hole", "overfitting"): (("training - test", "hole L1"), 4, None),
    ("training", "stability"): (("stability", "to noise"), 2, "lower"),
}
SETUP = [*CELL, "setup"]
NO_TRAINING = "no training"  # stands for the setup where baselines are shown among networks
GAME = ["adversarial_g_std", "adversarial_d_std", "d_accuracy", "unsaturated"]
GAME += ["grad_norm_g", "grad_norm_d"]


def baselines(results):
    """Return the baselines' values; the name of one measured on a part of the images says so."""
    found = results.baselines
    most = found.groupby("dataset").n_images.transform("max")
    slow = found.baseline + " (first " + found.n_images.astype(str) + ")"
    return found.assign(baseline=found.baseline.where(found.n_images == most, slow))


def paper_style(results, controls=False):
    """Return (means, deviations over seeds) after the last stage with the largest hole; NaN where
    all runs of a setup diverged. Controls are left out, or with `controls` shown too."""
    rows = results.runs[SETUP].drop_duplicates()
    papers = rows[~rows.setup.map(select.is_control).astype(bool)]
    index = pd.MultiIndex.from_frame(rows if controls or papers.empty else papers)
    grouped = _shown(select.final(results)).groupby([*SETUP, "column"], sort=False).value
    found = (part.unstack("column") for part in (grouped.mean(), grouped.std()))
    return tuple(_columns(part.reindex(index).astype(float)) for part in found)


def _shown(values):
    """Return the rows the tables show, with their `column`."""
    pairs = zip(values.region, values.metric, strict=True)
    columns = pd.Series([SHOWN.get(pair, (None,))[0] for pair in pairs], values.index, object)
    return values.assign(column=columns).dropna(subset="column")


def _columns(frame):
    """Return a frame with the shown columns in their order."""
    order = [column for column, *_ in SHOWN.values() if column in set(frame)]
    return frame.reindex(columns=pd.MultiIndex.from_tuples(order, names=[None, None]))


def beside(results, dataset, architecture):
    """Return the baselines on the largest holes an architecture is trained with, a row each."""
    part = baselines(results)
    part = part[(part.dataset == dataset) & (part.mask_width == results.widths[-1])]
    part = part[part.mask_family == results.family(architecture)]
    wide = _shown(part).pivot(index="baseline", columns="column", values="value")
    return _columns(wide).reindex(part.baseline.unique())


def formatted(results, controls=False, bold=str):
    """Return {(dataset, architecture): text table}: setups with ± over seeds and the best in bold,
    then the baselines. `bold(text)` marks the best. Columns without a value are left out."""
    means, deviations = paper_style(results, controls)
    found = {}
    for cell, group in means.groupby(level=CELL, sort=False):
        spread = deviations.loc[group.index].droplevel(CELL)
        group = group.droplevel(CELL)
        both = _columns(pd.concat([group, beside(results, *cell)]).dropna(axis=1, how="all"))
        text = pd.DataFrame("", both.index.rename("setup"), both.columns, dtype=object)
        for column, digits, better in SHOWN.values():
            if column not in both:
                continue
            own = group[column] if column in group else pd.Series(np.nan, group.index)
            rounded = own.round(digits)  # what reads the same is equally good
            best = {"higher": rounded.max(), "lower": rounded.min(), None: np.nan}[better]
            for row, value in both[column].items():
                shown = "-" if pd.isna(value) else f"{value:.{digits}f}"
                if row in group.index:
                    if column in spread and pd.notna(spread.at[row, column]):
                        shown += f" ± {spread.at[row, column]:.{digits}f}"
                    shown = bold(shown) if len(group) > 1 and rounded[row] == best else shown
                text.at[row, column] = shown
        found[cell] = text
    return found


def long(results):
    """Return what the paper-style tables show, controls and baselines included, a value a row."""
    means, deviations = paper_style(results, controls=True)
    keys = [*SETUP, "group", "measure"]
    cells = select.cells(results.runs)
    below = pd.concat({cell: beside(results, *cell) for cell in cells}, names=SETUP)
    parts = [
        part.stack([0, 1], future_stack=True).rename_axis(keys).rename(name)
        for name, part in (("mean", pd.concat([means, below])), ("deviation", deviations))
    ]
    return pd.concat(parts, axis=1).reset_index().dropna(subset="mean")


def stage_matrix(results):
    """Return hole L1 after every stage (rows) for every hole width (columns), training family, mean
    over seeds; the baselines are one more setup.

    This is the paper's "quantitative results of each K iterations using different mask sizes"."""
    asked, parts = "region == 'hole' and metric == 'l1'", []
    values, others = results.values.query(asked), baselines(results).query(asked)
    for dataset, architecture in select.cells(results.runs):
        own = select.of_cell(values, dataset, architecture)
        beside = others[others.dataset == dataset].rename(columns={"baseline": "stage"})
        part = pd.concat([own, beside.assign(architecture=architecture, setup=NO_TRAINING)])
        parts.append(part[part.mask_family == results.family(architecture)])
    found = pd.concat(parts).assign(stage=lambda t: t.stage.astype(str))
    return found.pivot_table("value", [*SETUP, "stage"], "mask_width", sort=False)


def generalisation(results, metric="l1", region="hole"):
    """Return a metric of the final networks and the baselines on all holes, mean over seeds."""
    last = results.values[results.values.stage == len(results.widths)]
    others = baselines(results).rename(columns={"baseline": "setup"})
    both = pd.concat([last, others.assign(architecture=NO_TRAINING)])
    both = both[(both.region == region) & (both.metric == metric)]
    keys = ["dataset", "architecture", "mask_family", "setup"]
    return both.pivot_table("value", keys, "mask_width", sort=False)


def averaging(results):
    """Return hole L1, largest hole, of G's moving average and of its last weights, over seeds."""
    part = select.final(results).query("metric == 'l1' and region in ('hole', 'hole_snapshot')")
    if "hole_snapshot" not in set(part.region):
        return pd.DataFrame(columns=SETUP)
    found = part.groupby([*SETUP, "region"], sort=False).value.agg(["mean", "std"]).unstack()
    return found.set_axis([f"{region} {what}" for what, region in found], axis=1).reset_index()


def standings(runs):
    """Return how many of standing.of_runs finished, beat the baselines and have a game active."""
    counted = runs.assign(runs=1, finished=~runs.diverged)
    columns = ["runs", "finished", "beats_trivial", "beats_all", "game_active"]
    found = counted.groupby(SETUP, sort=False)[columns].sum().astype(int)
    return found.rename(columns=lambda name: name.replace("_", " ")).reset_index()


def bootstrap(results):
    """Return progressive - fixed, hole L1, largest hole, mean over shared seeds, with its 95 %
    interval over test images drawn anew: how well these networks were measured."""
    part = results.per_image[results.per_image.mask_width == results.widths[-1]]
    rows = []
    for (dataset, architecture), cell in part.groupby(CELL, sort=False):
        wide = cell.pivot(index="image", columns=["setup", "seed"], values="l1")
        if {"progressive", "fixed"} <= set(cell.setup):
            d = (wide["progressive"] - wide["fixed"]).dropna(axis=1).mean(axis=1).dropna()
            groups = results.groups(dataset)
            if len(d):
                ends = np.ravel(resampling.bootstrap(d, groups[: len(d)]))
                rows.append([dataset, architecture, d.mean(), *ends, len(d), len(set(groups))])
    columns = [*CELL, "effect", "ci_low", "ci_high", "n_images", "n_groups"]
    return pd.DataFrame(rows, columns=columns)


def exposure(results):
    """Return how many images each setup known here shows, and the share with the largest hole."""
    batch = results.about["config"]["curriculum"]["batch_size"]
    schedule, rows = results.schedule, []
    for setup in frames.ordered(results.runs.setup):
        if setup in SETUPS:
            phases = [SETUPS[setup].phase(schedule, step) for step in range(schedule.steps)]
            widths = [phase.mask_width for phase in phases if phase.trains]
            share = widths.count(results.widths[-1]) / len(widths)
            row = {"setup": setup, "images shown": len(widths) * batch}
            row |= {"with the largest hole": f"{share:.0%}"}
            rows.append(row | {"mean hole width (px)": f"{sum(widths) / len(widths):.1f}"})
    return pd.DataFrame(rows)


def stability(results):
    """Return how the adversarial game went, per run and stage: unweighted losses, so that a ramped
    weight looks no calmer. Small holes are calm by themselves: compare last stages."""
    there = [name for name in GAME if name in results.history]
    found = results.history.groupby([*frames.RUN, "stage"], sort=False)[there].mean()
    return found.reset_index()


def markdown(frame):
    """Return a frame without its index as the lines of a Markdown table."""
    rows = [list(frame), ["---"] * frame.shape[1], *frame.astype(object).to_numpy().tolist()]
    return ["| " + " | ".join(map(str, row)) + " |" for row in rows]


FILES = {  # name without .csv: function
    "table": long,
    "runs": standing.of_runs,
    "outcomes": stats.outcomes,
    "hypotheses": stats.judge,
    "bootstrap": bootstrap,
    "stage_matrix": lambda results: stage_matrix(results).reset_index(),
    "generalisation": lambda results: generalisation(results).reset_index(),
    "exposure": exposure,
    "stability": stability,
}


def write(results, folder):
    """Write FILES as CSV, and the paper-style tables as table.md and table.tex."""
    folder = Path(folder)
    for name, function in FILES.items():
        files.write_csv(folder / f"{name}.csv", function(results))
    note = " ".join([notes.footnote(results), *notes.caveats(results)])
    lines, latex = [], []
    for cell, text in formatted(results, bold="**{}**".format).items():
        flat = text.set_axis(map(" ".join, text.columns), axis=1).reset_index()
        lines += [f"### {', '.join(cell)}", "", *markdown(flat), ""]
    for cell, text in formatted(results, bold=r"\textbf{{{}}}".format).items():
        text = text.map(lambda t: t.replace("±", r"$\pm$")).rename(lambda t: t.replace("_", r"\_"))
        look = {"column_format": "l" + "r" * text.shape[1], "multicolumn_format": "c"}
        latex.append(text.to_latex(caption=", ".join(cell).replace("_", r"\_"), **look))
    for name, content in (("md", [*lines, note]), ("tex", [*latex, f"% {note}"])):
        with files.replacing(folder / f"table.{name}") as temporary:
            temporary.write_text("\n".join(content) + "\n", encoding="utf-8")
