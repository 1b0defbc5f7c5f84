"""The HTML report: one index and a page per executed notebook. No page loads anything from outside."""

import html
import json
import sys
from pathlib import Path

import jinja2
import pandas as pd

from .. import setups
from ..data import sources
from ..study import config as configuration
from ..study import files, grid, provenance
from . import collect, notes, standing, stats, tables, trend

# choices that are code, not configuration
FIXED_CHOICES = [
    (
        "images",
        "central square, resampled with a Lanczos filter; JPEGs decoded at reduced scale where four times the size is left",
    ),
    ("equal budget", "every setup: the same images in the same order, K steps per hole width, no optimiser reset"),
    ("place of a training hole", "fixed by seed and step; the stage scales its size, so holes are paired across setups"),
    ("size of a hole", "nominal area (width / side) squared; the realised mean stands under the table"),
    ("custom: layers", "5x5 first, then 3x3; ELU, reflection padding; two residual blocks each way; tanh at the end"),
    ("custom: D's score", "a 1x1 convolution after the fifth layer; otherwise pix2pixHD's discriminator"),
    ("what D sees", "custom: the output; free_form: composite and mask; context_encoder: the central half of the composite"),
    ("context_encoder and the curriculum", "always predicts the central half; losses and composite inside the current hole"),
    ("initial weights", "custom, context_encoder: N(0, 0.02), as pix2pixHD and Pathak et al.; free_form: D Glorot, as theirs, "
     "G normal with a gain that keeps the signal through gated layers: under Glorot's, outputs of two images differ by 1e-8"),
    ("rates, adversarial weights", "but in paper from a pilot on fixed alone, on training images: reports/pilot.md"),
    ("free_form's rate", "paper: the authors' 1e-4, whose batch was 16"),
    ("half the size", "of a hole: its width is half the image's, a quarter of its area"),
    ("k of recon_first, s and S of adv_ramp", "k = K steps, one stage; the weight is s / S of fixed's in stage s of S"),
    ("D", "updated at every step from the first, in every setup of the paper's; recon_first_rest (ours): not before k"),
    (
        "controls, ours",
        "mixed: progressive's sizes in random order; recon_only: no adversarial loss; last_only: the last K steps of "
        "fixed alone; recon_first_rest",
    ),
    ("where the perceptual loss looks", "custom: at the raw output over the whole image"),
    (
        "batch norm",
        "evaluated with statistics of 320 training images with holes of the width under evaluation, for every setup; "
        "D is probed with batch statistics, as in training",
    ),
    (
        "evaluation",
        "frozen masks; training family and every width after every stage, all families at the end; float32, TF32 off",
    ),
    ("PSNR", "per image, capped at 100 dB; the capped are counted"),
    ("colour, continuity", "CIEDE2000 between mean CIELAB colours of hole and truth; gradients across the hole's boundary"),
    (
        "stability",
        "deviation of G's loss on one fixed batch over the last stage's steps / over 40 batches with the networks at rest",
    ),
    ("weights evaluated", "G's moving average (half-life: a tenth of a stage), by the pilot; the last step's beside it"),
    (
        "statistics",
        "the unit is the training seed; margins are relative; no verdict where a side has not learnt, or with fewer than "
        "three seeds",
    ),
]


def save_figures(study, figures, others=None):
    """`draw`, and write captions.json, from which the index is built, last. `others`: captions of pictures that are there
    already."""
    files.write_json(study.report / "figures" / "captions.json", (others or {}) | draw(study, figures))


def draw(study, figures, pdf=True):
    """Write figures/<name>.png (twice the size it is shown at) and, with `pdf`, .pdf for `{name: (figure, caption)}` ->
    {name: {"caption", "width", "height"}}, in CSS pixels."""
    folder, captions = study.report / "figures", {}
    kinds = ((".png", 192, {"Software": None}), *[(".pdf", 300, {"CreationDate": None})] * pdf)
    for name, (figure, caption) in figures.items():
        for suffix, dpi, metadata in kinds:
            with files.replacing(folder / (name + suffix)) as temporary:
                figure.savefig(temporary, dpi=dpi, format=suffix[1:], metadata=metadata)
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
        captions[name] = {"caption": caption, "width": width, "height": height}
    return captions


