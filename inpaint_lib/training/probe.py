"""Measures of networks in training mode, and batch norm's statistics.

Stability: the deviation of G's unweighted adversarial loss over the steps of the last stage, on one
fixed batch with the largest holes, divided by its deviation over batches with frozen networks. 1
means that the loss varies no more during training than from batch to batch.
"""

import contextlib

import numpy as np
import torch

from .. import losses, masks, metrics, rng
from ..data import packs

CALIBRATION = 320  # training images from which batch norm's statistics are taken
LEAST = 32  # of them in a batch


@contextlib.contextmanager
def use_training_mode(*networks):
    """Set networks to training mode; afterwards restore their modes and buffers."""
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
def measure_adversarial(G, D, objective, real, mask):
    """Return G's and D's unweighted adversarial losses as scalars on the device.

    real (B,3,H,W) in [-1, 1], mask (B,1,H,W).
    """
    d_loss, g_loss, _ = objective.adversarial
    with use_training_mode(G, D):
        fake_scores = _fake_scores(G, D, objective, real, mask)
        real_scores = losses.get_scores(D(objective.seen(real, real, mask)))
        return g_loss(fake_scores), d_loss(real_scores, fake_scores)


@torch.no_grad()
def measure_adversarial_g(G, D, objective, real, mask):
    """Return only G's loss of `measure_adversarial`."""
    with use_training_mode(G, D):
        return objective.adversarial[1](_fake_scores(G, D, objective, real, mask))


def _fake_scores(G, D, objective, real, mask):
    output = G(real * (1 - mask), mask)[-1]
    return losses.get_scores(D(objective.seen(output, real, mask)))


def measure_gradients(step, images, u, phase):
    """Return norms, ratio and cosine of the gradients of the two weighted parts of G's loss.

    `images`, `u` and `phase` are those of a Step. Neither `.grad` nor statistics of norms change.
    """
    G, D = step.state.G, step.state.D
    real, mask = step.inputs(*step.load(images, u, phase))
    with use_training_mode(G, D):
        terms = step.generator_losses(step.fill(G, real, mask), real, mask, D, step.vgg)
        weights, flat = tuple(G.parameters()), []
        for part in step.weighed(*terms):
            of = torch.autograd.grad(part, weights, retain_graph=True, materialize_grads=True)
            flat.append(torch.cat([gradient.flatten() for gradient in of]))
    adversarial, reconstruction = flat
    norms = adversarial.norm(), reconstruction.norm()
    cosine = (adversarial / norms[0]) @ (reconstruction / norms[1])
    values = torch.stack([*norms, norms[0] / norms[1], cosine]).tolist()
    names = ("grad_norm_adversarial", "grad_norm_reconstruction")
    return dict(zip((*names, "adversarial_share", "gradient_cosine"), values, strict=True))


def load_frozen_batch(run, pack, images, width, device):
    """Return some test images with their holes of a width: (B,3,H,W) in [-1, 1], (B,1,H,W)."""
    holes = pack.test_masks(run.model.mask_family, width, images)
    return metrics.to_float(np.array(pack.test[images]), device), metrics.to_holes(holes, device)


def load_fixed_batch(run, pack, device):
    """Return the batch of the probe, the first test images with the largest holes."""
    curriculum = run.config.curriculum
    first = slice(min(curriculum.batch_size, len(pack.test)))
    return load_frozen_batch(run, pack, first, curriculum.mask_widths[-1], device)


def measure_frozen_noise(run, pack, G, D, device):
    """Return the deviation of G's adversarial loss over training batches with frozen networks."""
    config, family, found = run.config, run.model.mask_family, []
    size, width = config.curriculum.batch_size, config.curriculum.mask_widths[-1]
    bank = packs.load_bank(run, family)
    for k in range(config.training.probe_batches):
        draw = rng.open_stream(run.seed, "probe", k)
        images = torch.randint(len(pack.train), (size,), generator=draw).numpy()
        holes = masks.generate(family, size, width, config.data.image_size, draw, bank).to(device)
        real = metrics.to_float(pack.train[images], device)
        found.append(measure_adversarial_g(G, D, run.architecture_entry.objective, real, holes))
    return float(torch.stack(found).double().std())


def spread_evenly(n, wanted):
    """Return `wanted` evenly spread indices of 0 .. n - 1, or all n if they are fewer."""
    return np.linspace(0, n - 1, min(n, wanted)).round().astype(int)


def calibrate_for(run, pack, generator, width, device, family=None):
    """Return the generator, or a copy with batch-norm statistics of holes of a width and family."""
    if not metrics.find_batch_norms(generator):
        return generator
    data, chosen = run.config.data, spread_evenly(len(pack.train), CALIBRATION)
    seed = rng.derive_seed(data.mask_seed, "calibration")
    family = family or run.model.mask_family
    bank = packs.load_bank(run, family)
    holes = masks.draw_test_masks(family, len(chosen), width, data.image_size, seed, bank)
    batch = max(run.config.curriculum.batch_size, LEAST)
    return metrics.calibrate(generator, pack.train[chosen], holes, device, batch)
