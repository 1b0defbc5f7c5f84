"""Find test images that nearly equal a training image: they would test memory, not filling.

Images are reduced to 8 x 8 pixels, and pairs whose reduced colours correlate are reported. This
finds copies of another size, compression or brightness. It does not find crops, mirror images,
quarter turns, grey copies, or one scene from two places. An image of one colour matches nothing.
"""

import numpy as np
from PIL import Image

from ..study.command import make_printable

ALIKE = 0.97  # correlation; at most 0.963 in 2,560 x 128 pairs of drawn, aligned faces
ROWS = 256  # test images at a time


def find_pairs(pack):
    """Return (test row, row of the nearest training image) where both are nearly equal."""
    train, test, found = _reduced(pack.train), _reduced(pack.test), []
    for first in range(0, len(test), ROWS):
        alike = test[first : first + ROWS] @ train.T
        rows = np.flatnonzero(alike.max(axis=1) > ALIKE)
        found += [(first + int(row), int(alike[row].argmax())) for row in rows]
    return found


def _reduced(images):
    """Return (N,H,W,3) uint8 as (N, 192) vectors of length 1, without their mean colour."""
    box = Image.Resampling.BOX
    small = [np.asarray(Image.fromarray(image).resize((8, 8), box)) for image in images]
    small = np.array(small, np.float32)
    small = (small - small.mean((1, 2), keepdims=True)).reshape(len(small), -1)
    return small / np.linalg.norm(small, axis=1, keepdims=True).clip(1)


def name_files(pack, plan):
    """Return {split: the file name of each row, or "train image 3" where it is not known}."""
    skipped, found = pack.skipped(), {}
    for split, items in (("train", plan.train), ("test", plan.test)):
        left_out = set(skipped[skipped.split == split].file)
        there = [name for _, name in items if make_printable(name) not in left_out]
        n = pack.manifest["images"][split]
        found[split] = there if len(there) == n else [f"{split} image {k}" for k in range(n)]
    return found
