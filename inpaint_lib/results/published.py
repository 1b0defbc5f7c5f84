"""A study as it is published: what its tables rest on, without networks and images, checked and continued from files alone.

    reports/published/<name>/study.json    how it was configured, and a digest of every file
    .../runs/<dataset>/...                 as in runs/<profile>/: a run's logs and values (FILES), those of the fillings
    .../tables/, figures/, README.md       made from them; the trend with the budget also from `siblings`
    .../surprised.md                       what a person has to say, if anything

`publish` adds the finished runs of a study, `verify` makes everything anew from the files and compares. A run joins if data,
settings and code of training and evaluation are those of the published ones; one that is there already is compared, never
replaced. The page (index.html) and the figures but MAIN are made by either and not committed.
"""

import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ..data import packs
from ..study import config as configuration
from ..study import files, grid, provenance
from ..training import jobs
from . import collect, report, summary, tables, trend

FOLDER = files.ROOT / "reports" / "published"
FRONT = files.ROOT / "README.md"  # shows what studies it has marks for
FILES = ("result.json", "history.csv", "probe.csv", "stages.csv", "evaluation.csv", "evaluation.json")
PER_IMAGE = "per_image.csv.gz"  # the last stage's rows alone
MAIN = ("answer", "pairs", "precision", "trend", "schedules", "grid_", "captions")  # how the names of committed figures begin
LARGEST = 300 * 1024  # bytes of a committed picture
ALIKE = 1.0  # grey levels
ANY_RUN = (*configuration.GRID, *configuration.MACHINE)  # keys in which the runs of a published study may differ


@dataclass(frozen=True)
class Published(grid.Study):
    """A study whose files lie in `base`; its report goes to `to`."""

    base: Path
    to: Path

    @property
    def folder(self):
        return self.base / "runs"

    @property
    def report(self):
        return self.to


def place(name):
    """The folder of a published study: a name, or a path. Raises ValueError."""
    if os.sep in name:
        return Path(name)
    if not name or name.startswith(".") or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789_-"):
        raise ValueError(f"{name!r}: name a published study by small letters, digits, _ and -, or by its folder (with a /)")
    return FOLDER / name


def opened(base, to=None):
    """The Published in a folder. Raises ValueError."""
    stored = files.read_json(base / "study.json")
    if not isinstance(stored, dict) or not {"name", "profile", "config"} <= set(stored):
        names = ", ".join(sorted(p.parent.name for p in FOLDER.glob("*/study.json"))) or "none"
        raise ValueError(f"{base}: no published study (study.json is missing or damaged); published are: {names}")
    config = configuration.checked(configuration.Config, stored["config"], f"{base.name}/study.json")
    return Published(stored["name"], config, base, to or base)


def names(base):
    """{name of a run} of all runs whose files lie in a folder."""
    return {path.parent.relative_to(base / "runs").as_posix() for path in (base / "runs").glob("*/*/*/seed*/result.json")}


def siblings(study, shelf=None):
    """The published studies beside one, or in the folder `shelf`, that differ from it in their budget alone."""
    known = sorted(path.parent for path in (shelf or study.base.parent).glob("*/study.json"))
    return [s for s in map(opened, known) if s.profile != study.profile and _but_budget(s) == _but_budget(study)]


def _but_budget(study):
    left = {*ANY_RUN, "total_images"}
    return {key: value for key, value in configuration.to_dict(study.config).items() if key not in left}


# --- publishing


