"""Build the pages of a study from its Results and saved figures; they load nothing from a network.

index.html          the answer, a tab per data set and architecture, the explorer, all runs
runs/ images/       a page per run, and per recorded test image
notebooks/          a page per executed notebook
assets/ data/ sheets/
                    style and scripts; the data they show (bundle.py)
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
TALL = 9  # inches: a figure that only pages without JavaScript show
COLOURS = 192  # of a saved figure: a third of the bytes, without a visible difference


def save_figures(folder, figures, pdf=True):
    """Write {name: (figure, caption)} as PNG and PDF and, last, captions.json."""
    folder, captions = Path(folder), {}
    for name, (figure, caption) in figures.items():
        with files.replace(folder / f"{name}.png") as temporary:
            dpi = 192 if figure.get_figheight() < TALL else 120
            figure.savefig(temporary, dpi=dpi, format="png", metadata={"Software": None})
            with Image.open(temporary) as image:
                few = executed.reduce_colours(image, COLOURS)
            few.save(temporary, "PNG", optimize=True)
        if pdf:
            with files.replace(folder / f"{name}.pdf") as temporary:
                figure.savefig(temporary, format="pdf", metadata={"CreationDate": None})
        width, height = (round(96 * inches) for inches in figure.get_size_inches())  # CSS pixels
        captions[name] = {"caption": caption, "width": width, "height": height}
    files.write_json(folder / "captions.json", captions)


def list_choices(results):
    """Return (what, value) of the choices that the paper leaves open: configuration, then code."""
    rows = provenance.flatten({key: results.about["config"][key] for key in frames.SCIENCE})
    return [*((key, _plain(value)) for key, value in rows.items()), *CHOICES.items()]


def list_deviations(results):
    """Return (what, paper, here) of the settings that differ from those of the profile `paper`."""
    config = results.about["config"]
    kept = ("data.", "curriculum.", "training.", "grid.datasets", "evaluation.fid_stages")
    kept += tuple(f"models.{name}." for name in config["grid"]["architectures"])
    found = provenance.find_differences(configuration.to_dict(configuration.load("paper")), config)
    return [(key, _plain(one), _plain(here)) for key, one, here in found if key.startswith(kept)]


def _plain(value):
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


@select.compute_once
def _find_overrides(results):
    """Return [(key, the profile's value, the study's)]; [] if the profile is not here."""
    try:
        there = configuration.to_dict(configuration.load(_profile(results.about)))
    except (ValueError, OSError):
        return []
    return provenance.find_differences(there, results.about["config"])


def _profile(about):
    """Return the profile as a command names it: its name, or the path of its file."""
    return about.get("source", about["profile"])


def make_command(results, run):
    """Return the command that trains a run again, with its settings unlike its profile's."""
    about, more = results.about, []
    kept = tuple(f"{name}." for name in frames.SCIENCE if name != "models")
    kept += (f"models.{run['architecture']}.",)
    for key, _, here in _find_overrides(results):
        if key.startswith(kept):
            given = f"{key}={json.dumps(here, separators=(',', ':'))}"
            more.append(f"--set {shlex.quote(given)}")
    places = {"--data-root": "data_root", "--masks": "masks"}
    paths = {option: about["config"]["machine"].get(key) for option, key in places.items()}
    paths["--from"] = about["config"].get("initial_weights")
    more += [f"{option} {shlex.quote(path)}" for option, path in paths.items() if path]
    grid = "--datasets {dataset} --architectures {architecture} --setups {setup} --seeds {seed}"
    return " ".join([f"./run_all.sh {shlex.quote(_profile(about))}", grid.format(**run), *more])


def build(results, folder, notebooks=(), recordings=None):
    """Write the pages into a folder that has figures/; return the path of index.html.

    notebooks: tuples (title, executed notebook, page name, run name or None); recordings: {run
    name: its recording.npz}. Raises FileNotFoundError without figures/captions.json."""
    folder = Path(folder)
    path = folder / "figures" / "captions.json"
    if (captions := files.read_json(path)) is None:
        remedy = f"draw the figures with ./run_all.sh {_profile(results.about)}"
        raise FileNotFoundError(f"{path} is missing: {remedy}")
    there = {path.stem for path in (folder / "figures").glob("*.png")}
    for name, text in layout.read_assets().items():
        files.write_text(folder / "assets" / name, text)
    saved, of_runs = explored.Saved(results), standing.judge_runs(results)
    shared = {
        "about": results.about,
        "config": results.about["config"],
        "widths": results.widths,
        "runs": layout.describe_runs(saved, of_runs),
        "columns": bundle.write(saved, folder, recordings or {}),
        "images": [
            (dataset, image, place)
            for dataset, recorded in results.about["recorded"].items()
            if f"{dataset}/truth" in results.fills
            for place, image in enumerate(recorded)
        ],
        "captions": {name: of for name, of in captions.items() if name in there},
        "notebooks": notebooks,
    }
    for (title, path, page, run), *beside in layout.add_neighbours(notebooks):
        own = run and f"../{layout.name_page(run)}"
        executed.convert(path, folder / "notebooks" / page, title, beside, own)
    _run_pages(saved, folder, shared)
    _image_pages(results, folder, shared)
    shown = _index(results, folder, of_runs, shared)
    files.write_text(folder / "index.html", layout.render_page("index.html", "", **shared, **shown))
    return folder / "index.html"


