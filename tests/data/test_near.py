"""Near-duplicates across training and test images are found, and others are not."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from inpaint_lib.data import clutter, faces, near
from tests.conftest import smooth

SIZE = 32


def drawn(module, first, n):
    return np.stack(list(module.draw(range(first, first + n), SIZE, 0)))


def jpeg(image):
    Image.fromarray(image).resize((150, 150)).save(file := io.BytesIO(), "JPEG", quality=50)
    return np.asarray(Image.open(file).resize((SIZE, SIZE), Image.Resampling.LANCZOS))


CHANGES = {
    "compressed at another size": jpeg,
    "brighter": lambda image: np.clip(image * 1.1 + 9, 0, 255).astype(np.uint8),
    "less detail": lambda image: np.asarray(
        Image.fromarray(image).resize((16, 16)).resize((32, 32))
    ),
    "noise": lambda image: np.clip(
        image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255
    ).astype(np.uint8),
}


def found(train, test):
    return near.find_pairs(SimpleNamespace(train=train, test=test))


@pytest.mark.parametrize("module", [faces, clutter], ids=["faces", "clutter"])
@pytest.mark.parametrize("change", CHANGES)
def test_copies_that_look_the_same_are_found(module, change):
    train = drawn(module, 0, 40)
    test = np.stack([CHANGES[change](image) for image in train[::-4]])
    wanted = [(row, 39 - 4 * row) for row in range(10)]
    assert len({*wanted} & {*found(train, test)}) >= 9


@pytest.mark.parametrize("module", [faces, clutter], ids=["faces", "clutter"])
def test_other_images_are_not_found_even_aligned_faces(module):
    assert len(found(drawn(module, 0, 600), drawn(module, 10_000, 40))) <= 1


def test_images_of_one_colour_are_like_none_and_many_tests_are_taken_in_parts(monkeypatch):
    flat = np.full((3, SIZE, SIZE, 3), 200, np.uint8)
    assert found(flat, flat[:1]) == found(flat, smooth(SIZE, SIZE)[None]) == []
    monkeypatch.setattr(near, "ROWS", 3)
    images = drawn(clutter, 0, 8)
    assert found(images, images[::-1]) == [(row, 7 - row) for row in range(8)]
