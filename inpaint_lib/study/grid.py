"""The grid of a study and the folders it writes to.

    runs/<profile>/<dataset>/data/                                  images and test masks, packed (data/packs.py)
    runs/<profile>/<dataset>/<architecture>/<setup>/seed<k>/        one training run (training/)
    reports/<profile>/                                              tables, figures, pages (results/)

Both folders lie under the repository, or under $INPAINT_OUTPUT if that is set.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from . import config as configuration
from .files import ROOT

CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")  # newest first
DIVERGED = "diverged.json"  # beside result.json, which a stale notebook takes away: this outcome is not drawn again


@dataclass(frozen=True)
class Study:
    """A profile with its overrides applied, and the folders it writes to."""

    profile: str
    config: configuration.Config

    @property
    def folder(self):
        return output_root() / "runs" / self.profile

    @property
    def report(self):
        return output_root() / "reports" / self.profile

    def data_folder(self, dataset):
        return self.folder / dataset / "data"

    def runs(self):
        """Every training run of the grid but those left out, in the order of the configuration."""
        c = self.config
        found = [Run(self, d, a, s, k) for d in c.datasets for a in c.architectures for s in c.setups for k in c.seeds]
        return [run for run in found if run.name not in c.without]


@dataclass(frozen=True)
class Run:
    """One experiment: an architecture trained by one setup on one data set with one seed."""

    study: Study
    dataset: str
    architecture: str
    setup: str
    seed: int

    def __post_init__(self):  # raises config.ConfigError
        names = ("dataset", "architecture", "setup", "seed")
        configuration.checked(configuration.Cell, {name: getattr(self, name) for name in names}, "parameters")

    @property
    def folder(self):
        return self.study.folder / self.dataset / self.architecture / self.setup / f"seed{self.seed}"

    @property
    def name(self):
        return f"{self.dataset}/{self.architecture}/{self.setup}/seed{self.seed}"

    @property
    def config(self):
        return self.study.config

    @property
    def model(self):
        return self.config.models[self.architecture]


def open_study(profile, overrides=None):
    """Load and validate a profile. Raises config.ConfigError."""
    return Study(Path(str(profile)).stem, configuration.load(profile, overrides))


def output_root():
    return Path(os.environ.get("INPAINT_OUTPUT") or ROOT).resolve()


def holds_work(folder):
    """Whether something is in a run's folder that took training."""
    return any((folder / name).exists() for name in ("result.json", DIVERGED, *CHECKPOINTS))