def choices(config):
    """The choices the paper leaves open, as configured: (what, value) pairs."""
    stage = config.steps // len(config.mask_widths)
    budget = f"{config.total_images:,} images = {config.steps:,} steps of {config.batch_size}; K = {stage:,} steps"
    vgg = f"weights: {Path(config.perceptual_weights).name}, {config.perceptual_width} filters first"
    rows = {
        "image size": f"{config.image_size} px",
        "hole widths, one stage each": ", ".join(map(str, config.mask_widths)) + " px",
        "budget": budget,
        "perceptual loss": f"VGG-16 pool1-3, {vgg}",
        "precision, threads": f"{config.precision}, {config.threads}",
        "FID, KID, IS": {"all": "after every stage", "last": "of the final networks alone"}[config.fid_stages],
        "test masks": f"drawn once, seed {config.mask_seed}, SHA-256 below",
    }
    rows |= {f"data set {name}": sources.DATASETS[name].about for name in config.datasets}
    for name in config.architectures:
        m = config.models[name]
        widths = ", ".join(f"{k} {v}" for k, v in m.widths.items())
        weights = ", ".join(f"{k} {v:g}" for k, v in m.loss_weights.items())
        options = "".join(f", {k} {v}" for k, v in m.loss_options.items())
        adam = f"Adam {m.lr_g:g} (G), {m.lr_d:g} (D), betas {m.betas}"
        rows[name] = f"{widths}; holes: {m.mask_family}; {adam}; loss weights: {weights}{options}"
    return [*rows.items(), *FIXED_CHOICES]


# what the paper does, as configuration
PAPER = {
    "datasets": ["celeba", "coco"],
    "architectures": ["custom", "context_encoder", "free_form"],
    "setups": ["fixed", "progressive", "recon_first", "adv_ramp"],
    "image_size": 128,
    "train_images": 200_000,
    "test_images": 10_000,
    "models.custom.mask_family": "square",
    "models.context_encoder.mask_family": "center",
    "models.context_encoder.widths": {"generator_width": 64, "discriminator_width": 64, "bottleneck": 4000},
    "models.free_form.mask_family": "free_form",
    "models.free_form.widths": {"generator_width": 24, "discriminator_width": 64, "discriminator": "patch70"},
    "perceptual_weights": "torchvision",
}


def deviations(config, manifests, measured):
    """What this configuration does otherwise than the paper: (what, paper, here) triples. `manifests` say how many images there
    were, `measured` whether FID could be."""
    values, found = configuration.to_dict(config), []
    for key, paper in PAPER.items():
        here = values
        for name in key.split("."):
            here = here.get(name) if isinstance(here, dict) else None
        if key.startswith("models.") and key.split(".")[1] not in config.architectures:
            continue
        if here != paper:
            found.append((key, _plain(paper), _plain(here)))
    half = config.image_size // 2
    if config.mask_widths[-1] != half:
        found.append(("widest hole", "half the image", f"{config.mask_widths[-1]} of {config.image_size} px"))
    for name, manifest in manifests.items():
        for split, wanted in (("train", {"coco": 82_783}.get(name, 200_000)), ("test", {"coco": 5_000}.get(name, 10_000))):
            if (n := manifest["images"][split]) != wanted:
                found.append((f"{name}: {split} images", f"{wanted:,}", f"{n:,}"))
    if not measured:
        found.append(("Inception Score, FID", "measured", "not available: no Inception weights"))
    return found


def _plain(value):
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value:,}" if isinstance(value, int) else str(value)


def identity(run, siblings):
    """What a run's numbers come from, for its page: configuration, commit, data and mask hash, device, wall time."""
    result = files.read_json(run.folder / "result.json")
    manifest = files.read_json(run.study.data_folder(run.dataset) / "manifest.json")
    family, width = run.model.mask_family, run.config.mask_widths[-1]
    masks = manifest["masks"][f"{family}_{width}"]
    rows = {
        "configuration": files.text_sha256(json.dumps(result["settings"], sort_keys=True))[:16],
        "commit": result["provenance"]["commit"],
        "data": ", ".join(f"{name} {entry['sha256'][:16]}" for name, entry in manifest["files"].items()),
        "test masks": f"{family}, {width} px: {masks['sha256'][:16]}, covering {masks['hole_fraction']:.3f}",
        "device": f"{result['device']}, {result['precision']}",
        "wall time of training": f"{result['seconds']:.0f} s",
        "versions": ", ".join(f"{name} {version}" for name, version in result["provenance"]["versions"].items()),
    }
    return {"run": result["run"], "rows": rows.items(), "seeds": [(r.seed, page_of(r)) for r in siblings],
            "settings": json.dumps(result["settings"], indent=1)}  # fmt: skip


