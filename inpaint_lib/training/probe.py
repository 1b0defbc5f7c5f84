"""What is measured with networks as they are in training: how calm the adversarial game is, batch norm's statistics, and what a
generator puts out with them.

Stability (protocol 2): the deviation of G's unweighted adversarial loss on one fixed batch with full-size holes over the steps
of the last stage, divided by its deviation over BATCHES batches with the final networks at rest. 1 means that nothing moves
beyond what one batch differs from another.
"""

import contextlib
import hashlib

import numpy as np
import torch

from .. import losses, masks, metrics, rng

BATCHES = 40  # at rest; and, evenly spread, steps of the last stage that are probed
CALIBRATION, LEAST = 320, 32  # training images that batch-norm statistics rest on, in batches of at least so many
REMEMBERED, SMALL = 32, 2**20  # sets of outputs in memory; of test sets of so many bytes at most
_outputs = {}


@contextlib.contextmanager
def _as_in_training(*networks):
    """Batch norm takes each batch's own statistics, spectral norm goes on; what a pass changes is put back."""
    modes = [network.training for network in networks]
    kept = [[(buffer, buffer.clone()) for buffer in network.buffers()] for network in networks]
    try:
        yield [network.train() for network in networks]
    finally:
        for network, mode, buffers in zip(networks, modes, kept, strict=True):
            network.train(mode)
            for buffer, value in buffers:
                buffer.copy_(value)


@torch.no_grad()
def adversarial(G, D, objective, real, mask):
    """The unweighted adversarial losses (G's, D's) on a batch: real (B,3,H,W) in [-1, 1], mask (B,1,H,W)."""
    d_loss, g_loss, _ = objective.adversarial
    with _as_in_training(G, D):
        output = G(real * (1 - mask), mask)[-1]
        real_scores, fake_scores = (losses.scores(D(objective.seen(image, real, mask))) for image in (real, output))
        return float(g_loss(fake_scores)), float(d_loss(real_scores, fake_scores))


def fixed_batch(run, pack, device):
    """The test images with full-size holes that are probed throughout: (real, mask)."""
    n = min(run.config.batch_size, len(pack.test))
    holes = pack.test_masks(run.model.mask_family, run.config.mask_widths[-1])[:n]
    return metrics.to_float(np.array(pack.test[:n]), device), torch.from_numpy(holes).to(device).float()[:, None]


def at_rest(run, pack, G, D, device):
    """Deviation of G's adversarial loss over BATCHES batches of training images, the networks being what they are."""
    config, objective, found = run.config, losses.OBJECTIVES[run.architecture], []
    for k in range(BATCHES):
        draw = rng.keyed(run.seed, "probe", k)
        images = torch.randint(len(pack.train), (config.batch_size,), generator=draw).numpy()
        holes = masks.generate(run.model.mask_family, config.batch_size, config.mask_widths[-1], config.image_size, draw)
        found.append(adversarial(G, D, objective, metrics.to_float(pack.train[images], device), holes.to(device))[0])
    return float(np.std(found, ddof=1))


def calibrated(run, pack, generator, width, device, family=None):
    """The generator with the batch-norm statistics of holes of one width and family (its own, unless another is named)."""
    if not metrics.batch_norms(generator):
        return generator
    spread = np.unique(np.linspace(0, len(pack.train) - 1, min(CALIBRATION, len(pack.train))).round().astype(int))
    seed = rng.seed_of(run.config.mask_seed, "calibration")
    holes = masks.frozen(family or run.model.mask_family, len(spread), width, run.config.image_size, seed)
    return metrics.calibrated(generator, pack.train[spread], holes, device, max(run.config.batch_size, LEAST))


def at_work(run, pack, generator, family, width, device, again=False):
    """What a generator, calibrated, puts out for all test images with the frozen holes of a family and width: batches
    `(output, real, mask)`, as of metrics.inpaint. `again`: it is asked once more in this process, as by a run's evaluation
    after its training; what was put out for a small test set is remembered until then."""

    def found():
        G, batch = calibrated(run, pack, generator, width, device, family), run.config.evaluation_batch
        return metrics.inpaint(G, pack.test, pack.test_masks(family, width), device, batch)

    if pack.test.nbytes > SMALL:
        return found()
    data = tuple(entry["sha256"] for entry in pack.manifest["files"].values())
    settings = run.config.batch_size, run.config.evaluation_batch, run.config.mask_seed
    key = run.architecture, _digest(generator), data, settings, family, width, str(device)
    if not again:
        return _outputs.pop(key, None) or found()
    _outputs[key] = list(found())
    for oldest in [*_outputs][:-REMEMBERED]:
        del _outputs[oldest]
    return _outputs[key]


def _digest(network):
    """Of all its weights; batch norm's statistics, which calibration sets, are left out."""
    set_anew = {id(buffer) for layer in metrics.batch_norms(network) for buffer in layer.buffers()}
    found = hashlib.sha256()
    for name, value in network.state_dict(keep_vars=True).items():
        if id(value) not in set_anew:
            found.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
