"""The study's numbers as tables: one tidy file, and the paper-style tables, matrices and verdicts made from it."""

import numpy as np
import pandas as pd

from .. import setups
from ..study import config as configuration
from ..study import files
from . import collect, notes, standing, stats

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
    ("whole_composite", "fid_random"): (("distribution", "FID (random features)"), 3, "lower"),
    ("whole_composite", "kid_random"): (("distribution", "KID (random features)"), 4, "lower"),
    ("whole_composite", "is_random"): (("distribution", "IS (random features)"), 3, "higher"),
    ("hole", "colour"): (("colour", "Delta E"), 2, "lower"),
    ("hole", "continuity"): (("continuity", "gradient"), 4, "lower"),
    ("hole", "overfitting"): (("training - test", "hole L1"), 4, None),
    ("training", "stability"): (("stability", "to noise"), 2, "lower"),
}
FILES = ("results.csv", "runs.csv", "outcomes.csv", "averaging.csv", "generalisation_fid.csv", "table.md",
         "table.csv", "table.tex", "baselines.csv", "hypotheses.csv", "bootstrap.csv",
         "stage_matrix.csv", "generalisation.csv", "exposure.csv", "stability.csv", "study.json")  # fmt: skip
NO_TRAINING = "no training"  # stands for the setup where baselines are shown among networks


def paper_style(study, table, controls=False):
    """Rows: data set, architecture, setup of the study's runs. Columns: measures after the last stage with full-size holes,
    mean over seeds, NaN where all runs diverged.

    The control setups, which the paper does not have, are left out, or with `controls` shown beside those they control.

    Returns (means, deviations over seeds (NaN for one seed)) with the same index and columns.
    """
    keys = ["dataset", "architecture", "setup"]
    rows = pd.DataFrame([(r.dataset, r.architecture, r.setup) for r in study.runs()], columns=keys).drop_duplicates()
    papers = rows[~rows.setup.isin(setups.CONTROLS)]
    index = pd.MultiIndex.from_frame(collect.ordered(study, rows if controls or papers.empty else papers))
    grouped = _shown(collect.final(study, table)).groupby([*keys, "column"], sort=False).value
    found = (part.unstack("column", sort=False).reindex(index).astype(float) for part in (grouped.mean(), grouped.std()))
    return tuple(_columns(study, part) for part in found)


def _shown(table):
    """The rows the tables show, with their `column`."""
    return table.assign(column=[SHOWN.get(pair, (None,))[0] for pair in zip(table.region, table.metric, strict=True)]).dropna(
        subset="column"
    )


def _optional(config):
    """Columns that are there even if their networks are not: the paper's measures, and LPIPS if it was asked for."""
    keys = [("whole_composite", m) for m in ("fid", "is", *(["lpips"] if config.lpips_weights != "none" else []))]
    return [SHOWN[key][0] for key in keys]


def _columns(study, frame):
    """The shown columns in their order: the optional ones always, the others where there is a value."""
    always = _optional(study.config)
    order = [column for column, *_ in SHOWN.values() if column in set(frame) or column in always]
    return frame.reindex(columns=order).set_axis(pd.MultiIndex.from_tuples(order), axis=1)


def _aligned(*frames):
    """Frames with the columns of all of them, in the tables' order."""
    order = [column for column, *_ in SHOWN.values() if any(column in frame for frame in frames)]
    return [frame.reindex(columns=pd.MultiIndex.from_tuples(order)) for frame in frames]


def beside(study, dataset, architecture, fillings):
    """The baselines on the full-size holes an architecture is trained with: a row per baseline, the tables' columns."""
    family, width = study.config.models[architecture].mask_family, study.config.mask_widths[-1]
    part = fillings[(fillings.dataset == dataset) & (fillings.mask_family == family) & (fillings.mask_width == width)]
    wide = _shown(part).pivot(index="baseline", columns="column", values="value")
    return _columns(study, wide).reindex(part.baseline.unique())


def formatted(study, table, fillings, controls=False, bold=str, link=lambda text, *_: text, escape=str):
    """{(dataset, architecture): text table}: setups with +- over seeds and the best in bold, then the baselines (`plain`).

    `bold(text)` marks the best setup, `link(text, dataset, architecture, setup)` every cell (setup None for baselines).
    """
    means, deviations = paper_style(study, table, controls)
    optional, found = _optional(study.config), {}
    for (dataset, architecture), group in means.groupby(level=["dataset", "architecture"], sort=False):
        group, spread = (frame.droplevel(["dataset", "architecture"]) for frame in (group, deviations.loc[group.index]))
        group, spread, without = _aligned(group, spread, beside(study, dataset, architecture, fillings))
        both = pd.concat([group, without])
        text = pd.DataFrame("", index=both.index.rename("setup"), columns=group.columns, dtype=object)
        for column, digits, better in SHOWN.values():
            if column not in group:
                continue
            rounded = group[column].round(digits)  # what reads the same is equally good
            best = {"higher": rounded.max(), "lower": rounded.min(), None: np.nan}[better]
            for row, value in both[column].items():
                setup = row if row in group.index else None
                cell = "not available" if column in optional else "-"
                if pd.notna(value):
                    cell = f"{value:.{digits}f}"
                    if setup and pd.notna(spread.at[row, column]):
                        cell += f" ± {spread.at[row, column]:.{digits}f}"
                cell = escape(cell)
                if setup and len(group) > 1 and rounded[row] == best:
                    cell = bold(cell)
                text.at[row, column] = link(cell, dataset, architecture, setup)
        found[dataset, architecture] = text
    return found


