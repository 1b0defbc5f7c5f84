import os

import numpy as np
import pytest
from skimage.restoration import inpaint_biharmonic

from inpaint_lib import masks
from inpaint_lib.evaluation import baselines
from tests.conftest import smooth

IMAGES = np.stack([smooth(32, 32, seed) for seed in range(3)])


def mean_colour(image, hole):
    """The hole filled with the mean of the known pixels: (H,W,3), (H,W)."""
    return np.where(hole[..., None] > 0, image[hole == 0].mean(0).round(), image).astype(np.uint8)


def distances(hole):
    """Of every hole pixel the squared distance to every known pixel: (missing, known), and both lists of places."""
    known, missing = np.argwhere(hole == 0), np.argwhere(hole > 0)
    return ((missing[:, None] - known[None]) ** 2).sum(-1), missing, known


@pytest.mark.parametrize("family", masks.FAMILIES)
@pytest.mark.parametrize("name", baselines.BASELINES)
def test_known_pixels_stay_and_the_fill_depends_on_nothing_else(name, family):
    holes = masks.frozen(family, 3, 12, 32, seed=1)
    filled = baselines.fill(name, IMAGES, holes)
    assert filled.dtype == np.uint8 and np.array_equal(filled[holes == 0], IMAGES[holes == 0])
    assert np.array_equal(filled, baselines.fill(name, np.where(holes[..., None], 255 - IMAGES, IMAGES), holes))


def test_mean_colour_and_nearest_match_loops():
    holes = masks.frozen("free_form", 3, 12, 32, seed=0)
    means, near = (baselines.fill(name, IMAGES, holes) for name in ("mean colour", "nearest"))
    for image, hole, mean, nearest in zip(IMAGES, holes, means, near, strict=True):
        assert np.array_equal(mean, mean_colour(image, hole))
        squared, missing, known = distances(hole)
        closest = squared == squared.min(1, keepdims=True)  # several known pixels may be equally near
        for place, candidates in zip(missing, closest, strict=True):
            assert (image[tuple(known[candidates].T)] == nearest[tuple(place)]).all(-1).any()


def test_biharmonic_is_scikit_images():
    hole = masks.frozen("square", 1, 12, 32, seed=0)
    expected = inpaint_biharmonic(IMAGES[0] / 255, hole[0] > 0, channel_axis=-1) * 255
    inside = hole[0] > 0
    found = baselines.fill("biharmonic", IMAGES[:1], hole)[0]
    assert np.abs(found[inside] - expected[inside].clip(0, 255)).max() <= 0.5


def test_nothing_to_fill_from_is_grey():
    for name in baselines.BASELINES:
        assert (baselines.fill(name, IMAGES[:1], np.ones((1, 32, 32), np.uint8)) == 127).all()


def test_processes_fill_the_same_batches_in_the_same_order(monkeypatch):
    monkeypatch.setattr(baselines, "IMAGES_PER_WORKER", 1)
    monkeypatch.setattr(baselines, "DEPTH", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    images, holes = np.stack([smooth(16, 16, seed) for seed in range(9)]), masks.frozen("square", 9, 8, 16, seed=1)
    with baselines.workers(9) as pool:
        assert pool is not None
        for name in ("nearest", "Telea"):
            found, plain = (list(baselines.batches(name, images, holes, 2, p)) for p in (pool, None))
            assert [len(f) for f, _, _ in found] == [2, 2, 2, 2, 1]
            for ours, theirs in zip(found, plain, strict=True):
                assert all(map(np.array_equal, ours, theirs))
    with baselines.workers(1) as none:
        assert none is None
