"""One profile in, one frozen configuration out; unknown keys and wrong values fail by name.

A profile (config/NAME.yaml) names only what differs from the profile it `extends`;
config/base.yaml has every key and explains it. The sections data, curriculum, models and training
decide a run's numbers and are its identity; evaluation decides how a trained run is measured; grid
says which runs there are; no number depends on machine.
"""

import copy
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

FOLDER = ROOT / "config"
NO_PROFILES = ("base", "hypotheses")  # files there that are not for running
SUFFIXES = (".yaml", ".yml")
DEEPEST = 2  # how many profiles may extend one another


class ConfigError(ValueError):
    """A setting is wrong; the message, one line, names the file, the key and what is allowed."""

    def __str__(self):
        return textwrap.shorten(super().__str__(), 1000, placeholder=" ...")


# --- kinds of values


def _words(value):
    """YAML 1.1 reads on and off as booleans."""
    return ("on" if value else "off") if isinstance(value, bool) else value


def _float(value):
    """YAML 1.1 reads 1e-4 as text."""
    try:
        return float(value) if not isinstance(value, bool) else value
    except (TypeError, ValueError, OverflowError):
        return value


def _tuple(value):
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _some_once(values):
    if not values or len(values) != len(set(values)):
        raise ValueError("give at least one name, each once")
    return values


def one_of(names):
    """Return a check that a text is one of `names` (looked up when it is checked)."""

    def check(value):
        if value not in names:
            raise ValueError(f"no {short(value)}; there are: {', '.join(map(str, names))}")
        return value

    return AfterValidator(check)


def _file_or(*words):
    def check(value):
        if value not in words and not os.path.isfile(value):
            raise ValueError(f"no file {value}; name one, or {', or '.join(map(repr, words))}")
        return value

    return AfterValidator(check)


def _device(value):
    kind, _, number = value.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (":" in value and not number.isdecimal()):
        raise ValueError(f"no {short(value)}; there are: auto, cpu, mps, cuda, cuda:0, cuda:1, ...")
    return value


def number(**limits):
    """Return the type of finite numbers within limits (gt, ge, lt)."""
    return Annotated[float, Field(allow_inf_nan=False, **limits), BeforeValidator(_float)]