def publish(study, name, overrides=None):
    """Add a study's finished runs to a published one, or begin it -> lines to say. Nothing changes unless all is well.
    `overrides`: what was set otherwise than in the profile.

    Raises ValueError where nothing is finished, or a run was made otherwise than the published ones, FileNotFoundError for
    files that are missing.
    """
    base = place(name)
    base.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(base.parent), tempfile.TemporaryDirectory(dir=base.parent, prefix=".new-") as new:
        new = Path(new) / base.name
        if base.is_dir():
            opened(base)
            shutil.copytree(base, new)
        said = _join(study, new)
        _describe(study, new, overrides or {})
        others = siblings(opened(new), base.parent)
        _make(opened(new), others, study.report / "figures")
        if base.is_dir():
            os.replace(base, new.parent / "old")
        os.replace(new, base)
        for other in others:  # what they tell of this one, and whatever today's code tells otherwise
            _make(other, siblings(other))
        for remade in (opened(base), *others) if base.parent == FOLDER else ():
            summary.show_on(FRONT, remade)
    return [*said, f"{base}: {len(names(base))} runs"]


def _join(study, new):
    """Copy what is finished and not there yet into the folder `new` -> lines to say. Raises as `publish`."""
    ready = [run for run in study.runs() if files.read_json(run.folder / "result.json")
             and (run.folder / "evaluation.json").is_file()]  # fmt: skip
    if not ready:
        raise ValueError(f"no run of profile {study.profile} is finished in {study.folder}: ./run_all.sh {study.profile}")
    datasets = list(dict.fromkeys(run.dataset for run in ready))
    collect.measure_fillings(study, datasets)
    there, said, joined, equal = names(new), [], 0, 0
    for dataset in datasets:
        _copy_data(study.data_folder(dataset), new / "runs" / dataset / "data")
    for run in ready:
        if run.name in there:
            if differs := _compared(run, new / "runs" / run.name):
                said.append(differs)
            else:
                equal += 1
            continue
        refuse_other(run, new, there)
        _copy_run(run, new / "runs" / run.name)
        there.add(run.name)
        joined += 1
    return [f"{joined} of {len(ready)} finished runs joined; {equal} are published already, equal", *said]


def refuse_other(run, base, there):
    """Raise provenance.SettingsChanged if a run was made otherwise than those published: the configuration, and per data set
    and architecture everything that decides a run's numbers, its evaluation's included."""
    if (stored := files.read_json(base / "study.json")) is not None:
        own = configuration.to_dict(run.config)
        _refuse(run, *({k: v for k, v in c.items() if k not in ANY_RUN} for c in (own, stored["config"])))
    for other in sorted(there):
        if other.split("/")[:2] == [run.dataset, run.architecture]:
            return _refuse(run, _made(run.folder), _made(base / "runs" / other))
    return None


def _refuse(run, own, published):
    if changed := provenance.differences(published, own):
        listed = "; ".join(f"{key}: published {str(a)[:24]}, here {str(b)[:24]}" for key, a, b in changed[:6])
        raise provenance.SettingsChanged(
            f"run {run.name} was made otherwise than the published runs ({listed}): make it with their settings and commit, "
            "or publish under another name"
        )


def _made(folder):
    """What runs of one data set and architecture have in common."""
    settings, evaluated = (files.read_json(folder / name)["settings"] for name in ("result.json", "evaluation.json"))
    common = {key: value for key, value in settings.items() if key not in ("setup", "seed")}
    return common | {f"evaluation.{key}": evaluated[key] for key in ("code", "fid_stages", "inception", "alexnet")}


def _compared(run, published):
    """What a second contribution of a published run shows, in a line; None if it is equal."""
    one, other = (pd.read_csv(folder / "stages.csv") for folder in (published, run.folder))
    if one.equals(other):
        return None
    last = [f[(f.stage == f.stage.max()) & (f.mask_width == f.mask_width.max()) & (f.region == "hole")].l1
            for f in (one, other)]  # fmt: skip
    if not all(map(len, last)):
        return f"{run.name} is published already, with another outcome; the published one stays"
    a, b = (float(x.iloc[0]) for x in last)
    change = f"hole L1 {a:.5f}, here {b:.5f} ({100 * (b / a - 1):+.2f} %)"
    return f"{run.name} is published already: {change}; the published one stays"


