"""The architectures: one file per source, generator and discriminator together."""

import inspect

import pandas as pd
import torch

from ..rng import seed_of
from . import context_encoder, custom, free_form

ARCHITECTURES = {"custom": custom, "context_encoder": context_encoder, "free_form": free_form}


def create(architecture, image_size=128, seed=0, **widths):
    """Build `(generator, discriminator)` with weights that depend on `seed` alone, leaving the global RNG as it was.

    `widths` are the architecture's own keyword arguments (`width_names` lists them). Raises ValueError for an unknown
    architecture or width, or an image size the architecture does not take.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: choose one of {', '.join(ARCHITECTURES)}")
    module = ARCHITECTURES[architecture]
    if unknown := set(widths) - set(width_names(architecture)):
        raise ValueError(f"{architecture} has no width {sorted(unknown)[0]!r}: it takes {width_names(architecture)}")
    check_size(architecture, image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "weights"))
        return module.create(image_size=image_size, **widths)


def check_size(architecture, image_size):
    """Raise ValueError if the architecture does not take images of this side."""
    module = ARCHITECTURES[architecture]
    if not 32 <= image_size <= 256 or not module.accepts(image_size):
        raise ValueError(f"{architecture} takes image sizes 32 to 256, {module.SIZES}, not {image_size}")


def width_names(architecture):
    """The keyword arguments that scale an architecture."""
    return [name for name in inspect.signature(ARCHITECTURES[architecture].create).parameters if name != "image_size"]


def central(architecture):
    """Whether it puts out the central half of the image alone."""
    return ARCHITECTURES[architecture].MASK_FAMILIES == ("center",)


def n_parameters(module):
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def layer_table(network, image_size):
    """What each layer of a network puts out for one image: a DataFrame with layer, kernel, stride, output shape, parameters.

    Layers are the children of the network's containers, down to the first module that is no container.
    """
    rows = []

    def record(name, module):
        def hook(module, inputs, output):
            conv = next((m for m in module.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)), None)
            rows.append(
                {
                    "layer": name,
                    "kind": "conv, norm, act." if isinstance(module, torch.nn.Sequential) else type(module).__name__,
                    "kernel": f"{conv.kernel_size[0]}x{conv.kernel_size[1]}" if conv else "",
                    "stride": str(conv.stride[0]) if conv else "",
                    "output": " x ".join(map(str, output.shape[1:])),
                    "parameters": n_parameters(module),
                }
            )

        return module.register_forward_hook(hook)

    hooks = [record(name, module) for name, module in _layers(network)]
    takes_mask = "mask" in inspect.signature(network.forward).parameters
    image = torch.zeros(1, 3 if takes_mask else _input_channels(network), image_size, image_size)
    inputs = (image, torch.zeros(1, 1, image_size, image_size)) if takes_mask else (image,)
    was_training = network.training
    with torch.inference_mode():
        network.eval()(*inputs)
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return pd.DataFrame(rows)


def _input_channels(network):
    return next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d)).in_channels


def _layers(network, prefix=""):
    for name, module in network.named_children():
        path = f"{prefix}{name}"
        children = list(module.children())
        if isinstance(module, torch.nn.ModuleList) or (
            children and len(prefix) == 0 and isinstance(module, torch.nn.Sequential)
        ):
            yield from _layers(module, f"{path}.")
        else:
            yield path, module
