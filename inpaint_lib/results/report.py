"""Build the HTML report: one index and a page per executed notebook. No page loads from outside."""

import html
import json
from pathlib import Path

import nbconvert
import nbformat
import yaml
from pygments.formatters import HtmlFormatter

from ..study import config as configuration
from ..study import files, provenance
from . import findings, frames, notes, select, standing, stats, summary, tables

CHOICES = yaml.safe_load((notes.TEMPLATES / "choices.yaml").read_text("utf-8"))


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
    """Return the choices that the paper leaves open as (what, value) pairs: the configuration's,
    then the code's."""
    config = results.about["config"]
    shown = {key: config[key] for key in frames.SCIENCE}
    rows = {key: _plain(value) for key, value in provenance.flat(shown).items()}
    return [*rows.items(), *CHOICES.items()]


def deviations(results):
    """Return what differs from the profile `paper`, the paper's study, as (what, paper, here)."""
    pair, names = [], results.about["config"]["grid"]["architectures"]
    for config in (configuration.to_dict(configuration.load("paper")), results.about["config"]):
        part = {section: config[section] for section in ("data", "curriculum", "training")}
        part["models"] = {name: of for name, of in config["models"].items() if name in names}
        part["grid"] = {"datasets": config["grid"]["datasets"]}
        pair.append(part | {"evaluation": {"fid_stages": config["evaluation"]["fid_stages"]}})
    return [(key, _plain(one), _plain(other)) for key, one, other in provenance.differences(*pair)]


def _plain(value):
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def identity(results, name, pages=()):
    """Return what a run's numbers come from, for its page; None for a run that is not there."""
    if name not in (names := frames.names_of(results.runs)):
        return None
    run, config = results.runs.iloc[names.index(name)], results.about["config"]
    shown = ["outcome", "why", "protocol", "commit", "device", "precision", "torch", "system"]
    data = results.about["data"][run.dataset]["identity"]
    rows = {key: run[key] for key in [*shown, "seconds"]}
    rows |= {f"{part} (SHA-256)": sha for part, sha in data.items()}
    settings = {key: config[key] for key in ("data", "curriculum", "training")}
    settings["model"] = config["models"][run.architecture]
    cell = name.rsplit("/", 1)[0] + "/seed"
    seeds = [(own.removeprefix(cell), page) for *_, page, own in pages if own and cell in own]
    about = {"run": name, "rows": list(rows.items()), "settings": json.dumps(settings, indent=1)}
    return about | {"seeds": seeds}


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
    body = exporter.from_notebook_node(node)[0]
    files.write_text(page, notes.render("page.html", body=body, **shown))


def _html(frame):
    return frame.to_html(index=False, border=0, na_rep="-", float_format="%.4g")


def _tables(results, made, controls=False):
    """Return {(dataset, architecture): HTML} of the paper-style tables; setups link to the page of
    their first run."""
    first = {own.rsplit("/", 1)[0]: page for page, own in reversed(made.items()) if own}
    found = {}
    for cell, text in tables.formatted(results, controls, "<b>{}</b>".format).items():
        links = {name: html.escape(name) for name in text.index}
        for name in links:
            if page := first.get("/".join((*cell, name))):
                links[name] = f'<a href="notebooks/{page}">{links[name]}</a>'
        look = {"escape": False, "classes": "results", "border": 0}
        found[cell] = text.rename(links).rename_axis(index=None).to_html(**look)
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
    shown = {
        "standings": tables.standings(runs),
        "questions": notes.in_words(stats.primary(judged)),
        "estimates": notes.in_words(judged[judged.question == ""]).drop(columns="word"),
        "gates": standing.gates(results),
        "games": tables.games(results),
        "areas": tables.areas(results).reset_index(),
        "generalisation": tables.generalisation(results).reset_index(),
        "elsewhere": tables.generalisation(results, "fid", "whole_composite").reset_index(),
        "exposure": tables.exposure(results),
        "cost": tables.cost(results),
    }
    has_controls = any(map(select.is_control, runs.setup))
    text = notes.render(
        "index.html",
        about=about,
        config=about["config"],
        captions=figures,
        pdfs={path.stem for path in (folder / "figures").glob("*.pdf")},
        files={path.name for path in (folder / "tables").glob("*")},
        caveats=notes.caveats(results),
        standing=standing.summary(runs),
        answers=notes.answers(judged),
        estimated=findings.estimated(results),
        opening=summary.opening(results, runs),
        shown={name: _html(frame) for name, frame in shown.items() if len(frame)},
        tables=_tables(results, made),
        controls=_tables(results, made, controls=True) if has_controls else {},
        footnote=notes.footnote(results),
        deviations=deviations(results),
        choices=choices(results),
        pages=pages,
        runs=results.runs.assign(name=frames.names_of(results.runs)).to_dict("records"),
        provenance=provenance.current(),
    )
    files.write_text(folder / "index.html", text)
    return folder / "index.html"
