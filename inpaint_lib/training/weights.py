"""Weights in files: find them by name, check them, start a run from them.

`initial_weights` of a configuration names a file. G starts from it, and D if the file has one;
optimisers and random streams start as always. A run's identity contains a hash of the values, not
the name. Nothing is unpickled.
"""

import contextlib
import functools
import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from .. import models
from ..losses import WeightsError
from ..study import files, grid

GENERATOR, DISCRIMINATOR, SNAPSHOT = "", "discriminator.", "snapshot."  # prefixes of keys
PUBLISHED = files.ROOT / "reports" / "published"
UNREAD = {
    FileNotFoundError: "does not exist: name a finished run's folder or a .safetensors file",
    IsADirectoryError: "is no finished run: finish it, or name a file stages/<n>.safetensors in it",
    PermissionError: "may not be read: ask its owner for access",
}


def find(name, option="--from", with_d=True):
    """Return the .safetensors file that a name means. Raises WeightsError, `option` first.

    A name is a file, a finished run's folder or its model/, a run as in
    "tiny/faces/custom/fixed/seed0", or a published network as in "small/faces/custom/fixed". For a
    run the file contains D, too, if `with_d`.
    """
    path, label = Path(os.path.expanduser(name)), f"{option} {str(name)[:300]}"
    study, *of = path.parts or [""]
    with _read(label):
        if len(of) == 3 and not path.exists() and (PUBLISHED / study).is_dir():
            path = PUBLISHED.joinpath(study, "networks", *of)
            if not path.is_dir():
                there = PUBLISHED.glob(f"{study}/networks/*/*/*/model.safetensors")
                there = sorted("/".join([study, *file.parts[-4:-1]]) for file in there)
                how = f"train it (./run_all.sh PROFILE --setups {of[2]})"
                choices = f"choose one of {', '.join(there) or 'none'}"
                raise WeightsError(f"{label} is not published: {how}, or {choices}")
        elif len(of) == 4 and not path.exists():
            path = grid.get_output_root() / "runs" / path
            if not path.exists():
                raise WeightsError(f"{label} means {path}, which does not exist: name a folder")
        found = [path / "model.safetensors", path / "model" / "model.safetensors"]
        found = next((file for file in found if file.is_file()), path)
        stages = path.glob("stages/*.safetensors") if with_d and found != path else ()
        return max(stages, key=lambda file: (len(file.name), file.name), default=found)


@contextlib.contextmanager
def open_weights(path, label):
    """Yield an open safetensors file. Raises WeightsError, `label` first."""
    with _read(label):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise WeightsError(f"{label} is not a regular file: name a .safetensors file")
        path.open("rb").close()  # safetensors gives no reason when it cannot open a file
        with safe_open(path, "pt", device="cpu") as file:
            yield file


@contextlib.contextmanager
def _read(label):
    try:
        yield
    except (SafetensorError, OSError) as error:
        why = f"is no safetensors file ({error}): pickles (.pt, .pth) are not opened"
        if getattr(error, "strerror", None):
            why = f"cannot be read ({error.strerror}): name another file"
        raise WeightsError(f"{label} {UNREAD.get(type(error), why)}") from None


def _list_layers(file, prefix):
    """Return {layer's name: key in the file} of one of its networks."""
    others = tuple({DISCRIMINATOR, SNAPSHOT} - {prefix})
    own = [k for k in file.keys() if k.startswith(prefix) and not k.startswith(others)]  # noqa: SIM118
    return {key.removeprefix(prefix): key for key in own}


def read_tensors(file, prefix):
    """Return the state dict of one network in a file; floating-point numbers become float32."""
    found = {name: file.get_tensor(key) for name, key in _list_layers(file, prefix).items()}
    return {name: t.float() if t.is_floating_point() else t for name, t in found.items()}


# --- the weights that a run starts from


