"""Random streams with keys: a draw depends on what it is for, not on what was drawn before it."""

import hashlib
from functools import lru_cache

import torch


def derive_seed(*key):
    """Return a 63-bit seed for a key of strings and integers, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def open_stream(*key):
    """Return a CPU `torch.Generator` seeded by `key`, e.g. `keyed(seed, "masks", step)`."""
    return torch.Generator().manual_seed(derive_seed(*key))


def draw_batch(seed, step, batch_size, n_images):
    """Return the images of one training step: (batch_size,) int64.

    Steps walk through one random permutation per epoch, so every image is seen equally often.
    Setups trained with the same seed see the same images in the same order, because the result
    depends on the arguments alone.
    """
    wanted = torch.arange(step * batch_size, (step + 1) * batch_size)
    epoch, place = wanted // n_images, wanted % n_images
    epochs = torch.unique(epoch).tolist()
    return torch.cat([_permutation(seed, e, n_images)[place[epoch == e]] for e in epochs])


@lru_cache(maxsize=4)
def _permutation(seed, epoch, n_images):
    return torch.randperm(n_images, generator=open_stream(seed, "batches", epoch))
