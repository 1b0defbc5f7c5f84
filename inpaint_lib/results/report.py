"""Build the HTML report: one index and a page per executed notebook. No page loads from outside."""

import html
import json
from pathlib import Path

import jinja2
import nbconvert
import nbformat
import pandas as pd
import yaml
from pygments.formatters import HtmlFormatter

from ..study import config as configuration
from ..study import files, provenance
from . import frames, notes, select, standing, stats, tables

TEMPLATES = Path(__file__).parent / "templates"
CHOICES = yaml.safe_load((TEMPLATES / "choices.yaml").read_text("utf-8"))


def save_figures(folder, figures, pdf=True):
    """Write {name: (figure, caption)} as PNG and PDF and, last, captions.json."""
    folder, captions = Path(folder), {}
    kinds = ((".png", 192, {"Software": None}), *[(".pdf", 300, {"CreationDate": None})] * pdf)
    for name, (figure, caption) in figures.items():
        for suffix, dpi, metadata in kinds:
            with files.replacing(folder / (name + suffix)) as temporary:
                figure.savefig(temporary, dpi=dpi, format=suffix[1:], metadata=metadata)
        width, height = (round(96 * inches) for inches in figure.get_size_inches())  # CSS pixels
        captions[name] = {"caption": caption, "width": width, "height": height}
    files.write_json(folder / "captions.json", captions)


def choices(results):
    """Return the choices that the paper leaves open as (what, value) pairs."""
    config = results.about["config"]
    curriculum, training, schedule = config["curriculum"], config["training"], results.schedule
    budget = f"{curriculum['total_images']:,} images = {schedule.steps:,} steps of "
    budget += f"{curriculum['batch_size']}; K = {schedule.steps_per_stage:,}"
    rows = {
        "image size": f"{config['data']['image_size']} px",
        "hole widths, one stage each": f"{', '.join(map(str, results.widths))} px",
        "budget": budget,
        "perceptual loss": f"VGG-16, weights: {Path(training['perceptual_weights']).name}",
        "precision": training["precision"],
    }
    for name in config["grid"]["architectures"]:
        m = config["models"][name]
        parts = [_join(m["widths"]), f"holes: {m['mask_family']}"]
        parts.append(f"Adam {m['lr_g']:g} (G), {m['lr_d']:g} (D), betas {m['betas']}")
        parts.append(f"loss weights: {_join(m['loss_weights'] | m['loss_options'])}")
        rows[name] = "; ".join(parts)
    return [*rows.items(), *CHOICES.items()]


def deviations(results):
    """Return what differs from the profile `paper`, which has the paper's data and sizes, as
    (what, paper, here)."""
    paper, here = configuration.to_dict(configuration.load("paper")), results.about["config"]
    found = []
    for name, data in results.about["data"].items():
        counts = "{train:,} training and {test:,} test images".format(**data["images"])
        if name not in paper["grid"]["datasets"]:
            found.append((f"data set {name}", data["stands_in_for"] or "-", data["about"]))
        found.append((f"images of {name}", "up to 200,000 and 10,000", counts))
    known = [name for name in paper["models"] if name in here["grid"]["architectures"]]
    pair = [{section: config[section] for section in frames.SCIENCE} for config in (paper, here)]
    for config in pair:
        config["models"] = {name: config["models"][name] for name in known}
    differ = provenance.differences(*pair)
    return found + [(key, _plain(one), _plain(other)) for key, one, other in differ]


def _plain(value):
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _join(pairs):
    return ", ".join(f"{key} {value}" for key, value in pairs.items())


def identity(results, name, pages=()):
    """Return what a run's numbers come from, for its page; None for a run that is not there."""
    if name not in (names := frames.names_of(results.runs)):
        return None
    run, config = results.runs.iloc[names.index(name)], results.about["config"]
    data = results.about["data"][run.dataset]
    family = f"{results.family(run.architecture)}_{results.widths[-1]}"
    rows = {
        "outcome": f"{run.outcome} {run.why}".strip(),
        "protocol": run.protocol,
        "commit": run.commit,
        "data (SHA-256)": _join({part: sha[:16] for part, sha in data["identity"].items()}),
        "largest hole": f"{family}, covers {data['masks'][family]:.3f} of the image on average",
        "device": f"{run.device}, {run.precision}, torch {run.torch}, {run.system}",
        "time of training": f"{run.seconds:.0f} s",
    }
    settings = {key: config[key] for key in ("data", "curriculum", "training")}
    settings["model"] = config["models"][run.architecture]
    cell, seeds = name.rsplit("/", 1)[0] + "/seed", []
    for _, _, page, own in pages:
        if own and own.startswith(cell):
            seeds.append((f"seed {own.removeprefix(cell)}", page))
    settings = json.dumps(settings, indent=1)
    return {"run": name, "rows": list(rows.items()), "seeds": seeds, "settings": settings}


