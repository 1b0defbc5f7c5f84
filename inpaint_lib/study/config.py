"""One profile in, one frozen configuration out; unknown, missing and ill-typed keys fail by name.

The names a key may hold come from the registries of the science; config/schema.json, for editors, is made from these models.
"""

import os
import reprlib
import textwrap
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .. import losses, masks, models, setups
from .files import ROOT

FOLDER = ROOT / "config"


class ConfigError(ValueError):
    """A setting is wrong; the message, one line, names the key and how to mend it."""

    def __str__(self):
        return textwrap.shorten(super().__str__(), 1000, placeholder=" ...")


# --- kinds of values


def _words(value):
    return ("on" if value else "off") if isinstance(value, bool) else value  # YAML 1.1 reads these two words so


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


def _device(value):
    kind, colon, number = value.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps"):
        raise ValueError(f"no {short(kind)}; there are: auto, cpu, cuda, mps")
    if colon and not (number.isascii() and number.isdigit()):
        raise ValueError(f"{value!r} is none; write cuda:0, for example")
    return value


def _file_or(*words):
    def check(value):
        if value not in words and not os.path.isfile(value):
            raise ValueError(f"no file {value}; name one, or {', or '.join(map(repr, words))}")
        return value

    return AfterValidator(check)


def number(**limits):
    """A finite number within limits (gt, ge, lt)."""
    return Annotated[float, Field(allow_inf_nan=False, **limits), BeforeValidator(_float)]


Text = Annotated[str, BeforeValidator(_words)]
Many = BeforeValidator(_tuple)
Some = AfterValidator(_some_once)
Whole = Annotated[int, Field(ge=1, lt=2**63)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(pattern=r"^\w+/\w+/\w+/seed\d+$")]  # of a run
Lever = Annotated[Literal["auto", "on", "off"], BeforeValidator(_words)]
Dataset = Literal["faces", "scenes", "celeba", "coco", "folder"]  # data/sources.py has them
Architecture = Literal[*models.ARCHITECTURES]
Setup = Literal[*setups.SETUPS]
Beta = number(ge=0, lt=1)


