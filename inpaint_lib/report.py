"""The HTML report: one index and a page per executed notebook. No page loads anything from outside."""

import json
import re
import sys
from pathlib import Path

import jinja2
import pandas as pd

from . import config as configuration
from . import runs, setups, sources, tables

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
    ("evaluation", "frozen masks of the training family, every width after every stage; hole and composite; float32"),
    ("statistics", "the unit is the training seed; fewer than three seeds: no verdict"),
]
TEMPLATE = Path(__file__).with_name("report.html.j2")


def save_figures(study, figures):
    """Write figures/<name>.png for `{name: (figure, caption)}` and, last, captions.json, from which the index is built."""
    folder, captions = study.report / "figures", {}
    for name, (figure, caption) in figures.items():
        with runs.replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=140, metadata={"Software": None})
        captions[name] = caption
    runs.write_json(folder / "captions.json", captions)


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


def convert(notebook, page, home):
    """An executed notebook as a self-contained HTML page with a link back to `home`."""
    import nbconvert  # here, because it takes seconds that a notebook need not spend
    import nbformat
    from traitlets.config import Config

    c = Config()
    for name in (
        "mathjax_url",
        "require_js_url",
        "jquery_url",
        "mermaid_js_url",
        "widget_renderer_url",
        "jupyter_widgets_base_url",
    ):
        setattr(c.HTMLExporter, name, "")
    c.HTMLExporter.embed_images = True
    node = nbformat.read(notebook, as_version=4)
    node.metadata.pop("widgets", None)
    for cell in node.cells:  # a widget needs a kernel; the static figure beside it stays
        cell["outputs"] = [
            o for o in cell.get("outputs", []) if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
        ]
        if cell.cell_type != "code":
            del cell["outputs"]
    html, _ = nbconvert.HTMLExporter(config=c).from_notebook_node(node, resources={"metadata": {"name": page.stem}})
    html = re.sub(r'<script type="module">(?:(?!</script>).)*mermaid(?:(?!</script>).)*</script>', "", html, flags=re.S)
    html = re.sub(r'<script src=""></script>', "", html)
    back = f'<p style="margin:1em 2em"><a href="{home}">&larr; back to the report</a></p>'
    html = re.sub(r"(<body[^>]*>)", lambda m: m.group(1) + back, html, count=1)
    with runs.replacing(page) as temporary:
        temporary.write_text(html)


def notebooks(study):
    """The executed notebooks as (title, path, page name)."""
    found = [(f"Data: {d}", study.data_folder(d) / "notebook.ipynb", f"data_{d}.html") for d in study.config.datasets]
    found += [(f"Training: {r.name}", r.folder / "notebook.ipynb", f"{r.name.replace('/', '_')}.html") for r in study.runs()]
    found += [
        ("Metrics", study.folder / "metrics.ipynb", "metrics.html"),
        ("Figures", study.folder / "figures.ipynb", "figures.html"),
    ]
    return [item for item in found if item[1].is_file()]


def build(study):
    """Write reports/<profile>/notebooks/*.html and, last, index.html. Raises FileNotFoundError for a missing result."""
    results = pd.read_csv(study.report / "tables" / "results.csv")
    means, deviations = tables.paper_style(results)
    table = tables.formatted(means, deviations, lambda t: f"<b>{t}</b>")
    table.columns.name, table.index.names = None, ["data set", "architecture", "setup"]
    control = None
    if set(study.config.setups) & set(setups.CONTROLS):
        control = tables.formatted(*tables.paper_style(results, controls=True)).to_html(classes="results", border=0)
    last = tables.stability(study).query("stage == stage.max()").drop(columns="stage")
    pages = notebooks(study)
    for _, path, page in pages:
        convert(path, study.report / "notebooks" / page, "../index.html")
    results_of = {run.name: runs.read_json(run.folder / "result.json") for run in study.runs()}
    manifests = {d: runs.read_json(study.data_folder(d) / "manifest.json") for d in study.config.datasets}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(TEMPLATE.read_text()).render(
        study=study,
        notes=tables.notes(study),
        table=table.to_html(escape=False, classes="results", border=0),
        control=control,
        stability=last.to_html(index=False, border=0, float_format="%.3g"),
        exposure=tables.exposure(study).to_html(index=False, border=0),
        footnote=tables.footnote(study, tables.stages(study)),
        figures=runs.read_json(study.report / "figures" / "captions.json"),
        choices=choices(study.config),
        pages=[(title, page) for title, _, page in pages],
        runs=results_of,
        manifests=manifests,
        provenance=runs.provenance(),
        config_hash=runs.text_sha256(json.dumps(configuration.to_dict(study.config), sort_keys=True)),
        seconds=sum(r["seconds"] for r in results_of.values()),
    )
    with runs.replacing(study.report / "index.html") as temporary:
        temporary.write_text(html)
    return study.report / "index.html"


if __name__ == "__main__":
    build(runs.open_study(**json.loads(Path(sys.argv[1]).read_text())["parameters"]["grid"]))
