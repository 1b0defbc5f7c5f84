"""The registered plan, config/hypotheses.yaml, and the studies that it covers."""

import functools
import json
from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from ..study import config as configuration
from ..study import files
from ..study.config import Many, Setup, Strict, Whole
from . import frames

PATH = configuration.FOLDER / "hypotheses.yaml"
SETTINGS = ("data", "curriculum", "training")  # equal to a registered profile's, as is the model
Pair = Annotated[tuple[Setup, Setup], Many]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Question(Strict):
    """The first setup against the second, in hole L1."""

    name: str
    setups: Pair
    width: Literal["largest", "all"]


class Measure(Strict):
    """A measure that is estimated."""

    name: str
    region: str
    metric: str
    width: Literal["each", "largest", "none"]
    scale: Literal["ratio", "difference"]


class Plan(Strict):
    """The content of the file, which explains its keys."""

    registered: date
    alpha: Annotated[float, Field(gt=0, lt=1)]
    primaries: Whole
    margin: Positive
    seeds: dict[str, Whole]
    stability: Positive
    questions: dict[str, Question]
    pairs: Annotated[tuple[Pair, ...], Many]
    measures: Annotated[tuple[Measure, ...], Many]

    def level(self, asked=0):
        """Return each interval's level: simultaneous over `asked` or, if more, the primaries."""
        return 1 - self.alpha / max(self.primaries, asked)


def read_plan(path=PATH):
    """Return the registered Plan. Raises config.ConfigError that names file and entry."""
    return configuration.validate(Plan, configuration.read_yaml(path), path.name)


def hash_plan():
    """Return the SHA-256 of the registered plan, without comments, and its profiles' settings."""
    stored = configuration.read_yaml(PATH)
    for profile in stored["seeds"]:
        settings = _settings(profile)
        stored[profile] = {key: settings[key] for key in (*SETTINGS, "models")}
    return files.hash_text(json.dumps(stored, sort_keys=True, default=str))


@functools.cache
def _settings(profile):
    return configuration.to_dict(configuration.load(profile))


def find_registration(plan, results, dataset, architecture):
    """Return (number of registered seeds, whether it is the paper's study) of a cell.

    A cell with other settings than a registered profile, or from given weights, has (0, False)."""
    here = frames.get_settings(results.about)
    if results.about.get("initial_weights"):
        return 0, False
    for profile, seeds in plan.seeds.items():
        there = _settings(profile)
        same = all(here[key] == there[key] for key in SETTINGS)
        if same and here["models"][architecture] == there["models"].get(architecture):
            return seeds, profile == "paper" and dataset in there["grid"]["datasets"]
    return 0, False
