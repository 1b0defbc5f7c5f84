"""LPIPS (Zhang et al. 2018): learned perceptual distance of composites and the truth.

Regions: whole_composite; hole_window, the smallest square around the hole, of at least WINDOW
pixels. Network and linear weights are torchmetrics'; the backbone is torchvision's AlexNet (metric
lpips) or a VGG-16 from a file (lpips_vgg). The linear weights were trained on torchvision's
vgg16-397923af.pth: with any other VGG-16, Caffe's included, the number is not LPIPS.
"""

from dataclasses import dataclass

import numpy as np
import torch

from .. import losses, metrics

WINDOW = 32  # pixels


@dataclass(frozen=True)
class Lpips:
    metric: str
    network: torch.nn.Module  # maps two batches (B,3,H,W) in [-1, 1] to (B,1,1,1)


def load(wanted, device="cpu"):
    """Return the Lpips of `evaluation.lpips_weights`, which pretrained.find has checked."""
    from torchmetrics.functional.image.lpips import _LPIPS  # takes seconds to import

    if wanted == "auto":
        return Lpips("lpips", _LPIPS(net="alex").to(device))
    with torch.random.fork_rng(devices=[]):  # torchmetrics draws weights, which are replaced
        network = _LPIPS(net="vgg", pnet_rand=True)
    own = network.net.state_dict()
    names = {name: "features." + name.split(".", 1)[1] for name in own}  # of "slice2.5.weight"
    like = {names[name]: value for name, value in own.items()}
    state = losses.read_vgg16(wanted, like, "lpips_weights")
    network.net.load_state_dict({name: state[names[name]] for name in own})
    return Lpips("lpips_vgg", network.to(device))


@torch.inference_mode()
def measure_distances(lpips, composites, images, holes, batch_size):
    """Return {(region, metric): (N,) float64} of composites and images (N,H,W,3) uint8.

    holes (N,H,W), 1 = hole.
    """
    device = next(lpips.network.parameters()).device

    def compare(part, window=(slice(None), slice(None))):
        pair = (metrics.to_float(x[(part, *window)], device) for x in (composites, images))
        return lpips.network(*pair).flatten().double().cpu().numpy()

    parts = np.split(np.arange(len(images)), range(batch_size, len(images), batch_size))
    whole = np.concatenate([compare(part) for part in parts])
    around = whole.copy()  # a window may be the whole image
    for k, hole in enumerate(holes):
        if (window := _window(hole)) is not None:
            around[k] = compare([k], window)[0]
    return {("whole_composite", lpips.metric): whole, ("hole_window", lpips.metric): around}


def _window(hole):
    """Return slices (rows, columns) of the window around a hole (H,W), None for the whole image."""
    size, ends = len(hole), [(at.min(), at.max() + 1) for at in np.nonzero(hole)]
    side = max(WINDOW, *(high - low for low, high in ends))
    if side >= size:
        return None
    starts = (int(min(max((low + high - side) / 2, 0), size - side)) for low, high in ends)
    return tuple(slice(start, start + side) for start in starts)
