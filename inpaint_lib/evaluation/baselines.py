"""Baselines: fills that need no training, so that the networks' numbers mean something.

Each maps an image (H,W,3) uint8 and a mask (H,W) bool, True = hole, to the filled image. OpenCV's
read the pixels under the mask where a hole comes near the image's upper or left border; so the
image gets a margin that counts as hole too.
"""

import itertools

import cv2
import numpy as np
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from ..study import processes

RADIUS = 3  # of OpenCV's, pixels
IMAGES_PER_WORKER = 1000  # another process pays off for each so many
DEPTH = 16  # batches given to the processes ahead


def mean_colour(image, mask):
    """Return the image with the mean colour of the known pixels in the hole."""
    return np.where(mask[..., None], image[~mask].mean(0).round().astype(np.uint8), image)


def nearest(image, mask):
    """Return the image with the nearest known pixel's colour in the hole."""
    places = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    return image[tuple(places)]


def biharmonic(image, mask):
    """Return the image with the biharmonic equation's solution in it (Damelin & Hoang 2018)."""
    filled = inpaint_biharmonic(image / 255, mask, channel_axis=-1)
    return np.where(mask[..., None], (filled * 255).round().clip(0, 255).astype(np.uint8), image)


def telea(image, mask):
    """Return the image filled by fast marching (Telea 2004)."""
    return _opencv(image, mask, cv2.INPAINT_TELEA)


def navier_stokes(image, mask):
    """Return the image filled by Navier-Stokes flow (Bertalmio et al. 2001)."""
    return _opencv(image, mask, cv2.INPAINT_NS)


def _opencv(image, mask, method):
    margin = RADIUS + 1
    image = np.pad(image, ((margin, margin), (margin, margin), (0, 0)))
    mask = np.pad(mask, margin, constant_values=True).astype(np.uint8)
    return cv2.inpaint(image, mask, RADIUS, method)[margin:-margin, margin:-margin]


BASELINES = {
    "mean colour": mean_colour,
    "nearest": nearest,
    "biharmonic": biharmonic,
    "Telea": telea,
    "Navier-Stokes": navier_stokes,
}
SLOW = ("biharmonic",)  # measured on the first `slow_baseline_images` test images


def fill(name, images, masks):
    """Return (N,H,W,3) uint8 filled at (N,H,W), 1 = hole; mid-grey where no pixel is known."""
    filled = []
    for image, mask in zip(images, masks > 0, strict=True):
        known = np.ascontiguousarray(image)
        filled.append(np.full_like(image, 127) if mask.all() else BASELINES[name](known, mask))
    return np.stack(filled)


def fill_batches(name, images, masks, size, pool=None):
    """Yield (filled, images, masks), `size` images at a time, filled in a pool if given."""
    parts = [(images[k : k + size], masks[k : k + size]) for k in range(0, len(images), size)]
    tasks = [(name, *part) for part in parts]
    done = (
        processes.run_in_order(pool, fill, tasks, DEPTH) if pool else itertools.starmap(fill, tasks)
    )
    for filled, part in zip(done, parts, strict=True):
        yield filled, *part
