"""Every architecture learns: on a handful of images, set up progressively, it beats the two simplest fills of a hole."""

import numpy as np
import pytest
import torch

from inpaint_lib import masks, metrics
from inpaint_lib.data import packs
from inpaint_lib.evaluation import baselines
from inpaint_lib.training import artifacts, loop

# steps and rates at which four images are learnt in half a minute; not the rates of the study
SETTINGS = {
    "custom": {"total_images": 960, "models.custom.lr_g": 5e-4},
    "context_encoder": {"total_images": 1200, "models.context_encoder.lr_g": 2e-3},
    "free_form": {"total_images": 1440, "models.free_form.lr_g": 1e-3},
}


def hole_psnr(outputs, images, holes):
    output, real = metrics.to_float(outputs), metrics.to_float(images)
    values = metrics.per_image(output, real, torch.from_numpy(holes).float()[:, None])
    return float(values[:, metrics.REGIONS.index("hole"), metrics.METRICS.index("psnr")].mean())


@pytest.mark.parametrize("architecture", SETTINGS)
def test_a_handful_of_images_is_learnt_better_than_simple_fills(micro, architecture):
    study = micro(
        datasets=["faces"], architectures=[architecture], setups=["progressive"], train_images=4, mask_widths=[4, 8, 16],
        log_every=20, **SETTINGS[architecture],
    )  # fmt: skip
    (run,) = study.runs()
    loop.fit(run, lambda *_: None)
    images = np.array(packs.prepare(study, "faces").train)
    holes = masks.frozen(run.model.mask_family, len(images), 16, 32, seed=1)
    batches = metrics.inpaint(artifacts.load_generator(run, 3), images, holes, "cpu", 4)
    found = hole_psnr(np.concatenate([metrics.to_uint8(output) for output, _, _ in batches]), images, holes)
    simple = {name: hole_psnr(baselines.fill(name, images, holes), images, holes) for name in ("mean colour", "nearest")}
    print(f"{architecture}: hole PSNR {found:.1f} dB,", ", ".join(f"{k} {v:.1f}" for k, v in simple.items()))
    assert found > max(simple.values()) + 2, simple
