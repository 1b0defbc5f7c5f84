"""Prepare the parts of a report's pages: addresses, tables, curves, pictures, templates."""

import math
import re

import numpy as np
import pandas as pd

from . import frames, glossary, health, notes, pictures, plots, script, select, stats, tables

SIGNS = {"bad": "✕", "warn": "!", "ok": "✓", "none": "·"}
NUMBER = re.compile(r"([+-]?\d+\.?\d*)( %)?( to .*)?")  # an effect, an interval's lower end
POINTS = 40  # of a curve on a run's page, at most
notes.ENVIRONMENT.filters["terms"] = glossary.mark_terms
notes.ENVIRONMENT.globals |= {"term": glossary.make_button, "key": glossary.make_key}
notes.ENVIRONMENT.globals["signs"] = SIGNS


def read_assets():
    """Return {name: text} of the style and scripts that all pages share."""
    style = "\n".join([(notes.TEMPLATES / "style.css").read_text("utf-8"), script.STYLE])
    scripts = {"report.js": (script.STATIC / "report.js").read_text("utf-8")}
    return {"report.css": style, "explorer.js": script.make_script()} | scripts


def render_page(template, root, **values):
    """Return a page with the meaning of every term. root: the path to the report's folder."""
    colours = {name: plots.get_style(name)["color"] for name in plots.SETUPS}
    shown = {"known": glossary.explain_terms(), "colours": colours}
    return notes.render(template, root=root, **shown, **values)


def name_page(run):
    """Return the path of a run's page in the report's folder."""
    return f"runs/{run.replace('/', '_')}.html"


def add_neighbours(items):
    """Return (item, the one before or None, the one after or None) for every item."""
    return zip(items, [None, *items[:-1]], [*items[1:], None], strict=False)


# --- tables


def prepare_table(frame, digits=4):
    """Return a frame for the template `table`: {"head", "rows", "setups", "kinds"}.

    head: (group, name, whether text) per column; rows: (text, number to sort by or None, second
    line, whether best) per cell. Columns without values are left out."""
    frame = frame.reset_index() if any(frame.index.names) else frame
    frame = frame.loc[:, ~frame.isin(["", "-"]).all() & frame.notna().any()]
    rows = [[_cell(value, digits) for value in row] for row in frame.itertuples(index=False)]
    setups = list(frame["setup"]) if "setup" in frame else [""] * len(frame)
    head = [("", str(name).replace("_", " ").replace(" l1", " L1")) for name in frame]
    return _assembled(head, rows, setups, [""] * len(rows))


def _assembled(head, rows, setups, kinds):
    words = [all(cell[1] is None for cell in column) for column in zip(*rows, strict=True)]
    head = [(*names, text) for names, text in zip(head, words, strict=False)]
    return {"head": head, "rows": rows, "setups": setups, "kinds": kinds}


def _cell(value, digits):
    if isinstance(value, bool | np.bool_):
        value = "yes" if value else "no"
    if isinstance(value, str):
        number = NUMBER.fullmatch(value)
        return value, (float(number[1]) if number else None), "", False
    if pd.isna(value):
        return "", None, "", False
    text = f"{value:.0f}" if value == round(value) else f"{value:.{digits}g}"
    return text, float(value), "", False


def prepare_paper_table(results, cell):
    """Return the paper-style table of a cell as `prepare_table` does, the best setup marked.

    Entries are means over seeds, with 95 % intervals from three seeds on, deviations of two."""
    setups, below, columns = tables.choose_columns(results, cell, controls=True)
    rows = [[(name, None, "", False)] for name in [*setups, *below]]
    for digits, of in columns.values():
        for row, entry in zip(rows, of.itertuples(), strict=True):
            row.append(_measured(entry, digits))
    kinds = ["control" if select.is_control(name) else "" for name in setups]
    kinds += ["baseline"] * len(below)
    return _assembled([("", "setup"), *columns], rows, [*setups, *below], kinds)


def _measured(entry, digits):
    if pd.isna(entry.mean):
        return "", None, "", False
    beside = ""
    if entry.n_seeds >= stats.MIN_SEEDS:
        beside = f"± {stats.compute_half_width(entry.deviation, entry.n_seeds):.{digits}f}"
    elif pd.notna(entry.deviation):
        beside = f"deviation {entry.deviation:.{digits}f}"
    text = f"{round(entry.mean, digits) + 0.0:.{digits}f}"  # + 0.0: no -0.0
    return text, float(entry.mean), beside, bool(entry.is_best)


# --- runs


def describe_runs(saved, of_runs):
    """Return a dict per run of an explored.Saved: name, page, health, and its rows' values.

    The rows are those of `runs` and of standing.judge_runs (`of_runs`)."""
    found, runs = [], saved.results.runs
    parts = (frame.to_dict("records") for frame in (runs, of_runs))
    for name, made, row in zip(frames.name_runs(runs), *parts, strict=True):
        level, headline = health.summarise(saved.health(name))
        told = {"level": level, "headline": headline, "sign": SIGNS[level]}
        found.append(made | row | {"name": name, "page": name_page(name)} | told)
    return found


def trace_curves(history, schedule):
    """Return a dict per logged quantity of a run: label, low, high, last, points of an SVG."""
    found = []
    step = max(1, math.ceil(len(history) / POINTS))
    shown = pd.concat([history.iloc[::step], history.iloc[-1:]]).drop_duplicates("step")
    for term, label in plots.TERM_LABELS.items():
        kept = shown[np.isfinite(shown[term])] if term in shown else shown[:0]
        if kept.empty:
            continue
        low, high = kept[term].min(), kept[term].max()
        x = 200 * kept.step / schedule.steps
        y = 46 - 42 * (kept[term] - low) / ((high - low) or 1)
        points = " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, y, strict=True))
        ends = {"low": f"{low:.3g}", "high": f"{high:.3g}", "last": f"{kept[term].iloc[-1]:.3g}"}
        found.append({"term": f"column {term}", "label": label, "points": points} | ends)
    return found


# --- pictures: places in the sheets that bundle.py writes


def choose_opening(results, cell, columns):
    """Return the first picture of the index, or None: a cell's setups and three recorded images.

    Rows are the images filled best, median and worst, with the largest hole, after the last
    stage. columns: those of each run's sheet, as bundle.write returns them."""
    last = len(results.widths), results.widths[-1]
    runs = frames.name_runs(select.get_cell(results.runs, *cell)) if cell else []
    found = {}
    for run in [run for run in runs if last in columns.get(run, [])]:
        found.setdefault(run.split("/")[2], {"run": run, "column": columns[run].index(last)})
    if not found:
        return None
    for of in found.values():
        of["n"] = len(columns[of["run"]])
    chosen = {name: found[name] for name in pictures.choose_setups(found)}
    rows = {label: int(row) for label, row in pictures.rank_images(results, *cell).items()}
    return {"cell": cell, "setups": chosen, "rows": rows, "width": last[1]}
