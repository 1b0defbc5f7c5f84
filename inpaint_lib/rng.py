"""Random streams addressed by key, so that a draw depends on what it is for and not on what was drawn before it."""

import hashlib
from functools import lru_cache

import torch


def seed_of(*key):
    """A 63-bit seed from any key of strings and integers: the same key gives the same seed on every machine."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


def keyed(*key):
    """A CPU `torch.Generator` seeded by `key`, e.g. `keyed(seed, "masks", step)`."""
    return torch.Generator().manual_seed(seed_of(*key))


def batch_indices(seed, step, batch_size, n_images):
    """The images of one training step: (batch_size,) int64.

    Steps walk through one random permutation per epoch, so every image is seen equally often. The result is a function of
    its arguments alone: every setup trained with the same seed sees the same images in the same order.
    """
    wanted = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = torch.unique(wanted // n_images).tolist()
    return torch.cat([_permutation(seed, e, n_images)[wanted[wanted // n_images == e] % n_images] for e in epochs])


@lru_cache(maxsize=4)
def _permutation(seed, epoch, n_images):
    return torch.randperm(n_images, generator=keyed(seed, "batches", epoch))
