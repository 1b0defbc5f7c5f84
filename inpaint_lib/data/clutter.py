"""Draw any number of piles of shapes: a synthetic data set that replaces MSCOCO.

The dead leaves model (Lee, Mumford & Huang 2001, https://doi.org/10.1023/A:1011109015675): opaque
shapes cover one another; their sizes follow a power law. Each shape has a colour and the texture of
a photograph. Training images use the left two thirds of the photographs, test images the right one.

Coordinates as in faces.py: x points right, y down, the image spans -1024 to 1024.
"""

import functools
import importlib.util
import math
from pathlib import Path

import numpy as np
from PIL import Image

from .drawing import (
    ONE,
    TEST_FROM,
    draw_colour,
    make_axis,
    make_canvas,
    make_random,
    square,
    to_pixels,
    wave,
)

PHOTOGRAPHS = "astronaut brick chelsea coffee grass gravel motorcycle_left"  # in scikit-image
LEAVES, SMALLEST, LARGEST = 10, 300, 1000  # radii
FINENESS = 2  # pixels of the canvas, each way, that make one of the image


@functools.cache
def _photographs(testing):
    """Return the part of each photograph for training or testing, (3, H, W)."""
    folder = Path(importlib.util.find_spec("skimage").origin).parent / "data"  # importing is slow
    found = []
    for name in PHOTOGRAPHS.split():
        with Image.open(folder / f"{name}.png") as image:  # PNG: all decoders give these pixels
            pixels = np.asarray(image.convert("RGB"), np.int32).transpose(2, 0, 1)
        border = pixels.shape[2] - pixels.shape[2] // 3
        found.append(pixels[..., border:] if testing else pixels[..., :border])
    return found


def _texture(r, testing, n, *lengths):
    """Return a piece of a photograph, turned, flipped, its channels rotated, minus its mean."""
    photographs = _photographs(testing)
    photo = photographs[r(0, len(photographs) - 1)]
    if r(0, 1):
        photo = photo.transpose(0, 2, 1)
    scale, places = r(90, 150), []  # pixels of the photograph across the image
    for length, limit in zip(lengths, photo.shape[1:], strict=True):
        steps = np.arange(length) * scale // n
        places.append(r(0, limit - 1 - int(steps[-1])) + steps[:: 1 - 2 * r(0, 1)])
    channels = (r(0, 2) + np.arange(3)) % 3
    piece = photo[np.ix_(channels, *places)]
    return piece - piece.sum((1, 2), np.int32, keepdims=True) // piece[0].size


def _shape(r, u, v):
    """Return a shape of radius ONE: negative inside, about the distance from its edge."""
    kind = r(0, 5)
    if kind == 0:  # a rounded rectangle
        return (square(square(u)) + square(square(v)) >> 2) - ONE * 3 // 16
    if kind == 1:  # a triangle
        return np.maximum(v, (np.abs(u) * 7 >> 3) - (v >> 1)) - ONE // 2
    if kind == 2:  # a leaf
        return np.abs(v) + (square(u) - ONE) * 3 // 4
    bend = wave(2 * u + r(0, 2047)) + wave(2 * v + r(0, 2047)) if kind == 3 else 0
    return (square(u) + square(v) - ONE >> 1) + (bend * r(60, 160) >> 10)  # a blob, an ellipse


def _draw_leaf(image, r, testing, light, x, y, radius):
    """Draw a shape with a dark rim, under a light, and its shadow on what lies below."""
    n, reach = image.shape[1], radius * 5 // 4
    ends = [((e - reach + ONE) * n // 2048, (e + reach + ONE) * n // 2048) for e in (y, x)]
    rows, columns = (slice(max(0, low), high) for low, high in ends)
    below = image[:, rows, columns]
    dx, dy = make_axis(n)[columns] - x, make_axis(n)[rows, None] - y
    a, b, slim = r(-ONE, ONE), r(-ONE, ONE), r(500, ONE)
    length = math.isqrt(a * a + b * b) + 1
    u = (dx * a + dy * b) // length * ONE // radius
    v = (dy * a - dx * b) // length * ONE // radius * ONE // slim
    shape = _shape(r, u, v)
    shade = ONE + (dx * light[0] + dy * light[1]) // radius - 300 * (shape > -36 * ONE // radius)
    colour = draw_colour(r, 640) + _texture(r, testing, n, *shape.shape) * r(3, 12)
    shadow = ONE - (400 - shape * radius // (ONE // 4)).clip(0, 400)
    below[:] = np.where(shape < 0, colour * shade, below * shadow) >> 10


def _image(seed, number, size):
    r, testing = make_random(seed, number), number >= TEST_FROM
    image = make_canvas(FINENESS * size)
    light = r(-300, 300), r(-300, -100)
    _draw_leaf(image, r, testing, light, 0, 0, 8 * ONE)  # covers all
    for _ in range(LEAVES):
        # (smallest / radius)² is uniform: the density of radii falls with their third power
        least = ONE * SMALLEST**2 // LARGEST**2
        radius = math.isqrt(ONE * SMALLEST**2 // r(least, ONE))
        _draw_leaf(image, r, testing, light, r(-1100, 1100), r(-1100, 1100), radius)
    return to_pixels(image, FINENESS)


def draw(numbers, size, seed=0):
    """Yield images as (size, size, 3) uint8, each a function of (seed, number, size) alone."""
    for number in numbers:
        yield _image(seed, int(number), size)