Text = Annotated[str, BeforeValidator(_words)]
Many = BeforeValidator(_tuple)
Some = AfterValidator(_some_once)
Whole = Annotated[int, Field(ge=1, lt=2**63)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
RunName = Annotated[str, Field(pattern=r"^\w+/\w+/\w+/seed\d+$")]
Option = Annotated[Literal["auto", "on", "off"], BeforeValidator(_words)]
Setup = Annotated[str, one_of(setups.SETUPS)]
Dataset = Annotated[str, Field(pattern=r"^\w+$")]  # data.sources knows which there are
Architecture = Annotated[str, one_of(models.ARCHITECTURES)]
Beta = number(ge=0, lt=1)


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and values of another kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# --- the sections


class Grid(Strict):
    """Which runs there are."""

    datasets: Annotated[tuple[Dataset, ...], Many, Some]
    architectures: Annotated[tuple[Architecture, ...], Many, Some]
    setups: Annotated[tuple[Setup, ...], Many, Some]
    seeds: Annotated[tuple[Seed, ...], Many, Some]
    without: Annotated[tuple[RunName, ...], Many] = ()


class Data(Strict):
    """Images and test masks."""

    image_size: Whole
    train_images: Whole
    test_images: Whole
    seed: Seed
    mask_seed: Seed


class Curriculum(Strict):
    """The hole widths and the budget."""

    mask_widths: Annotated[tuple[Whole, ...], Many]
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


class Model(Strict):
    """How one architecture is built and trained."""

    widths: dict[str, Any]  # keyword arguments of the architecture's create()
    mask_family: Annotated[str, one_of(masks.FAMILIES)]  # holes it is trained with
    lr_g: number(gt=0)
    lr_d: number(gt=0)
    betas: Annotated[tuple[Beta, Beta], Many]  # Adam
    loss_weights: dict[str, number(ge=0)]  # "adversarial" and the objective's own terms
    loss_options: dict[str, Any]  # what else the objective takes


class Training(Strict):
    """What else decides the numbers of training."""

    precision: Literal["auto", "float32", "bfloat16"]
    perceptual_weights: Annotated[Text, _file_or("torchvision", "random")]
    perceptual_width: Whole
    log_every: Annotated[int, Field(ge=2, lt=2**63)]
    probe_batches: Annotated[int, Field(ge=2, lt=2**31)]


class Evaluation(Strict):
    """How trained networks and baselines are measured."""

    fid_stages: Literal["last", "all"]
    inception_weights: Annotated[Text, _file_or("auto", "none")]
    lpips_weights: Literal["auto", "none"]
    slow_baseline_images: Whole
    recorded_images: Whole


class Machine(Strict):
    """Where and how it is computed."""

    data_root: Text
    device: Annotated[Text, AfterValidator(_device)]
    threads: Whole
    jobs: Whole
    evaluation_batch: Whole
    checkpoint_seconds: number(ge=0)
    loading: Literal["auto", "resident", "prefetch"]
    fused_adam: Option
    keep_memory: Option
    compile: Option
    cuda_graph: Option
    channels_last: Option
    deterministic: Option


class Config(Strict):
    """A resolved profile: everything a study depends on."""

    grid: Grid
    data: Data
    curriculum: Curriculum
    models: dict[Architecture, Model]
    training: Training
    evaluation: Evaluation
    machine: Machine
    extensions: Annotated[tuple[str, ...], Many]

    @model_validator(mode="after")
    def _fits_together(self):
        size, curriculum, training = self.data.image_size, self.curriculum, self.training
        widths, stages, steps = curriculum.mask_widths, curriculum.n_stages, curriculum.steps
        _require(
            training.perceptual_weights == "random" or training.perceptual_width == 64,
            "training.perceptual_width: must be 64, unless perceptual_weights is 'random'",
        )
        _require(
            curriculum.batch_size <= self.data.train_images,
            "curriculum.batch_size: larger than data.train_images",
        )
        _require(
            curriculum.total_images % curriculum.batch_size == 0,
            "curriculum.total_images: not a multiple of batch_size",
        )
        _require(
            stages and steps and steps % stages == 0,
            f"curriculum: total_images / batch_size = {steps} steps do not divide into {stages} "
            "stages of equal length (one per mask width)",
        )
        _require(
            list(widths) == sorted(set(widths)) and widths[-1] <= size,
            f"curriculum.mask_widths: must grow and lie in 1 .. image_size ({size})",
        )
        for name in self.grid.architectures:
            _require(name in self.models, f"models: no section for architecture {name!r}")
            _check_network(name, self.models[name], size)
            half = size // 2
            _require(
                not models.central(name) or widths[-1] <= half,
                f"curriculum.mask_widths: {name} fills holes up to half the image ({half} px)",
            )
        for name, model in self.models.items():
            _check_model(name, model)
        return self


def _require(condition, message):
    if not condition:
        raise ValueError(message)


def _check_model(name, model):
    """Check what depends on the architecture in a section of `models`."""
    entry, where = models.ARCHITECTURES[name], f"models.{name}"
    objective, families = entry.objective, entry.mask_families
    _require(
        model.mask_family in families,
        f"{where}.mask_family: no {model.mask_family!r}; there are: {', '.join(families)}",
    )
    terms = ("adversarial", *objective.terms)
    _require(
        set(model.loss_weights) == set(terms), f"{where}.loss_weights: give exactly {_join(terms)}"
    )
    options = objective.options
    _require(
        set(model.loss_options) == set(options),
        f"{where}.loss_options: give exactly {_join(options)}",
    )
    for option, value in model.loss_options.items():
        _require(options[option](value), f"{where}.loss_options.{option}: {value!r} is not allowed")


def _check_network(name, model, image_size):
    """Build the networks without weights, which says whether their sizes are possible."""
    try:
        models.check_size(name, image_size)
    except ValueError as error:
        raise ValueError(f"data.image_size: {error}") from None
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            networks = models.create(name, image_size, **model.widths)
        if not all(p.numel() for network in networks for p in network.parameters()):
            raise ValueError("a layer would have no filters")
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        why = textwrap.shorten(str(error), 300)
        what = f"no network can be built of {short(model.widths)}: {why}"
        raise ValueError(f"models.{name}.widths: {what}") from None


# --- reading


def profiles():
    """Return the names of all profiles."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml") if p.stem not in NO_PROFILES)


def load(profile, overrides=None):
    """Read config/<profile>.yaml (or a path to a YAML file), apply `overrides` {"dotted.key":
    value}, and validate.

    Raises ConfigError with the file and the key.
    """
    path, known = Path(str(profile)), f"{', '.join(profiles())}, or a YAML file"
    if path.suffix not in SUFFIXES:
        path = FOLDER / f"{path.name}.yaml"
        if path.stem != str(profile) or profile in NO_PROFILES:
            path = Path()
    if not os.path.isfile(path):  # a path may be too long for a system
        raise ConfigError(f"no profile {short(str(profile))}: choose one of {known}")
    data = _extended(path)
    for key, value in (overrides or {}).items():
        _override(data, key, value)
    try:
        paths = [extensions.resolve(p, path.parent) for p in _tuple(data.get("extensions", ()))]
        extensions.load(paths)
    except (extensions.ExtensionError, TypeError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
    return checked(Config, data | {"extensions": paths}, path.name)


def _extended(path, depth=0):
    """Return the dict of a profile laid over those it extends."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name}: expected keys and values, got {short(data)}")
    parent = data.pop("extends", None)
    if parent is None:
        return data
    below = path.with_name(f"{parent}.yaml")
    below = below if below.is_file() else FOLDER / f"{parent}.yaml"
    if depth == DEEPEST or not below.is_file():
        why = "at most two levels may be extended" if depth == DEEPEST else f"no file {below.name}"
        raise ConfigError(f"{path.name}: extends: {short(parent)}: {why}")
    return _laid_over(_extended(below, depth + 1), data)


