"""A run's training step alone, on made-up images: what the estimate and the benchmark time."""

from dataclasses import replace

import numpy as np
import torch

from .. import setups
from ..data import feed
from . import loop
from .step import Step

IMAGES = 256  # made-up ones


def stepper(run, device, levers, images=None):
    """A function that trains `run`'s networks by one step, full-size holes; `.fast` is its Step. The perceptual network has
    random weights, which cost the same. images (N,H,W,3) uint8, made up by default."""
    config = run.config.model_copy(update={"perceptual_weights": "random"})
    run = replace(run, study=replace(run.study, config=config))
    if images is None:
        images = made_up(IMAGES, config.image_size)
    fast = Step(run, loop.start(run, device, levers), device, levers)
    fed = feed.batches(torch.from_numpy(images), run.seed, range(2**31), config.batch_size, device, "resident")
    phase = setups.Phase(len(config.mask_widths) - 1, config.mask_widths[-1], 1.0, 1.0)

    def step():
        fast(next(fed), loop.hole_variates(run, fast.done), phase)

    step.fast = fast
    return step


def made_up(n, size):
    """(n, size, size, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)
