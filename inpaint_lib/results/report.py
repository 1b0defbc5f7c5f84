"""Build the pages of a study from its Results and saved figures; no page loads from outside.

index.html          the answer, a tab per data set and architecture, the explorer, all runs
runs/ images/       a page per run, and per recorded test image
notebooks/          a page per executed notebook
assets/ data/ sheets/
                    style and scripts; what they show (bundle.py)
"""

import json
import shlex
from pathlib import Path

import yaml
from PIL import Image

from ..study import config as configuration
from ..study import files, provenance
from . import (
    advice,
    bundle,
    executed,
    explored,
    findings,
    frames,
    glossary,
    health,
    layout,
    notes,
    select,
    standing,
    stats,
    summary,
    tables,
    verdicts,
)

CHOICES = yaml.safe_load((notes.TEMPLATES / "choices.yaml").read_text("utf-8"))
TALL = 9  # inches: a figure that is on the page only where there is no JavaScript
COLOURS = 192  # of a saved figure: a third of the bytes, and no difference to the eye


def save_figures(folder, figures, pdf=True):
    """Write {name: (figure, caption)} as PNG and PDF and, last, captions.json."""
    folder, captions = Path(folder), {}
    for name, (figure, caption) in figures.items():
        with files.replacing(folder / f"{name}.png") as temporary:
            dpi = 192 if figure.get_figheight() < TALL else 120
            figure.savefig(temporary, dpi=dpi, format="png", metadata={"Software": None})
            with Image.open(temporary) as image:
                few = executed.with_few_colours(image, COLOURS)
            few.save(temporary, "PNG", optimize=True)
        if pdf:
            with files.replacing(folder / f"{name}.pdf") as temporary:
                figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
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


def command(results, run):
    """Return the command that trains a run again, with the settings its profile does not have."""
    about, more = results.about, []
    try:
        there = configuration.to_dict(configuration.load(about["profile"]))
        pair = [{key: config[key] for key in frames.SCIENCE} for config in (there, about["config"])]
        for key, _, here in provenance.differences(*pair):
            if not key.startswith("models.") or key.split(".")[1] == run["architecture"]:
                more.append(f"--set {key}={json.dumps(here, separators=(',', ':'))}")
    except (ValueError, OSError):  # a profile that is not here
        pass
    if about.get("initial_weights"):
        more.append(f"--from {shlex.quote(about['config']['initial_weights'])}")
    grid = "--datasets {dataset} --architectures {architecture} --setups {setup} --seeds {seed}"
    return " ".join([f"./run_all.sh {about['profile']}", grid.format(**run), *more])


def build(results, folder, notebooks=()):
    """Write the pages into a folder that has figures/; index.html is the last file.

    notebooks: (title, executed notebook, page name, run name or None). Raises FileNotFoundError
    without folder/figures/captions.json."""
    folder = Path(folder)
    path = folder / "figures" / "captions.json"
    if (captions := files.read_json(path)) is None:
        told = f"draw the figures with ./run_all.sh {results.about['profile']}"
        raise FileNotFoundError(f"no {path}: {told}")
    there = {path.stem for path in (folder / "figures").glob("*.png")}
    captions = {name: of for name, of in captions.items() if name in there}
    for name, text in layout.assets().items():
        files.write_text(folder / "assets" / name, text)
    saved = explored.Saved(results)
    columns = bundle.write(saved, folder)
    runs = layout.run_list(results, standing.of_runs(results))
    _notebook_pages(folder, notebooks)
    _run_pages(folder, saved, runs, columns, {run: page for _, _, page, run in notebooks if run})
    _image_pages(folder, results, runs, columns)
    text = layout.render(
        "index.html",
        root="",
        **_index(results, folder, runs, columns),
        captions=captions,
        notebooks=notebooks,
    )
    files.write_text(folder / "index.html", text)
    return folder / "index.html"


def _notebook_pages(folder, notebooks):
    for k, (title, path, page, run) in enumerate(notebooks):
        beside = [("previous", k - 1), ("next", k + 1)]
        beside = [
            (label, notebooks[n][0], notebooks[n][2])
            for label, n in beside
            if 0 <= n < len(notebooks)
        ]
        own = run and f"../{layout.page_of(run)}"
        executed.convert(path, folder / "notebooks" / page, title, beside, own)


def _run_pages(folder, saved, runs, columns, pages):
    """Write a page per run: its health, history, fills, settings and how to train it again."""
    results, about = saved.results, saved.results.about
    made = dict(zip(frames.names_of(results.runs), results.runs.to_dict("records"), strict=True))
    findings = health.of_results(results)
    groups = dict(tuple(findings.groupby(frames.RUN, sort=False)))
    histories = dict(tuple(results.history.groupby(frames.RUN, sort=False)))
    for k, run in enumerate(runs):
        key, config = tuple(run[part] for part in frames.RUN), about["config"]
        settings = {part: config[part] for part in ("data", "curriculum", "training")}
        settings["model"] = config["models"][run["architecture"]]
        history = histories.get(key)
        of_cell = run["name"].rsplit("/", 1)[0]
        text = layout.render(
            "run.html",
            root="../",
            about=about,
            run=run,
            made=made[run["name"]],
            data=about["data"][run["dataset"]]["identity"],
            settings=json.dumps(settings, indent=1),
            command=command(results, run),
            rules=_rules(groups[key], len(results.widths)),
            wrong=health.wrong(groups[key]).to_dict("records"),
            curves=[] if history is None else layout.curves(history, results.schedule),
            stages=len(results.widths),
            columns=columns.get(run["name"]),
            recorded=about["recorded"][run["dataset"]],
            notebook=pages.get(run["name"]),
            seeds=[one for one in runs if one["name"].rsplit("/", 1)[0] == of_cell],
            before=runs[k - 1] if k else None,
            after=runs[k + 1] if k + 1 < len(runs) else None,
        )
        files.write_text(folder / run["page"], text)