def _run_pages(saved, folder, shared):
    """Write a page per run: its health, history, fills, settings and how to train it again."""
    results, config = saved.results, shared["config"]
    pages = {run: page for _, _, page, run in shared["notebooks"]}
    for run, before, after in layout.add_neighbours(shared["runs"]):
        settings = {part: config[part] for part in ("data", "curriculum", "training")}
        settings["model"] = config["models"][run["architecture"]]
        found = saved.health(run["name"])
        rules = {}
        for row in found.to_dict("records"):
            rules.setdefault(row["title"], {})[row["stage"]] = row
        text = layout.render_page(
            "run.html",
            "../",
            **shared,
            run=run,
            settings=json.dumps(settings, indent=1),
            command=make_command(results, run),
            rules=rules,
            wrong=health.list_faults(found).to_dict("records"),
            curves=layout.trace_curves(saved.history(run["name"]), results.schedule),
            notebook=pages.get(run["name"]),
            before=before,
            after=after,
        )
        files.write_text(folder / run["page"], text)


def _image_pages(results, folder, shared):
    """Write a page per recorded test image: the fills of every run of the first seed."""
    largest = select.get_image_errors(results, "l1", mask_width=results.widths[-1])
    for (dataset, image, place), before, after in layout.add_neighbours(shared["images"]):
        cells = {}
        for run in shared["runs"]:
            if run["dataset"] == dataset and run["name"] in shared["columns"]:
                l1 = largest.at[tuple(run[part] for part in frames.RUN), image]
                cells.setdefault(run["architecture"], []).append(run | {"l1": l1})
        text = layout.render_page(
            "image.html",
            "../",
            **shared,
            dataset=dataset,
            image=image,
            place=place,
            cells=cells,
            before=before,
            after=after,
        )
        files.write_text(folder / "images" / f"{dataset}_{image}.html", text)


def _index(results, folder, of_runs, shared):
    """Return the values that only index.html shows."""
    judged, cards = stats.judge(results), verdicts.make_cards(results)
    cell = summary.choose_cell(results, of_runs)
    shown = {
        "questions": notes.format_rows(stats.get_questions(judged)),
        "standings": tables.count_standings(of_runs),
        "exposure": tables.count_exposure(results),
        "cost": tables.sum_cost(results),
    }
    return {
        "pdfs": {path.stem for path in (folder / "figures").glob("*.pdf")},
        "files": {path.name for path in (folder / "tables").glob("*")},
        "cards": cards,
        "reach": verdicts.find_reach(cards),
        "estimated": findings.describe_estimates(results),
        "standing": standing.summarise(of_runs),
        "supported": notes.count_supported(judged),
        "certainty": verdicts.describe_certainty(results, cards),
        "caveats": notes.list_caveats(results),
        "advice": advice.advise(results, advice.OWN),
        "footnote": notes.render_footnote(results),
        "opening": layout.choose_opening(results, cell, shared["columns"]),
        "failed": [run for run in shared["runs"] if run["diverged"]],
        "cells": [
            _cell(results, shared["runs"], judged[judged.question == ""], of)
            for of in select.list_cells(results.runs)
        ],
        "shown": {name: layout.prepare_table(frame) for name, frame in shown.items()},
        "deviations": list_deviations(results),
        "choices": list_choices(results),
        "provenance": provenance.describe_environment(),
        "groups": glossary.list_terms(),
    }


def _cell(results, runs, estimates, cell):
    """Return the values of the tab of a data set and architecture."""
    parts = {
        "areas": tables.tabulate_areas(results),
        "generalisation": tables.make_generalisation(results),
        "elsewhere": tables.make_generalisation(results, "fid", "whole_composite"),
        "gates": standing.judge_gates(results),
        "games": tables.count_games(results),
        "estimates": notes.format_rows(estimates).rename(columns={"data": "dataset"}),
    }
    shown = {}
    for name, frame in parts.items():
        frame = frame.reset_index() if any(frame.index.names) else frame
        if "setup" in frame:  # other methods' outputs have no architecture: every tab shows them
            foreign = frame.setup.str.endswith(frames.EXTERNAL)
            foreign &= frame.architecture == tables.NO_TRAINING
            frame = frame.assign(architecture=frame.architecture.mask(foreign, cell[1]))
        own = select.get_cell(frame, *cell) if len(frame) else frame
        if len(own):
            shown[name] = layout.prepare_table(own.drop(columns=frames.CELL))
    return {
        "dataset": cell[0],
        "architecture": cell[1],
        "place": f"{cell[0]}-{cell[1]}",
        "table": layout.prepare_paper_table(results, cell),
        "shown": shown,
        "runs": [run for run in runs if (run["dataset"], run["architecture"]) == cell],
    }
