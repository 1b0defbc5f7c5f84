import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from inpaint_lib import metrics, models


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    output, real = (torch.rand(5, 3, 16, 16, generator=g) * 2 - 1 for _ in range(2))
    return output, real, (torch.rand(5, 1, 16, 16, generator=g) > 0.6).float()


@pytest.fixture
def holes():
    """Seven images (7, 32, 32, 3) and a central hole."""
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    masks = np.zeros((7, 32, 32), np.uint8)
    masks[:, 8:24, 8:24] = 1
    return images, masks


def test_metrics_match_numpy_and_scikit_image(batch):
    found = metrics.measure_images(*batch).numpy()
    output, real, mask = (t.permute(0, 2, 3, 1).double().numpy() for t in batch)
    for i in range(5):
        o, r, m = output[i] / 2 + 0.5, real[i] / 2 + 0.5, np.broadcast_to(mask[i] > 0, (16, 16, 3))
        whole, rows = np.where(m, o, r), {}
        for region, error in {"hole": (o - r)[m], "visible": (o - r)[~m]}.items():
            l2 = np.square(error).mean()
            rows[region] = np.abs(error).mean(), l2, -10 * np.log10(l2)
        psnr = peak_signal_noise_ratio(r, whole, data_range=1)
        rows["whole_composite"] = np.abs(whole - r).mean(), mean_squared_error(r, whole), psnr
        assert np.allclose(found[i], [rows[region] for region in metrics.REGIONS], rtol=1e-6)


def test_an_image_without_error_is_capped_and_where_all_is_hole_nothing_is_visible(batch):
    output, real, mask = batch
    found = metrics.measure_images(real, real, mask)
    assert (found[:, :, :2] == 0).all() and (found[:, :, 2] == metrics.PSNR_CAP).all()
    found = metrics.measure_images(output, real, torch.ones_like(mask))
    assert torch.isnan(found[:, 2]).all() and torch.equal(found[:, 0], found[:, 1])


def test_uint8_round_trip():
    images = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8, 1).repeat(3, 3)
    assert np.array_equal(metrics.to_uint8(metrics.to_float(images)), images)


def test_evaluation_ignores_batch_size_and_restores_the_mode(holes):
    G, _ = models.create("custom", 32, generator_width=8, discriminator_width=8)
    a, b = (metrics.measure_batches(metrics.inpaint(G.train(), *holes, "cpu", n)) for n in (2, 7))
    assert a.shape == (7, 3, 3) and torch.allclose(a, b, rtol=1e-5) and G.training
    next(metrics.inpaint(G, *holes, "cpu", 2))  # the rest is not taken
    assert G.training


def test_calibrated_statistics_are_means_over_the_images_and_the_original_stays(holes):
    widths = {"generator_width": 8, "discriminator_width": 8, "bottleneck": 32}
    G, _ = models.create("context_encoder", 32, **widths)
    before = {name: value.clone() for name, value in G.state_dict().items()}
    copied = metrics.calibrate(G.eval(), *holes, "cpu", 7)
    assert not copied.training
    assert all(torch.equal(before[name], value) for name, value in G.state_dict().items())
    seen = []
    norm = metrics.find_batch_norms(G)[0]
    norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    list(metrics.inpaint(G, *holes, "cpu", 7))
    first = metrics.find_batch_norms(copied)[0]
    assert torch.allclose(first.running_mean, seen[0].mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(first.running_var, seen[0].var((0, 2, 3)), atol=1e-6)


def test_float32_is_float32():
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
