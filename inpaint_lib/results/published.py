"""Publish studies: reports/published/<name>/ is a saved Results with tables, figures and README.md.

`publish` adds runs; `verify` rebuilds tables, verdicts and README from the frames and compares. If
publishing is interrupted, the earlier study stays, perhaps with newer tables: publish again to
complete it. surprised.md, if there, is a person's text; networks.py saves networks."""

import math
import os
import re
import tempfile
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from ..study import files
from ..training import identity, weights
from . import findings, frames, select, summary, tables

FOLDER = files.ROOT / "reports" / "published"
NEAR = 1e-5  # relative difference that another processor's arithmetic may make
PERSONAL = "surprised.md"


def find_folder(name):
    """Return the folder of a published study: a name, or a path. Raises ValueError."""
    if os.sep in name:
        return Path(name)
    if not re.fullmatch(r"[a-z0-9_-]+", name):
        what = "use small letters, digits, _ and -, or give its folder, with a /"
        raise ValueError(f"{name!r} cannot be the name of a published study: {what}")
    return FOLDER / name


def list_studies():
    """Return the folders of all published studies."""
    return sorted(path.parent for path in FOLDER.glob("*/runs.csv"))


def open_published(name):
    """Return (folder, Results) of a published study. Raises ValueError."""
    base = find_folder(name)
    if not (base / "runs.csv").is_file():
        there = ", ".join(path.name for path in list_studies()) or "none"
        raise ValueError(f"{base} holds no published study: published are {there}")
    return base, frames.load(base)


def publish(results, name, who=""):
    """Add runs to a published study, or begin one; return lines to print.

    who: whose runs they are. Raises ValueError if settings or data differ from the published."""
    base = find_folder(name)
    if not re.fullmatch(r"[\w .,'&@/()+-]{0,80}", who):
        allowed = "use letters, digits and .,'&@/()+-, at most 80"
        raise ValueError(f"--who {who!r} is no name: {allowed}")
    if results.runs.empty:
        profile = results.about["profile"]
        raise ValueError(f"no run of profile {profile} is finished: run ./run_all.sh {profile}")
    about = results.about | {"name": base.name, "left_out": {}}
    about.pop("source", None)  # a path on this machine
    about |= {"who": dict.fromkeys(frames.name_runs(results.runs), who)} if who.strip() else {}
    kept, new, first = [], len(results.runs), results.runs.seed.min()
    with files.lock(base.parent):
        there = frames.load(base) if (base / "runs.csv").is_file() else None
        if there:
            first = there.about["config"]["grid"]["seeds"][0]
        results = replace(results, about=about, fills=_of_main_runs(results, first))
        if there:
            kept = set(frames.name_runs(there.runs)) & set(frames.name_runs(results.runs))
            results = frames.merge(there, results)
        frames.save(results, base)
        rebuild(results, base)
    said = [f"{new - len(kept)} runs added, {len(results.runs)} in {base}"]
    return said + [f"{name} is published already and stays" for name in sorted(kept)]


def rebuild(results, base):
    """Write the tables, figures and README of a study's saved frames."""
    from . import figures, report  # matplotlib takes seconds that `verify` need not spend

    drawn = figures.draw(results, *figures.PUBLISHED)
    report.save_figures(base / "figures", drawn, pdf=False)
    _write(results, base, base)


def _write(results, base, folder):
    """Write tables and README of the study in `base` into a folder."""
    tables.write(results, folder / "tables")
    captions = files.read_json(base / "figures" / "captions.json")
    page = summary.render_study(results, _personal(base), captions)
    files.write_text(folder / "README.md", page)


def _personal(base):
    """Return a person's text on the study in `base`, or "" without one."""
    said = base / PERSONAL
    return said.read_text(encoding="utf-8") if said.is_file() else ""


def _of_main_runs(results, seed):
    """Return the fills to publish: one seed, last stage, the paper's setups and select.SHOWN."""
    wanted, found = [f"seed{seed}", f"stage{len(results.widths)}"], {}
    for key, pixels in results.fills.items():
        parts = key.split("/")
        of_run = "/stage" in key
        main = of_run and (parts[2] in select.SHOWN or not select.is_control(parts[2]))
        if not of_run or (main and parts[3:5] == wanted):
            found[key] = pixels
    return found


def verify(name):
    """Rebuild tables, verdicts and README of a published study; return a line per difference.

    Raises ValueError if there is no such study or it cannot be read."""
    base, results = open_published(name)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        _write(results, base, made)
        paths = {p.relative_to(made) for p in made.rglob("*") if p.is_file()}
        paths |= {p.relative_to(base) for p in (base / "tables").glob("*")}
        wrong = [line for path in sorted(paths) for line in _differs(path, base, made)]
        page = (made / "README.md").read_text(encoding="utf-8")
    _, claims = findings.fill_surprises(results, _personal(base))
    wrong += [f"{PERSONAL}: {text}" for text in claims]
    shown = re.findall(r"\]\((figures/[^)]+)\)", page)
    return wrong + [f"{path}: missing" for path in shown if not (base / path).is_file()]


def _differs(path, base, made):
    """Return [a line on the first difference between a file and the rebuilt one], or []."""
    if not (made / path).is_file():
        return [f"{path}: belongs to no published study"]
    if not (base / path).is_file():
        return [f"{path}: missing"]
    pair = [(folder / path).read_text(encoding="utf-8").splitlines() for folder in (base, made)]
    cut = re.compile(r"[,|\s]+").split
    for k, lines in enumerate(zip_longest(*pair, fillvalue="nothing"), 1):
        words = zip_longest(*map(cut, lines), fillvalue="nothing")
        for one, other in (each for each in words if not _same(*each)):
            return [f"{path}: line {k}: published {one!r}, rebuilt {other!r}"]
    return []


def _same(one, other):
    """Return whether two words are equal, or numbers that differ by rounding only."""
    if one == other:
        return True
    try:
        return math.isclose(float(one), float(other), rel_tol=NEAR, abs_tol=1e-9)
    except ValueError:
        return False


def find_published(config, protocol):
    """Return the names of the published runs with a config (nested dict) and a protocol."""
    asked, found = {"config": config, "protocol": protocol, "data": {}}, set()
    asked["perceptual_weights"] = identity.name_perceptual(config["training"]["perceptual_weights"])
    asked["initial_weights"] = weights.hash_weights(config.get("initial_weights"))
    for base in list_studies():
        about = files.read_json(base / "study.json")
        if not frames.compare_studies(about | {"data": {}}, asked):
            found |= set(frames.name_runs(pd.read_csv(base / "runs.csv")))
    return found
