"""L1, L2 and PSNR per image, in the regions the protocol names.

Images are scaled to [0, 1]. L1 is the mean absolute and L2 the mean squared difference over the
pixels and channels of a region; PSNR = 10 log10(1 / L2) in dB per image, then averaged, capped at
PSNR_CAP for an image without error.

Regions: `hole`; `whole_composite` (output in the hole, truth elsewhere, over the whole image);
`visible` (the network's raw output on the known pixels; NaN where everything is hole).
"""

import copy

import numpy as np
import torch

from .losses import composite

torch.backends.cudnn.allow_tf32 = False  # float32 means float32, on CUDA too

METRICS = ("l1", "l2", "psnr")
REGIONS = ("hole", "whole_composite", "visible")
PSNR_CAP = 100.0  # dB


def to_float(images, device="cpu"):
    """Return (N,H,W,3) uint8, array or tensor, as (N,3,H,W) float32 in [-1, 1]."""
    images = torch.as_tensor(images).to(device, non_blocking=True)
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_uint8(images):
    """Return (N,3,H,W) float in [-1, 1] as an (N,H,W,3) uint8 array."""
    levels = images.float().add(1).mul(127.5).round().clamp(0, 255)
    return levels.byte().permute(0, 2, 3, 1).cpu().numpy()


def measure_images(output, real, mask):
    """Return all metrics of a batch: (B, len(REGIONS), len(METRICS)) float64.

    Images are (B,3,H,W) in [-1, 1], masks (B,1,H,W), 1 = hole, never empty.
    """
    whole = torch.ones_like(mask)
    cases = (output, mask), (composite(output, real, mask), whole), (output, 1 - mask)  # REGIONS
    return torch.stack([_errors(image, real, region) for image, region in cases], dim=1)


def _errors(image, real, region):
    error = (image.double() - real.double()) / 2 * region  # [-1, 1] -> [0, 1]
    count = 3 * region.double().sum((1, 2, 3))
    l1 = error.abs().sum((1, 2, 3)) / count
    l2 = error.square().sum((1, 2, 3)) / count
    psnr = (-10 * l2.log10()).clamp(max=PSNR_CAP)
    return torch.stack([l1, l2, psnr], dim=1)


def to_holes(masks, device):
    """Return (N,H,W) uint8 as (N,1,H,W) float32 on the device."""
    return torch.from_numpy(np.array(masks)).to(device).float()[:, None]


@torch.inference_mode()
def inpaint(generator, images, masks, device, batch_size):
    """Yield batches `(output, real, mask)` of a generator in eval mode, float32.

    images (N,H,W,3) uint8, masks (N,H,W) uint8, 1 = hole. The batches are on the device, or on the
    CPU if the device has no float64. Restores the generator's mode.
    """
    was_training = generator.training
    place = "cpu" if torch.device(device).type == "mps" else device
    generator.eval()
    try:
        for start in range(0, len(images), batch_size):
            real = to_float(np.array(images[start : start + batch_size]), device)
            mask = to_holes(masks[start : start + batch_size], device)
            output = generator(real * (1 - mask), mask)[-1]
            yield tuple(t.to(place) for t in (output, real, mask))
    finally:  # also if not all batches are taken
        generator.train(was_training)


def find_batch_norms(network):
    """Return the batch-norm layers of a network."""
    return [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]


@torch.no_grad()
def calibrate(generator, images, masks, device, batch_size):
    """Return a copy of a generator whose batch-norm statistics are of these images and holes.

    images (N,H,W,3) uint8, masks (N,H,W) uint8, 1 = hole. The running means of training mix hole
    sizes. The new statistics are means over batches of `batch_size` images or a few more, each
    normalised by itself, as in training.
    """
    copied = copy.deepcopy(generator).train()
    for layer in find_batch_norms(copied):
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean
    for part in np.array_split(np.arange(len(images)), max(1, len(images) // batch_size)):
        real, mask = to_float(images[part], device), to_holes(masks[part], device)
        copied(real * (1 - mask), mask)
    return copied.train(generator.training)


def measure_batches(batches):
    """Return the metrics of all images of `inpaint`: (N, regions, metrics) float64, on the CPU."""
    return torch.cat([measure_images(*batch) for batch in batches]).cpu()