def stage_matrix(study, table, fillings, metric="l1"):
    """The paper's "quantitative results of each K iterations using different mask sizes": after every stage (rows) for every
    hole width (columns), in the hole, training family, mean over seeds; the baselines as one more setup."""
    keys, family = ["dataset", "architecture", "setup", "stage"], collect.trained_with(study, table)
    part = table[(table.region == "hole") & (table.metric == metric) & (table.mask_family == family)]
    frames = [collect.ordered(study, part.assign(stage=part.stage.astype(str)))]
    for architecture in study.config.architectures:
        rows = fillings[(fillings.region == "hole") & (fillings.metric == metric)]
        rows = rows[rows.mask_family == study.config.models[architecture].mask_family].rename(columns={"baseline": "stage"})
        frames.append(rows.assign(architecture=architecture, setup=NO_TRAINING))
    return pd.concat(frames).pivot_table("value", keys, "mask_width", sort=False)


def generalisation(study, table, fillings, metric="l1"):
    """Hole L1 of the final networks and of the baselines on every mask family and width they take, mean over seeds."""
    rows = fillings.rename(columns={"baseline": "setup"}).assign(architecture=NO_TRAINING, stage=len(study.config.mask_widths))
    part = pd.concat([collect.ordered(study, table), rows])
    part = part[(part.region == "hole") & (part.metric == metric) & (part.stage == len(study.config.mask_widths))]
    return part.pivot_table("value", ["dataset", "architecture", "mask_family", "setup"], "mask_width", sort=False)


def hypotheses(study, table, runs):
    """The registered hypotheses' verdicts: hypotheses.csv. `runs` as of standing.of_runs."""
    return stats.judge(collect.trained(study, table), runs, study)


def standings(runs):
    """How many runs of every cell finished, have learnt, are useful and alive: counts, with the number of runs."""
    counted = runs.assign(runs=1, finished=~runs.diverged)
    columns = ["runs", "finished", "learnt", "useful", "alive"]
    return counted.groupby(["dataset", "architecture", "setup"], sort=False)[columns].sum().astype(int).reset_index()


def averaging(study, table):
    """The moving average of G's weights against those of the last step: hole L1 with full-size holes, over seeds."""
    part = collect.final(study, table).query("metric == 'l1' and region in ('hole', 'hole_snapshot')")
    found = (
        part.groupby(["dataset", "architecture", "setup", "region"], sort=False).value.agg(["mean", "std"]).unstack("region")
    )
    order = [(what, region) for region in ("hole", "hole_snapshot") for what in ("mean", "std")]
    names = ["average", "average_deviation", "snapshot", "snapshot_deviation"]
    return found.reindex(columns=order).set_axis(names, axis=1).reset_index()


def generalisation_fid(study, table):
    """FID, KID and IS of the final networks on free-form and several-rectangle holes beside the family they trained with."""
    part = table[(table.stage == len(study.config.mask_widths)) & (table.mask_width == study.config.mask_widths[-1])]
    part = collect.ordered(study, part[part.metric.str.match("(fid|kid|is)(_random)?$")])
    keys = ["dataset", "architecture", "mask_family", "setup"]
    return part.pivot_table("value", keys, "metric", sort=False).reset_index()


def exposure(study):
    """What equal budgets hide: images shown, and the share of them with a full-size hole, per setup."""
    config = study.config
    schedule = setups.Schedule(config.steps, config.mask_widths, config.seeds[0])
    rows = []
    for setup in config.setups:
        phases = [setups.SETUPS[setup](schedule, step) for step in range(config.steps)]
        widths = [phase.mask_width for phase in phases if phase.trains]
        rows.append({"setup": setup, "images shown": len(widths) * config.batch_size,
                     "with a full-size hole": f"{widths.count(config.mask_widths[-1]) / len(widths):.0%}",
                     "mean hole width (px)": f"{sum(widths) / len(widths):.1f}"})  # fmt: skip
    return pd.DataFrame(rows)


