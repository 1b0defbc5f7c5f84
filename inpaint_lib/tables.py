"""The study's numbers as tables: one tidy file, and the paper-style tables, matrices and verdicts made from it."""

import functools
import itertools

import numpy as np
import pandas as pd

from . import baselines, data, evaluate, metrics, models, pretrained, runs, setups, sources, stats, train
from . import config as configuration

COLUMNS = ["dataset", "architecture", "setup", "seed", "stage", "mask_family", "mask_width", "region", "metric", "value",
           "n_images"]  # fmt: skip
SHOWN = {  # (region, metric): column, digits, which is better
    ("hole", "l1"): (("hole", "L1"), 4, "lower"),
    ("hole", "l2"): (("hole", "L2"), 4, "lower"),
    ("hole", "psnr"): (("hole", "PSNR"), 2, "higher"),
    ("whole_composite", "l1"): (("whole", "L1"), 4, "lower"),
    ("whole_composite", "psnr"): (("whole", "PSNR"), 2, "higher"),
    ("whole_composite", "ssim"): (("whole", "SSIM"), 3, "higher"),
    ("whole_composite", "lpips"): (("whole", "LPIPS"), 3, "lower"),
    ("whole_composite", "fid"): (("distribution", "FID"), 2, "lower"),
    ("whole_composite", "is"): (("distribution", "IS"), 2, "higher"),
    ("whole_composite", "fid_random"): (("distribution", "FID (random features)"), 3, "lower"),
    ("whole_composite", "is_random"): (("distribution", "IS (random features)"), 3, "higher"),
    ("hole", "colour"): (("colour", "Delta E"), 2, "lower"),
    ("hole", "continuity"): (("continuity", "gradient"), 4, "lower"),
    ("hole", "overfitting"): (("training - test", "hole L1"), 4, None),
    ("training", "stability"): (("stability", "deviation"), 4, "lower"),
}
FILES = ("results.csv", "table.md", "table.csv", "table.tex", "baselines.csv", "hypotheses.csv", "bootstrap.csv",
         "stage_matrix.csv", "generalisation.csv", "exposure.csv", "stability.csv", "study.json")  # fmt: skip
NO_TRAINING = "no training"  # stands for the setup where baselines are shown among networks


def stages(study):
    """stages.csv of every run of the grid in one frame, with dataset, architecture, setup and seed before it.

    Raises FileNotFoundError naming the first run that is not finished.
    """
    frames = []
    for run in study.runs():
        _result(run)
        frames.append(_named(run, pd.read_csv(run.folder / "stages.csv")))
    return pd.concat(frames, ignore_index=True)


def _result(run):
    """The run's result.json. Raises FileNotFoundError for a run that is not finished."""
    if (result := runs.read_json(run.folder / "result.json")) is None:
        profile = run.study.profile
        raise FileNotFoundError(f"run {run.name} of profile {profile} is not finished: ./run_all.sh {profile}")
    return result


def _named(run, frame):
    for k, name in enumerate(COLUMNS[:4]):
        frame.insert(k, name, getattr(run, name))
    return frame


def check(study):
    """Raise FileNotFoundError or ValueError, naming run and keys, unless runs/ holds this very study, trained and evaluated."""
    for run in study.runs():
        result, pack = _result(run), data.existing(study, run.dataset)
        runs.refuse_other(f"run {run.name}", result["settings"], train.settings_of(run, pack))
        if evaluate.kept(run)[1]["settings"] != evaluate.settings_of(run, pack):
            profile = run.study.profile
            raise ValueError(f"run {run.name} was evaluated with other settings: mend that with ./run_all.sh {profile}")


def complete(study, watch=None):
    """Train and evaluate whatever the grid still lacks (nothing, after ./run_all.sh), so that every notebook runs by itself."""
    for run in study.runs():
        if not train.finished(run, data.prepare(study, run.dataset)):
            train.fit(run, watch)
        evaluate.evaluate(run)


