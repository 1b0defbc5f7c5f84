"""Find test images that nearly equal a training image: such a test measures memory.

A difference hash says for each of 8 x 8 places of a reduced grey image whether it grows brighter to
the right. Where two hashes are nearly the same, reduced colour images are compared. That finds
copies of other size, compression or brightness, or cut by a few per cent; not larger cuts, mirror
images and quarter turns, nor one scene from two places.
"""

import numpy as np
from PIL import Image

from ..study.command import printable

BITS = 8  # of the hash's 64 that may differ
APART = 0.2  # mean difference of reduced images, in units of their deviation


def pairs(pack):
    """Return (test row, row of the nearest training image) where both are nearly equal."""
    train, found = hashes(pack.train), []
    for row, digest in enumerate(hashes(pack.test)):
        near = np.flatnonzero(np.bitwise_count(train ^ digest) <= BITS)
        if len(near):
            there, here = _reduced(pack.train[near]), _reduced(pack.test[row : row + 1])
            apart = np.abs(there - here).mean((1, 2, 3))
            found += [(row, int(near[apart.argmin()]))] * bool(apart.min() < APART)
    return found


def hashes(images):
    """Return the difference hashes of (N,H,W,3) uint8: (N,) uint64."""
    brighter = np.diff(_shrunk(images, (9, 8), "L"), axis=2) > 0
    return np.packbits(brighter.reshape(len(images), 64), axis=1).view(np.uint64)[:, 0]


def _reduced(images):
    """Return images as (N,8,8,3), without their mean colour, of deviation 1."""
    small = _shrunk(images, (8, 8), "RGB")
    small -= small.mean((1, 2), keepdims=True)
    return small / small.std((1, 2, 3), keepdims=True).clip(1)


def _shrunk(images, size, mode):
    box = Image.Resampling.BOX
    small = [Image.fromarray(image).convert(mode).resize(size, box) for image in images]
    return np.array([np.asarray(image) for image in small], float)


def names(pack, plan):
    """Return {split: the file of each row}; a row's number where that is not known."""
    skipped, found = pack.skipped(), {}
    for split, items in (("train", plan.train), ("test", plan.test)):
        left_out = set(skipped[skipped.split == split].file)
        there = [name for _, name in items if printable(name) not in left_out]
        n = pack.manifest["images"][split]
        found[split] = there if len(there) == n else [f"{split} image {k}" for k in range(n)]
    return found