def stability(study, selected=None):
    """How the adversarial game went, per run and stage: unweighted losses, so that a ramped weight looks no calmer.

    Columns: standard deviation of G's and D's adversarial loss between steps (within log intervals, averaged), most of which is
    what one batch differs from another; D's accuracy, share of steps at which D was not saturated, gradient norms. Small holes
    are calm by themselves: compare last stages, by the measure `stability` (evaluate.py).
    """
    columns = ["adversarial_g_std", "adversarial_d_std", "d_accuracy", "unsaturated", "grad_norm_g", "grad_norm_d"]
    types = {name: collect.TYPES[name] for name in collect.COLUMNS[:5]} | dict.fromkeys(columns, float)
    frames = [collect.no_rows(types)]
    for run in selected or collect.finished(study):
        history = pd.read_csv(run.folder / "history.csv")
        frame = history.groupby("stage")[columns].mean().reset_index()
        frames.append(collect.named(run, frame))
    return pd.concat(frames, ignore_index=True)


def markdown(frame):
    """A frame without its index as the lines of a Markdown table."""
    rows = [list(frame.columns), ["---"] * frame.shape[1], *frame.astype(object).to_numpy().tolist()]
    return ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def write(study):
    """Write reports/<profile>/tables (FILES) -> results.csv as a frame, which is written last.

    results.csv: every value, tidy; baselines.csv likewise. table.csv, .md, .tex: paper-style. study.json: configuration and
    provenance, for `compare`. The others bear the names of the functions above.
    """
    folder, found, fillings = study.report / "tables", collect.results(study), collect.plain(study)
    files.write_csv(folder / "baselines.csv", fillings)
    files.write_csv(folder / "table.csv", _long(study, found, fillings))
    note = " ".join([notes.footnote(study), *notes.caveats(study)])
    lines, latex = [], []
    for (dataset, architecture), text in formatted(study, found, fillings, bold=lambda t: f"**{t}**").items():
        flat = text.set_axis(map(" ".join, text.columns), axis=1).reset_index()
        lines += [f"### {dataset}, {architecture}", "", *markdown(flat), ""]
    for (dataset, architecture), text in formatted(study, found, fillings, bold=lambda t: rf"\textbf{{{t}}}").items():
        text = text.map(lambda t: t.replace("±", r"$\pm$")).rename(lambda t: str(t).replace("_", r"\_"))
        caption = f"{dataset}, {architecture}".replace("_", r"\_")
        latex.append(text.to_latex(column_format="l" + "r" * text.shape[1], caption=caption, multicolumn_format="c"))
    with files.replacing(folder / "table.md") as temporary:
        temporary.write_text("\n".join(lines) + f"\n{note}\n", encoding="utf-8")
    with files.replacing(folder / "table.tex") as temporary:
        temporary.write_text("\n".join(latex) + f"% {note}\n", encoding="utf-8")
    runs = standing.of_runs(study)
    files.write_csv(folder / "runs.csv", runs)
    files.write_csv(folder / "outcomes.csv", stats.outcomes(runs, collect.trained(study, found)))
    files.write_csv(folder / "averaging.csv", averaging(study, found))
    files.write_csv(folder / "generalisation_fid.csv", generalisation_fid(study, found))
    files.write_csv(folder / "hypotheses.csv", hypotheses(study, found, runs))
    files.write_csv(folder / "bootstrap.csv", collect.bootstrap(study))
    files.write_csv(folder / "stage_matrix.csv", stage_matrix(study, found, fillings).reset_index())
    files.write_csv(folder / "generalisation.csv", generalisation(study, found, fillings).reset_index())
    files.write_csv(folder / "exposure.csv", exposure(study))
    files.write_csv(folder / "stability.csv", stability(study))
    files.write_json(folder / "study.json", _description(study))
    files.write_csv(folder / "results.csv", found)
    return found


def _long(study, table, fillings):
    """table.csv: what the paper-style tables show, controls and baselines included, a value a row."""
    means, deviations = paper_style(study, table, controls=True)
    below = {(d, a): beside(study, d, a, fillings) for d, a in means.index.droplevel("setup").unique()}
    means = pd.concat(_aligned(means, pd.concat(below, names=means.index.names)))
    parts = [part.stack([0, 1], future_stack=True).rename(name) for name, part in (("mean", means), ("deviation", deviations))]
    long = pd.concat(parts, axis=1).rename_axis([*means.index.names, "group", "measure"]).reset_index()
    return long.dropna(subset="mean")


def _description(study):
    manifests = {d: files.read_json(study.data_folder(d) / "manifest.json") for d in study.config.datasets}
    return {
        "profile": study.profile,
        "config": configuration.to_dict(study.config),
        "hypotheses": stats.digest(),
        "data": {d: {name: f["sha256"] for name, f in m["files"].items()} for d, m in manifests.items()},
        "runs": {name: {key: result[key] for key in ("device", "precision", "provenance")}
                 for name, result in collect.of_runs(study).items()},
    }  # fmt: skip
