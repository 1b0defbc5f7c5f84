"""Load training images onto the device, in two ways that give the same batches.

`resident`: all images are in the device's memory (CelebA at 128 px: 9 GB), or in the CPU's memory
map. `prefetch`: a thread reads batches from disk, which are copied while the device computes.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from .. import rng
from ..study import processes

DEPTH = 3  # batches gathered ahead
SHARE = 0.5  # of the device's free memory that the images may take


def choose_loading(wanted, n_bytes, device):
    """Return 'resident' for 'auto' if `n_bytes` of images fit the device, else 'prefetch'."""
    if wanted != "auto":
        return wanted
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
    return "resident" if n_bytes < SHARE * free else "prefetch"


def map_images(pack):
    """Return the training images (N, H, W, 3) uint8 as a tensor over the memory map; read-only."""
    return torch.from_numpy(np.load(pack.folder / "train.npy", mmap_mode="c"))


def to_device(tensor, device):
    """Copy a tensor to a device; to CUDA from pinned memory, so that the CPU does not wait."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def load_batches(images, seed, steps, batch_size, device, loading):
    """Yield the images of each step, (batch_size, H, W, 3) uint8, chosen by seed and step."""

    def indices(step):
        return rng.draw_batch(seed, step, batch_size, len(images))

    def gather(step):
        batch = images.index_select(0, indices(step))
        return batch.pin_memory() if device.type == "cuda" else batch

    if loading == "resident":
        images = images.to(device)
        yield from (images[to_device(indices(step), device)] for step in steps)
        return
    with ThreadPoolExecutor(1) as pool:
        for batch in processes.run_in_order(pool, gather, zip(steps), DEPTH):
            yield batch.to(device, non_blocking=True)