def cost(study, results):
    """What the study cost: a frame with a row per architecture of which a run finished, and {part: seconds} of the time its
    notebooks took."""
    rows, parts = [], {"training steps": 0.0, "evaluation and checkpoints during training": 0.0}
    for architecture in study.config.architectures:
        of = [results[run.name] for run in study.runs() if run.architecture == architecture]
        parts["training steps"] += sum(r["step_seconds"] for r in of)
        parts["evaluation and checkpoints during training"] += sum(r["seconds"] - r["step_seconds"] for r in of)
        of = [r for r in of if r["outcome"] == "finished"]
        if not of:
            continue
        peak = {kind: max(r["peak_memory_bytes"][kind] or 0 for r in of) / 2**30 for kind in ("host", "device")}
        steps = sum(r["step_seconds"] for r in of)
        rows.append({"architecture": architecture, "runs": len(of), "images/s": sum(r["images"] for r in of) / steps,
                     "training steps (s)": steps, "peak host memory (GiB)": peak["host"],
                     "peak device memory (GiB)": f"{peak['device']:.2f}" if peak["device"] else "-"})  # fmt: skip
    took = [files.read_json(path) for _, path, _, _ in notebooks(study)]
    whole = sum(((n or {}).get("metadata", {}).get("papermill") or {}).get("duration") or 0.0 for n in took)
    parts["start-up, data, final evaluation, tables, figures"] = max(whole - sum(parts.values()), 0.0)
    return pd.DataFrame(rows), parts


def page_of(run):
    return f"{run.name.replace('/', '_')}.html"