class Strict(BaseModel):
    """Frozen; unknown keys and values of another kind are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Model(Strict):
    """How one architecture is built and trained."""

    widths: dict[str, Any]  # keyword arguments of the architecture's create()
    mask_family: Literal[*masks.FAMILIES]  # holes it is trained with
    lr_g: number(gt=0)
    lr_d: number(gt=0)
    betas: Annotated[tuple[Beta, Beta], Many]  # Adam
    loss_weights: dict[str, number(ge=0)]  # "adversarial" and the objective's own terms
    loss_options: dict[str, Any]  # what else the objective takes


class Config(Strict):
    """A profile: everything a study depends on. config/smoke.yaml comments every key."""

    datasets: Annotated[tuple[Dataset, ...], Many, Some]
    architectures: Annotated[tuple[Architecture, ...], Many, Some]
    setups: Annotated[tuple[Setup, ...], Many, Some]
    seeds: Annotated[tuple[Seed, ...], Many, Some]
    without: Annotated[tuple[Name, ...], Many] = ()  # runs left out of the grid, by name; no profile needs it
    data_root: Text
    image_size: Whole
    train_images: Whole
    test_images: Whole
    data_seed: Seed
    mask_seed: Annotated[int, Field(gt=-(2**63), lt=2**63)]
    mask_widths: Annotated[tuple[Whole, ...], Many]
    total_images: Whole
    batch_size: Whole
    models: dict[Architecture, Model]
    perceptual_weights: Annotated[Text, _file_or("torchvision", "random")]
    perceptual_width: Whole
    inception_weights: Annotated[Text, _file_or("auto", "random")]
    lpips_weights: Literal["auto", "none"]
    fid_stages: Literal["last", "all"]
    slow_baseline_images: Whole
    device: Annotated[Text, AfterValidator(_device)]
    precision: Literal["auto", "float32", "bfloat16"]
    fused_adam: Lever
    keep_memory: Lever
    compile: Lever
    cuda_graph: Lever
    channels_last: Lever = "auto"  # studies published before it was there
    deterministic: Lever
    loading: Literal["auto", "resident", "prefetch"]
    threads: Whole
    jobs: Whole
    log_every: Annotated[int, Field(ge=2, lt=2**63)]  # the spread of losses is taken between log points
    checkpoint_seconds: number(ge=0)
    evaluation_batch: Whole

    @property
    def steps(self):
        return self.total_images // self.batch_size

    @model_validator(mode="after")
    def _fits_together(self):
        widths, stages = self.mask_widths, len(self.mask_widths)
        _require(self.perceptual_weights == "random" or self.perceptual_width == 64,
                 "perceptual_width: only 'random' weights take other than 64")  # fmt: skip
        _require(self.batch_size <= self.train_images, "batch_size: larger than train_images")
        _require(self.total_images % self.batch_size == 0, "total_images: not a multiple of batch_size")
        _require(stages and self.steps % stages == 0, f"total_images / batch_size = {self.steps} steps do not divide "
                 f"into {stages} stages of equal length (one per mask width)")  # fmt: skip
        _require(list(widths) == sorted(set(widths)), "mask_widths: must grow")
        _require(widths[-1] <= self.image_size, f"mask_widths: must lie in 1 .. image_size ({self.image_size})")
        for name, model in self.models.items():
            _check_model(name, model)
        for name in self.architectures:
            _require(name in self.models, f"models: no section for architecture {name!r}")
            _check_network(name, self.models[name], self.image_size)
            _require(not models.central(name) or widths[-1] <= self.image_size // 2,
                     f"mask_widths: {name} fills holes up to half the image ({self.image_size // 2} px)")  # fmt: skip
        return self


def _require(condition, message):
    if not condition:
        raise ValueError(message)


def _check_model(name, model):
    """What a section of `models` may hold depends on the architecture."""
    objective, families, known = losses.OBJECTIVES[name], models.ARCHITECTURES[name].MASK_FAMILIES, models.width_names(name)
    where, terms = f"models.{name}", ("adversarial", *objective.terms)
    family = model.mask_family
    _require(family in families, f"{where}.mask_family: no {family!r}; there are: {_join(families)}")
    _require(set(model.loss_weights) == set(terms), f"{where}.loss_weights: give exactly {_join(terms)}")
    options = objective.options
    _require(set(model.loss_options) == set(options), f"{where}.loss_options: give exactly {_join(options)}")
    for option, value in model.loss_options.items():
        _require(options[option](value), f"{where}.loss_options.{option}: {value!r} is not possible")
    for width in model.widths:  # which values they take, the network itself says
        _require(width in known, f"{where}.widths: no {width!r}; there are: {_join(known)}")


def _check_network(name, model, image_size):
    try:
        models.check_size(name, image_size)
    except ValueError as error:
        raise ValueError(f"image_size: {error}") from None
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):  # shapes only: nothing is computed
            networks = models.create(name, image_size, **model.widths)
        if not all(p.numel() for network in networks for p in network.parameters()):
            raise ValueError("a layer would have no filters")
    except Exception as error:
        why = textwrap.shorten(str(error), 300)
        raise ValueError(f"models.{name}.widths: no network can be built of {short(model.widths)}: {why}") from None


# --- reading


def profiles():
    return sorted(p.stem for p in FOLDER.glob("*.yaml") if p.stem != "hypotheses")


def load(profile, overrides=None):
    """Read config/<profile>.yaml (or a path to a YAML file), apply `overrides` {"dotted.key": value}, validate.

    Raises ConfigError with the file and the key.
    """
    path = Path(profile) if str(profile).endswith((".yaml", ".yml")) else FOLDER / f"{profile}.yaml"
    if not os.path.isfile(path) or profile == "hypotheses":
        raise ConfigError(f"no profile {short(str(profile))}: choose one of {', '.join(profiles())}")
    data = read_yaml(path)
    if isinstance(data, dict):
        data.setdefault("without", [])
    for key, value in (overrides or {}).items():
        _override(data, key, value)
    return checked(Config, data, path.name)


def read_yaml(path):
    """The value of a YAML file. Raises ConfigError."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # besides its own errors the reader lets ValueError, RecursionError and others through
        raise ConfigError(f"{path.name}: not valid YAML, mend the file: {error}") from None


