"""The drawn faces: reproducible, independent of the batch, alike across sizes, varied, and shaped like faces."""

import numpy as np
import pytest

from inpaint_lib.data.faces import draw


def test_a_face_depends_on_its_seed_and_index_alone():
    batch = draw(range(10, 16), 48, seed=3)
    assert batch.shape == (6, 48, 48, 3) and batch.dtype == np.uint8
    assert np.array_equal(batch, draw(np.arange(10, 16), 48, seed=3))
    for i in (10, 13, 15):
        assert np.array_equal(batch[i - 10], draw([i], 48, seed=3)[0])
    assert np.array_equal(batch[::-1], draw(range(15, 9, -1), 48, seed=3))
    assert not np.array_equal(batch, draw(range(10, 16), 48, seed=4))


def test_faces_differ():
    faces = draw(range(24), 32).astype(float)
    gaps = np.abs(faces[:, None] - faces[None]).mean((2, 3, 4)) + 255 * np.eye(24)
    assert gaps.min() > 5


@pytest.mark.parametrize("size", [16, 33, 64, 256])
def test_sizes(size):
    assert draw([0, 1], size).shape == (2, size, size, 3)


def test_the_same_face_at_two_sizes():
    small, large = draw(range(12), 64).astype(float), draw(range(12), 128).astype(float)
    halved = large.reshape(12, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(halved - small).mean((1, 2, 3)).max() < 3


def test_the_mean_face_is_a_face():
    """What all faces share survives in their mean: mirror symmetry, eyes darker than the cheeks, a redder mouth."""
    mean = draw(range(200), 32).astype(float).mean(0)
    grey, red = mean.mean(-1), mean[..., 0] - mean[..., 1]
    assert np.abs(grey - grey[:, ::-1]).mean() < 4
    for eye in (grey[12:15, 10:13], grey[12:15, 19:22]):
        assert eye.mean() < grey[18:21, 10:22].mean() - 10
    assert red[24, 14:18].mean() > red[18:21, 10:22].mean() + 3


def test_an_empty_request():
    assert draw([], 32).shape == (0, 32, 32, 3)
