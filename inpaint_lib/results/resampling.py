"""Means over resampled test images: how precisely trained networks were measured."""

import functools

import numpy as np

RESAMPLES, BLOCK = 2000, 256  # a block of draws has BLOCK x images numbers


@functools.lru_cache(maxsize=2)
def _counts(n):
    """Return how often each of n images is drawn in every resample: (RESAMPLES, n) uint8."""
    rng, found = np.random.default_rng(0), []
    for start in range(0, RESAMPLES, BLOCK):
        drawn = rng.integers(n, size=(min(BLOCK, RESAMPLES - start), n))
        drawn += n * np.arange(len(drawn))[:, None]
        counts = np.bincount(drawn.ravel(), minlength=drawn.size)
        found.append(counts.reshape(drawn.shape).astype(np.uint8))
    return np.concatenate(found)


def resample_means(values):
    """Return the mean of each column of `values` (n, K) in every resample: (RESAMPLES, K). All
    calls with the same n share their draws."""
    counts = _counts(len(values))
    blocks = np.array_split(counts, -(-RESAMPLES // BLOCK))
    return np.concatenate([block.astype(np.float64) @ values for block in blocks]) / len(values)
