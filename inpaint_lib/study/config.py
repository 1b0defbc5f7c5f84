"""The configuration: read a profile, check it, freeze it. Errors name the key.

A profile (config/NAME.yaml) names only what differs from the profile it `extends`;
config/base.yaml has every key and explains it. The sections data, curriculum, models and training
decide a run's numbers and are its identity. `evaluation` says how trained runs are measured, `grid`
which runs there are, `machine` where they are computed; only the images and masks that `machine`
names change numbers, and a hash of their pixels is part of the identity.
"""

import os
import textwrap
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from .. import masks, models, setups
from . import extensions
from .files import ROOT
from .provenance import flatten

FOLDER = ROOT / "config"
SUFFIXES = (".yaml", ".yml")
DEEPEST = 2  # how many profiles may extend one another
FOLDERS = ("machine.data_root", "machine.masks")
WEIGHTS = ("training.perceptual_weights", "evaluation.inception_weights")
WEIGHTS += ("evaluation.lpips_weights", "initial_weights")  # files, or names
PLAINER = {"extra_forbidden": "unknown key", "missing": "this key is missing"}  # than pydantic's


class ConfigError(ValueError):
    """A setting is wrong; the message, one line, names the file, the key and what is allowed."""

    def __str__(self):
        return textwrap.shorten(super().__str__(), 1000, placeholder=" ...")


# --- types of values


