"""The study's numbers as tables: one tidy file, and the paper-style tables made from it."""

import pandas as pd

from . import data, metrics, runs, setups, sources, train

COLUMNS = ["dataset", "architecture", "setup", "seed", "stage", "mask_family", "mask_width", "region", "metric", "value",
           "n_images"]  # fmt: skip
SHOWN = {("hole", "l1"): "hole L1", ("hole", "l2"): "hole L2", ("hole", "psnr"): "hole PSNR",
         ("whole_composite", "l1"): "whole L1", ("whole_composite", "psnr"): "whole PSNR"}  # fmt: skip
DIGITS = {"l1": 4, "l2": 4, "psnr": 2}


def stages(study):
    """stages.csv of every run of the grid in one frame, with dataset, architecture, setup and seed before it.

    Raises FileNotFoundError naming the first run that is not finished.
    """
    frames = []
    for run in study.runs():
        if runs.read_json(run.folder / "result.json") is None:
            raise FileNotFoundError(f"run {run.name} of profile {study.profile} is not finished: ./run_all.sh {study.profile}")
        frame = pd.read_csv(run.folder / "stages.csv")
        for k, name in enumerate(COLUMNS[:4]):
            frame.insert(k, name, getattr(run, name))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def complete(study, watch=None):
    """Train whatever the grid still lacks (nothing, after ./run_all.sh), so that every notebook runs by itself."""
    for run in study.runs():
        if not train.finished(run, data.prepare(study, run.dataset)):
            train.fit(run, watch)


def tidy(stage_table):
    """One value a row, the columns of results.csv. Holds nothing that depends on time or machine."""
    frame = stage_table.melt(id_vars=[c for c in COLUMNS if c in stage_table], value_vars=list(metrics.METRICS),
                             var_name="metric")  # fmt: skip
    return frame[COLUMNS].sort_values(COLUMNS[:9], kind="stable").reset_index(drop=True)


def final(results):
    """The rows that answer the question: after the last stage, with the full-size hole."""
    return results[(results.stage == results.stage.max()) & (results.mask_width == results.mask_width.max())]


def paper_style(results, controls=False):
    """Rows: data set, architecture, setup. Columns: metrics after the last stage with full-size holes, mean over seeds.

    The control setups, which the paper does not have, are left out, or with `controls` shown beside those they control.

    Returns (means, deviations over seeds (NaN for one seed)) with the same index and columns.
    """
    table = final(results).copy()
    table["column"] = [SHOWN.get(pair) for pair in zip(table.region, table.metric, strict=True)]
    shown = [s for s in setups.SETUPS if s in set(table.setup) and (controls or s not in setups.CONTROLS)]
    table = table[table.setup.isin(shown)].copy()
    table["setup"] = pd.Categorical(table.setup, shown)
    grouped = table.dropna(subset="column").groupby(["dataset", "architecture", "setup", "column"], observed=True).value
    return tuple(part.unstack("column")[list(SHOWN.values())] for part in (grouped.mean(), grouped.std()))


def formatted(means, deviations, bold=lambda text: text):
    """Cells as text: mean, +- deviation where there are several seeds, the best of each data set and architecture bold."""
    text = pd.DataFrame(index=means.index, columns=means.columns, dtype=object)
    metric_of = {name: metric for (_, metric), name in SHOWN.items()}
    for _, group in means.groupby(level=["dataset", "architecture"]):
        for column in means.columns:
            digits, higher = DIGITS[metric_of[column]], metric_of[column] == "psnr"
            best = group[column].max() if higher else group[column].min()
            for row, value in group[column].items():
                spread = deviations.at[row, column]
                cell = f"{value:.{digits}f}" + (f" ± {spread:.{digits}f}" if pd.notna(spread) else "")
                text.at[row, column] = bold(cell) if value == best and len(group) > 1 else cell
    return text


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
        for k, name in enumerate(COLUMNS[:4]):
            frame.insert(k, name, getattr(run, name))
        frames.append(frame)
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


def footnote(study, stage_table):
    """What every table must say about itself. `stage_table` as `stages` returns it."""
    rows, config = final(stage_table[stage_table.region == "hole"]), study.config
    families = ", ".join(f"{name}: {config.models[name].mask_family}" for name in config.architectures)
    nominal = (config.mask_widths[-1] / config.image_size) ** 2
    realised = rows.groupby(["dataset", "architecture"]).hole_fraction.first().round(3)
    covered = ", ".join(f"{d}/{a} {fraction:.3f}" for (d, a), fraction in realised.items())
    n_seeds, n_images = len(config.seeds), rows.groupby("dataset").n_images.first()
    sentences = [
        f"Test images of {config.image_size} px: {', '.join(f'{d} {n:,}' for d, n in n_images.items())}.",
        f"Frozen masks of the training family ({families}), {config.mask_widths[-1]} px wide: nominal hole fraction "
        f"{nominal:.2f}, realised mean {covered}.",
        f"Per image, then averaged; {f'mean ± standard deviation over {n_seeds} seeds' if n_seeds > 1 else 'one seed'}.",
        "Images in [0, 1]: L1 = mean absolute difference, L2 = mean squared difference, PSNR = 10 log10(1 / L2) in dB per "
        f"image, capped at {metrics.PSNR_CAP:.0f} ({rows.n_psnr_capped.sum()} capped).",
        "hole: pixels of the hole alone; whole: the composite (output in the hole, truth elsewhere) over the whole image.",
        "No post-processing.",
    ]
    return " ".join(sentences)


def write(study):
    """Write reports/<profile>/tables: table.csv, .md and .tex (paper-style), exposure.csv, stability.csv, last results.csv."""
    folder, stage_table = study.report / "tables", stages(study)
    results = tidy(stage_table)
    means, deviations = paper_style(results)
    runs.write_csv(folder / "table.csv", means.reset_index())
    plain = formatted(means, deviations, lambda t: f"**{t}**").reset_index().astype(str)
    lines = [plain.columns, ["---"] * len(plain.columns), *plain.values]
    note = " ".join([footnote(study, stage_table), *notes(study)])
    with runs.replacing(folder / "table.md") as temporary:
        temporary.write_text("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + f"\n\n{note}\n")
    latex = formatted(means, deviations, lambda t: rf"\textbf{{{t}}}").reset_index().astype(str)
    latex = latex.map(lambda t: t.replace("_", r"\_").replace("±", r"$\pm$"))
    with runs.replacing(folder / "table.tex") as temporary:
        temporary.write_text(latex.to_latex(index=False, column_format="lll" + "r" * len(SHOWN)) + f"% {note}\n")
    runs.write_csv(folder / "exposure.csv", exposure(study))
    runs.write_csv(folder / "stability.csv", stability(study))
    runs.write_csv(folder / "results.csv", results)
    return results
