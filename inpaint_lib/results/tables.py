"""Make the tables of a study, each from its Results; `write` writes them into a folder."""

from bisect import bisect_left
from pathlib import Path

import numpy as np
import pandas as pd

from ..masks import FOLDER
from ..setups import SETUPS
from ..study import files
from . import frames, notes, select, standing, stats
from .frames import CELL

SHOWN = {  # (region, metric): column, digits, which is better
    ("hole", "l1"): (("hole", "L1"), 4, "lower"),
    ("hole", "l2"): (("hole", "L2"), 4, "lower"),
    ("hole", "psnr"): (("hole", "PSNR"), 2, "higher"),
    ("visible", "l1"): (("visible", "L1"), 4, "lower"),
    ("whole_composite", "l1"): (("whole", "L1"), 4, "lower"),
    ("whole_composite", "psnr"): (("whole", "PSNR"), 2, "higher"),
    ("whole_composite", "ssim"): (("whole", "SSIM"), 3, "higher"),
    ("whole_composite", "lpips"): (("whole", "LPIPS"), 3, "lower"),
    ("whole_composite", "lpips_vgg"): (("whole", "LPIPS (VGG)"), 3, "lower"),
    ("hole_window", "lpips"): (("hole's window", "LPIPS"), 3, "lower"),
    ("hole_window", "lpips_vgg"): (("hole's window", "LPIPS (VGG)"), 3, "lower"),
    ("whole_composite", "fid"): (("distribution", "FID"), 2, "lower"),
    ("whole_composite", "kid"): (("distribution", "KID"), 4, "lower"),
    ("whole_composite", "is"): (("distribution", "IS"), 2, "higher"),
    ("hole", "colour"): (("colour", "Delta E"), 2, "lower"),
    ("hole", "continuity"): (("continuity", "gradient"), 4, "lower"),
    ("hole", "overfitting"): (("training - test", "hole L1"), 4, None),
    ("hole_snapshot", "l1"): (("last weights", "hole L1"), 4, None),
    ("training", "stability"): (("stability", "to noise"), 2, "lower"),
}
SETUP = [*CELL, "setup"]
NO_TRAINING = "no training"  # the setup or architecture of baselines among networks


def _baselines(results):
    """Return the baselines' values; `setup` is their name, with "(first n)" if not all images."""
    found = results.baselines
    counted = found.assign(n_images=found.n_images.where(found.mask_width > 0, 0))
    n = counted.groupby(["dataset", "baseline"]).n_images.transform("max")
    most = n.groupby(found.dataset).transform("max")
    return found.assign(setup=select.name_baselines(found.baseline, n, most))


def _with_baselines(results):
    """Return the values of the last stage on the training families, then the baselines'.

    The user's own masks, if not trained with, have regions folder_area_0_10 and so on.
    """
    values, others = results.values, _baselines(results)
    values, parts = values[values.stage == len(results.widths)], []
    for dataset, architecture in select.list_cells(results.runs):
        beside = others[others.dataset == dataset].assign(architecture=architecture)
        trained, own = select.get_cell(values, dataset, architecture), results.family(architecture)
        part = pd.concat([trained, beside])
        parts.append(part[part.mask_family == own])
        if FOLDER in {*trained.mask_family} - {own}:
            by_area = part[(part.mask_family == FOLDER) & (part.mask_width == 0)]
            parts.append(by_area.assign(region=f"{FOLDER}_" + by_area.region))
    return pd.concat(parts)


@select.compute_once
def make_table(results):
    """Return mean and deviation over seeds of every measure: a row per setup or baseline.

    Measures are those after the last stage, with the largest hole or by area of the hole."""
    values = _with_baselines(results)
    values = values[values.mask_width.isin([0, results.widths[-1]])]
    groups = values.groupby([*SETUP, "region", "metric"], sort=False)
    columns = {"mean": ("value", "mean"), "deviation": ("value", "std")}
    columns |= {"n_seeds": ("seed", "count"), "n_images": ("n_images", "max")}
    return groups.agg(**columns).reset_index()