def tidy(stage_table, evaluations=()):
    """One value a row, the columns of results.csv. Holds nothing that depends on time or machine.

    `evaluations` are the frames of evaluation.csv with the run's names before them: what stages.csv also has is left out.
    """
    frame = stage_table.melt(id_vars=[c for c in COLUMNS if c in stage_table], value_vars=list(metrics.METRICS),
                             var_name="metric")  # fmt: skip
    frame = frame[~((frame.region == "whole_raw") & frame.architecture.map(models.central))]
    frame = pd.concat([frame[COLUMNS], *(e[COLUMNS] for e in evaluations)], ignore_index=True)
    frame = frame.drop_duplicates(COLUMNS[:9], keep="first")
    return frame.sort_values(COLUMNS[:9], kind="stable").reset_index(drop=True)


def results(study):
    """results.csv as a frame, from the files of the runs. Raises FileNotFoundError for a run not finished or not evaluated."""
    table = stages(study)
    return tidy(table, [_named(run, evaluate.kept(run)[0]) for run in study.runs()])


def trained(study, table):
    """The rows after the last stage of the family each network was trained with, in the order of the configuration."""
    return _ordered(
        study, table[(table.stage == len(study.config.mask_widths)) & (table.mask_family == _families(study, table))]
    )


def _ordered(study, table):
    """Rows by data set, architecture and setup in the order of the configuration and of setups.SETUPS."""
    rank = {name: k for k, name in enumerate([*study.config.datasets, *study.config.architectures, *setups.SETUPS])}
    return table.sort_values(["dataset", "architecture", "setup"], key=lambda names: names.map(rank), kind="stable")


def final(study, table):
    """The rows that answer the question: as `trained`, with the full-size hole."""
    return trained(study, table)[lambda t: t.mask_width == study.config.mask_widths[-1]]


def paper_style(study, table, controls=False):
    """Rows: data set, architecture, setup. Columns: measures after the last stage with full-size holes, mean over seeds.

    The control setups, which the paper does not have, are left out, or with `controls` shown beside those they control.

    Returns (means, deviations over seeds (NaN for one seed)) with the same index and columns.
    """
    table = final(study, table)
    papers = table[~table.setup.isin(setups.CONTROLS)]
    table = table if controls or papers.empty else papers
    grouped = _shown(table).groupby(["dataset", "architecture", "setup", "column"], sort=False).value
    return tuple(_columns(study, part.unstack("column", sort=False)) for part in (grouped.mean(), grouped.std()))


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


def plain(study):
    """The baselines on all data sets: baselines.csv, a value a row. A slow one measured on a part of the images says so."""
    frames = [evaluate.baselines(study, dataset).assign(dataset=dataset) for dataset in study.config.datasets]
    found = pd.concat(frames, ignore_index=True)[["dataset", "baseline", *COLUMNS[5:]]]
    of = found[found.metric == "l1"].groupby(["dataset", "baseline"]).n_images.first()
    most = of.groupby("dataset").max()
    names = {(d, b): b if n == most[d] else f"{b} (first {n})" for (d, b), n in of.items()}
    return found.assign(baseline=[names[key] for key in zip(found.dataset, found.baseline, strict=True)])


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
        group, spread = (frame.loc[(dataset, architecture)] for frame in (group, deviations))
        both = pd.concat([group, beside(study, dataset, architecture, fillings).reindex(columns=group.columns)])
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
    keys, family = ["dataset", "architecture", "setup", "stage"], _families(study, table)
    part = table[(table.region == "hole") & (table.metric == metric) & (table.mask_family == family)]
    frames = [_ordered(study, part.assign(stage=part.stage.astype(str)))]
    for architecture in study.config.architectures:
        rows = fillings[(fillings.region == "hole") & (fillings.metric == metric)]
        rows = rows[rows.mask_family == study.config.models[architecture].mask_family].rename(columns={"baseline": "stage"})
        frames.append(rows.assign(architecture=architecture, setup=NO_TRAINING))
    return pd.concat(frames).pivot_table("value", keys, "mask_width", sort=False)


def generalisation(study, table, fillings, metric="l1"):
    """Hole L1 of the final networks and of the baselines on every mask family and width they take, mean over seeds."""
    rows = fillings.rename(columns={"baseline": "setup"}).assign(architecture=NO_TRAINING, stage=len(study.config.mask_widths))
    part = pd.concat([_ordered(study, table), rows])
    part = part[(part.region == "hole") & (part.metric == metric) & (part.stage == len(study.config.mask_widths))]
    return part.pivot_table("value", ["dataset", "architecture", "mask_family", "setup"], "mask_width", sort=False)


