import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from inpaint_lib import masks
from inpaint_lib.rng import open_stream
from tests.training.test_step import NoHostReads

every_family = pytest.mark.parametrize("family", masks.FAMILIES)


def generate(family, batch=16, width=16, size=32, seed=0):
    return masks.generate(family, batch, width, size, open_stream(seed))


@every_family
@pytest.mark.parametrize("width", [1, 2, 7, 16, 31, 32])
def test_hole_is_one_and_never_empty(family, width):
    mask = generate(family, 64, width)
    assert mask.shape == (64, 1, 32, 32) and mask.dtype == torch.float32
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert (mask.sum((1, 2, 3)) >= 1).all()


@every_family
def test_masks_are_reproducible_and_differ_and_leave_the_global_rng_untouched(family):
    before, drawn = torch.get_rng_state(), generate(family)
    assert torch.equal(drawn, generate(family))
    assert torch.equal(before, torch.get_rng_state())
    assert len({mask.numpy().tobytes() for mask in drawn}) > 8 or family == "center"


@every_family
def test_the_same_draw_grows_with_the_width(family):
    areas = torch.stack([generate(family, 32, w).sum((1, 2, 3)) for w in (2, 6, 10, 14, 18)])
    assert (areas[1:] > areas[:-1]).all()


@every_family
@pytest.mark.parametrize("width", [1, 7, 16, 27, 32])
def test_an_extent_in_a_tensor_gives_the_same_masks(family, width):
    u, extent = (
        masks.draw_variates(family, 40, open_stream(2)),
        masks.find_extent(family, width, 32),
    )
    draw = masks.FAMILIES[family]
    assert torch.equal(draw(u, extent, 32), draw(u, torch.tensor(extent), 32))


@every_family
def test_a_test_mask_does_not_depend_on_how_many_are_drawn(family):
    few, many = (masks.draw_test_masks(family, n, 8, 32, 0) for n in (3, 100))
    assert few.dtype == np.uint8 and np.array_equal(few, many[:3])


def test_square_matches_a_loop():
    u = masks.draw_variates("square", 20, open_stream(1))
    for width in (1, 5, 16, 32):
        expected = np.zeros((20, 32, 32))
        for k, (a, b) in enumerate(u.numpy()):
            top, left = int(a * (32 - width + 1)), int(b * (32 - width + 1))
            expected[k, top : top + width, left : left + width] = 1
        assert np.array_equal(masks.square(u, width, 32)[:, 0].numpy(), expected)


def test_square_reaches_every_corner_and_center_is_centred():
    assert generate("square", 8000, 8).amax(0).min() == 1
    mask = generate("center", 1, 16)[0, 0]
    assert mask[8:24, 8:24].sum() == 256 == mask.sum()


def test_rectangles_sum_to_the_nominal_area_except_for_rounding_and_overlap():
    fraction = generate("rectangles", 1000, 24, 96).mean((1, 2, 3)) / (24 / 96) ** 2
    assert (fraction <= 1.15).all() and 0.85 < fraction.mean() < 1.01


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("share", [1 / 8, 1 / 4, 1 / 2, 3 / 4])
def test_free_form_covers_the_nominal_area_on_average(size, share):
    fraction = generate("free_form", 400, int(size * share), size).mean()
    assert abs(float(fraction) / share**2 - 1) < 0.08


def test_distance_to_segments_matches_dense_sampling():
    a, b = torch.rand(1, 5, 2) * 16, torch.rand(1, 5, 2) * 16
    found = masks._squared_distances(a, b, 16)[0].sqrt().numpy()
    t = np.linspace(0, 1, 2001)[:, None]
    rows, cols = np.mgrid[:16, :16] + 0.5
    for k in range(5):
        points = (1 - t) * a[0, k].numpy() + t * b[0, k].numpy()
        dense = np.hypot(rows[..., None] - points[:, 0], cols[..., None] - points[:, 1]).min(-1)
        assert np.abs(found[k] - dense).max() < 0.02


def test_wrong_requests_are_named():
    with pytest.raises(ValueError, match="unknown mask family 'circle'"):
        generate("circle")
    for width in (0, 33):
        with pytest.raises(ValueError, match=f"mask width {width}"):
            generate("square", width=width)


def bank(areas, turned=False):
    """Masks of 8 px whose first `area` pixels are hole."""
    rows = [np.packbits(np.arange(64) < area) for area in areas]
    return masks.Bank.of(np.stack(rows), turned)


def test_a_bank_draws_near_the_nominal_area_and_equal_variates_draw_equal_ranks():
    own = bank(range(1, 64))
    u = masks.draw_variates("folder", 200, open_stream(0))
    for width in (4, 5, 6):
        drawn = masks.get_family("folder", own)(u, masks.find_extent("folder", width, 8), 8)
        area = drawn.sum((1, 2, 3))
        assert drawn.shape == (200, 1, 8, 8) and (abs(area / width**2 - 1) <= 0.25).all()
        assert area.unique().numel() == own.number(width)
        first, end = own.near(width**2)
        assert torch.equal(area, own.areas[first + (u[:, 0] * (end - first)).long()])
    every = masks.draw_test_masks("folder", 300, 0, 8, 0, own).sum((1, 2))
    assert every.min() < 5 and every.max() > 60  # width 0: of any area


def test_a_bank_turns_a_mask_in_all_eight_ways_and_no_other():
    hole = np.zeros((8, 8), bool)
    hole[0, 1:4] = True
    own = masks.Bank.of(np.packbits(hole)[None], turned=True)
    found = {
        tuple(mask.flatten().tolist())
        for mask in masks.generate("folder", 99, 2, 8, open_stream(0), own)
    }
    assert len(found) == 8 and {sum(mask) for mask in found} == {3}


def test_a_draw_from_a_bank_reads_nothing_from_the_device_and_stays_there():
    own, extent = bank(range(1, 64), turned=True), torch.tensor(16.0)
    with NoHostReads():
        own.draw(masks.draw_variates("folder", 4, open_stream(0)), extent, 8)
    with FakeTensorMode(), torch.device("cuda"):
        there = masks.Bank(torch.empty(9, 8, dtype=torch.uint8), torch.empty(9), turned=True)
        assert there.draw(torch.empty(4, 2), torch.empty(()), 8).device.type == "cuda"