def convert(notebook, page, title, about=None, neighbours=()):
    """Write an executed notebook as a self-contained HTML page.

    about: as `identity` returns it. neighbours: (label, title, page) of pages to link to."""
    node = nbformat.read(notebook, as_version=4)
    node.metadata.pop("widgets", None)
    section = title
    for cell in node.cells:
        if cell.cell_type != "code":
            headings = [line.strip("# ") for line in cell.source.splitlines() if line[:1] == "#"]
            section = (headings or [section])[-1]
            continue
        widget = "application/vnd.jupyter.widget-view+json"  # needs a kernel: its figure stays
        cell.outputs = [o for o in cell.outputs if widget not in o.get("data", {})]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.metadata["image/png"] = {"alt": f"figure: {section}"}
    exporter = nbconvert.HTMLExporter(template_name="basic", embed_images=True)
    shown = {"title": title, "about": about, "neighbours": neighbours}
    for name, style in (("light", "default"), ("dark", "github-dark")):
        shown[name] = HtmlFormatter(style=style).get_style_defs(".highlight")
    _render(page, "page", body=exporter.from_notebook_node(node)[0], **shown)


def _render(page, template, **values):
    look = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), **look)
    text = environment.get_template(f"{template}.html.j2").render(**values)
    with files.replacing(page) as temporary:
        temporary.write_text(text, encoding="utf-8")


def verdicts(table):
    """Return the verdicts as HTML: {"primary", "secondary"}; "" where there are none."""
    shown = notes.in_words(table).map(lambda value: html.escape(str(value)))
    shown["verdict"] = [f'<b class="{text.split()[-1]}">{text}</b>' for text in shown.verdict]
    if not shown.remark.any():
        shown = shown.drop(columns="remark")
    primary = shown.index.isin(stats.primary(table).index)
    parts = {
        "primary": shown[primary].drop(columns=["hypothesis", "metric"]),
        "secondary": shown[~primary],
    }
    look = {"index": False, "border": 0, "classes": "verdicts", "escape": False}
    return {name: part.to_html(**look) if len(part) else "" for name, part in parts.items()}


def _html(frame, digits="%.4g", index=False):
    if frame.empty:
        return "<p>No run to show.</p>"
    return frame.to_html(index=index, border=0, na_rep="-", float_format=digits)


def cost(results):
    """Return what training cost: a row per architecture and kind of device."""
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


def _tables(results, made, controls=False):
    """Return {(dataset, architecture): HTML} of the paper-style tables; numbers link to pages."""
    first = {own.rsplit("/", 1)[0]: page for page, own in reversed(made.items()) if own}
    look = {"escape": False, "classes": "results", "border": 0}
    found = {}
    for cell, text in tables.formatted(results, controls, "<b>{}</b>".format).items():
        for row in text.index:
            page = first.get("/".join((*cell, row)), "metrics.html")
            if page in made:
                text.loc[row] = [
                    f'<a href="notebooks/{page}">{shown}</a>' for shown in text.loc[row]
                ]
        found[cell] = text.rename(html.escape).rename_axis(index=None).to_html(**look)
    return found


def build(results, folder, pages=()):
    """Write folder/notebooks/*.html and, last, folder/index.html from results and saved figures.

    pages: (title, executed notebook, page name, run name or None). Raises FileNotFoundError
    without folder/figures/captions.json."""
    folder, about = Path(folder), results.about
    captions = folder / "figures" / "captions.json"
    if (figures := files.read_json(captions)) is None:
        command = f"./run_all.sh {about['profile']}"
        raise FileNotFoundError(f"no {captions}: draw the figures with {command}")
    for k, (title, path, page, run) in enumerate(pages):
        beside = [("previous", k - 1), ("next", k + 1)]
        beside = [(text, pages[n][0], pages[n][2]) for text, n in beside if 0 <= n < len(pages)]
        own = identity(results, run, pages) if run else None
        convert(path, folder / "notebooks" / page, title, own, beside)
    made = {page: run for _, _, page, run in pages}
    runs, judged = standing.of_runs(results), stats.judge(results)
    has_controls = any(map(select.is_control, runs.setup))
    _render(
        folder / "index.html",
        "index",
        about=about,
        config=about["config"],
        captions=figures,
        pdfs={path.stem for path in (folder / "figures").glob("*.pdf")},
        files={path.name for path in (folder / "tables").glob("*")},
        caveats=notes.caveats(results),
        standing=standing.summary(runs),
        standings=_html(tables.standings(runs)),
        verdicts=verdicts(judged),
        plan=stats.registered(),
        tables=_tables(results, made),
        controls=_tables(results, made, controls=True) if has_controls else {},
        footnote=notes.footnote(results),
        bootstrap=_html(tables.bootstrap(results)),
        generalisation=_html(tables.generalisation(results), index=True),
        elsewhere=_html(tables.generalisation(results, "fid", "whole_composite"), index=True),
        averaging=_html(tables.averaging(results)),
        exposure=_html(tables.exposure(results)),
        stability=_html(tables.stability(results).query("stage == stage.max()"), "%.3g"),
        outcomes=_html(stats.outcomes(results), "%.3g") if runs.diverged.any() else "",
        cost=_html(cost(results), "%.3g"),
        deviations=deviations(results),
        choices=choices(results),
        pages=pages,
        runs=results.runs.assign(name=frames.names_of(results.runs)).to_dict("records"),
        provenance=provenance.current(),
    )
    return folder / "index.html"
