"""A training run resolved once, before anything is done: the data it sees, its identity, and what its folder already holds.

Training and evaluation are handed this one value and ask no file again who the run is.
"""

from dataclasses import dataclass

from ..data import packs
from ..study import files, grid, provenance
from ..study.config import run_settings
from . import artifacts

SOURCES = (  # what decides what a training run computes, beside its architecture's own file
    *(f"inpaint_lib/{name}.py" for name in ("masks", "losses", "setups", "rng", "metrics", "models/__init__", "models/layers")),
    *(f"inpaint_lib/training/{name}.py" for name in ("step", "loop", "artifacts", "probe")),
    "inpaint_lib/data/feed.py",
    "inpaint_lib/study/ahead.py",
)


@dataclass(frozen=True)
class Job:
    """A run, its Pack (None if there is none of today's settings), and `settings`, its identity: the configuration, the data it
    sees and what the training code does. `made`: the settings that the work in its folder was made with, or None; `result`:
    its result.json if that work is finished, whole and of this very identity, else None."""

    run: grid.Run
    pack: packs.Pack | None
    settings: dict
    made: dict | None
    result: dict | None

    def refuse_other(self):
        """Raise provenance.SettingsChanged if the folder holds work made with other settings."""
        if self.made:
            made = {key: value for key, value in self.made.items() if self.pack or key != "data"}
            provenance.refuse_other(f"run {self.run.name}", made, self.settings)


def resolve(run, pack):
    """The Job of a run on a Pack, or on None."""
    config, folder, vgg = run.config, run.folder, run.config.perceptual_weights
    settings = run_settings(config, run.dataset, run.architecture, run.setup, run.seed) | {
        "perceptual_weights": vgg if vgg in ("random", "torchvision") else files.file_sha256(vgg),
        "code": provenance.code_digest(*SOURCES, f"inpaint_lib/models/{run.architecture}.py"),
    }
    if pack:
        settings["data"] = {name: entry["sha256"] for name, entry in pack.manifest["files"].items()}
    made = files.read_json(folder / "config.json") if grid.holds_work(folder) else None
    result = files.read_json(folder / "result.json") or files.read_json(folder / grid.DIVERGED)
    whole = result and all((folder / name).is_file() for name in artifacts.names(config, result.get("outcome")))
    return Job(run, pack, settings, made, result if whole and result["settings"] == settings else None)


def changed(study):
    """{folder: why} of all runs that `loop.fit` would refuse to touch, those of other grids on the same data included."""
    found = {}
    for dataset in study.config.datasets:
        try:
            packs.check(study, dataset)
        except provenance.SettingsChanged as error:
            found |= dict.fromkeys(packs.trained_on(study, dataset), error)
    current = {dataset: packs.current(study, dataset) for dataset in study.config.datasets}
    for run in study.runs():
        try:
            resolve(run, current[run.dataset]).refuse_other()
        except provenance.SettingsChanged as error:
            found.setdefault(run.folder, error)
    return found
