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


def test_metrics_match_numpy_and_scikit_image(batch):
    output, real, mask = batch
    found = metrics.per_image(*batch).numpy()
    for i in range(5):
        o, r, m = (t[i].permute(1, 2, 0).double().numpy() for t in (output / 2 + 0.5, real / 2 + 0.5, mask))
        composite, hole = np.where(m > 0, o, r), np.broadcast_to(m > 0, o.shape)
        expected = [[np.abs(o - r)[hole].mean(), np.square(o - r)[hole].mean(), -10 * np.log10(np.square(o - r)[hole].mean())]]
        expected += [
            [np.abs(image - r).mean(), mean_squared_error(r, image), peak_signal_noise_ratio(r, image, data_range=1)]
            for image in (composite, o)
        ]
        assert np.allclose(found[i], expected, rtol=1e-6)


def test_an_image_without_error_is_capped(batch):
    _, real, mask = batch
    found = metrics.per_image(real, real, mask)
    assert (found[:, :, :2] == 0).all() and (found[:, :, 2] == metrics.PSNR_CAP).all()


def test_only_the_hole_counts_in_hole_and_composite(batch):
    output, real, mask = batch
    other = output + (1 - mask) * 0.1
    a, b = metrics.per_image(output, real, mask), metrics.per_image(other, real, mask)
    assert torch.allclose(a[:, :2], b[:, :2])
    assert not torch.allclose(a[:, 2], b[:, 2])


def test_uint8_round_trip():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    assert np.array_equal(metrics.to_uint8(metrics.to_float(images)), images)


def test_evaluation_ignores_batch_size_and_restores_the_mode():
    G, _ = models.create("custom", 32, generator_width=8, discriminator_width=8)
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    holes = np.zeros((7, 32, 32), np.uint8)
    holes[:, 8:24, 8:24] = 1
    a, b = (metrics.evaluate(metrics.inpaint(G.train(), images, holes, "cpu", n)) for n in (2, 7))
    assert a.shape == (7, 3, 3) and torch.allclose(a, b, rtol=1e-5) and G.training


def test_float32_is_float32():
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