def _words(value):
    """Return a YAML 1.1 boolean as the word on or off."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def _tuple(value):
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _once(values):
    if len(values) != len(set(values)):
        raise ValueError("give each only once")
    return values


def _one_of(names, or_file=False):
    """Return a check that a text is one of `names` (extensions may add to them)."""

    def check(value):
        if value in names or (or_file and os.path.isfile(value)):
            return value
        more = ", or a file" if or_file else ""
        raise ValueError(f"unknown {shorten(value)}: choose one of {', '.join(names)}{more}")

    return AfterValidator(check)


def _number(**limits):
    """Return the type of finite numbers within limits (gt, ge, lt); it accepts texts like 1e-4."""
    return Annotated[float, Field(allow_inf_nan=False, **limits)]


def _some(kind):
    """Return the type of one or more different values."""
    return Annotated[tuple[kind, ...], Field(min_length=1), AfterValidator(_once), Many]


Many = BeforeValidator(_tuple)
Whole = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
RunName = Annotated[str, Field(pattern=r"^\w+/\w+/\w+/seed\d+$")]
Option = Annotated[Literal["auto", "on", "off"], BeforeValidator(_words)]
Device = Annotated[str, Field(pattern="^(auto|cpu|mps|cuda|cuda:[0-9]{1,3})$")]
Setup = Annotated[str, _one_of(setups.SETUPS)]
Dataset = Annotated[str, Field(pattern=r"^\w+$")]  # data.sources knows which there are
Weights = Annotated[str, _one_of(("auto", "none"), or_file=True)]
Architecture = Annotated[str, _one_of(models.ARCHITECTURES)]
Beta = _number(ge=0, lt=1)


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- the sections


class Grid(Strict):
    """The runs of the study."""

    datasets: _some(Dataset)
    architectures: _some(Architecture)
    setups: _some(Setup)
    seeds: _some(Seed)
    fewer_seeds: dict[Setup, Whole] = {}  # setups that use only the first seeds: how many
    without: Annotated[tuple[RunName, ...], Many] = ()


class Data(Strict):
    """The images and test masks."""

    image_size: Whole
    train_images: Whole
    test_images: Whole
    seed: Seed
    mask_seed: Seed


class Curriculum(Strict):
    """The hole widths and the budget."""

    mask_widths: _some(Whole)
    total_images: Whole
    batch_size: Whole

    @property
    def steps(self):
        return self.total_images // self.batch_size

    @property
    def n_stages(self):
        return len(self.mask_widths)

    @property
    def steps_per_stage(self):
        return self.steps // self.n_stages

    @model_validator(mode="after")
    def _has_stages_of_equal_length(self):
        stages, batch = self.n_stages, self.batch_size
        if self.total_images % (stages * batch):
            raise ValueError(
                f"total_images must be a multiple of {stages * batch}: batch_size {batch} x "
                f"{stages} mask_widths, each a stage of equal length"
            )
        if list(self.mask_widths) != sorted(self.mask_widths):
            raise ValueError("mask_widths must grow")
        return self


class Model(Strict):
    """The networks of one architecture and their training."""

    widths: dict[str, Any]  # keyword arguments of the architecture's create()
    mask_family: str  # of the holes in training
    lr_g: _number(gt=0)
    lr_d: _number(gt=0)
    betas: Annotated[tuple[Beta, Beta], Many]  # Adam
    loss_weights: dict[str, _number(ge=0)]  # "adversarial" and the objective's own terms
    loss_options: dict[str, Any]  # keyword arguments of the objective


class Training(Strict):
    """Everything else that changes the numbers of training."""

    precision: Literal["auto", "float32", "bfloat16"]
    perceptual_weights: Annotated[str, _one_of(("torchvision", "random"), or_file=True)]
    perceptual_width: Whole
    log_every: Annotated[Whole, Field(ge=2)]
    probe_batches: Annotated[Whole, Field(ge=2)]


class Evaluation(Strict):
    """The measurements of trained networks and baselines."""

    fid_stages: Literal["last", "all"]
    inception_weights: Weights
    lpips_weights: Weights
    images_elsewhere: Whole  # test images of other stages and families, from the first
    slow_baseline_images: Whole
    recorded_images: Whole
    recorded_points: Whole  # at how many log points their fills are recorded, at most


class Machine(Strict):
    """Where and how everything is computed."""

    data_root: str
    masks: str = ""  # older published studies lack this key
    turn_masks: Annotated[Literal["on", "off"], BeforeValidator(_words)] = "off"
    device: Device
    threads: Whole
    jobs: Whole
    evaluation_batch: Whole
    checkpoint_seconds: _number(ge=0)
    loading: Literal["auto", "resident", "prefetch"]
    fused_adam: Option
    keep_memory: Option
    compile: Option
    compile_pieces: Option = "auto"  # absent in studies published before there was one
    cuda_graph: Option
    channels_last: Option
    deterministic: Option


class Config(Strict):
    """A resolved profile: all settings of a study."""

    grid: Grid
    data: Data
    curriculum: Curriculum
    models: dict[Architecture, Model]
    training: Training
    evaluation: Evaluation
    machine: Machine
    initial_weights: str = ""  # a file or run to start from (training/weights.py); "": none
    extensions: Annotated[tuple[str, ...], Many]

    @model_validator(mode="after")
    def _fits_together(self):
        size, training = self.data.image_size, self.training
        if training.perceptual_weights != "random" and training.perceptual_width != 64:
            raise ValueError("training.perceptual_width: VGG-16's weights need 64")
        if self.curriculum.mask_widths[-1] > size:
            raise ValueError(f"curriculum.mask_widths: at most {size}, as data.image_size")
        if self.curriculum.batch_size > self.data.train_images:
            raise ValueError("curriculum.batch_size: larger than data.train_images")
        for name in self.grid.architectures:
            if name not in self.models:
                raise ValueError(f"models: no section for architecture {name!r}")
            _check_model(name, self.models[name], size)
            few = [key for key, n in self._counts().items() if n < 2]
            if few and models.is_central(name):
                raise ValueError(f"{few[0]}: batch norm of {name} needs two images or more")
        return self

    def _counts(self):
        """Return how many images are used together, by key."""
        of = self.evaluation
        return {
            "curriculum.batch_size": self.curriculum.batch_size,
            "data.test_images": self.data.test_images,
            "evaluation.images_elsewhere": of.images_elsewhere,
            "evaluation.recorded_images": of.recorded_images,
        }


def _check_model(name, model, image_size):
    """Check a section of `models` against its architecture, and that the networks can be built."""
    entry, where = models.ARCHITECTURES[name], f"models.{name}"
    families, options = entry.mask_families, entry.objective.options
    if not models.is_central(name):
        families = (*families, masks.FOLDER)
    if model.mask_family not in families:
        known = ", ".join(families)
        what = f"unknown {model.mask_family!r}: choose one of {known}"
        raise ValueError(f"{where}.mask_family: {what}")
    needed = {"loss_weights": {"adversarial", *entry.objective.terms}, "loss_options": set(options)}
    for key, names in needed.items():
        if set(getattr(model, key)) != names:
            known = ", ".join(sorted(names)) or "nothing"
            raise ValueError(f"{where}.{key}: give exactly {known}")
    for key, value in model.loss_options.items():
        if not options[key](value):
            raise ValueError(f"{where}.loss_options.{key}: {shorten(value)} is not allowed")
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            networks = models.create(name, image_size, **model.widths)
        if not all(p.numel() for network in networks for p in network.parameters()):
            raise ValueError("a layer would have no filters")
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        why = textwrap.shorten(str(error), 300)
        what = f"no network can be built of {shorten(model.widths)}: {why}"
        raise ValueError(f"{where}.widths: {what}") from None


# --- reading


def list_profiles():
    """Return the names of all profiles."""
    return sorted({p.stem for p in FOLDER.glob("*.yaml")} - {"base", "hypotheses"})


def load(profile, overrides=None):
    """Read config/<profile>.yaml (or a path to a YAML file), apply `overrides` {"dotted.key":
    value}, and validate.

    Raises ConfigError with the file and the key.
    """
    path, known = Path(str(profile)), list_profiles()
    if str(profile) in known:
        path = FOLDER / f"{profile}.yaml"
    elif path.suffix not in SUFFIXES or not os.path.isfile(path):  # accepts names of any length
        choices = f"choose one of {', '.join(known)}, or a YAML file"
        raise ConfigError(f"unknown profile {shorten(str(profile))}: {choices}")
    data = _extended(path)
    _make_absolute(data, path.parent)
    for key, value in (overrides or {}).items():
        _override(data, key, value)
    try:
        data["extensions"] = extensions.load(_tuple(data.get("extensions", ())), path.parent)
    except extensions.ExtensionError as error:
        raise ConfigError(f"{path.name}: extensions: {error}") from error
    return validate(Config, data, path.name)


def _extended(path, depth=0):
    """Return a profile as a dict, with the keys of the profiles that it extends."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name}: expected keys and values, got {shorten(data)}")
    parent = data.pop("extends", None)
    if parent is None:
        return data
    places = (path.parent / f"{parent}.yaml", FOLDER / f"{parent}.yaml")
    below = next(filter(os.path.isfile, places), None)
    if depth == DEEPEST or not below:
        why = "unknown profile" if not below else "at most two levels may be extended"
        raise ConfigError(f"{path.name}: extends: {shorten(parent)}: {why}")
    return _laid_over(_extended(below, depth + 1), data)