def _laid_over(below, above):
    """Return `below` with the keys of `above` replaced, section by section."""
    found = copy.copy(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(below.get(key), dict)
        found[key] = _laid_over(below[key], value) if nested else value
    return found


def read_yaml(path):
    """Return the value of a YAML file. Raises ConfigError."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise ConfigError(f"{path.name}: not valid YAML: {error}") from None


def _override(data, key, value):
    *parents, last = key.split(".")
    node = data
    for name in parents:
        node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        known = list(_keys(data))
        alike = [name for name in known if name.split(".")[-1] == last] or known
        raise ConfigError(f"--set {key}: there is no such key; did you mean {', '.join(alike)}?")
    node[last] = value


def _keys(data, prefix=""):
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def checked(kind, data, where):
    """Return `data` as the model `kind`. Raises ConfigError: `where`, the first wrong key, what is
    allowed there.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    key = ".".join(str(name) for name in first["loc"] if name != "[key]")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key"
    elif first["type"] == "missing":
        message = "this key is missing"
    elif first["type"] != "value_error":
        message = f"{message}, not {short(first['input'])}"
    raise ConfigError(f"{where}: {f'{key}: ' if key else ''}{message}")


def _join(names):
    return ", ".join(sorted(map(str, names))) or "nothing"


def short(value):
    """Return a value as it may stand in a message."""
    try:
        return textwrap.shorten(repr(value), 100, placeholder=" ...")
    except ValueError:  # a number of more digits than Python writes
        return "a very long number"


def to_dict(config):
    """Return plain lists and dicts, ready for JSON."""
    return config.model_dump(mode="json")
