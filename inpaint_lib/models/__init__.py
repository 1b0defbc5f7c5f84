"""The networks: one file per architecture holds all of it, and `ARCHITECTURES` lists them."""

import inspect

import pandas as pd
import torch

from ..rng import derive_seed
from . import context_encoder, custom, free_form

ARCHITECTURES = {
    "custom": custom.ARCHITECTURE,
    "context_encoder": context_encoder.ARCHITECTURE,
    "free_form": free_form.ARCHITECTURE,
}


def create(architecture, image_size=128, seed=0, **widths):
    """Build `(generator, discriminator)` with weights that depend on `seed` alone.

    `widths` are the architecture's own keyword arguments (`width_names` lists them). Leaves the
    global random state as it was. Raises ValueError for an unknown architecture or width, or an
    image size the architecture does not take.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"unknown architecture {architecture!r}: choose one of {known}")
    known = list_widths(architecture)
    for name in widths:
        if name not in known:
            raise ValueError(f"{architecture} has no width {name!r}: it takes {', '.join(known)}")
    check_size(architecture, image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        return ARCHITECTURES[architecture].create(image_size=image_size, **widths)


def check_size(architecture, image_size):
    """Raise ValueError if the architecture does not take images of this side."""
    entry = ARCHITECTURES[architecture]
    if not 32 <= image_size <= 256 or not entry.accepts(image_size):
        raise ValueError(
            f"{architecture} takes image sizes 32 to 256, {entry.sizes}, not {image_size}"
        )


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

    Layers are the children of the network's containers, down to the first module that is not a
    container. `image_size` is the side of what the network reads.
    """
    rows = []

    def record(name, module):
        def hook(module, inputs, output):
            rows.append({"layer": name, **_describe(module, output)})

        return module.register_forward_hook(hook)

    hooks = [record(name, module) for name, module in _layers(network)]
    takes_mask = "mask" in inspect.signature(network.forward).parameters
    first = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    image = torch.zeros(1, 3 if takes_mask else first.in_channels, image_size, image_size)
    inputs = (image, torch.zeros(1, 1, image_size, image_size)) if takes_mask else (image,)
    was_training = network.training
    with torch.inference_mode():
        network.eval()(*inputs)
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return pd.DataFrame(rows)


def _describe(module, output):
    kinds = torch.nn.Conv2d | torch.nn.ConvTranspose2d
    conv = next((m for m in module.modules() if isinstance(m, kinds)), None)
    combined = isinstance(module, torch.nn.Sequential)
    return {
        "kind": "conv, norm, act." if combined else type(module).__name__,
        "kernel": f"{conv.kernel_size[0]}x{conv.kernel_size[1]}" if conv else "",
        "stride": str(conv.stride[0]) if conv else "",
        "output": " x ".join(map(str, output.shape[1:])),
        "parameters": n_parameters(module),
    }


def _layers(network, prefix=""):
    for name, module in network.named_children():
        path = f"{prefix}{name}"
        outermost = not prefix and isinstance(module, torch.nn.Sequential) and len(module)
        if outermost or isinstance(module, torch.nn.ModuleList):
            yield from _layers(module, f"{path}.")
        else:
            yield path, module
