"""The architectures: one file per source, generator and discriminator together."""

import inspect

import torch

from ..rng import seed_of
from . import custom

ARCHITECTURES = {"custom": custom}


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
    if not 32 <= image_size <= 256 or image_size % module.STRIDE:
        raise ValueError(
            f"{architecture} takes image sizes 32 to 256 in multiples of {module.STRIDE}, not {image_size}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "weights"))
        return module.create(image_size=image_size, **widths)


def width_names(architecture):
    """The keyword arguments that scale an architecture."""
    return [name for name in inspect.signature(ARCHITECTURES[architecture].create).parameters if name != "image_size"]


def n_parameters(module):
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
