"""Cut the square windows in which a network of fixed image size fills the holes of a photograph.

Holes are (H, W) bool; a box is (top, left, bottom, right), a window (top, left, side), in pixels.
"""

import cv2
import numpy as np


def place_square(box, shape, size):
    """Return the window around a hole: inside the photo if it fits, else centred on it."""
    y, x, y2, x2 = box
    longer = max(y2 - y, x2 - x)
    side = max(size, 2 * longer)  # training had holes up to half of the image
    if side > min(shape):  # then the largest square inside the photo, if the hole fits
        side = max(size, min(shape), longer)
    start = []
    for low, high, n in ((y, y2, shape[0]), (x, x2, shape[1])):
        centred = (low + high - side) // 2
        start.append(min(max(centred, 0), n - side) if side <= n else (n - side) // 2)
    return *start, side


def place_central(box, shape, size):
    """Return the window for a network that fills the central half of its image only.

    Raises ValueError if the hole reaches outside that half.
    """
    side = max(min(shape), size)
    top, left = ((n - side) // 2 for n in shape)
    y, x = (max(start + -(-side // 4), 0) for start in (top, left))
    y2, x2 = (min(start + 3 * side // 4, n) for start, n in zip((top, left), shape, strict=True))
    if box[0] < y or box[1] < x or box[2] > y2 or box[3] > x2:
        allowed = f"stay inside --box {x},{y},{x2 - x},{y2 - y}, or use another architecture"
        raise ValueError(f"the hole is outside the central half of the central square: {allowed}")
    return top, left, side


def number_holes(hole, size):
    """Number the holes 1, 2, ...: return the (H, W) array, 0 elsewhere, and their boxes.

    Connected parts near each other count as one hole if together they need no larger window than
    each alone: they then share a window, and none is filled at a lower resolution.
    """
    _, labels, found, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    left, top, breadth, height = found[1:, :4].T  # 0: what is known
    parts = np.stack([top, left, top + height, left + breadth], 1)
    reach = np.maximum(size // 2, np.maximum(height, breadth))  # the largest hole for that window
    of_label, boxes = np.zeros(len(found), np.int32), []
    for span in np.unique(reach)[::-1]:
        alike = np.flatnonzero(reach == span)
        for rows in _cover(parts[alike, 0], parts[alike, 2], span):
            for columns in _cover(parts[alike[rows], 1], parts[alike[rows], 3], span):
                together = alike[rows[columns]]
                ends = parts[together, :2].min(0), parts[together, 2:].max(0)
                boxes.append(np.concatenate(ends).tolist())
                of_label[together + 1] = len(boxes)
    return of_label[labels], boxes


def _cover(low, high, span):
    """Yield the indices of intervals that fit together into `span`, from the lowest on."""
    left = np.argsort(low, kind="stable")
    while len(left):
        end = np.searchsorted(low[left], low[left[0]] + span)  # what begins later is not looked at
        inside = np.flatnonzero(high[left[:end]] <= low[left[0]] + span)
        yield left[inside]
        left = np.delete(left, inside)


def cut(image, hole, square):
    """Return the window's pixels and hole; beyond the photo its edge pixels are repeated."""
    top, left, side = square
    rows = (top + np.arange(side)).clip(0, hole.shape[0] - 1)
    columns = (left + np.arange(side)).clip(0, hole.shape[1] - 1)
    return image[np.ix_(rows, columns)], hole[np.ix_(rows, columns)]


def shrink(image, hole, size):
    """Return an image (n, n, 3) uint8 and its hole, resized to (size, size).

    A pixel is the mean of those it covers, and hole if it covers any part of one, so that no known
    pixel depends on what is in a hole.
    """
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    touched = cv2.resize(hole.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return small, (touched > 0).astype(np.uint8)
