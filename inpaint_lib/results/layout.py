"""What the pages of a report are made of: their addresses, tables, pictures and templates."""

import math

import numpy as np
import pandas as pd

from . import frames, glossary, health, notes, pictures, plots, script, select, stats, tables

SIGNS = {"bad": "✕", "warn": "!", "ok": "✓", "none": "·"}
POINTS = 40  # of a curve on a run's page, at most
notes.ENVIRONMENT.filters["terms"] = glossary.Marker()
notes.ENVIRONMENT.globals |= {"term": glossary.button, "key": glossary.key, "signs": SIGNS}


def assets():
    """Return {name: text} of what all pages share."""
    style = "\n".join([(notes.TEMPLATES / "style.css").read_text("utf-8"), script.STYLE])
    scripts = {"report.js": (script.STATIC / "report.js").read_text("utf-8")}
    return {"report.css": style, "explorer.js": script.classic()} | scripts


def render(template, **values):
    """Return a page, with every term's meaning."""
    known = glossary.every()
    return notes.render(template, known=known, colours=colours(), **values)


def colours():
    """Return {setup: its colour}."""
    return {name: plots.style(name)["color"] for name in plots.SETUPS}


def page_of(run):
    """Return the address of a run's page."""
    return f"runs/{run.replace('/', '_')}.html"


def place_of(dataset, architecture):
    """Return the address of a tab."""
    return f"{dataset}-{architecture}"


# --- tables


def table(frame, digits=4):
    """Return a frame as {"head", "rows"}: rows of (text, number to sort by or None), flags the
    leading columns of text."""
    frame = frame.reset_index() if any(frame.index.names) else frame
    frame = frame.dropna(axis=1, how="all")
    rows = [[_cell(value, digits) for value in row] for row in frame.itertuples(index=False)]
    setups = list(frame["setup"]) if "setup" in frame else [""] * len(frame)
    return {"head": [("", str(name)) for name in frame], "rows": rows, "setups": setups}


def _cell(value, digits):
    """Return (text, number to sort by, second line, whether best)."""
    if isinstance(value, str):
        return value, None, "", False
    if value is None or pd.isna(value):
        return "", None, "", False
    if isinstance(value, float | np.floating):
        text = f"{value:.0f}" if value == round(value) else f"{value:.{digits}g}"
        return text, float(value), "", False
    return str(value), (float(value) if isinstance(value, int | np.integer) else None), "", False


def paper_table(results, cell):
    """Return the paper-style table of a cell as `table` does: means over seeds with their 95 %
    intervals from three seeds on, deviations of two, the best setup marked."""
    setups, below, columns = tables.columns(results, cell, controls=True)
    rows = [[(name, None, "", False)] for name in [*setups, *below]]
    for digits, of in columns.values():
        for row, entry in zip(rows, of.itertuples(), strict=True):
            row.append(_measured(entry, digits))
    kinds = ["control" if select.is_control(name) else "" for name in setups]
    return {
        "head": [("", "setup"), *columns],
        "rows": rows,
        "setups": [*setups, *below],
        "kinds": [*kinds, *["baseline"] * len(below)],
    }


def _measured(entry, digits):
    if pd.isna(entry.mean):
        return "", None, "", False
    beside = ""
    if entry.n_seeds >= stats.MIN_SEEDS:
        beside = f"± {stats.half_width(entry.deviation, entry.n_seeds):.{digits}f}"
    elif pd.notna(entry.deviation):
        beside = f"deviation {entry.deviation:.{digits}f}"
    return f"{entry.mean:.{digits}f}", float(entry.mean), beside, bool(entry.is_best)


# --- runs


def run_list(results, runs):
    """Return a dict per run of standing.of_runs: its row, page, health and sign."""
    findings = health.of_results(results)
    groups = findings.groupby(frames.RUN, sort=False)
    heads = {key: health.headline(part) for key, part in groups}
    found = []
    for name, row in zip(frames.names_of(runs), runs.to_dict("records"), strict=True):
        level, headline = heads[tuple(row[part] for part in frames.RUN)]
        told = {"name": name, "page": page_of(name), "level": level, "headline": headline}
        found.append(row | told | {"sign": SIGNS[level]})
    return found


def curves(history, schedule):
    """Return small pictures of a run's logged quantities: label, low, high, last, points."""
    found = []
    step = max(1, math.ceil(len(history) / POINTS))
    shown = pd.concat([history.iloc[::step], history.iloc[-1:]]).drop_duplicates("step")
    for term, label in plots.TERM_LABELS.items():
        if term not in shown or not np.isfinite(shown[term]).any():
            continue
        kept = shown[np.isfinite(shown[term])]
        low, high = kept[term].min(), kept[term].max()
        x = 200 * kept.step / schedule.steps
        y = 46 - 42 * (kept[term] - low) / ((high - low) or 1)
        points = " ".join(f"{a:.0f},{b:.0f}" for a, b in zip(x, y, strict=True))
        ends = {"low": f"{low:.3g}", "high": f"{high:.3g}", "last": f"{kept[term].iloc[-1]:.3g}"}
        found.append({"label": label, "points": points} | ends)
    return found


# --- pictures: places in the sheets that bundle.py writes


def opening(results, cell, columns):
    """Return the first picture of the index: setups of a cell and, a row each, the recorded images
    filled best, median and worst, with the largest hole after the last stage; or None."""
    last = len(results.widths), results.widths[-1]
    runs = frames.names_of(select.of_cell(results.runs, *cell)) if cell else []
    found = {}
    for run in [run for run in runs if last in columns.get(run, [])]:
        found.setdefault(run.split("/")[2], {"run": run, "column": columns[run].index(last)})
    if not found:
        return None
    chosen = {
        name: found[name] | {"n": len(columns[found[name]["run"]])} for name in pictures.few(found)
    }
    rows = {label: int(row) for label, row in pictures.ranked(results, *cell).items()}
    return {"cell": cell, "setups": chosen, "rows": rows, "width": last[1]}
