"""Measures that need networks as they are in training, and batch norm's statistics.

Stability (protocol 2): the deviation of G's unweighted adversarial loss on one fixed batch with the
largest holes over the steps of the last stage, divided by its deviation over batches with the final
networks frozen. 1 means that nothing moves beyond what one batch differs from another.
"""

import contextlib

import numpy as np
import torch

from .. import losses, masks, metrics, rng

CALIBRATION = 320  # training images from which batch norm's statistics are taken
LEAST = 32  # of them in a batch


@contextlib.contextmanager
def _as_in_training(*networks):
    """Let norms behave as in training; then put back modes and what a pass changed."""
    modes = [network.training for network in networks]
    kept = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    try:
        for network in networks:
            network.train()
        yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)
        for buffer, value in kept:
            buffer.copy_(value)


@torch.no_grad()
def adversarial(G, D, objective, real, mask):
    """Return G's and D's unweighted adversarial losses: real (B,3,H,W), mask (B,1,H,W)."""
    d_loss, g_loss, _ = objective.adversarial
    with _as_in_training(G, D):
        output = G(real * (1 - mask), mask)[-1]
        real_scores, fake_scores = (
            losses.scores(D(objective.seen(image, real, mask))) for image in (real, output)
        )
        return float(g_loss(fake_scores)), float(d_loss(real_scores, fake_scores))


def fixed_batch(run, pack, device):
    """Return the test images with the largest holes that are probed throughout: (real, mask)."""
    curriculum = run.config.curriculum
    n = min(curriculum.batch_size, len(pack.test))
    holes = pack.test_masks(run.model.mask_family, curriculum.mask_widths[-1], slice(n))
    real = metrics.to_float(np.array(pack.test[:n]), device)
    return real, torch.from_numpy(np.array(holes)).to(device).float()[:, None]


def frozen_noise(run, pack, G, D, device):
    """Return the deviation of G's adversarial loss over training batches, networks frozen."""
    config, family, found = run.config, run.model.mask_family, []
    size, width = config.curriculum.batch_size, config.curriculum.mask_widths[-1]
    for k in range(config.training.probe_batches):
        draw = rng.keyed(run.seed, "probe", k)
        images = torch.randint(len(pack.train), (size,), generator=draw).numpy()
        holes = masks.generate(family, size, width, config.data.image_size, draw).to(device)
        real = metrics.to_float(pack.train[images], device)
        found.append(adversarial(G, D, run.architecture_entry.objective, real, holes)[0])
    return float(np.std(found, ddof=1))


def calibrated(run, pack, generator, width, device, family=None):
    """Return the generator with batch norm's statistics of holes of a width and family."""
    if not metrics.batch_norms(generator):
        return generator
    data, n = run.config.data, min(CALIBRATION, len(pack.train))
    spread = np.unique(np.linspace(0, len(pack.train) - 1, n).round().astype(int))
    seed = rng.seed_of(data.mask_seed, "calibration")
    family = family or run.model.mask_family
    holes = masks.frozen(family, len(spread), width, data.image_size, seed)
    batch = max(run.config.curriculum.batch_size, LEAST)
    return metrics.calibrated(generator, pack.train[spread], holes, device, batch)