def _families(study, table):
    """Of every row the family its network was trained with."""
    return table.architecture.map({name: model.mask_family for name, model in study.config.models.items()})


def bootstrap(study):
    """How well the trained networks were measured: progressive - fixed, hole L1, full-size holes, mean over seeds, with its
    95 % interval over test images drawn anew (scenes: whole photographs). It says nothing about other trainings: no verdict."""
    config, rows = study.config, []
    for dataset, architecture in itertools.product(config.datasets, config.architectures):
        found = [_of_images(study, dataset, architecture, setup) for setup in ("progressive", "fixed")]
        if all(values is not None for values in found):
            d, groups = found[0] - found[1], runs.read_json(study.data_folder(dataset) / "manifest.json")["test_groups"]
            rows.append([dataset, architecture, d.mean(), *stats.bootstrap(d, groups), len(d), len(set(groups))])
    return pd.DataFrame(rows, columns=["dataset", "architecture", "effect", "ci_low", "ci_high", "n_images", "n_groups"])


def ranked(study, dataset, architecture):
    """{"best", "median", "worst"}: the test images an architecture fills so, by hole L1 with full-size holes after the last
    stage, averaged over its setups and seeds."""
    setups_run = dict.fromkeys(run.setup for run in study.runs())
    order = np.argsort(np.mean([_of_images(study, dataset, architecture, setup) for setup in setups_run], 0), kind="stable")
    return {"best": int(order[0]), "median": int(order[len(order) // 2]), "worst": int(order[-1])}


def _of_images(study, dataset, architecture, setup):
    """Hole L1 of every test image after the last stage with the full-size hole, mean over seeds; None if it was not run."""
    found = [r for r in study.runs() if (r.dataset, r.architecture, r.setup) == (dataset, architecture, setup)]
    return np.mean([last_hole_l1(run.folder / "per_image.csv.gz") for run in found], 0) if found else None


def last_hole_l1(path):
    """Hole L1 of every test image after the last stage with the widest hole, from a run's per_image.csv.gz: (N,) array."""
    return _last_hole_l1(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _last_hole_l1(path, _):
    table = pd.read_csv(path)
    last = (table.stage == table.stage.max()) & (table.mask_width == table.mask_width.max())
    return table[last & (table.region == "hole")].sort_values("image").l1.to_numpy()


def effects(study, table):
    """Hole L1 with full-size holes of every run minus that of its twin in the setup fixed: dataset, architecture, setup, seed,
    effect. Empty without fixed."""
    rows = final(study, table)[lambda t: (t.region == "hole") & (t.metric == "l1")]
    wide = rows.pivot_table("value", ["dataset", "architecture", "seed"], "setup", sort=False)
    wide = wide.sub(wide["fixed"], axis=0).drop(columns="fixed") if "fixed" in wide else wide.iloc[:, :0]
    return wide.stack().rename("effect").reset_index().dropna()


def hypotheses(study, table):
    """The registered hypotheses' verdicts: hypotheses.csv."""
    return stats.judge(trained(study, table))


def exposure(study):
    """What equal budgets hide: images shown, and the share of them with a full-size hole, per setup."""
    config = study.config
    schedule = setups.Schedule(config.steps, config.mask_widths, config.seeds[0])
    rows = []
    for setup in config.setups:
        widths = [setups.SETUPS[setup](schedule, step).mask_width for step in range(config.steps)]
        rows.append({"setup": setup, "images shown": config.total_images,
                     "with a full-size hole": f"{widths.count(config.mask_widths[-1]) / len(widths):.0%}",
                     "mean hole width (px)": f"{sum(widths) / len(widths):.1f}"})  # fmt: skip
    return pd.DataFrame(rows)


def stability(study, selected=None):
    """How calm the adversarial game was, per run and stage: unweighted losses, so that a ramped weight looks no calmer.

    Columns: standard deviation of G's and D's adversarial loss between steps (within log intervals, averaged), D's
    accuracy, share of steps at which D was not saturated, gradient norms. Small holes are calm by themselves: compare last
    stages.
    """
    columns = ["adversarial_g_std", "adversarial_d_std", "d_accuracy", "unsaturated", "grad_norm_g", "grad_norm_d"]
    frames = []
    for run in selected or study.runs():
        history = pd.read_csv(run.folder / "history.csv")
        frame = history.groupby("stage")[columns].mean().reset_index()
        frames.append(_named(run, frame))
    return pd.concat(frames, ignore_index=True)


def notes(study):
    """What a reader must know before believing a number: one sentence each."""
    config = study.config
    used = {name: sources.DATASETS[name] for name in config.datasets}
    found = [f"Data set {n} is a stand-in for {s.stands_in_for}: {s.about}." for n, s in used.items() if s.stands_in_for]
    if "scenes" in config.datasets:
        found.append(
            "Eight photographs do not teach a network to generalise to a ninth: test crops of scenes show unseen parts of "
            "the photographs that were trained on."
        )
    if config.perceptual_weights == "random" and "custom" in config.architectures:
        found.append(
            "The perceptual loss of custom uses random weights: it is part of the machinery here, no measure of what people "
            "perceive."
        )
    if (n := len(config.seeds)) < 3:
        found.append(
            f"Trained with {n} seed{'s' * (n > 1)} per cell: no difference between setups can be told from chance, "
            "whatever the table shows. The protocol asks for five."
        )
    return found


def footnote(study, table):
    """What every table must say about itself. `table` as `stages` returns it."""
    config = study.config
    rows = final(study, table[table.region == "hole"])
    families = ", ".join(f"{name}: {config.models[name].mask_family}" for name in config.architectures)
    nominal = (config.mask_widths[-1] / config.image_size) ** 2
    realised = rows.groupby(["dataset", "architecture"]).hole_fraction.first().round(3)
    covered = ", ".join(f"{d}/{a} {fraction:.3f}" for (d, a), fraction in realised.items())
    n_seeds, n_images = len(config.seeds), rows.groupby("dataset").n_images.first()
    manifests = {d: runs.read_json(study.data_folder(d) / "manifest.json") for d in config.datasets}
    frozen = ", ".join(f"{d} {m['files']['masks.npz']['sha256'][:16]}" for d, m in manifests.items())
    slow = ", ".join(baselines.SLOW)
    sentences = [
        f"Test images of {config.image_size} px: {', '.join(f'{d} {n:,}' for d, n in n_images.items())}.",
        f"Frozen masks (SHA-256: {frozen}) of the training family ({families}), {config.mask_widths[-1]} px wide: nominal hole "
        f"fraction {nominal:.2f}, realised mean {covered}.",
        f"Per image, then averaged; {f'mean ± standard deviation over {n_seeds} seeds' if n_seeds > 1 else 'one seed'}.",
        "Images in [0, 1]: L1 = mean absolute difference, L2 = mean squared difference, PSNR = 10 log10(1 / L2) in dB per "
        f"image, capped at {metrics.PSNR_CAP:.0f} ({rows.n_psnr_capped.sum()} capped).",
        "hole: pixels of the hole alone; whole: the composite (output in the hole, truth elsewhere) over the whole image.",
        "SSIM: 11 x 11 Gaussian window. FID and IS: composites, FID against the originals of the same test images, IS over "
        "ten splits.",
        "Delta E: CIEDE2000 between the mean colours of hole and truth. Continuity: difference of the gradients across the "
        "hole's boundary. Training - test: hole L1 on training images minus test images; what the baselines show there is how "
        "far the two sets differ. Stability: deviation of G's unweighted adversarial loss between steps of the last stage.",
        f"Baselines need no training; {slow}: the first {config.slow_baseline_images} test images at most, so without FID and "
        "IS where there are more.",
        "No post-processing.",
    ]
    return " ".join([*sentences, *(f"{w}." for w in distribution_warnings(study))])


def distribution_warnings(study):
    """With which networks FID, IS and LPIPS were measured, why there are none, and how far to trust them."""
    heads, found = [evaluate.kept(run)[1] for run in study.runs()], []
    for name, weights in pretrained.WEIGHTS.items():
        if name == "alexnet" and study.config.lpips_weights == "none":
            continue
        if name == "inception" and study.config.inception_weights == "random":
            found.append(
                "FID and IS not available: this profile does without the Inception weights (set inception_weights=auto, or "
                "name their file). FID and IS (random features) come from a small seeded network: they exercise the machinery "
                "and compare with no other figure"
            )
            continue
        for identity in sorted({h["settings"][name] for h in heads}):
            known = identity == weights.sha256
            found.append(
                f"{weights.metrics}: {weights.what}, SHA-256 {identity[:16]}" if known
                else f"{weights.metrics} not available: {identity}"
            )  # fmt: skip
    return [*found, *sorted({w for h in heads for w in h["warnings"]})]


def write(study):
    """Write reports/<profile>/tables (FILES) -> results.csv as a frame, which is written last.

    results.csv: every value, tidy; baselines.csv likewise. table.csv, .md, .tex: paper-style. study.json: configuration and
    provenance, for `compare`. The others bear the names of the functions above.
    """
    folder, stage_table, found, fillings = study.report / "tables", stages(study), results(study), plain(study)
    runs.write_csv(folder / "baselines.csv", fillings)
    runs.write_csv(folder / "table.csv", _long(study, found, fillings))
    note = " ".join([footnote(study, stage_table), *notes(study)])
    markdown, latex = [], []
    for (dataset, architecture), text in formatted(study, found, fillings, bold=lambda t: f"**{t}**").items():
        lines = [["setup", *map(" ".join, text.columns)], ["---"] * (1 + text.shape[1]), *text.reset_index().values]
        markdown += [f"### {dataset}, {architecture}", "", *("| " + " | ".join(map(str, line)) + " |" for line in lines), ""]
    for (dataset, architecture), text in formatted(study, found, fillings, bold=lambda t: rf"\textbf{{{t}}}").items():
        text = text.map(lambda t: t.replace("±", r"$\pm$")).rename(lambda t: str(t).replace("_", r"\_"))
        caption = f"{dataset}, {architecture}".replace("_", r"\_")
        latex.append(text.to_latex(column_format="l" + "r" * text.shape[1], caption=caption, multicolumn_format="c"))
    with runs.replacing(folder / "table.md") as temporary:
        temporary.write_text("\n".join(markdown) + f"\n{note}\n")
    with runs.replacing(folder / "table.tex") as temporary:
        temporary.write_text("\n".join(latex) + f"% {note}\n")
    runs.write_csv(folder / "hypotheses.csv", hypotheses(study, found))
    runs.write_csv(folder / "bootstrap.csv", bootstrap(study))
    runs.write_csv(folder / "stage_matrix.csv", stage_matrix(study, found, fillings).reset_index())
    runs.write_csv(folder / "generalisation.csv", generalisation(study, found, fillings).reset_index())
    runs.write_csv(folder / "exposure.csv", exposure(study))
    runs.write_csv(folder / "stability.csv", stability(study))
    runs.write_json(folder / "study.json", _description(study))
    runs.write_csv(folder / "results.csv", found)
    return found


def _long(study, table, fillings):
    """table.csv: what the paper-style tables show, controls and baselines included, a value a row."""
    means, deviations = paper_style(study, table, controls=True)
    below = {(d, a): beside(study, d, a, fillings) for d, a in means.index.droplevel("setup").unique()}
    means = pd.concat([means, pd.concat(below, names=means.index.names).reindex(columns=means.columns)])
    parts = [part.stack([0, 1], future_stack=True).rename(name) for name, part in (("mean", means), ("deviation", deviations))]
    long = pd.concat(parts, axis=1).rename_axis([*means.index.names, "group", "measure"]).reset_index()
    return long.dropna(subset="mean")


def _description(study):
    of_runs = {run.name: runs.read_json(run.folder / "result.json") for run in study.runs()}
    manifests = {d: runs.read_json(study.data_folder(d) / "manifest.json") for d in study.config.datasets}
    return {
        "profile": study.profile,
        "config": configuration.to_dict(study.config),
        "hypotheses": stats.digest(),
        "data": {d: {name: f["sha256"] for name, f in m["files"].items()} for d, m in manifests.items()},
        "runs": {name: {key: r[key] for key in ("device", "precision", "provenance")} for name, r in of_runs.items()},
    }