def _copy_run(run, to):
    to.mkdir(parents=True)
    for name in FILES:
        if (run.folder / name).is_file():  # one that diverged has no probe
            shutil.copyfile(run.folder / name, to / name)
    if (run.folder / PER_IMAGE).is_file():
        table = pd.read_csv(run.folder / PER_IMAGE, dtype=str)
        files.write_csv(to / PER_IMAGE, table[table.stage == table.stage.iloc[-1]])


def _copy_data(folder, to):
    """The manifest and the fillings' values. Raises ValueError for data other than the published."""
    to.mkdir(parents=True, exist_ok=True)
    own, there = (files.read_json(path / "manifest.json") for path in (folder, to))
    if there and own["files"] != there["files"]:
        raise ValueError(f"{folder}: the data are not those of the published runs; publish under another name")
    for path in [folder / "manifest.json", *folder.glob("baseline_*")] if not there else ():
        shutil.copyfile(path, to / path.name)


def _describe(study, new, overrides):
    """study.json without digests: the configuration, its grid being what is there."""
    parts = [name.split("/") for name in names(new)]
    seeds = sorted({int(p[3].removeprefix("seed")) for p in parts})
    own = {key: value for key, value in overrides.items() if key not in ANY_RUN}
    described = {"name": new.name, "profile": study.profile, "overrides": own, "config": configuration.to_dict(study.config)}
    described = files.read_json(new / "study.json") or described
    known = {"datasets": configuration.Dataset, "architectures": configuration.Architecture, "setups": configuration.Setup}
    grid_of = {key: [name for name in kind.__args__ if name in {p[k] for p in parts}]
               for k, (key, kind) in enumerate(known.items())}  # fmt: skip
    config = described["config"] | grid_of | {"seeds": seeds, "without": [], "data_root": ""}
    whole = Published(new.name, configuration.checked(configuration.Config, config, new.name), new, new)
    config["without"] = sorted({run.name for run in whole.runs()} - names(new))
    files.write_json(new / "study.json", described | {"config": config})


def _make(study, others, drawn=None):
    """Tables, figures, README and digests of a published study; `drawn`: where pictures of images lie, if there are any."""
    tables.write(study)
    trend.write(study, others)
    _draw(study, drawn)
    summary.write(study)
    own = files.read_json(study.base / "study.json")
    files.write_json(study.base / "study.json", own | {"files": digests(study.base)})


def _draw(study, drawn=None):
    """The figures that rest on tables, and pictures of images that are at hand in the folder `drawn`."""
    folder = study.report / "figures"
    folder.mkdir(exist_ok=True)
    captions = files.read_json(folder / "captions.json") or {}
    kept = {name: caption for name, caption in captions.items() if name.startswith("grid_")}
    if drawn and (there := files.read_json(drawn / "captions.json")):
        for name, caption in there.items():
            if name.startswith("grid_") and (drawn / f"{name}.png").stat().st_size <= LARGEST:
                shutil.copyfile(drawn / f"{name}.png", folder / f"{name}.png")
                kept[name] = caption
    _draw_from_tables(study, kept)


def _draw_from_tables(study, others=None):
    """The figures that rest on tables, kinds side by side; `others` as of report.save_figures."""
    from . import figures  # here, because matplotlib takes seconds that asking what is published need not spend

    with ProcessPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        drawn = list(pool.map(partial(_draw_kind, study), figures.FROM_TABLES))
    report.save_figures(study, {}, others=reduce(or_, drawn, others or {}))


def _draw_kind(study, kind):
    return report.draw(study, kind(study), pdf=False)


def digests(base):
    """{path: SHA-256} of the files that are committed, but study.json and what a person writes."""
    found = {path.relative_to(base): path for path in sorted(base.rglob("*")) if path.is_file()}
    return {name.as_posix(): files.file_sha256(path) for name, path in found.items()
            if _committed(name) and name.as_posix() not in ("study.json", summary.PERSONAL)}  # fmt: skip