def _rules(findings, n_stages):
    """Return a run's findings as [(title, [finding or None of every stage])]."""
    found = {}
    for row in findings.to_dict("records"):
        found.setdefault(row["title"], [None] * n_stages)[row["stage"] - 1] = row
    return list(found.items())


def _image_pages(folder, results, runs, columns):
    """Write a page per recorded test image: what every run of the first seed made of it."""
    l1 = results.per_image.set_index([*frames.RUN, "mask_width", "image"]).l1
    images = _images(results)
    for k, (dataset, image, place) in enumerate(images):
        of = [run for run in runs if run["dataset"] == dataset and run["name"] in columns]
        cells = {}
        for run in of:
            key = (*(run[part] for part in frames.RUN), results.widths[-1], image)
            cells.setdefault(run["architecture"], []).append(run | {"l1": l1.get(key)})
        text = layout.render(
            "image.html",
            root="../",
            about=results.about,
            dataset=dataset,
            image=image,
            place=place,
            recorded=results.about["recorded"][dataset],
            cells=cells,
            columns=columns,
            width=results.widths[-1],
            images=images,
            before=images[k - 1] if k else None,
            after=images[k + 1] if k + 1 < len(images) else None,
        )
        files.write_text(folder / "images" / f"{dataset}_{image}.html", text)


def _images(results):
    """Return (data set, test image, its place among the recorded ones) of all with fills."""
    return [
        (dataset, image, place)
        for dataset, recorded in results.about["recorded"].items()
        if f"{dataset}/truth" in results.fills
        for place, image in enumerate(recorded)
    ]


def _index(results, folder, runs, columns):
    """Return what index.html shows."""
    judged, about = stats.judge(results), results.about
    of_runs = standing.of_runs(results)
    cards = verdicts.cards(results)
    estimates = judged[judged.question == ""]
    cell = summary.opening_cell(results, of_runs)
    return {
        "about": about,
        "config": about["config"],
        "schedule": results.schedule,
        "pdfs": {path.stem for path in (folder / "figures").glob("*.pdf")},
        "files": {path.name for path in (folder / "tables").glob("*")},
        "cards": cards,
        "reach": verdicts.reach(cards),
        "estimated": findings.estimated(results),
        "standing": standing.summary(of_runs),
        "certainty": verdicts.certainty(results, cards),
        "caveats": notes.caveats(results),
        "advice": advice.advise(results, advice.OWN),
        "footnote": notes.footnote(results),
        "opening": layout.opening(results, cell, columns),
        "runs": runs,
        "failed": [run for run in runs if run["diverged"]],
        "cells": [_cell(results, runs, estimates, of) for of in select.cells(results.runs)],
        "images": _images(results),
        "columns": columns,
        "shown": {
            "questions": layout.table(notes.in_words(stats.primary(judged))),
            "standings": layout.table(tables.standings(of_runs)),
            "exposure": layout.table(tables.exposure(results)),
            "cost": layout.table(tables.cost(results)),
        },
        "deviations": deviations(results),
        "choices": choices(results),
        "provenance": provenance.current(),
        "groups": glossary.terms(),
    }


def _cell(results, runs, estimates, cell):
    """Return what the tab of a data set and architecture shows."""

    def own(frame):
        frame = frame.reset_index() if any(frame.index.names) else frame
        foreign = frame.setup.str.endswith(frames.EXTERNAL)  # of no architecture: in every tab
        foreign &= frame.architecture == tables.NO_TRAINING
        frame = frame.assign(architecture=frame.architecture.mask(foreign, cell[1]))
        return layout.table(select.of_cell(frame, *cell).drop(columns=frames.CELL))

    parts = {
        "areas": tables.areas(results),
        "generalisation": tables.generalisation(results),
        "elsewhere": tables.generalisation(results, "fid", "whole_composite"),
        "gates": standing.gates(results),
        "games": tables.games(results),
    }
    found = {name: own(frame) for name, frame in parts.items() if len(frame)}
    numbers = select.of_cell(estimates, *cell)
    words = notes.in_words(numbers).drop(columns=["word", "data", "architecture"])
    found["estimates"] = layout.table(words)
    return {
        "dataset": cell[0],
        "architecture": cell[1],
        "place": layout.place_of(*cell),
        "table": layout.paper_table(results, cell),
        "shown": {name: table for name, table in found.items() if table["rows"]},
        "runs": [run for run in runs if (run["dataset"], run["architecture"]) == cell],
    }
