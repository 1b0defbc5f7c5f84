"""Estimate how much disk a study takes, and find files that nothing needs any more."""

import os
import re
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path

import torch

from inpaint_lib import PROTOCOL, models
from inpaint_lib.data import packs, sources
from inpaint_lib.results import published
from inpaint_lib.study import config as configuration
from inpaint_lib.study import files, grid
from inpaint_lib.training import identity, recording

RECORDED, FILLS = 0.35, 0.85  # what compression leaves of them
A_ROW, A_FEATURE = 13, 4 * 2048  # bytes of an image's errors, and of its features of Inception
A_RUN, A_PAGE = 0.6e6, 0.15e6  # bytes of a run's texts and notebook, and of its page


def forecast(study, changed, jobs):
    """Return ({part: bytes} of the complete study, bytes of it that are missing, bytes that it
    takes beyond those while it runs). changed: folders of runs that are made again; jobs: runs at a
    time.
    """
    config, parts, missing, writing = study.config, Counter(), 0, []
    sizes = {name: estimate_run(config, name) for name in config.grid.architectures}
    for run in study.runs():
        parts.update(of := sizes[run.architecture])
        if run.folder in changed or not identity.read_result(run):
            there = sum(path.stat().st_size for path in _files(run.folder))
            missing += max(0, sum(of.values()) - there)
            writing.append(2 * of["checkpoints"])  # the one before the last, and the next one
    for name in config.grid.datasets:
        pack = packs.find_current(study, name)
        parts["data"] += (size := _estimate_data(config, name, pack))
        missing += 0 if pack else size  # it is written beside an old one
    if config.machine.masks and (masks := study.folder / "masks.npz").is_file():
        parts["data"] += masks.stat().st_size  # read before this forecast
    parts["report"] = _estimate_report(study)
    return parts, missing and missing + parts["report"], sum(sorted(writing)[-jobs:])


def estimate_run(config, architecture):
    """Return {part: bytes} of a run, from the sizes of networks that take no memory."""
    size, stages, of = config.data.image_size, config.curriculum.n_stages, config.evaluation
    with torch.device("meta"):
        networks = models.create(architecture, size, **config.models[architecture].widths)
    tensors = [network.state_dict().values() for network in networks]
    g, d = (sum(t.numel() * t.element_size() for t in values) for values in tensors)
    image = 3 * size**2 * of.recorded_images
    recorded = image * (len(recording.choose_points(config)) + 2 * stages**2)
    errors = A_ROW * stages * config.data.test_images
    return {
        "weights": stages * (g + d) + 2 * g,  # the last stage's also of the last step; the model
        "checkpoints": 4 * g + 3 * d + recorded,  # the moving average, Adam's two moments
        "records": RECORDED * recorded + FILLS * image * stages**2 + errors + A_RUN,
    }


def _estimate_data(config, dataset, pack):
    """Return the bytes of a pack, made or not, and of what is measured on it."""
    of = pack or sources.find_dataset(dataset).plan(config)
    features = A_FEATURE * len(of.test) * (config.evaluation.inception_weights != "none")
    return 3 * config.data.image_size**2 * (len(of.train) + len(of.test)) + features + 2 * A_RUN


def _estimate_report(study):
    """Return the bytes of the report and of the notebooks beside the runs."""
    runs, config = study.runs(), study.config
    shown = sum(run.seed == config.grid.seeds[0] for run in runs)  # in pictures
    image = 3 * config.data.image_size**2 * config.evaluation.recorded_images
    pictures = (1 + FILLS) * image * config.curriculum.n_stages**2 * shown  # saved, and on pages
    errors = 8 * config.curriculum.n_stages * config.data.test_images  # bytes of a run's
    return pictures + (errors + A_PAGE) * len(runs) + 4 * A_RUN


def check_space(study, changed, jobs):
    """Return part of a line: the bytes that a study takes. Raises ValueError if they do not fit.

    Arguments are those of `forecast`.
    """
    parts, missing, more = forecast(study, changed, jobs)
    place = next(path for path in (study.folder, *study.folder.parents) if path.is_dir())
    size = free = 0
    with suppress(OSError):  # some file systems do not tell
        size, _, free = shutil.disk_usage(place)
    if size and missing + more > free:
        what = f"{place}: {format_bytes(free)} are free, profile {study.profile} needs "
        what += f"{format_bytes(missing + more)} more"
        of = ", ".join(f"{part} {format_bytes(n)}" for part, n in parts.items())
        how = "free some, name another folder (INPAINT_OUTPUT=DIR) or take fewer runs (--seeds)"
        raise ValueError(f"{what} (complete: {of}): {how}")
    return f"; {format_bytes(parts.total())} of disk, {format_bytes(missing)} of it still to come"


def format_bytes(size):
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


# --- files that nothing needs any more


def find_removable(study):
    """Return ({kind: {file: bytes}} of what nothing needs, {kind: how many runs are left alone}).

    A finished run is read from other files than its checkpoint. Links are not followed.
    """
    kept, finished, found = Counter(), set(), {}
    known = published.find_published(configuration.to_dict(study.config), PROTOCOL)
    for path in study.folder.glob("what_if/*/*/*/*/seed*/result.json"):
        finished.add(path.parent.relative_to(study.folder))
    for run in study.runs():
        if run.name not in known and identity.read_result(run):
            finished.add(Path(run.name))
        elif grid.holds_work(run.folder):
            kept["published runs" if run.name in known else "unfinished runs"] += 1
    for base in (study.folder.resolve(), study.report.resolve()):
        for path in _files(base):
            if kind := _kind(path.relative_to(base), finished):
                found.setdefault(kind, {})[path] = path.stat().st_size
    return found, kept


def _kind(path, finished):
    """Return which kind of removable file it is, or None. path, and the folders of finished runs:
    relative to the study's folder, or to that of its report."""
    run = next((p for p in path.parents if re.fullmatch(r"seed\d+", p.name)), None)
    if run is not None and run not in finished:
        return None
    if path.parent == run and path.name in grid.CHECKPOINTS:
        return "checkpoints"
    if files.is_abandoned(path):
        return "interrupted writes"
    features = path.parts[1:2] == ("data",) and path.match("features_*.npy")
    return "caches" if features or path.parts[:2] == (".snakemake", "cache") else None


def _files(folder):
    """Yield the regular files below a folder; links in it are not followed."""
    for place, _, names in os.walk(folder.resolve()):
        paths = (Path(place, name) for name in names)
        yield from (path for path in paths if path.is_file() and not path.is_symlink())
