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
    holes = masks.frozen("free_form", 4, 12, 32, seed=0)
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
    assert one["hole", "l1"] == pytest.approx(metrics.per_image(*batch)[:, 0, 0].numpy())
    assert measures.means(one)["hole", "l1"] == pytest.approx(one["hole", "l1"].mean())
    assert one.keys() - measures.measure([batch], raw=False)[0].keys() == {
        ("whole_raw", metric) for metric in metrics.METRICS
    }


# --- the adversarial game


def history(*stages):
    """A history with the given losses per stage."""
    rows = [(k, v, v) for k, losses_of_stage in enumerate(stages, 1) for v in losses_of_stage]
    return pd.DataFrame(rows, columns=["stage", "adversarial_g", "d_accuracy"])


def stability(*stages, probed=(0.0, 1.0), noise=1.0):
    return measures.stability(history(*stages), pd.DataFrame({"probe_g": probed}), noise)


def test_stability_is_the_deviation_on_a_fixed_batch_as_a_ratio_to_that_between_batches_at_rest():
    moves = np.random.default_rng(0).normal(size=4000)
    found = stability([1, 1], [0.2, 0.4], probed=0.3 * moves, noise=0.1)
    assert found["stability"] == pytest.approx(3, rel=0.05)
    assert found["d_accuracy"] == pytest.approx(0.3)
    assert stability([1, 1], probed=np.ones(40), noise=0.1)["stability"] == 0
    assert np.isnan(stability([1, 1], noise=0.0)["stability"])  # a dead game


def test_a_peak_after_a_growth_is_seen_and_how_long_it_lasts():
    calm, peak = [1.0] * 8, [5.0, 3.0] + [1.1, 0.9] * 3
    for last, height, share in ((peak, 4.0, 2 / 8), (calm, 0.0, 0.0)):
        found = stability(calm, last)
        assert found["transient_peak"] == pytest.approx(height)
        assert found["settling_share"] == pytest.approx(share)
    assert np.isnan(stability(calm)["transient_peak"])  # a single stage has no growth
    rng = np.random.default_rng(0)
    shares = [stability(*rng.normal(size=(8, 160)))["settling_share"] for _ in range(50)]
    assert np.median(shares) < 0.05, "stationary noise settles at once"


def test_an_image_that_is_not_a_number_counts(batch):
    output, real, mask = batch
    poisoned = output.clone()
    poisoned[0] = float("nan")
    found, _ = measures.measure([(poisoned, real, mask)])
    assert all(np.isnan(found["hole", metric][0]) for metric in metrics.METRICS)
    full = torch.cat([torch.ones_like(mask[:1]), mask[1:]])  # the first has no boundary
    found, _ = measures.measure([(output, real, full)])
    assert np.isnan(found["hole", "continuity"][0])
    assert np.isfinite(measures.means(found)["hole", "continuity"])


@pytest.mark.slow
def test_lpips_is_torchmetrics_and_zero_for_equal_images(batch):
    """AlexNet with random weights: the windows of small images are all of them."""
    from torchmetrics.functional.image.lpips import _LPIPS

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _LPIPS(pretrained=False, net="alex", pnet_rand=True, eval_mode=True)
    output, real, mask = batch
    whole = losses.composite(output, real, mask)
    found = measures.measure([batch], network)[0]
    with torch.inference_mode():
        expected = network(whole, real).flatten().numpy()
    assert found["whole_composite", "lpips"] == pytest.approx(expected, rel=1e-5)
    assert found["hole_window", "lpips"] == pytest.approx(expected, rel=1e-5)
    assert measures.measure([(real, real, mask)], network)[0]["whole_composite", "lpips"].max() == 0