def choose_columns(results, cell, controls=False):
    """Return (setups, baselines, {column: (digits, frame by setup)}) of a cell's paper-style table.

    cell: (data set, architecture). Frames have mean, deviation, n_seeds and `is_best`: better than
    every other setup and every baseline; other methods' outputs do not count. Controls are left out
    unless `controls` or if there are no other setups; columns without values are left out."""
    part = select.get_cell(make_table(results), *cell)
    every = select.get_cell(results.runs, *cell).setup
    papers = every[~every.map(select.is_control).astype(bool)]
    setups = list(dict.fromkeys(every if controls or papers.empty else papers))
    below = [name for name in part.setup.unique() if name not in set(every)]
    found = {}
    for (region, metric), (column, digits, better) in SHOWN.items():
        of = part[(part.region == region) & (part.metric == metric)]
        of = of.set_index("setup").reindex([*setups, *below])
        if of["mean"].notna().any():
            read = of["mean"].round(digits)  # what reads the same is equally good
            read = read.mask(read.index.str.endswith(frames.EXTERNAL))
            best = {"higher": read.max(), "lower": read.min(), None: np.nan}[better]
            alone = len(setups) == 1 or (read[below] == best).any()
            is_best = (read == best) & read.index.isin(setups) & (not alone)
            found[column] = digits, of.assign(is_best=is_best)
    return setups, below, found


def format_tables(results, controls=False, bold=str):
    """Return {(dataset, architecture): text table}: setups with ± over seeds, then the baselines.

    bold: a function that marks the best entry; see `choose_columns`."""
    found = {}
    for cell in select.list_cells(results.runs):
        setups, below, shown = choose_columns(results, cell, controls)
        text = pd.DataFrame(index=pd.Index([*setups, *below], name="setup"))
        for column, (digits, of) in shown.items():
            text[column] = [_formatted(row, digits, bold) for row in of.itertuples()]
        text.columns = pd.MultiIndex.from_tuples(text.columns)
        found[cell] = text
    return found


def _formatted(row, digits, bold):
    """Return mean and deviation as text."""
    text = "-" if pd.isna(row.mean) else f"{row.mean:.{digits}f}"
    text += f" ± {row.deviation:.{digits}f}" if pd.notna(row.deviation) else ""
    return bold(text) if row.is_best else text


def tabulate_areas(results):
    """Return hole L1 after the last stage by the realised area of the hole: a column per bin.

    The last columns ("folder 0-10 %") are the user's own masks, if not trained with."""
    part = make_table(results).query("metric == 'l1'")
    part = part[part.region.str.contains("area_")]
    bins = part.region.str.replace(r"area_(\d+)_(\d+)", r"\1-\2 %", regex=True)
    part = part.assign(area=bins.str.replace("_", " "))
    wide = part.pivot_table("mean", SETUP, "area", sort=False)
    return wide.reindex(columns=sorted(wide, key=lambda name: (FOLDER in name, name)))


@select.compute_once
def make_stage_matrix(results):
    """Return hole L1 after every stage (rows) for every hole width (columns), mean over seeds.

    This is the paper's "quantitative results of each K iterations using different mask sizes", on
    the training family and the images that are measured after every stage. The baselines are one
    more setup."""
    values = select.get_by_stage(results).query("metric == 'l1'")
    untrained = values.stage.isna()
    stage = values.stage.fillna(0).astype(int).astype(str).mask(untrained, values.setup)
    found = values.assign(stage=stage, setup=values.setup.mask(untrained, NO_TRAINING))
    return found.pivot_table("value", [*SETUP, "stage"], "mask_width", sort=False)


def make_generalisation(results, metric="l1", region="hole"):
    """Return a metric after the last stage on all mask families and widths, mean over seeds."""
    last = results.values[results.values.stage == len(results.widths)]
    both = pd.concat([last, _baselines(results).assign(architecture=NO_TRAINING)])
    both = both[(both.region == region) & (both.metric == metric)]
    keys = ["dataset", "architecture", "mask_family", "setup", "n_images"]
    return both.pivot_table("value", keys, "mask_width", sort=False)


def count_standings(runs):
    """Return how many runs finished, beat the baselines and have an active game, per setup."""
    counted = runs.assign(runs=1, finished=~runs.diverged)
    columns = ["runs", "finished", "beats_trivial", "beats_all", "game_active", "has_game"]
    found = counted.groupby(SETUP, sort=False)[columns].sum().astype(int)
    names = {"beats_trivial": "beats trivial (L2, largest hole)", "beats_all": "beats all"}
    names["game_active"] = "game active in the last stage"
    found["game_active"] = found.game_active.astype(object).where(found.has_game > 0, "-")
    return found.drop(columns="has_game").rename(columns=names).reset_index()