def convert(notebook, page, title, about=None, neighbours=()):
    """An executed notebook as a self-contained HTML page in the report's style: `about` as `identity` gives it, `neighbours`
    (label, (title, page)) pairs to link to."""
    import nbconvert  # here, because it takes seconds that a notebook need not spend
    import nbformat
    from pygments.formatters import HtmlFormatter

    node = nbformat.read(notebook, as_version=4)
    node.metadata.pop("widgets", None)
    section = title
    for cell in node.cells:
        if cell.cell_type != "code":
            section = ([line.strip("# ") for line in cell.source.splitlines() if line.startswith("#")] or [section])[-1]
            continue
        # a widget needs a kernel; the static figure beside it stays
        cell.outputs = [o for o in cell.outputs if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.metadata["image/png"] = {"alt": f"figure: {section}"}
    body, _ = nbconvert.HTMLExporter(template_name="basic", embed_images=True).from_notebook_node(node)
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    _render(page, "notebook", title=title, body=body, about=about, neighbours=neighbours, light=light, dark=dark)


def _render(page, template, **values):
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    with files.replacing(page) as temporary:
        temporary.write_text(environment.get_template(f"{template}.html.j2").render(**values), encoding="utf-8")


def notebooks(study):
    """The executed notebooks as (title, path, page name, identity of a run or None)."""
    found = [(f"Data: {d}", study.data_folder(d) / "notebook.ipynb", f"data_{d}.html", None) for d in study.config.datasets]
    for run in study.runs():
        same = [r for r in study.runs() if (r.dataset, r.architecture, r.setup) == (run.dataset, run.architecture, run.setup)]
        found.append((f"Training: {run.name}", run.folder / "notebook.ipynb", page_of(run), identity(run, same)))
    found += [
        ("Metrics", study.folder / "metrics.ipynb", "metrics.html", None),
        ("Figures", study.folder / "figures.ipynb", "figures.html", None),
    ]
    return [item for item in found if item[1].is_file()]


def verdicts(table):
    """hypotheses.csv as it stands on the first screen: {"primary", "secondary"} -> HTML. Primaries are the registered claim in
    every cell of the study, so without its name and metric."""
    if table.empty:
        return {"primary": "", "secondary": ""}
    role, remark = table.hypothesis.str.partition(": "), table.remark.astype(object).where(table.remark.notna(), "")
    shown = pd.DataFrame({
        "hypothesis": role[2].map(html.escape),
        "data": table.dataset,
        "architecture": table.architecture,
        "verdict": [f'<b class="{v.split()[-1] if ":" not in v else "unanswered"}">{v}</b>' for v in table.verdict],
        "metric": table.metric,
        "effect": [notes.effect(r, r.effect) + notes.decibel(r) for r in table.itertuples()],
        "interval": [notes.effect(r, r.ci_low) + (f" to {notes.effect(r, r.ci_high)}" if pd.notna(r.ci_low) else "")
                     for r in table.itertuples()],
        "p": table.p_value,
        "seeds": table.n_seeds,
        "finds": [notes.effect(r, r.detectable).lstrip("+") for r in table.itertuples()],
        "remark": remark.map(html.escape),
    })  # fmt: skip
    if not remark.any():
        shown = shown.drop(columns="remark")
    show = dict(index=False, border=0, na_rep="-", classes="verdicts", escape=False, formatters={"p": "{:.3g}".format})
    parts = {"primary": shown[role[0] == "primary"].drop(columns=["hypothesis", "metric"]),
             "secondary": shown[role[0] == "secondary"]}  # fmt: skip
    return {name: "" if part.empty else part.to_html(**show) for name, part in parts.items()}


def _html(frame, digits="%.6g"):
    """A frame as a table, or a sentence where it has no rows: bare headings look like a fault."""
    return frame.to_html(index=False, border=0, na_rep="-", float_format=digits) if len(frame) else "<p>No run to show.</p>"


def build(study, published=""):
    """Write reports/<profile>/notebooks/*.html and, last, index.html. Raises FileNotFoundError for a missing result.

    `published`: of a published study, which has no notebooks and PDFs, how it was run, in a sentence.
    """
    folder, config = study.report / "tables", study.config
    results, fillings = pd.read_csv(folder / "results.csv", dtype=collect.TYPES), pd.read_csv(folder / "baselines.csv")
    figures = files.read_json(study.report / "figures" / "captions.json")
    if figures is None:
        raise FileNotFoundError(f"the figures of profile {study.profile} are not drawn: ./run_all.sh {study.profile}")
    pages = notebooks(study)
    for k, (title, path, page, about) in enumerate(pages):
        beside = [(label, pages[n][:3:2]) for label, n in (("previous", k - 1), ("next", k + 1)) if 0 <= n < len(pages)]
        convert(path, study.report / "notebooks" / page, title, about, beside)
    made = {page for _, _, page, _ in pages}
    results_of = collect.of_runs(study)
    manifests = {d: files.read_json(study.data_folder(d) / "manifest.json") for d in config.datasets}
    first = {(r.dataset, r.architecture, r.setup): page_of(r) for r in reversed(study.runs())}

    def link(text, dataset, architecture, setup):
        page = first[dataset, architecture, setup] if setup else "metrics.html"
        return f'<a href="notebooks/{page}">{text}</a>' if page in made else text

    def as_html(controls):
        shown = tables.formatted(study, results, fillings, controls, lambda t: f"<b>{t}</b>", link, html.escape)
        for text in shown.values():  # baselines apart
            of = ["setup" if row in setups.SETUPS else tables.NO_TRAINING for row in text.index]
            text.index = pd.MultiIndex.from_arrays([of, text.index], names=[None, None])
        return {key: text.to_html(escape=False, classes="results", border=0) for key, text in shown.items()}

    runs, outcomes = pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / "outcomes.csv")
    table_of_verdicts = pd.read_csv(folder / "hypotheses.csv", dtype={"hypothesis": str})
    costs, parts = cost(study, results_of)
    last = tables.stability(study).query("stage == stage.max()").drop(columns="stage")
    matrix = tables.generalisation(study, results, fillings)
    _render(
        study.report / "index.html",
        "report",
        study=study,
        published=published,
        notes=notes.caveats(study),
        standing=standing.summary(runs),
        standings=_html(tables.standings(runs)),
        outcomes=_html(outcomes, "%.3g") if outcomes.diverged.any() else "",
        averaging=_html(pd.read_csv(folder / "averaging.csv"), "%.4f"),
        elsewhere=_html(pd.read_csv(folder / "generalisation_fid.csv"), "%.4g"),
        plan=stats.registered(),
        verdicts=verdicts(table_of_verdicts),
        bootstrap=_html(pd.read_csv(folder / "bootstrap.csv"), "%.4g"),
        hypotheses_hash=stats.digest(),
        tables=as_html(False),
        controls=as_html(True) if set(config.setups) & set(setups.CONTROLS) else {},
        generalisation=matrix.round(4).to_html(border=0, na_rep="-"),
        stability=_html(last, "%.3g"),
        exposure=_html(tables.exposure(study)),
        footnote=notes.footnote(study),
        figures=figures,
        choices=choices(config),
        deviations=deviations(config, manifests, "fid" in set(results.metric)),
        trend=trend.sentences(study),
        family=max(stats.registered().primaries, sum(table_of_verdicts.hypothesis.str.startswith("primary"))),
        pages=[(title, page) for title, _, page, _ in pages],
        runs=results_of,
        manifests=manifests,
        provenance=provenance.current(),
        config_hash=files.text_sha256(json.dumps(configuration.to_dict(config), sort_keys=True)),
        cost=_html(costs, "%.3g"),
        parts=parts,
    )
    return study.report / "index.html"


if __name__ == "__main__":
    try:
        build(grid.open_study(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["parameters"]["grid"]))
    except OSError as error:
        sys.exit(f"  FAILED  report: {error}")