def create_networks(run):
    """Return (G, D) of a run with weights drawn by its seed."""
    size = run.config.data.image_size
    return models.create(run.architecture, size, run.seed, **run.model.widths)


def check_initial(config):
    """Return a sentence on the given weights of a configuration, or None without any.

    Raises WeightsError if the file does not fit every architecture of the grid.
    """
    if not (name := config.initial_weights):
        return None
    label, size, misfits = f"--from {name}", config.data.image_size, {}
    with open_weights(path := find(name), label) as file:
        for architecture in config.grid.architectures:
            widths = config.models[architecture].widths
            misfits[architecture] = _misfit(models.create(architecture, size, **widths), file)
        fitting = [architecture for architecture, why in misfits.items() if not why]
        if fitting and len(misfits) > 1:
            what = f"fits {fitting[0]} only, the grid has {', '.join(misfits)}"
            raise WeightsError(f"{label} {what}: add --architectures {fitting[0]}")
        if not fitting:
            first, why = next(iter(misfits.items()))
            raise WeightsError(f"{label} does not fit {first} at {size} px: {why}")
        networks = {prefix: read_tensors(file, prefix) for prefix in (GENERATOR, DISCRIMINATOR)}
    for prefix, state in networks.items():
        for key, value in state.items():
            if not torch.isfinite(value).all():
                what = f"has a weight {prefix}{key} that is not finite"
                raise WeightsError(f"{label} {what}: use another run")
    of = "G and D start" if networks[DISCRIMINATOR] else "G starts (the file has no D)"
    return f"{of} from given weights, {path.name}, SHA-256 {hash_weights(name)[:12]}"


def _misfit(networks, file):
    """Return how a file differs from (G, D), or None if it fits; read only names and shapes."""
    for network, prefix in zip(networks, (GENERATOR, DISCRIMINATOR), strict=True):
        there, wanted = _list_layers(file, prefix), network.state_dict()
        if prefix == DISCRIMINATOR and not there:
            return None
        for name, value in wanted.items():
            if name not in there:
                return f"it has no layer {prefix}{name}"
            part, kind = file.get_slice(there[name]), "F" if value.is_floating_point() else "I"
            if tuple(part.get_shape()) != tuple(value.shape):
                shapes = (" x ".join(map(str, s)) for s in (part.get_shape(), value.shape))
                return "layer {}{} is {}, here {}".format(prefix, name, *shapes)
            if part.get_dtype().removeprefix("B")[0] != kind:
                return f"layer {prefix}{name} has numbers of type {part.get_dtype()}"
        if more := sorted(set(there) - set(wanted)):
            return f"the network has no layer {prefix}{more[0]}"
    return None


def hash_weights(name):
    """Return the SHA-256 of the weights that `initial_weights` names; None for ""."""
    if not name:
        return None
    path, changed = find(name), 0
    with contextlib.suppress(OSError):  # `open_weights` explains it
        changed = path.stat().st_mtime_ns
    return _digest(path, changed)


@functools.lru_cache
def _digest(path, _):
    found = hashlib.sha256()
    with open_weights(path, f"--from {path}") as file:
        for prefix in (GENERATOR, DISCRIMINATOR):
            for name, value in sorted(read_tensors(file, prefix).items()):
                found.update(f"{prefix}{name} {tuple(value.shape)}\n".encode())
                found.update(value.contiguous().numpy().tobytes())
    return found.hexdigest()


def create_initial(run):
    """Return (G, D) with a run's initial weights, drawn or given. Raises WeightsError."""
    networks = create_networks(run)
    if name := run.config.initial_weights:
        label = f"--from {name}"
        with open_weights(find(name), label) as file:
            if why := _misfit(networks, file):
                raise WeightsError(f"{label} does not fit {run.architecture}: {why}")
            for network, prefix in zip(networks, (GENERATOR, DISCRIMINATOR), strict=True):
                if state := read_tensors(file, prefix):
                    network.load_state_dict(state)
    return networks