def _make_absolute(data, folder):
    """Make a profile's paths absolute: they are relative to its folder, and jobs run elsewhere."""
    for key in FOLDERS + WEIGHTS:
        section, _, name = key.rpartition(".")
        node = data.get(section) if section else data
        value = node.get(name) if isinstance(node, dict) else None
        if value and isinstance(value, str):
            value = os.path.expanduser(value)
            path = os.path.abspath(os.path.join(folder, value))
            if key in FOLDERS or os.path.exists(path) or os.path.isfile(value):
                node[name] = path


def _laid_over(below, above):
    """Return `below` with the keys of `above` replaced, section by section."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _laid_over(below.get(key), value) for key, value in above.items()}


def read_yaml(path):
    """Return the value of a YAML file. Raises ConfigError."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path.name} is not valid YAML: {error}") from None


def change(config, changes, where):
    """Return a configuration with changes {"dotted.key": value}.

    Raises ConfigError, which begins with `where`.
    """
    data = to_dict(config)
    for key, value in changes.items():
        _override(data, key, value, f"{where}: ")
    return validate(Config, data, where)


def _override(data, key, value, where="--set "):
    *parents, last = key.split(".")
    node = data
    for name in parents:
        node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        alike = [name for name in flatten(data) if name.split(".")[-1] == last]
        guess = f"; did you mean {', '.join(alike)}?" if alike else ""
        raise ConfigError(f"{where}{key}: unknown key{guess}")
    node[last] = value


def validate(kind, data, where):
    """Return `data` as the model `kind`. Raises ConfigError, which names the first wrong key."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    message = PLAINER.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    if first["type"] not in (*PLAINER, "value_error"):
        message = f"{message}, not {shorten(first['input'])}"
    key = ".".join(map(str, first["loc"]))
    raise ConfigError(": ".join(filter(None, (where, key, message))))


def shorten(value):
    """Return a value shortened for a message."""
    try:
        return textwrap.shorten(repr(value), 100, placeholder=" ...")
    except ValueError:  # an integer with more digits than Python prints
        return "a very long number"


def to_dict(config):
    """Return the configuration as dicts and lists for JSON."""
    return config.model_dump(mode="json")