def _override(data, key, value):
    *parents, last = key.split(".")
    node = data
    for name in parents:
        node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        known = f"; here are: {_join(node)}" if isinstance(node, dict) else ""
        raise ConfigError(f"--set {short(key, str)}: there is no such key{known}")
    node[last] = value


def checked(kind, data, where):
    """`data` as the model `kind`. Raises ConfigError: `where`, the first wrong key, what is possible there."""
    try:
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            message = _said(kind, error.errors(include_url=False)[0])
    except (ValueError, RecursionError) as error:  # a number of more digits than Python writes out
        message = error
    raise ConfigError(f"{where}: {message}")


KINDS = {"int": "a whole number", "float": "a number", "finite": "a number", "string": "text", "tuple": "a list",
         "list": "a list", "dict": "keys and values", "model": "keys and values", "too": "two values",
         "missing": "two values"}  # fmt: skip
LIMITS = {"greater_than_equal": ("ge", "{:g} or more"), "greater_than": ("gt", "above {:g}"), "less_than": ("lt", "below {:g}")}


def _said(kind, error):
    """What one of pydantic's errors means, in a line."""
    *parents, last = path = [*error["loc"][:-2]] if error["loc"][-1:] == ("[key]",) else [*error["loc"]] or [""]
    key = ".".join(str(name) for name in path if name != "" and not isinstance(name, int))
    where, what, got = f"{key}: " if key else "", error["type"], short(error["input"])
    if what in ("extra_forbidden", "missing") and not isinstance(last, int):
        where = f"{'.'.join(map(str, parents))}: " if parents else ""
        fields = (Model if parents else kind).model_fields
        known = f"unknown key {short(last)}; known are: {_join(fields)}"
        return where + (known if what == "extra_forbidden" else f"key {last!r} is missing")
    if what == "value_error":
        return where + str(error["ctx"]["error"])
    if what == "literal_error":
        names = [name.strip("'") for name in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{where}no {got}; there are: {_join(names)}"
    if what in LIMITS:
        name, text = LIMITS[what]
        return f"{where}must be {text.format(error['ctx'][name])}, not {got}"
    return f"{where}expected {KINDS.get(what.split('_')[0], error['msg'])}, got {got}"


def _join(names):
    return ", ".join(sorted(map(str, names)))


def short(value, text=reprlib.repr):
    """A value as it may stand in a message: a few nodes of it, whatever a file made it."""
    return textwrap.shorten(text(value), 100, placeholder=" ...")


# --- what else is asked of a configuration


class Cell(Strict):
    """One run of a grid."""

    dataset: Dataset
    architecture: Architecture
    setup: Setup
    seed: Seed


def to_dict(config):
    """Plain lists and dicts, ready for JSON."""
    return config.model_dump(mode="json")


# keys that say which runs there are, and those no result depends on
GRID = ("datasets", "architectures", "setups", "seeds", "without")
MACHINE = ("device", "jobs", "fused_adam", "keep_memory", "compile", "cuda_graph", "channels_last", "deterministic", "loading",
           "checkpoint_seconds", "evaluation_batch", "data_root")  # fmt: skip
RUN_KEYS = ("image_size", "train_images", "test_images", "data_seed", "mask_seed", "mask_widths", "total_images", "batch_size",
            "perceptual_weights", "perceptual_width", "precision", "threads",
            "log_every")  # fmt: skip  # the stability measures are taken between log points


def run_settings(config, dataset, architecture, setup, seed):
    """What the result of one training run depends on, and nothing else: its identity."""
    values = to_dict(config)
    settings = {"dataset": dataset, "architecture": architecture, "setup": setup, "seed": seed}
    return settings | {key: values[key] for key in RUN_KEYS} | values["models"][architecture]