def _committed(path):
    if path.name == "index.html" or path.name.endswith(".lock"):
        return False
    return path.parts[0] != "figures" or path.name.startswith(MAIN)


# --- verifying


def verify(name):
    """Make tables, verdicts, figures and README of a published study anew from its files -> what differs, a line each.

    Tables and README are compared byte by byte, figures, which depend on fonts, by eye (ALIKE). If nothing differs, the page
    (index.html) and the figures that are not committed are written. Raises ValueError if there is no such study.
    """
    base = place(name)
    opened(base)
    found, listed = digests(base), files.read_json(base / "study.json").get("files", {})
    wrong = [f"{path}: {'missing' if path not in found else 'edited'}" for path in sorted(listed)
             if found.get(path) != listed[path]]  # fmt: skip
    wrong += [f"{path}: not listed in study.json" for path in sorted(found.keys() - listed)]
    with tempfile.TemporaryDirectory() as scratch:
        study = opened(base, Path(scratch))
        others = siblings(study)
        try:
            tables.write(study)
            trend.write(study, others)
            summary.write(study)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # files that say something else
            return [*wrong, f"tables cannot be made from runs/: {type(error).__name__}: {error}"]
        wrong += _alone(study, others)
        together = trend.FILES if others else ()
        for path in [*(Path("tables") / name for name in (*tables.FILES, *together)), Path("README.md")]:
            wrong += _differs(path, base / path, study.report / path)
        if wrong:
            return wrong
        _draw_from_tables(study)
        for path in sorted((study.report / "figures").glob("*.png")):
            committed = base / "figures" / path.name
            if not _committed(committed.relative_to(base)):
                shutil.copyfile(path, committed)
            elif not _alike(path, committed):
                wrong.append(f"figures/{path.name}: not what the runs show")
    if not wrong:
        report.build(opened(base), published=summary.how(study))
    return wrong


def _alone(study, others):
    """A line per published study that the trend rests on and that is not among its siblings, `others`."""
    path = study.base / "tables" / trend.FILES[0]
    named = set(pd.read_csv(path).study) if path.is_file() else set()
    there = {s.profile for s in (study, *others)}
    return [f"tables/{path.name}: rests on {name}, which is not beside {study.base}" for name in sorted(named - there)]


def _alike(one, other):
    """Whether two pictures show the same: of one size, and on average ALIKE grey levels apart at most."""
    one, other = (np.asarray(Image.open(path).convert("L"), float) for path in (one, other))
    return one.shape == other.shape and np.abs(one - other).mean() <= ALIKE


def _differs(name, committed, made):
    """[a line that says where a file differs from the one made anew], or []."""
    if not committed.is_file():
        return [f"{name}: missing"]
    one, other = (path.read_text(encoding="utf-8", errors="replace").splitlines() for path in (committed, made))
    if committed.read_bytes() == made.read_bytes():
        return []
    k = next((k for k, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other)))
    of = [lines[k][:120] if k < len(lines) else "nothing" for lines in (one, other)]
    return [f"{name}: line {k + 1}: committed {of[0]!r}, from the runs {of[1]!r}"]


def done(study):
    """Names of a study's runs that are published, in any study, as they would be made here and now: trained again they would
    give the same."""
    wanted, found = {run.name: run for run in study.runs()}, set()
    for base in sorted(path.parent for path in FOLDER.glob("*/study.json")):
        of_data = {}
        for name in sorted(names(base) & wanted.keys() - found):
            run = wanted[name]
            if run.dataset not in of_data:
                manifest = files.read_json(base / "runs" / run.dataset / "data" / "manifest.json") or {}
                of_data[run.dataset] = manifest.get("settings") == packs.settings_of(study.config, run.dataset)
            if of_data[run.dataset]:
                made = files.read_json(base / "runs" / name / "result.json")["settings"]
                if made == jobs.resolve(run, None).settings | {"data": made["data"]}:
                    found.add(name)
    return sorted(found)
