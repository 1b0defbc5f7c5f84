"""Random streams addressed by key, so that a draw depends on what it is for and not on what was drawn before it."""

import hashlib

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
    first = step * batch_size
    wanted = torch.arange(first, first + batch_size)
    epochs = {
        int(e): torch.randperm(n_images, generator=keyed(seed, "batches", int(e))) for e in torch.unique(wanted // n_images)
    }
    return torch.stack([epochs[int(w) // n_images][int(w) % n_images] for w in wanted])
