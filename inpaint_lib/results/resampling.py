"""Intervals of means over test images, which are drawn anew: how well trained networks were
measured, never a verdict."""

import math

import numpy as np

RESAMPLES, BLOCK = 2000, 256  # a block of counts has BLOCK x groups numbers


def bootstrap(differences, groups):
    """Return the 95 % percentile interval of the mean of each column of `differences`: (low, high),
    arrays (K,).

    differences: (n,) or (n, K), a column per comparison. groups: n labels; images of a group are
    drawn together. The draws are made once for all columns; NaN for fewer than two groups."""
    differences = np.asarray(differences, float)
    columns = differences.reshape(len(differences), -1)
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n = len(sizes)
    if n < 2:
        return np.full(columns.shape[1], math.nan), np.full(columns.shape[1], math.nan)
    sums = np.zeros((n, columns.shape[1]))
    np.add.at(sums, group_of, columns)
    totals = np.concatenate([sums, sizes[:, None]], 1)  # the last column counts images
    rng, means = np.random.default_rng(0), []
    for start in range(0, RESAMPLES, BLOCK):
        drawn = rng.integers(n, size=(min(BLOCK, RESAMPLES - start), n))
        drawn += n * np.arange(len(drawn))[:, None]
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        found = counts.astype(np.float32) @ totals
        means.append(found[:, :-1] / found[:, -1:])
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5], axis=0)
    return low, high
