"""The entry at the end of every architecture's file; the training loop reads nothing else of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Objective(NamedTuple):
    """The losses of an architecture; the weights of the terms come from the configuration.

    seen(output, real, mask): the discriminator's input for an `output` (B,3,H,W); for real images
        it is `seen(real, real, mask)`.
    adversarial: (d_loss(real_scores, fake_scores), g_loss(fake_scores), boundary) over lists of
        score maps; a score above the boundary means "real".
    reconstruction(outputs, real, mask, perceptual, **options): {name: unweighted loss}.
    terms: the names that `reconstruction` returns. One named "perceptual" needs losses.Perceptual.
    options: {option of `reconstruction`: function that says whether a value is allowed}.
    """

    seen: Callable
    adversarial: tuple[Callable, Callable, float]
    reconstruction: Callable
    terms: tuple[str, ...]
    options: dict[str, Callable]


@dataclass(frozen=True)
class Architecture:
    """One architecture; its widths, rates and weights are models.<name> in the configuration."""

    about: str  # one sentence
    create: Callable  # (image_size, **widths) -> (generator, discriminator)
    objective: Objective
    mask_families: tuple[str, ...]  # holes it can fill, see masks.FAMILIES
    accepts: Callable[[int], bool]  # whether images may have this side
    sizes: str  # the same in words
    paper: tuple[tuple[str, str], ...] = ()  # (sentence of the paper or source, where it is here)
