"""Random streams with keys: a draw depends on its purpose, not on earlier draws."""

import hashlib
from functools import lru_cache

import torch


def derive_seed(*key):
    """Return a 63-bit seed for a key of strings and integers, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def open_stream(*key):
    """Return a CPU `torch.Generator` seeded by `key`, e.g. `open_stream(seed, "masks", step)`."""
    return torch.Generator().manual_seed(derive_seed(*key))


def draw_batch(seed, step, batch_size, n_images):
    """Return the indices of the images of one training step: (batch_size,) int64.

    Each epoch is a random permutation, so every image is seen equally often. The result depends on
    the arguments alone, so all setups of one seed see the same images in the same order.
    """
    wanted = torch.arange(step * batch_size, (step + 1) * batch_size)
    epoch, place = wanted // n_images, wanted % n_images
    epochs = torch.unique(epoch).tolist()
    return torch.cat([_permutation(seed, e, n_images)[place[epoch == e]] for e in epochs])


@lru_cache(maxsize=4)
def _permutation(seed, epoch, n_images):
    return torch.randperm(n_images, generator=open_stream(seed, "batches", epoch))
