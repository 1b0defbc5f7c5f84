"""One profile in, one frozen configuration out; unknown, missing and ill-typed keys fail by name."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import reprlib
import textwrap
import typing
import warnings
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Model:
    """How one architecture is built and trained."""

    widths: dict  # keyword arguments of the architecture's create()
    mask_family: str  # holes it is trained with
    lr_g: float
    lr_d: float
    betas: tuple[float, float]  # Adam
    loss_weights: dict[str, float]  # "adversarial" and the objective's own terms
    loss_options: dict  # what else the objective takes


@dataclass(frozen=True)
class Config:
    """A profile: everything a study depends on. config/tiny.yaml comments every key."""

    datasets: tuple[str, ...]
    architectures: tuple[str, ...]
    setups: tuple[str, ...]
    seeds: tuple[int, ...]
    data_root: str
    image_size: int
    train_images: int
    test_images: int
    data_seed: int
    mask_seed: int
    mask_widths: tuple[int, ...]
    total_images: int
    batch_size: int
    models: dict[str, Model]
    perceptual_weights: str
    perceptual_width: int
    inception_weights: str
    lpips_weights: str
    fid_stages: str
    slow_baseline_images: int
    device: str
    precision: str
    fused_adam: str
    keep_memory: str
    compile: str
    cuda_graph: str
    deterministic: str
    loading: str
    threads: int
    jobs: int
    log_every: int
    checkpoint_seconds: float
    evaluation_batch: int

    @property
    def steps(self):
        return self.total_images // self.batch_size


class ConfigError(ValueError):
    """A setting is wrong; the message, one line, names the key and how to mend it."""

    def __str__(self):
        return textwrap.shorten(super().__str__(), 1000, placeholder=" ...")


def profiles():
    return sorted(p.stem for p in (ROOT / "config").glob("*.yaml") if p.stem != "hypotheses")


def load(profile, overrides=None):
    """Read config/<profile>.yaml (or a path to a YAML file), apply `overrides` {"dotted.key": value}, validate.

    Raises ConfigError with the file and the key.
    """
    path = Path(profile) if str(profile).endswith((".yaml", ".yml")) else ROOT / "config" / f"{profile}.yaml"
    if not os.path.isfile(path) or profile == "hypotheses":
        raise ConfigError(f"no profile {short(str(profile))}: choose one of {', '.join(profiles())}")
    data = read_yaml(path)
    try:
        for key, value in (overrides or {}).items():
            _override(data, key, value)
        config = _build(Config, data, path.name)
        _validate(config, path.name)
    except ValueError as error:  # besides ConfigError: a number of more digits than Python writes out
        raise error if isinstance(error, ConfigError) else ConfigError(f"{path.name}: {error}") from None
    return config


def read_yaml(path):
    """The value of a YAML file. Raises ConfigError."""
    try:
        return yaml.safe_load(path.read_text())
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


def _build(kind, data, where):
    if dataclasses.is_dataclass(kind):
        if not isinstance(data, dict):
            raise ConfigError(f"{where}: expected keys and values, got {short(data)}")
        fields = typing.get_type_hints(kind)
        if unknown := sorted(set(map(str, data)) - set(fields)):
            raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known are: {_join(fields)}")
        if missing := [name for name in fields if name not in data]:
            raise ConfigError(f"{where}: key {missing[0]!r} is missing")
        dot = ": " if kind is Config else "."
        return kind(**{name: _build(t, data[name], f"{where}{dot}{name}") for name, t in fields.items()})
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        data = data if isinstance(data, list | tuple) else [data]
        if len(args) == 2 and args[1] is not Ellipsis and len(data) != 2:
            raise ConfigError(f"{where}: expected two values, got {short(data)}")
        return tuple(_build(args[0], item, where) for item in data)
    if origin is dict:
        if not isinstance(data, dict):
            raise ConfigError(f"{where}: expected keys and values, got {short(data)}")
        return {key: _build(args[1], value, f"{where}.{key}") for key, value in data.items()}
    return _scalar(kind, data, where)


def _scalar(kind, data, where):
    if kind is float and not isinstance(data, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            if math.isfinite(float(data)):
                return float(data)  # YAML 1.1 reads 1e-4 as text
    elif kind is str and isinstance(data, bool):
        return "on" if data else "off"  # YAML 1.1 reads these two words so
    elif isinstance(data, kind) and not (kind is int and (isinstance(data, bool) or abs(data) >= 2**63)):
        return data
    expected = {int: "a whole number", float: "a number", str: "text"}.get(kind, "keys and values")
    raise ConfigError(f"{where}: expected {expected}, got {short(data)}")


def _join(names):
    return ", ".join(sorted(map(str, names)))


def short(value, text=reprlib.repr):
    """A value as it may stand in a message: a few nodes of it, whatever a file made it."""
    return textwrap.shorten(text(value), 100, placeholder=" ...")


def _known(where, key, names, registry):
    if not names or len(names) != len(set(names)):
        raise ConfigError(f"{where}: {key}: give at least one name, each once")
    for name in names:
        if name not in registry:
            listed = _join(registry) if not isinstance(registry, range) else f"0 to {registry[-1]}"
            raise ConfigError(f"{where}: {key}: no {short(name)}; there are: {listed}")


def check_cell(dataset, architecture, setup, seed):
    """Raise ConfigError naming what of these there is not."""
    from . import models, setups, sources

    for key, name, registry in (("dataset", dataset, sources.DATASETS), ("architecture", architecture, models.ARCHITECTURES),
                                ("setup", setup, setups.SETUPS), ("seed", seed, range(2**31))):  # fmt: skip
        _known("parameters", key, (name,), registry)


def _validate(config, where):
    import torch

    from . import losses, models, setups, sources

    def require(condition, message):
        if not condition:
            raise ConfigError(f"{where}: {message}")

    known = functools.partial(_known, where)
    known("datasets", config.datasets, sources.DATASETS)
    known("architectures", config.architectures, models.ARCHITECTURES)
    known("setups", config.setups, setups.SETUPS)
    kind, _, number = config.device.partition(":")
    known("device", (kind,), ("auto", "cpu", "cuda", "mps"))
    index = number.isascii() and number.isdigit()
    require(index or config.device == kind, f"device: {config.device!r} is none; write cuda:0, for example")
    known("precision", (config.precision,), ("auto", "float32", "bfloat16"))
    known("lpips_weights", (config.lpips_weights,), ("auto", "none"))
    for lever in ("fused_adam", "keep_memory", "compile", "cuda_graph", "deterministic"):
        known(lever, (getattr(config, lever),), ("auto", "on", "off"))
    known("fid_stages", (config.fid_stages,), ("last", "all"))
    known("loading", (config.loading,), ("auto", "resident", "prefetch"))
    known("seeds", config.seeds, range(2**31))
    known("data_seed", (config.data_seed,), range(2**31))
    require(config.log_every >= 2, "log_every: must be 2 or more: the spread of losses is taken between log points")
    require(config.checkpoint_seconds >= 0, "checkpoint_seconds: must be 0 or more")
    vgg = config.perceptual_weights
    require(vgg == "random" or config.perceptual_width == 64, "perceptual_width: only 'random' weights take other than 64")
    require(
        vgg in ("random", "torchvision") or os.path.isfile(vgg),
        f"perceptual_weights: no file {vgg}; name one, or 'torchvision', or 'random'",
    )
    require(
        config.inception_weights in ("auto", "random") or os.path.isfile(config.inception_weights),
        f"inception_weights: no file {config.inception_weights}; name one, or 'auto', or 'random'",
    )
    for key in (
        "train_images",
        "test_images",
        "total_images",
        "batch_size",
        "threads",
        "jobs",
        "perceptual_width",
        "slow_baseline_images",
        "evaluation_batch",
    ):
        require(getattr(config, key) >= 1, f"{key}: must be 1 or more, not {getattr(config, key)}")
    require(config.batch_size <= config.train_images, "batch_size: larger than train_images")
    require(config.total_images % config.batch_size == 0, "total_images: not a multiple of batch_size")
    stages = len(config.mask_widths)
    require(
        stages and config.steps % stages == 0,
        f"total_images / batch_size = {config.steps} steps do not divide "
        f"into {stages} stages of equal length (one per mask width)",
    )
    require(list(config.mask_widths) == sorted(set(config.mask_widths)), "mask_widths: must grow")
    require(
        1 <= config.mask_widths[0] and config.mask_widths[-1] <= config.image_size,
        f"mask_widths: must lie in 1 .. image_size ({config.image_size})",
    )
    for name, model in config.models.items():
        known("models", (name,), models.ARCHITECTURES)
        key, objective = f"models.{name}", losses.OBJECTIVES[name]
        known(f"{key}.mask_family", (model.mask_family,), models.ARCHITECTURES[name].MASK_FAMILIES)
        terms = ("adversarial", *objective.terms)
        require(set(model.loss_weights) == set(terms), f"{key}.loss_weights: give exactly {_join(terms)}")
        for term, weight in model.loss_weights.items():
            require(weight >= 0, f"{key}.loss_weights.{term}: must be 0 or more, not {weight!r}")
        require(model.lr_g > 0 and model.lr_d > 0, f"{key}: lr_g and lr_d must be above 0")
        require(all(0 <= beta < 1 for beta in model.betas), f"{key}.betas: must be at least 0 and below 1")
        require(
            set(model.loss_options) == set(objective.options), f"{key}.loss_options: give exactly {_join(objective.options)}"
        )
        for option, value in model.loss_options.items():
            require(objective.options[option](value), f"{key}.loss_options.{option}: {value!r} is not possible")
        for width in model.widths:  # which values they take, the model itself says below
            require(
                width in models.width_names(name), f"{key}.widths: no {width!r}; there are: {_join(models.width_names(name))}"
            )
    for name in config.architectures:
        require(name in config.models, f"models: no section for architecture {name!r}")
        try:
            models.check_size(name, config.image_size)
        except ValueError as error:
            require(False, f"image_size: {error}")
        try:
            with torch.device("meta"), warnings.catch_warnings(action="ignore"):  # shapes only: nothing is computed
                networks = models.create(name, config.image_size, **config.models[name].widths)
            if not all(p.numel() for network in networks for p in network.parameters()):
                raise ValueError("a layer would have no filters")
        except Exception as error:
            found = short(config.models[name].widths)
            require(False, f"models.{name}.widths: no network can be built of {found}: {textwrap.shorten(str(error), 300)}")
        require(
            config.models[name].mask_family != "center" or config.mask_widths[-1] <= config.image_size // 2,
            f"mask_widths: {name} fills holes up to half the image ({config.image_size // 2} px)",
        )


def to_dict(config):
    """Plain lists and dicts, ready for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def run_settings(config, dataset, architecture, setup, seed):
    """What the result of one training run depends on, and nothing else: its identity."""
    model = config.models[architecture]
    shared = (
        "image_size",
        "train_images",
        "test_images",
        "data_seed",
        "mask_seed",
        "mask_widths",
        "total_images",
        "batch_size",
        "perceptual_weights",
        "perceptual_width",
        "precision",
        "threads",
        "log_every",  # the stability measures are taken between log points
    )
    settings = {"dataset": dataset, "architecture": architecture, "setup": setup, "seed": seed}
    settings |= {key: getattr(config, key) for key in shared} | dataclasses.asdict(model)
    return json.loads(json.dumps(settings))
