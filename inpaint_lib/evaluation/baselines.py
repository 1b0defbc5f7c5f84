"""Fillings that need no training, so that the networks' numbers mean something.

Each maps an image (H,W,3) uint8 and a mask (H,W) bool, True = hole, to the filled image: the mean colour of the known pixels;
the nearest known pixel; the biharmonic equation (Damelin & Hoang 2018, scikit-image); Telea 2004 and Navier-Stokes (Bertalmio
et al. 2001), both OpenCV with a radius of 3 pixels.

OpenCV reads what lies under the mask where a hole comes near the image's upper or left border. So the image gets a margin that
counts as hole too: what is filled then depends on known pixels alone.
"""

import contextlib

import cv2
import numpy as np
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from ..study import ahead, processes

RADIUS = 3
IMAGES_PER_WORKER = 1000  # another process pays off for each so many
DEPTH = 16  # batches given to the processes ahead


def mean_colour(image, mask):
    return np.where(mask[..., None], image[~mask].mean(0).round().astype(np.uint8), image)


def nearest(image, mask):
    rows, columns = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    return image[rows, columns]


def biharmonic(image, mask):
    filled = inpaint_biharmonic(image / 255, mask, channel_axis=-1)
    return np.where(mask[..., None], (filled * 255).round().clip(0, 255).astype(np.uint8), image)


def telea(image, mask):
    return _opencv(image, mask, cv2.INPAINT_TELEA)


def navier_stokes(image, mask):
    return _opencv(image, mask, cv2.INPAINT_NS)


def _opencv(image, mask, method):
    margin = RADIUS + 1
    image = np.pad(image, ((margin, margin), (margin, margin), (0, 0)))
    filled = cv2.inpaint(image, np.pad(mask, margin, constant_values=True).astype(np.uint8), RADIUS, method)
    return filled[margin:-margin, margin:-margin]


BASELINES = {
    "mean colour": mean_colour,
    "nearest": nearest,
    "biharmonic": biharmonic,
    "Telea": telea,
    "Navier-Stokes": navier_stokes,
}
SLOW = ("biharmonic",)  # measured on the first `slow_baseline_images` test images


def fill(name, images, masks):
    """(N,H,W,3) uint8 and (N,H,W), 1 = hole -> the filled images; mid-grey where a mask leaves nothing to fill from."""
    filled = []
    for image, mask in zip(images, masks > 0, strict=True):
        filled.append(np.full_like(image, 127) if mask.all() else BASELINES[name](np.ascontiguousarray(image), mask))
    return np.stack(filled)


def workers(images):
    """A context: processes in which so many images are filled at a time, or None where they are few."""
    return processes.pool(images, IMAGES_PER_WORKER) or contextlib.nullcontext()


def batches(name, images, masks, size, pool=None):
    """Yield (filled, images, masks), as of `fill`, `size` images at a time; filled in the processes of a pool, if given."""
    parts = [(images[k : k + size], masks[k : k + size]) for k in range(0, len(images), size)]
    if pool is None:
        yield from ((fill(name, *part), *part) for part in parts)
        return
    done = ahead.in_order(pool, fill, ((name, *part) for part in parts), DEPTH)
    yield from ((filled, *part) for filled, part in zip(done, parts, strict=True))
