"""LPIPS against a second implementation."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
import torchvision
from safetensors.torch import save_file

from inpaint_lib import losses, metrics
from inpaint_lib.evaluation import lpips

SLICES = (slice(0, 4), slice(4, 9), slice(9, 16), slice(16, 23), slice(23, 30))


@pytest.fixture(scope="module")
def vgg():
    """A VGG-16's convolutions with random weights, and torchmetrics' linear weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    folder = Path(torchmetrics.__file__).parent / "functional/image/lpips_models"
    return layers.eval(), list(torch.load(folder / "vgg.pth", "cpu", weights_only=True).values())


@pytest.fixture(scope="module")
def network(vgg, tmp_path_factory):
    """The Lpips of the same weights, from a file by torchvision's names."""
    path = tmp_path_factory.mktemp("weights") / "vgg.safetensors"
    save_file({f"features.{k}": v for k, v in vgg[0].state_dict().items()}, path)
    return lpips.load(str(path))


@torch.no_grad()
def expected(vgg, one, other):
    """Zhang et al.'s formula (1), of one pair (H,W,3) uint8."""
    layers, linear = vgg
    shift, scale = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450])
    )
    pair, total = [(metrics.to_float(x[None]) - shift) / scale for x in (one, other)], 0.0
    for part, weight in zip(SLICES, linear, strict=True):
        pair = [layers[part](x) for x in pair]
        unit = [x / x.square().sum(1, keepdim=True).sqrt() for x in pair]
        total += ((unit[0] - unit[1]).square() * weight).sum(1).mean().item()
    return total


@pytest.mark.slow
def test_lpips_of_a_vgg16_file_is_the_formulas_in_the_window_around_the_hole_too(vgg, network):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 48, 48, 3), np.uint8)
    holes = np.zeros((3, 48, 48), np.uint8)
    holes[0, 2:10, 4:9] = 1  # the window is cut at the image's border
    holes[1, 20:30, 16:36] = 1
    holes[2] = 1
    windows = (slice(0, 32), slice(0, 32)), (slice(9, 41), slice(10, 42)), (slice(48), slice(48))
    fills = np.where(holes[..., None], 255 - images, images)
    found = lpips.measure_distances(network, fills, images, holes, 2)
    for k, window in enumerate(windows):
        pairs = {
            "whole_composite": (fills[k], images[k]),
            "hole_window": (fills[k][window], images[k][window]),
        }
        for region, pair in pairs.items():
            value = found[region, "lpips_vgg"][k]
            assert value == pytest.approx(expected(vgg, *pair), rel=1e-3)
    same = lpips.measure_distances(network, images, images, holes, 2)
    assert max(values.max() for values in same.values()) == 0


def test_a_file_that_is_no_vgg16_is_refused_by_name(vgg, tmp_path):
    state = {k: v for k, v in vgg[0].state_dict().items() if k != "28.bias"}
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(losses.WeightsError, match="lpips_weights=.*short.pth is not a .*28.bias"):
        lpips.load(str(tmp_path / "short.pth"))
