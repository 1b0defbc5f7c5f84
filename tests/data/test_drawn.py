"""The drawn data sets: the same everywhere, independent, varied, and worth learning."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from inpaint_lib import masks
from inpaint_lib.data import clutter, drawing, faces
from inpaint_lib.evaluation import baselines

SETS = {"faces": faces, "clutter": clutter}


def draw(kind, numbers, size, seed=0):
    return np.stack(list(SETS[kind].draw(numbers, size, seed)))


def both(first, n):
    """Return n numbers of training images and n of test images."""
    return [*range(first, first + n), *range(drawing.TEST_FROM, drawing.TEST_FROM + n)]


DIGESTS = {
    ("faces", 32): "1307f79a0431bada6a3be99281f5b96a103709ffcc9c50db2a8674fc9aa3b6c1",
    ("faces", 64): "389f5b3f6d8e5adac28caf8b2c5c2f95f8716b35c360f005213712cde9b04eb6",
    ("clutter", 32): "ecc5b0a406532a05379a73b011f99b2bc5361e9a4513869d06633f01a77d7088",
    ("clutter", 64): "2f5dcf23cae541bea2e60fd5c2f8b091d1ccbd5a21e28120d699c1fa2bffca28",
}


@pytest.mark.parametrize(("kind", "size"), DIGESTS)
def test_the_pixels_are_the_same_on_every_machine(kind, size):
    numbers = range(8) if kind == "faces" else both(0, 8)
    assert hashlib.sha256(draw(kind, numbers, size)).hexdigest() == DIGESTS[kind, size]


@pytest.mark.parametrize("kind", SETS)
def test_no_number_overflows(kind, monkeypatch):
    narrow = draw(kind, both(0, 60), 48, seed=3)
    monkeypatch.setattr(drawing, "INTEGER", np.int64)
    assert np.array_equal(narrow, draw(kind, both(0, 60), 48, seed=3))


@pytest.mark.parametrize("kind", SETS)
def test_an_image_depends_on_its_seed_and_number_alone(kind):
    batch = draw(kind, range(10, 16), 48, seed=3)
    assert batch.shape == (6, 48, 48, 3) and batch.dtype == np.uint8
    assert np.array_equal(batch[::-1], draw(kind, np.arange(15, 9, -1), 48, seed=3))
    assert np.array_equal(batch[3:4], draw(kind, [13], 48, seed=3))
    others = draw(kind, range(10, 16), 48, seed=4)
    assert (np.abs(batch.astype(int) - others).mean((1, 2, 3)) > 5).all()

    many = draw(kind, both(0, 24), 32).astype(float)
    gaps = np.abs(many[:, None] - many[None]).mean((2, 3, 4)) + 255 * np.eye(48)
    assert gaps.min() > 5, "images differ"


@pytest.mark.parametrize(("kind", "most"), [("faces", 3), ("clutter", 12)])
def test_the_same_image_at_any_size(kind, most):
    small, large = (draw(kind, both(0, 12), size).astype(float) for size in (64, 128))
    halved = large.reshape(24, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(halved - small).mean((1, 2, 3)).max() < most
    for size in (16, 33, 256):
        assert draw(kind, both(0, 1), size).shape == (2, size, size, 3)


def test_the_mean_face_is_a_face():
    """All faces share mirror symmetry, eyes darker than the cheeks, and a redder mouth."""
    mean = draw("faces", range(200), 32).astype(float).mean(0)
    grey, red = mean.mean(-1), mean[..., 0] - mean[..., 1]
    assert np.abs(grey - grey[:, ::-1]).mean() < 4
    for eye in (grey[12:15, 10:13], grey[12:15, 19:22]):
        assert eye.mean() < grey[18:21, 10:22].mean() - 10
    assert red[24, 14:18].mean() > red[18:21, 10:22].mean() + 3


def test_what_surrounds_the_largest_hole_tells_what_is_in_it():
    """A linear map of the known pixels halves the error of the mean colour: much can be learnt."""
    hole = np.zeros((32, 32), bool)
    hole[8:24, 8:24] = True
    pixels = draw("faces", range(900), 32).astype(float) / 255
    known, wanted = pixels[:, ~hole].reshape(900, -1), pixels[:, hole].reshape(900, -1)
    centre, kernel = known[:800].mean(0), known[:800] - known[:800].mean(0)
    weights = np.linalg.solve(
        kernel @ kernel.T + 10 * np.eye(800), wanted[:800] - wanted[:800].mean(0)
    )
    predicted = wanted[:800].mean(0) + (known[800:] - centre) @ kernel.T @ weights
    flat = np.tile(pixels[800:, ~hole].mean(1), 256)
    assert np.abs(predicted - wanted[800:]).mean() < np.abs(flat - wanted[800:]).mean() / 2


def test_no_photograph_gives_a_pixel_to_training_and_to_testing(monkeypatch):
    names, usual = clutter.PHOTOGRAPHS.split(), clutter._photographs
    for name, train, test in zip(names, usual(False), usual(True), strict=True):
        with Image.open(Path(skimage.__file__).parent / f"data/{name}.png") as image:
            whole = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(np.concatenate([train, test], axis=2), whole)
        assert train.shape[2] == pytest.approx(2 * test.shape[2], abs=2)
    asked = []
    monkeypatch.setattr(clutter, "_photographs", lambda t: asked.append(t) or usual(t))
    for number, testing in ((0, False), (drawing.TEST_FROM, True)):
        asked.clear()
        draw("clutter", [number], 32)
        assert set(asked) == {testing}


def test_clutter_for_testing_is_as_hard_as_clutter_for_training():
    """The nearest pixel has the same error in the largest hole."""
    holes = masks.draw_test_masks("square", 256, 16, 32, 0)
    errors = []
    for first in (0, drawing.TEST_FROM):
        real = draw("clutter", range(first, first + 256), 32)
        filled = baselines.fill("nearest", real, holes)
        errors.append((filled / 255.0 - real / 255.0)[holes == 1].std())
    assert errors[0] == pytest.approx(errors[1], rel=0.05)  # of squares: 10 %
