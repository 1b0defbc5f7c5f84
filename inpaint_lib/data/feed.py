"""How a pack's training images reach the device: no loader process, the same batches in the same order either way.

`resident`: the whole set lies on the device as uint8 (CelebA at 128 px: 9 GB) and a batch is one gather there. On the CPU the
memory map itself serves. `prefetch`: the set stays on disk or in the host's page cache; a thread gathers the next batches into
pinned memory and they are copied while the device works.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from .. import rng
from ..study import ahead

DEPTH = 3  # batches gathered ahead
SHARE = 0.5  # of the device's free memory that the images may take


def choose_loading(wanted, n_bytes, device):
    """'auto' -> 'resident' if `n_bytes` of images fit the device beside a training, else 'prefetch'."""
    if wanted != "auto":
        return wanted
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
    return "resident" if n_bytes < SHARE * free else "prefetch"


def mapped(pack):
    """The training images (N, H, W, 3) uint8 as a tensor over the memory map: nothing is read yet. Not to be written to."""
    return torch.from_numpy(np.load(pack.folder / "train.npy", mmap_mode="c"))


def to_device(tensor, device):
    """A tensor on a device. To CUDA it goes from pinned memory: from any other the host waits for all work queued there."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def batches(images, seed, steps, batch_size, device, loading):
    """Yield the images of each of `steps` (a range), (batch_size, H, W, 3) uint8 on `device`.

    Which they are depends on the seed and the step alone (rng.batch_indices).
    """
    if loading == "resident":
        images = images.to(device)
        for step in steps:
            yield images[to_device(rng.batch_indices(seed, step, batch_size, len(images)), device)]
        return

    def gather(step):
        batch = torch.empty(batch_size, *images.shape[1:], dtype=torch.uint8, pin_memory=device.type == "cuda")
        return torch.index_select(images, 0, rng.batch_indices(seed, step, batch_size, len(images)), out=batch)

    with ThreadPoolExecutor(1) as pool:
        for batch in ahead.in_order(pool, gather, zip(steps), DEPTH):
            yield batch.to(device, non_blocking=True)  # pinned already
