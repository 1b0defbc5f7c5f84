"""Every architecture learns: trained on four images, it beats the trivial baselines on them."""

import numpy as np
import pytest
import torch

from inpaint_lib import masks, metrics
from inpaint_lib.data import packs
from inpaint_lib.evaluation import baselines
from inpaint_lib.training import artifacts, loop

# steps and rates with which four images are learned in half a minute; not the rates of the study
GROWING = {"grid.setups": ["progressive"], "curriculum.mask_widths": [4, 8, 16]}
SETTINGS = {
    "custom": GROWING | {"curriculum.total_images": 960, "models.custom.lr_g": 5e-4},
    "context_encoder": {"curriculum.total_images": 600, "models.context_encoder.lr_g": 2e-3},
    "free_form": {"curriculum.total_images": 720, "models.free_form.lr_g": 1e-3},
}


def hole_psnr(outputs, images, holes):
    output, real = metrics.to_float(outputs), metrics.to_float(images)
    values = metrics.measure_images(output, real, torch.from_numpy(holes).float()[:, None])
    return float(values[:, metrics.REGIONS.index("hole"), metrics.METRICS.index("psnr")].mean())


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SETTINGS)
def test_four_images_are_learnt_better_than_the_trivial_baselines(micro, architecture):
    settings = {
        "grid.datasets": ["faces"],
        "grid.architectures": [architecture],
        "grid.setups": ["fixed"],
        "data.train_images": 4,
        "curriculum.mask_widths": [16],
        "training.log_every": 20,
    }
    study = micro(settings | SETTINGS[architecture])
    (run,) = study.runs()
    packs.prepare(study, "faces")
    loop.require_finished(loop.fit(run))
    images = np.array(packs.open_pack(study, "faces").train)
    holes = masks.draw_test_masks(run.model.mask_family, len(images), 16, 32, seed=1)
    G = artifacts.load_generator(run, run.n_stages, "cpu")
    ((output, *_),) = metrics.inpaint(G, images, holes, "cpu", 4)
    found = hole_psnr(metrics.to_uint8(output), images, holes)
    trivial = {
        name: hole_psnr(baselines.fill(name, images, holes), images, holes)
        for name in ("mean colour", "nearest")
    }
    assert found > max(trivial.values()) + 2, (found, trivial)
