import numpy as np
import pytest
import torch

from inpaint_lib import masks
from inpaint_lib.rng import keyed

FAMILIES = list(masks.FAMILIES)


def generate(family, batch=16, width=16, size=32, seed=0):
    return masks.generate(family, batch, width, size, keyed(seed))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [1, 2, 7, 16, 31, 32])
def test_hole_is_one_and_never_empty(family, width):
    mask = generate(family, 64, width)
    assert mask.shape == (64, 1, 32, 32) and mask.dtype == torch.float32
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert (mask.sum((1, 2, 3)) >= 1).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_are_reproducible_and_leave_the_global_rng_untouched(family):
    before = torch.get_rng_state()
    assert torch.equal(generate(family), generate(family))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "center"])
def test_every_sample_has_its_own_mask(family):
    assert len({m.numpy().tobytes() for m in generate(family)}) > 8


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_draw_grows_with_the_width(family):
    areas = torch.stack([generate(family, 32, width).sum((1, 2, 3)) for width in (2, 6, 10, 14, 18)])
    assert (areas[1:] > areas[:-1]).all()


def test_square_matches_a_loop():
    u = masks.variates("square", 20, keyed(1))
    for width in (1, 5, 16, 32):
        expected = np.zeros((20, 32, 32))
        for k, (a, b) in enumerate(u.numpy()):
            top, left = int(a * (32 - width + 1)), int(b * (32 - width + 1))
            expected[k, top : top + width, left : left + width] = 1
        assert np.array_equal(masks.square(u, width, 32)[:, 0].numpy(), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [1, 7, 16, 27, 32])
def test_an_extent_in_a_tensor_gives_the_same_masks(family, width):
    u, extent = masks.variates(family, 40, keyed(2)), masks.extent(family, width, 32)
    assert torch.equal(masks.FAMILIES[family](u, extent, 32), masks.FAMILIES[family](u, torch.tensor(extent), 32))


def test_square_reaches_every_corner():
    covered = generate("square", 8000, 8).amax(0)[0]
    assert covered.min() == 1


def test_center_is_centred():
    mask = generate("center", 1, 16)[0, 0]
    assert mask[8:24, 8:24].sum() == 256 == mask.sum()


def test_rectangles_sum_to_the_nominal_area_but_for_rounding_and_overlap():
    fraction = generate("rectangles", 1000, 24, 96).mean((1, 2, 3))
    assert (fraction <= (24 / 96) ** 2 * 1.15).all()
    assert 0.85 < fraction.mean() / (24 / 96) ** 2 < 1.01


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("share", [1 / 8, 1 / 4, 1 / 2, 3 / 4])
def test_free_form_covers_the_nominal_area_on_average(size, share):
    fraction = generate("free_form", 400, int(size * share), size).mean()
    assert abs(float(fraction) / share**2 - 1) < 0.08


def test_distance_to_segments_matches_dense_sampling():
    a, b = torch.rand(1, 5, 2) * 16, torch.rand(1, 5, 2) * 16
    found = masks.squared_distance_to_segments(a, b, 16)[0].sqrt().numpy()
    t = np.linspace(0, 1, 2001)[:, None]
    rows, cols = np.mgrid[:16, :16] + 0.5
    for k in range(5):
        points = (1 - t) * a[0, k].numpy() + t * b[0, k].numpy()
        dense = np.hypot(rows[..., None] - points[:, 0], cols[..., None] - points[:, 1]).min(-1)
        assert np.abs(found[k] - dense).max() < 0.02


def test_a_test_mask_does_not_depend_on_how_many_are_drawn():
    for family in FAMILIES:
        assert np.array_equal(masks.frozen(family, 3, 8, 32, 0), masks.frozen(family, 300, 8, 32, 0)[:3])


def test_wrong_requests_are_named():
    with pytest.raises(ValueError, match="unknown mask family 'circle'"):
        generate("circle")
    for width in (0, 33):
        with pytest.raises(ValueError, match=f"mask width {width}"):
            generate("square", width=width)
