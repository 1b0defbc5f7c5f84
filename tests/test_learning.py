"""Every architecture learns: on a handful of images, set up progressively, it beats the two simplest fills of a hole."""

import numpy as np
import pytest
import torch

from inpaint_lib import artifacts, data, masks, metrics, train

# steps and rates at which four images are learnt in half a minute; not the rates of the study
SETTINGS = {
    "custom": {"total_images": 960, "models.custom.lr_g": 1e-3},
    "context_encoder": {"total_images": 1200, "models.context_encoder.lr_g": 2e-3},
    "free_form": {"total_images": 960, "models.free_form.lr_g": 1e-3},
}


def mean_colour(image, hole):
    """The hole filled with the mean of the known pixels: (H,W,3), (H,W)."""
    return np.where(hole[..., None] > 0, image[hole == 0].mean(0).round(), image).astype(np.uint8)


def nearest(image, hole):
    """Every hole pixel takes the colour of the nearest known pixel."""
    known, missing = np.argwhere(hole == 0), np.argwhere(hole > 0)
    closest = known[((missing[:, None] - known[None]) ** 2).sum(-1).argmin(1)]
    filled = image.copy()
    filled[tuple(missing.T)] = image[tuple(closest.T)]
    return filled


def hole_psnr(outputs, images, holes):
    output, real = metrics.to_float(outputs), metrics.to_float(images)
    values = metrics.per_image(output, real, torch.from_numpy(holes).float()[:, None])
    return float(values[:, metrics.REGIONS.index("hole"), metrics.METRICS.index("psnr")].mean())


def test_the_simple_fills_do_what_they_say():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    hole = np.zeros((8, 8), np.uint8)
    hole[2:5, 0] = 1
    assert np.array_equal(nearest(image, hole)[3, 0], image[3, 1]) and np.array_equal(nearest(image, hole)[0], image[0])
    assert np.allclose(mean_colour(image, hole)[3, 0], image[hole == 0].mean(0), atol=0.5)


@pytest.mark.parametrize("architecture", SETTINGS)
def test_a_handful_of_images_is_learnt_better_than_simple_fills(micro, architecture):
    study = micro(
        datasets=["faces"], architectures=[architecture], setups=["progressive"], train_images=4, mask_widths=[4, 8, 16],
        threads=2, log_every=20, **SETTINGS[architecture],
    )  # fmt: skip
    (run,) = study.runs()
    train.fit(run, lambda *_: None)
    images = np.array(data.prepare(study, "faces").train)
    holes = masks.frozen(run.model.mask_family, len(images), 16, 32, seed=1)
    batches = metrics.inpaint(artifacts.load_generator(run, 3), images, holes, "cpu", 4)
    found = hole_psnr(np.concatenate([metrics.to_uint8(output) for output, _, _ in batches]), images, holes)
    simple = {
        fill.__name__: hole_psnr(np.stack([fill(i, h) for i, h in zip(images, holes, strict=True)]), images, holes)
        for fill in (mean_colour, nearest)
    }
    print(f"{architecture}: hole PSNR {found:.1f} dB,", ", ".join(f"{k} {v:.1f}" for k, v in simple.items()))
    assert found > max(simple.values()) + 2, simple
