"""The networks: one file per architecture; `ARCHITECTURES` lists them."""

import copy
import inspect

import pandas as pd
import torch

from ..rng import derive_seed
from . import context_encoder, custom, free_form, layers

ARCHITECTURES = {
    "custom": custom.ARCHITECTURE,
    "context_encoder": context_encoder.ARCHITECTURE,
    "free_form": free_form.ARCHITECTURE,
}


def create(architecture, image_size=128, seed=0, **widths):
    """Build `(generator, discriminator)` with weights that depend on `seed` alone.

    `widths` are the architecture's own keyword arguments (see `list_widths`). Restores the global
    random state. Raises ValueError for an unknown architecture or width, and for an image size that
    the architecture does not take.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"unknown architecture {architecture!r}: choose one of {known}")
    known = list_widths(architecture)
    for name in widths:
        if name not in known:
            raise ValueError(f"{architecture} has no width {name!r}: it takes {', '.join(known)}")
    entry = ARCHITECTURES[architecture]
    if not 32 <= image_size <= 256 or not entry.accepts(image_size):
        sizes = f"sizes 32 to 256, {entry.sizes}"
        raise ValueError(f"{architecture} takes image {sizes}, not {image_size}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return entry.create(image_size=image_size, **widths)


def list_widths(architecture):
    """Return the names of the keyword arguments that scale an architecture."""
    parameters = inspect.signature(ARCHITECTURES[architecture].create).parameters
    return [name for name in parameters if name != "image_size"]


def is_central(architecture):
    """Return whether the architecture fills central holes only."""
    return ARCHITECTURES[architecture].mask_families == ("center",)


def n_parameters(module):
    """Return the number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def layer_table(network, image_size):
    """Return a DataFrame of the layers: kernel, stride, output shape for one image, parameters.

    `image_size` is the side of the network's input. The network is left as it was.
    """
    network, rows = copy.deepcopy(network).eval(), []
    for name, module in _layers(network):
        module.register_forward_hook(
            lambda module, _, output, name=name: rows.append(_describe(name, module, output))
        )
    takes_mask = "mask" in inspect.signature(network.forward).parameters
    first = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    image = torch.zeros(1, 3 if takes_mask else first.in_channels, image_size, image_size)
    inputs = (image, torch.zeros(1, 1, image_size, image_size)) if takes_mask else (image,)
    with torch.inference_mode():
        network(*inputs)
    return pd.DataFrame(rows)


def _describe(name, module, output):
    conv = next((m for m in module.modules() if isinstance(m, layers.CONVOLUTIONS)), None)
    combined = isinstance(module, torch.nn.Sequential)
    return {
        "layer": name,
        "kind": "conv, norm, act." if combined else type(module).__name__,
        "kernel": f"{conv.kernel_size[0]}x{conv.kernel_size[1]}" if conv else "",
        "stride": str(conv.stride[0]) if conv else "",
        "output": " x ".join(map(str, output.shape[1:])),
        "parameters": n_parameters(module),
    }


def _layers(network, prefix=""):
    """Yield (name, module) of the children of containers, down to the first that is none."""
    for name, module in network.named_children():
        path = f"{prefix}{name}"
        outermost = not prefix and isinstance(module, torch.nn.Sequential) and len(module)
        if outermost or isinstance(module, torch.nn.ModuleList):
            yield from _layers(module, f"{path}.")
        else:
            yield path, module
