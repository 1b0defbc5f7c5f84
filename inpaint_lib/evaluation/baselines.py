"""Baselines without training: a trained network must do better than these.

Each maps an image (H,W,3) uint8 and a mask (H,W) bool, True = hole, to the filled image.
"""

import itertools
from functools import partial

import cv2
import numpy as np
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from ..study import processes

RADIUS = 3  # pixels around a hole that OpenCV's baselines use
IMAGES_PER_WORKER = 1000  # images per process that make starting it worthwhile
DEPTH = 16  # batches that wait for a free process


def mean_colour(image, mask):
    """Return the image with the mean colour of the known pixels in the hole."""
    return np.where(mask[..., None], image[~mask].mean(0).round().astype(np.uint8), image)


def nearest(image, mask):
    """Return the image with the colour of the nearest known pixel in the hole."""
    places = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    return image[tuple(places)]


def biharmonic(image, mask):
    """Return the image with the biharmonic equation solved in the hole (Damelin & Hoang 2018)."""
    filled = inpaint_biharmonic(image / 255, mask, channel_axis=-1)
    return np.where(mask[..., None], (filled * 255).round().clip(0, 255).astype(np.uint8), image)


def _opencv(image, mask, method):
    # the margin counts as hole: OpenCV reads pixels in holes near the upper or left border
    margin = RADIUS + 1
    image = np.pad(image, ((margin, margin), (margin, margin), (0, 0)))
    mask = np.pad(mask, margin, constant_values=True).astype(np.uint8)
    return cv2.inpaint(image, mask, RADIUS, method)[margin:-margin, margin:-margin]


BASELINES = {
    "mean colour": mean_colour,
    "nearest": nearest,
    "biharmonic": biharmonic,
    "Telea": partial(_opencv, method=cv2.INPAINT_TELEA),  # fast marching (Telea 2004)
    "Navier-Stokes": partial(_opencv, method=cv2.INPAINT_NS),  # flow (Bertalmio et al. 2001)
}
SLOW = ("biharmonic",)  # measured on the first `slow_baseline_images` test images


def fill(name, images, masks):
    """Return images (N,H,W,3) uint8 filled at masks (N,H,W), 1 = hole; grey if all is hole."""
    filled = []
    for image, mask in zip(images, masks > 0, strict=True):
        known = np.ascontiguousarray(image)
        filled.append(np.full_like(image, 127) if mask.all() else BASELINES[name](known, mask))
    return np.stack(filled)


def fill_batches(name, images, masks, size, pool=None):
    """Return an iterator over batches of `size` filled images, made in a pool if there is one."""
    parts = (slice(k, k + size) for k in range(0, len(images), size))
    tasks = ((name, images[part], masks[part]) for part in parts)
    if pool:
        return processes.run_in_order(pool, fill, tasks, DEPTH)
    return itertools.starmap(fill, tasks)
