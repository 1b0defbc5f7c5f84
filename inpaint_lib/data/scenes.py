"""Cut crops from photographs in the wheels of scikit-image and scikit-learn; replaces MSCOCO."""

import functools
import hashlib
import importlib.util
import math
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGES = {
    "skimage": "data/astronaut.png data/chelsea.png data/coffee.png data/hubble_deep_field.jpg "
    "data/motorcycle_left.png data/rocket.jpg",
    "sklearn": "datasets/images/china.jpg datasets/images/flower.jpg",
}


def photographs():
    """Return the colour photographs inside the wheels, {name: path}; one of the stereo pair."""
    paths = []
    for package, names in PACKAGES.items():
        place = Path(importlib.util.find_spec(package).origin).parent  # importing takes seconds
        paths += [place / name for name in names.split()]
    return {path.stem: path for path in paths}


def crop_boxes(height, width, split, count, rng, size):
    """Return `count` square crops of one photograph, (count, 3) as top, left, side.

    The right third of the photograph is for testing, the rest for training. Sides are 100, 80 and
    64 % of the largest square that fits the test part, but `size` at least where it fits.
    """
    border = width - width // 3
    left, right = (0, border) if split == "train" else (border, width)
    largest = min(height, width // 3)
    sides = (largest * rng.choice([1.0, 0.8, 0.64], count)).astype(int)
    sides = np.minimum(largest, np.maximum(size, sides))
    top = rng.integers(0, height - sides, endpoint=True)
    return np.stack([top, rng.integers(left, right - sides, endpoint=True), sides], axis=1)


@functools.lru_cache(maxsize=16)
def _photograph(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def items(split, count, seed, size):
    """Return what a split's images are, (photograph, top, left, side); photographs take turns."""
    photos = photographs()
    each, boxes = math.ceil(count / len(photos)), []
    for k, (name, path) in enumerate(photos.items()):
        width, height = _photograph(path).size
        rng = np.random.default_rng([seed, k, split == "test"])
        found = crop_boxes(height, width, split, each, rng, size).tolist()
        boxes.append([(name, *box) for box in found])
    return [item for turn in zip(*boxes, strict=True) for item in turn][:count]


def pixels(items, size, seed=0):
    """Yield the crops of `items`, (size, size, 3) uint8."""
    paths = photographs()
    for name, top, left, side in items:
        # resampled with antialiasing after the cut: no pixel outside is read
        cut = _photograph(paths[name]).crop((left, top, left + side, top + side))
        yield np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS))


def fingerprint():
    """Return {photograph: SHA-256 of its file}."""
    found = photographs().items()
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found}
