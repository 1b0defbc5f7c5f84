import os

import numpy as np
import pytest

from inpaint_lib import masks
from inpaint_lib.evaluation import baselines
from inpaint_lib.study import processes
from tests.conftest import smooth

IMAGES = np.stack([smooth(32, 32, seed) for seed in range(3)])


@pytest.mark.parametrize("family", masks.FAMILIES)
@pytest.mark.parametrize("name", baselines.BASELINES)
def test_known_pixels_stay_and_the_fill_depends_on_nothing_else(name, family):
    holes = masks.draw_test_masks(family, 3, 12, 32, seed=1)
    others = np.where(holes[..., None], 255 - IMAGES, IMAGES)  # other pixels in the holes
    filled, again = (baselines.fill(name, images, holes) for images in (IMAGES, others))
    assert filled.dtype == np.uint8 and np.array_equal(filled[holes == 0], IMAGES[holes == 0])
    assert np.array_equal(filled, again)


def test_mean_colour_and_nearest_match_loops():
    holes = masks.draw_test_masks("free_form", 3, 12, 32, seed=0)
    means, near = (baselines.fill(name, IMAGES, holes) for name in ("mean colour", "nearest"))
    for image, hole, mean, nearest in zip(IMAGES, holes, means, near, strict=True):
        assert (mean[hole > 0] == image[hole == 0].mean(0).round()).all()
        known = np.argwhere(hole == 0)
        for y, x in np.argwhere(hole > 0):
            squared = ((known - (y, x)) ** 2).sum(1)
            closest = known[squared == squared.min()]  # several may be equally near
            assert (image[tuple(closest.T)] == nearest[y, x]).all(-1).any()


def test_nothing_to_fill_from_is_grey():
    for name in baselines.BASELINES:
        assert (baselines.fill(name, IMAGES[:1], np.ones((1, 32, 32), np.uint8)) == 127).all()


@pytest.mark.slow
def test_processes_fill_the_same_batches_in_the_same_order(monkeypatch):
    monkeypatch.setattr(baselines, "DEPTH", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    images = np.stack([smooth(16, 16, seed) for seed in range(9)])
    holes = masks.draw_test_masks("square", 9, 8, 16, seed=1)
    with processes.create_pool(9, 1) as pool:
        for name in ("nearest", "Telea"):
            found = list(baselines.fill_batches(name, images, holes, 2, pool))
            assert [len(filled) for filled in found] == [2, 2, 2, 2, 1]
            assert np.array_equal(np.concatenate(found), baselines.fill(name, images, holes))
