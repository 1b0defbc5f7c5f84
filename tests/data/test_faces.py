"""The drawn faces: the same everywhere, independent, varied, and shaped like faces."""

import hashlib

import numpy as np
import pytest

from inpaint_lib.data import faces


def draw(numbers, size, seed=0):
    return np.stack(list(faces.draw(numbers, size, seed)))


@pytest.mark.parametrize(
    "size, digest",
    [
        (32, "1307f79a0431bada6a3be99281f5b96a103709ffcc9c50db2a8674fc9aa3b6c1"),
        (64, "389f5b3f6d8e5adac28caf8b2c5c2f95f8716b35c360f005213712cde9b04eb6"),
    ],
)
def test_the_pixels_are_the_same_on_every_machine(size, digest):
    assert hashlib.sha256(draw(range(8), size)).hexdigest() == digest


def test_no_number_overflows(monkeypatch):
    numbers = [*range(60), *range(10**9, 10**9 + 60)]
    narrow = draw(numbers, 48, seed=3)
    monkeypatch.setattr(faces, "INTEGER", np.int64)
    assert np.array_equal(narrow, draw(numbers, 48, seed=3))


def test_a_face_depends_on_its_seed_and_number_alone():
    batch = draw(range(10, 16), 48, seed=3)
    assert batch.shape == (6, 48, 48, 3) and batch.dtype == np.uint8
    assert np.array_equal(batch[::-1], draw(np.arange(15, 9, -1), 48, seed=3))
    assert np.array_equal(batch[3:4], draw([13], 48, seed=3))
    others = draw(range(10, 16), 48, seed=4)
    assert (np.abs(batch.astype(int) - others).mean((1, 2, 3)) > 5).all()


def test_faces_differ():
    many = draw(range(24), 32).astype(float)
    gaps = np.abs(many[:, None] - many[None]).mean((2, 3, 4)) + 255 * np.eye(24)
    assert gaps.min() > 5


@pytest.mark.parametrize("size", [16, 33, 256])
def test_any_size(size):
    assert draw([0, 1], size).shape == (2, size, size, 3)


def test_the_same_face_at_two_sizes():
    small, large = draw(range(12), 64).astype(float), draw(range(12), 128).astype(float)
    halved = large.reshape(12, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(halved - small).mean((1, 2, 3)).max() < 3


def test_the_mean_face_is_a_face():
    """All faces share mirror symmetry, eyes darker than the cheeks, and a redder mouth."""
    mean = draw(range(200), 32).astype(float).mean(0)
    grey, red = mean.mean(-1), mean[..., 0] - mean[..., 1]
    assert np.abs(grey - grey[:, ::-1]).mean() < 4
    for eye in (grey[12:15, 10:13], grey[12:15, 19:22]):
        assert eye.mean() < grey[18:21, 10:22].mean() - 10
    assert red[24, 14:18].mean() > red[18:21, 10:22].mean() + 3


def test_what_surrounds_the_largest_hole_tells_what_is_in_it():
    """A linear map of the known pixels halves the error of the mean colour: much can be learnt."""
    hole = np.zeros((32, 32), bool)
    hole[8:24, 8:24] = True
    pixels = draw(range(900), 32).astype(float) / 255
    known, wanted = pixels[:, ~hole].reshape(900, -1), pixels[:, hole].reshape(900, -1)
    centre, kernel = known[:800].mean(0), known[:800] - known[:800].mean(0)
    weights = np.linalg.solve(
        kernel @ kernel.T + 10 * np.eye(800), wanted[:800] - wanted[:800].mean(0)
    )
    predicted = wanted[:800].mean(0) + (known[800:] - centre) @ kernel.T @ weights
    flat = np.tile(pixels[800:, ~hole].mean(1), 256)
    assert np.abs(predicted - wanted[800:]).mean() < np.abs(flat - wanted[800:]).mean() / 2
