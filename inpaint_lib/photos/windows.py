"""The square windows through which a network of fixed size sees the holes of a photograph of any size.

Holes are (H, W) bool; a box is (top, left, bottom, right), a window (top, left, side), both in pixels of the photograph.
"""

import cv2
import numpy as np
from scipy import ndimage


def _wanted(longer, size):
    """The window's side that a hole of this longer side asks for: training saw holes up to half of the image."""
    return np.maximum(size, 2 * longer)


def square(box, shape, size):
    """(top, left, side) of the window around a hole, moved to lie inside the photo where it fits, else reaching out evenly."""
    y, x, y2, x2 = box
    longer = max(y2 - y, x2 - x)
    side = int(_wanted(longer, size))
    if side > min(shape):  # then all that a square can take
        side = max(size, min(shape), longer)
    starts = [(a + b - side) // 2 for a, b in ((y, y2), (x, x2))]
    return *((min(max(s, 0), n - side) if side <= n else (n - side) // 2) for s, n in zip(starts, shape, strict=True)), side


def central_square(box, shape, size):
    """The window of a network that fills central halves alone. Raises ValueError for a hole that reaches outside."""
    side = max(min(shape), size)
    top, left = ((n - side) // 2 for n in shape)
    y, x = (max(start + -(-side // 4), 0) for start in (top, left))
    y2, x2 = (min(start + 3 * side // 4, n) for start, n in zip((top, left), shape, strict=True))
    if box[0] < y or box[1] < x or box[2] > y2 or box[3] > x2:
        found = f"{box[1]},{box[0]},{box[3] - box[1]},{box[2] - box[0]}"
        raise ValueError(
            f"hole {found}: context_encoder predicts the central half of the photo's central square alone; "
            f"stay inside --box {x},{y},{x2 - x},{y2 - y}, or use weights of custom or free_form"
        )
    return top, left, side


def number(hole, size):
    """Number the holes 1, 2, ... -> ((H, W) array, 0 elsewhere; their boxes (n, 4): top, left, bottom, right).

    Connected parts, the largest first; a part joins a hole if both together ask for no larger window than the part alone: so
    those near each other share a window, and none is seen coarser for another's sake.
    """
    labels, n = ndimage.label(hole, np.ones((3, 3)))
    parts = np.array([[s.start for s in found] + [s.stop for s in found] for found in ndimage.find_objects(labels)])
    longer = (parts[:, 2:] - parts[:, :2]).max(1)
    boxes, count, of_label = np.empty_like(parts), 0, np.zeros(n + 1, np.int32)
    for k in np.argsort(-longer, kind="stable"):
        known = boxes[:count]
        union = np.hstack([np.minimum(known[:, :2], parts[k, :2]), np.maximum(known[:, 2:], parts[k, 2:])])
        together = (union[:, 2:] - union[:, :2]).max(1)
        fitting = np.flatnonzero(_wanted(together, size) <= _wanted(longer[k], size))
        if not len(fitting):
            boxes[count], fitting, count = parts[k], [count], count + 1
        else:
            boxes[fitting[0]] = union[fitting[0]]
        of_label[k + 1] = fitting[0] + 1
    return of_label[labels], boxes[:count].tolist()


def as_one(hole, _):
    """All of it as one hole, as `number` gives it."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    return hole.astype(np.int32), [[int(v) for v in (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)]]


def cut(image, hole, square):
    """The window's pixels and hole. Outside of the photo its edge pixels go on, unknown where these are hole."""
    top, left, side = square
    where = np.ix_(*((start + np.arange(side)).clip(0, n - 1) for start, n in zip((top, left), hole.shape, strict=True)))
    return image[where], hole[where]


def shrunk(image, hole, size):
    """A square (n, n, 3) uint8 and its hole at (size, size), by area: each pixel is the mean of those it covers, and hole if it
    touches one, so that nothing of a hole goes into known pixels."""
    small, touched = (cv2.resize(a, (size, size), interpolation=cv2.INTER_AREA) for a in (image, hole.astype(np.float32)))
    return small, (touched > 0).astype(np.uint8)
