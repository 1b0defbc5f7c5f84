"""A run's training step on random images, for estimates and benchmarks."""

from dataclasses import replace

import numpy as np
import torch

from .. import setups
from ..data import feed
from . import loop
from .step import Step


def create_stepper(run, device, options, images=None):
    """Return a function that trains `run`'s networks by one step with the largest holes; `.fast` is
    its Step. images: (N,H,W,3) uint8, noise by default.
    """
    # random perceptual weights cost the same as VGG's
    training = run.config.training.model_copy(update={"perceptual_weights": "random"})
    config = run.config.model_copy(update={"training": training})
    run = replace(run, study=replace(run.study, config=config))
    size, curriculum = config.data.image_size, config.curriculum
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (256, size, size, 3), np.uint8)
    fast = Step(run, loop.create_state(run, device, options), device, options)
    images, steps = torch.from_numpy(images), range(2**31)
    fed = feed.load_batches(images, run.seed, steps, curriculum.batch_size, device, "resident")
    phase = setups.Phase(run.n_stages - 1, curriculum.mask_widths[-1], 1.0, 1.0)

    def step():
        fast(next(fed), loop.draw_hole_variates(run, fast.done), phase)

    step.fast = fast
    return step
