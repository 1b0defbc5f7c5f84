"""Every measure against a second implementation or a known answer."""

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from inpaint_lib import losses, masks, metrics
from inpaint_lib.evaluation import measures


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    output, real = (torch.rand(4, 3, 32, 32, generator=g) * 2 - 1 for _ in range(2))
    holes = masks.draw_test_masks("free_form", 4, 12, 32, seed=0)
    return output, real, torch.from_numpy(holes).float()[:, None]


def as_numpy(*tensors):
    """(B,3,H,W) in [-1, 1] -> (B,H,W,3) float64 in [0, 1]."""
    return [t.double().permute(0, 2, 3, 1).numpy() / 2 + 0.5 for t in tensors]


def test_colour_is_the_difference_of_mean_colours_in_the_hole(batch):
    output, real, mask = batch
    for k, (o, r) in enumerate(zip(*as_numpy(output, real), strict=True)):
        inside = mask[k, 0].numpy() > 0
        expected = deltaE_ciede2000(rgb2lab(o)[inside].mean(0), rgb2lab(r)[inside].mean(0))
        assert measures.colour(*batch)[k].item() == pytest.approx(expected, abs=0.01)
    assert measures.colour(real, real, mask).max() == 0


def test_continuity_counts_the_pairs_of_pixels_across_the_boundary(batch):
    output, real, mask = batch
    filled = losses.composite(output, real, mask)
    for k, (o, r) in enumerate(zip(*as_numpy(filled, real), strict=True)):
        hole, found = mask[k, 0].numpy() > 0, []
        for y in range(32):
            for x in range(32):
                for v, u in ((y + 1, x), (y, x + 1)):
                    if v < 32 and u < 32 and hole[y, x] != hole[v, u]:
                        found.extend(np.abs((o[v, u] - o[y, x]) - (r[v, u] - r[y, x])))
        assert measures.continuity(*batch)[k].item() == pytest.approx(np.mean(found), rel=1e-5)
    assert torch.isnan(measures.continuity(output, real, torch.ones_like(mask))).all()


def test_ssim_is_scikit_images(batch):
    output, real, mask = batch
    options = {"channel_axis": -1, "data_range": 1.0, "gaussian_weights": True, "sigma": 1.5}
    options["use_sample_covariance"] = False
    pairs = zip(*as_numpy(losses.composite(output, real, mask), real), strict=True)
    expected = [structural_similarity(r, o, **options) for o, r in pairs]
    assert measures.ssim(*batch).numpy() == pytest.approx(expected, abs=1e-5)
    assert measures.ssim(real, real, mask).numpy() == pytest.approx(np.ones(4))


def test_measures_are_means_over_images_whatever_the_batches(batch):
    halves = [tuple(t[k : k + 2] for t in batch) for k in (0, 2)]
    (one, filled), (two, again) = measures.measure([batch]), measures.measure(halves)
    assert one.keys() == two.keys() and all(np.allclose(one[k], two[k]) for k in one)
    assert np.array_equal(filled, again)
    assert one["hole", "l1"] == pytest.approx(metrics.measure_images(*batch)[:, 0, 0].numpy())
    assert measures.average(one)["hole", "l1"] == (pytest.approx(one["hole", "l1"].mean()), 4)
    without = measures.measure([batch], raw=False, extra=False)[0]
    visible = {("visible", metric) for metric in metrics.METRICS}
    assert one.keys() - without.keys() == visible | set(measures.EXTRA)


def test_where_all_is_hole_nothing_is_visible_and_nan_is_kept(batch):
    output, real, mask = batch
    full = torch.cat([torch.ones_like(mask[:1]), mask[1:]])
    found = measures.average(measures.measure([(output, real, full)])[0])
    assert found["hole", "l1"][1] == 4
    for key in (("visible", "l1"), ("visible", "psnr"), ("hole", "continuity")):
        assert np.isfinite(found[key][0]) and found[key][1] == 3
    alone = measures.average(measures.measure([(output[:1], real[:1], full[:1])])[0])
    assert ("hole", "l1") in alone and ("visible", "l1") not in alone
    poisoned = output.clone()
    poisoned[1] = float("nan")
    found = measures.average(measures.measure([(poisoned, real, full)])[0])
    for key in (("hole", "psnr"), ("visible", "l1"), ("hole", "continuity")):
        assert np.isnan(found[key][0])


def test_area_bins_hold_the_holes_of_their_size_and_no_others():
    areas = [0.02, 0.1, 0.11, 0.2, 0.45, 0.6, 0.61]
    images = pd.DataFrame({"area": areas, "l1": np.arange(7.0), "psnr": 10 * np.arange(7.0)})
    found = measures.average_by_area(images)
    of_l1 = {region: value for (region, metric), value in found.items() if metric == "l1"}
    assert of_l1 == {
        "area_0_10": (0.5, 2),
        "area_10_20": (2.5, 2),
        "area_40_50": (4.0, 1),
        "area_50_60": (5.0, 1),
    }
    assert found["area_10_20", "psnr"] == (25.0, 2) and set(found) <= measures.MEASURES


def test_stability_is_the_deviation_on_a_fixed_batch_as_a_ratio_to_that_with_frozen_networks():
    history = pd.DataFrame({"stage": [1, 1, 2, 2], "d_accuracy": [1.0, 1.0, 0.2, 0.4]})

    def stability(probed, noise):
        return measures.measure_game(history, pd.DataFrame({"probe_g": probed}), noise)

    found = stability(0.3 * np.random.default_rng(0).normal(size=4000), 0.1)
    assert found["stability"] == pytest.approx(3, rel=0.05) and found["noise"] == 0.1
    assert found["d_accuracy"] == pytest.approx(0.3)
    assert stability(np.ones(40), 0.1)["stability"] == 0
    for undefined in (stability([0.0, 1.0], 0.0), stability([1.0], 0.1)):  # a dead game, one step
        assert np.isnan(undefined["stability"])