def count_games(results):
    """Return in how many runs the adversarial game is active: a row per setup, a column per stage.

    Entries also have D's accuracy and the adversarial share, means over seeds."""
    rows, games = {}, standing.judge_games(results)
    for (*setup, stage), part in games.groupby([*SETUP, "stage"], sort=False):
        active = part.active.dropna().astype(bool)
        accuracy, share = part.d_accuracy.mean(), part.adversarial_share.mean()
        text = f"{active.sum()} of {len(active)}; D {accuracy:.2f}, share {share:.2f}"
        rows.setdefault(tuple(setup), {})[f"stage {stage}"] = text if len(active) else "-"
    found = pd.DataFrame.from_dict(rows, "index").fillna("-")
    stages = [name for k in range(len(results.widths)) if (name := f"stage {k + 1}") in found]
    return found[stages].rename_axis(SETUP).reset_index() if rows else found


def count_exposure(results):
    """Return how many training images each setup shows with holes of each width.

    A column counts holes up to its width that are wider than the column before. Setups that draw
    widths are counted with seed 0; setups without an entry here are left out."""
    batch, rows = results.about["config"]["curriculum"]["batch_size"], []
    schedule, columns = results.schedule, [f"up to {width} px" for width in results.widths]
    for setup in frames.order(results.runs.setup):
        if setup in SETUPS:
            phases = [SETUPS[setup].phase(schedule, step) for step in range(schedule.steps)]
            widths = [phase.mask_width for phase in phases if phase.trains]
            nth = [bisect_left(results.widths, width) for width in widths]
            row = {"setup": setup, "images shown": len(widths) * batch}
            row |= {column: nth.count(k) * batch for k, column in enumerate(columns)}
            rows.append(row | {"mean hole width (px)": f"{sum(widths) / len(widths):.1f}"})
    return pd.DataFrame(rows)


def sum_cost(results):
    """Return time and memory of training: a row per architecture and device."""
    groups = results.runs.groupby(["architecture", "device"], sort=False)
    sums, most = groups[["images", "step_seconds", "seconds"]].sum(), groups.max()
    columns = {
        "runs": groups.size(),
        "images/s": (sums.images / sums.step_seconds).where(sums.step_seconds > 0),
        "training steps (s)": sums.step_seconds.round().astype(int),
        "evaluation, checkpoints (s)": (sums.seconds - sums.step_seconds).round().astype(int),
        "peak memory (GiB)": most.host_memory / 2**30,
        "peak GPU memory (GiB)": most.device_memory / 2**30,
    }
    return pd.DataFrame(columns).reset_index()


def to_markdown(frame):
    """Return a frame without its index as the lines of a Markdown table."""
    rows = [list(frame), ["---"] * frame.shape[1], *frame.astype(object).to_numpy().tolist()]
    return ["| " + " | ".join(map(str, row)) + " |" for row in rows]


FILES = {  # name without .csv: function
    "table": make_table,
    "runs": standing.judge_runs,
    "games": standing.judge_games,
    "gates": standing.judge_gates,
    "hypotheses": stats.judge,
    "stage_matrix": lambda results: make_stage_matrix(results).reset_index(),
    "generalisation": lambda results: make_generalisation(results).reset_index(),
    "exposure": count_exposure,
}


def write(results, folder):
    """Write FILES as CSV, and the paper-style tables as table.md and table.tex."""
    folder = Path(folder)
    for name, function in FILES.items():
        files.write_csv(folder / f"{name}.csv", function(results))
    note = " ".join([notes.render_footnote(results), *notes.list_caveats(results)])
    lines, latex = [], []
    for cell, text in format_tables(results, bold="**{}**".format).items():
        flat = text.set_axis(map(" ".join, text.columns), axis=1).reset_index()
        lines += [f"### {', '.join(cell)}", "", *to_markdown(flat), ""]
        by_area = select.get_cell(tabulate_areas(results).reset_index(), *cell).drop(columns=CELL)
        by_area = by_area.dropna(axis="columns", how="all").round(4).astype(object).fillna("-")
        if results.family(cell[1]) == FOLDER or FOLDER in "".join(by_area):
            lines += ["Hole L1 by area; folder: the study's own masks", ""]
            lines += [*to_markdown(by_area), ""]
    for cell, text in format_tables(results, bold=r"\textbf{{{}}}".format).items():
        text = text.map(lambda t: t.replace("±", r"$\pm$")).rename(lambda t: t.replace("_", r"\_"))
        look = {"column_format": "l" + "r" * text.shape[1], "multicolumn_format": "c"}
        latex.append(text.to_latex(caption=", ".join(cell).replace("_", r"\_"), **look))
    for name, content in (("md", [*lines, note]), ("tex", [*latex, f"% {note}"])):
        files.write_text(folder / f"table.{name}", "\n".join(content) + "\n")
