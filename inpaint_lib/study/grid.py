"""The grid of a study and the folders it writes to.

    runs/<profile>/<dataset>/data/                             images and test masks
    runs/<profile>/<dataset>/<architecture>/<setup>/seed<k>/   one training run
    runs/<profile>/what_if/<name>/<dataset>/...                runs outside the grid, in no table
    reports/<profile>/                                         results, tables, figures, pages

Both folders lie in the repository, or in $INPAINT_OUTPUT if that is set.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from .. import models, setups
from . import config as configuration
from .files import ROOT, read_json

CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")  # of a run, newest first


@dataclass(frozen=True)
class Study:
    """A profile with its overrides applied, and the folders it writes to."""

    profile: str  # its name
    config: configuration.Config
    source: str = ""  # a name in config/, or the path of a YAML file elsewhere
    what_if: str = ""  # the name of runs outside the grid, with changed settings

    @property
    def folder(self):
        return get_output_root() / "runs" / self.profile

    @property
    def report(self):
        return get_output_root() / "reports" / self.profile

    def data_folder(self, dataset):
        return self.folder / dataset / "data"

    def runs(self):
        """Return all runs of the grid, in the order of the configuration.

        Raises config.ConfigError if there is none.
        """
        g = self.config.grid
        found = [
            Run(self, dataset, architecture, setup, seed)
            for dataset in g.datasets
            for architecture in g.architectures
            for setup in g.setups
            for seed in g.seeds[: g.fewer_seeds.get(setup)]
        ]
        if kept := [run for run in found if run.name not in g.without]:
            return kept
        raise configuration.ConfigError("grid.without names all runs of the grid: keep one")

    def ended_elsewhere(self):
        """Return the folders of ended runs in the study's folder that are not in its grid."""
        own = {run.folder for run in self.runs()}
        ended = sorted(self.folder.glob("*/*/*/seed*/result.json"))
        return [path.parent for path in ended if path.parent not in own]


@dataclass(frozen=True)
class Run:
    """One experiment: an architecture trained by one setup on one data set with one seed."""

    study: Study
    dataset: str
    architecture: str
    setup: str
    seed: int

    def __post_init__(self):
        """Check the names. Raises config.ConfigError."""
        names = {"datasets": self.dataset, "architectures": self.architecture}
        names |= {"setups": self.setup, "seeds": self.seed}
        configuration.validate(configuration.Grid, names, "parameters")
        if self.architecture not in self.config.models:
            missing = f"models: no section for architecture {self.architecture!r}"
            raise configuration.ConfigError(f"parameters: {missing}")
        most = self.config.data.image_size // 2
        if models.is_central(self.architecture) and self.config.curriculum.mask_widths[-1] > most:
            what = f"{self.architecture} fills holes up to {most} px wide"
            raise configuration.ConfigError(f"curriculum.mask_widths: {what}")

    @property
    def name(self):
        outside = f"what_if/{self.study.what_if}/" if self.study.what_if else ""
        return f"{outside}{self.dataset}/{self.architecture}/{self.setup}/seed{self.seed}"

    @property
    def folder(self):
        return self.study.folder / self.name

    @property
    def config(self):
        return self.study.config

    @property
    def model(self):
        """The configuration's section of the architecture."""
        return self.config.models[self.architecture]

    @property
    def architecture_entry(self):
        return models.ARCHITECTURES[self.architecture]

    @property
    def n_stages(self):
        return self.config.curriculum.n_stages

    @property
    def schedule(self):
        curriculum = self.config.curriculum
        return setups.Schedule(curriculum.steps, curriculum.mask_widths, self.seed)

    def phase(self, step):
        """Return the setups.Phase of a step (0 ..)."""
        return setups.SETUPS[self.setup].phase(self.schedule, step)

    @property
    def evaluated_stages(self):
        """The stages (1 ..) in which the setup trains anything."""
        return setups.find_trained_stages(setups.SETUPS[self.setup], self.schedule)


def open_study(profile, overrides=None):
    """Load and validate a profile of config/, or a YAML file. Raises config.ConfigError."""
    path = Path(str(profile))
    source = str(path.resolve()) if path.suffix in configuration.SUFFIXES else str(profile)
    return Study(path.stem, configuration.load(profile, overrides), source)


def reopen_study(profile):
    """Open a study of $INPAINT_OUTPUT with the settings that ./run_all.sh last ran it with; without
    a study.json, as the profile has them. Raises config.ConfigError.
    """
    last = read_json(get_output_root() / "runs" / Path(str(profile)).stem / "study.json") or {}
    given = last.get("parameters", {}).get("grid", {"profile": profile})
    return open_study(**given)


def holds_work(folder):
    """Return whether a run's folder holds a result or a checkpoint."""
    return any((folder / name).exists() for name in ("result.json", *CHECKPOINTS))


def get_output_root():
    """Return the folder of runs/ and reports/."""
    return Path(os.environ.get("INPAINT_OUTPUT") or ROOT).resolve()
