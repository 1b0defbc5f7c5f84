"""The square windows through which a network of fixed size sees the holes of a photograph of any size.

Holes are (H, W) bool; a box is (top, left, bottom, right), a window (top, left, side), both in pixels of the photograph.
"""

import cv2
import numpy as np


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

    Connected parts, those that ask for the largest windows first; parts near each other are one hole where together they ask
    for no larger window than each alone: so they share it, and none is seen coarser for another's sake.
    """
    _, labels, found, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    left, top, breadth, height = found[1:, :4].T  # 0: what is known
    parts = np.stack([top, left, top + height, left + breadth], 1)
    reach = _wanted(np.maximum(height, breadth), size) // 2  # no longer may a hole be that this window is for
    of_label, boxes = np.zeros(len(found), np.int32), []
    for span in np.unique(reach)[::-1]:
        alike = np.flatnonzero(reach == span)
        for rows in _cover(parts[alike, 0], parts[alike, 2], span):
            for columns in _cover(parts[alike[rows], 1], parts[alike[rows], 3], span):
                together = alike[rows[columns]]
                boxes.append([*parts[together, :2].min(0).tolist(), *parts[together, 2:].max(0).tolist()])
                of_label[together + 1] = len(boxes)
    return of_label[labels], boxes


def _cover(low, high, span):
    """Group intervals, from the lowest on, so that those of a group lie within `span`: yields arrays of indices."""
    left = np.argsort(low, kind="stable")
    while len(left):
        end = np.searchsorted(low[left], low[left[0]] + span)  # what begins later is not looked at
        inside = np.flatnonzero(high[left[:end]] <= low[left[0]] + span)
        yield left[inside]
        left = np.delete(left, inside)


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
