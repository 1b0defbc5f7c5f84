"""Crops of the photographs that come inside the wheels of scikit-image and scikit-learn: a stand-in for MSCOCO."""

import functools
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image


def photographs():
    """The colour photographs inside the wheels, as {name: path}; one view of the stereo pair only."""
    skimage_data, sklearn_data = (
        Path(importlib.util.find_spec(package).origin).parent / folder  # located, not imported: that takes seconds
        for package, folder in (("skimage", "data"), ("sklearn", "datasets/images"))
    )
    names = ["astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "motorcycle_left.png", "rocket.jpg"]
    paths = [skimage_data / name for name in names] + [sklearn_data / "china.jpg", sklearn_data / "flower.jpg"]
    return {path.stem: path for path in paths}


def crop_boxes(height, width, split, count, rng, size):
    """`count` square crops of one photograph, (count, 3) as top, left, side: several scales, wholly inside the split's part.

    The right third is for testing, the rest for training. Sides are 100, 80 and 64 % of the largest square that fits the
    test part, but not below `size` where the part allows it, so both splits show things at the same scales.
    """
    border = width - width // 3
    left, right = (0, border) if split == "train" else (border, width)
    largest = min(height, width // 3)
    sides = np.minimum(largest, np.maximum(size, (largest * rng.choice([1.0, 0.8, 0.64], count)).astype(int)))
    top = rng.integers(0, height - sides, endpoint=True)
    return np.stack([top, rng.integers(left, right - sides, endpoint=True), sides], axis=1)


def crop(photograph, box, size):
    """One crop, resampled with antialiasing. It is cut out first, so the filter reads no pixel outside the box."""
    top, left, side = (int(v) for v in box)
    cut = Image.fromarray(photograph[top : top + side, left : left + side])
    return np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS))


@functools.lru_cache(maxsize=16)
def _photograph(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def items(split, count, seed, size):
    """What a split's images are: (photograph, top, left, side), the photographs taking turns."""
    photos = photographs()
    boxes = {
        name: crop_boxes(*_photograph(path).shape[:2], split, -(-count // len(photos)),
                         np.random.default_rng([seed, k, split == "test"]), size).tolist()
        for k, (name, path) in enumerate(photos.items())
    }  # fmt: skip
    names = list(photos)
    return [(names[i % len(names)], *boxes[names[i % len(names)]][i // len(names)]) for i in range(count)]


def pixels(items, size):
    """The crops of `items`, one by one, (size, size, 3) uint8."""
    paths = photographs()
    return (crop(_photograph(paths[name]), box, size) for name, *box in items)


def fingerprint():
    """{photograph: SHA-256 of its file}."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in photographs().items()}
