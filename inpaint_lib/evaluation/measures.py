"""Measures of filled holes, per image, and of the adversarial game, per run.

Beside L1, L2 and PSNR (metrics.py), per image:

- ssim: structural similarity (Wang et al. 2004; 11 x 11 Gaussian windows) of the composite.
- colour: CIEDE2000 between the mean CIELAB colours of the filled hole and of the truth there.
- continuity: mean absolute difference between composite and truth of the gradient across the
  hole's boundary (pairs of neighbouring pixels, one of them in the hole).

Regions area_0_10 to area_50_60: hole L1 and PSNR over the holes of all widths that cover more than
0 and at most 10 % of the image, and so on (the bins of Liu et al. 2018).

Of the adversarial game: stability and noise (training/probe.py); d_accuracy, D's balanced accuracy,
mean over the last stage.
"""

import itertools

import numpy as np
import pandas as pd
import pytorch_msssim
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from .. import losses, metrics


def colour(output, real, mask):
    """Return CIEDE2000 of the mean colours in the hole: (B,) for images (B,3,H,W) in [-1, 1]."""
    hole, means = mask.cpu().double().numpy(), []
    for image in (output, real):
        lab = rgb2lab(((image.double() + 1) / 2).cpu().numpy(), channel_axis=1)  # CIELAB, D65
        means.append((lab * hole).sum((2, 3)) / hole.sum((2, 3)))
    return torch.from_numpy(np.atleast_1d(deltaE_ciede2000(*means)))


def continuity(output, real, mask):
    """Return the difference of the gradients across the boundary: (B,), NaN without a boundary."""
    error = (losses.composite(output, real, mask).double() - real) / 2
    total = count = 0
    for axis in (2, 3):
        border = mask.diff(dim=axis).abs()
        total = total + (error.diff(dim=axis).abs() * border).sum((1, 2, 3))
        count = count + 3 * border.sum((1, 2, 3))
    return total / count


def ssim(output, real, mask):
    """Return the structural similarity of composite and truth: (B,)."""
    pair = ((x.float() + 1) / 2 for x in (losses.composite(output, real, mask), real))
    return pytorch_msssim.ssim(*pair, data_range=1.0, size_average=False)


EXTRA = {
    ("hole", "colour"): colour,
    ("hole", "continuity"): continuity,
    ("whole_composite", "ssim"): ssim,
}
AREAS = tuple(f"area_{low}_{low + 10}" for low in range(0, 60, 10))
MEASURES = {  # every (region, metric) there can be
    *itertools.product(metrics.REGIONS, metrics.METRICS),
    *EXTRA,
    *itertools.product(AREAS, ("l1", "psnr")),
    *itertools.product(("whole_composite", "hole_window"), ("lpips", "lpips_vgg")),
    *itertools.product(("whole_composite",), ("fid", "kid", "is")),
    *itertools.product(("hole_snapshot",), metrics.METRICS),
    *itertools.product(("training",), ("stability", "noise", "d_accuracy")),
    ("hole", "overfitting"),
}


def measure(batches, raw=True, extra=True):
    """Return {(region, metric): (N,) float64} and the composites (N,H,W,3) uint8 of all batches.

    Batches are `(output, real, mask)`. raw: measure also the visible pixels. extra: also EXTRA.
    """
    parts, composites = [], []
    regions = [region for region in metrics.REGIONS if raw or region != "visible"]
    for output, real, mask in batches:
        values = metrics.measure_images(output, real, mask)
        keys = itertools.product(range(len(regions)), range(len(metrics.METRICS)))
        found = {(regions[i], metrics.METRICS[j]): values[:, i, j] for i, j in keys}
        if extra:
            found |= {key: function(output, real, mask) for key, function in EXTRA.items()}
        parts.append({key: value.double().cpu() for key, value in found.items()})
        composites.append(metrics.to_uint8(losses.composite(output, real, mask)))
    joined = {key: torch.cat([part[key] for part in parts]).numpy() for key in parts[0]}
    return joined, np.concatenate(composites)


def average(values):
    """Return {key: (mean, number of images)}.

    Images without any known pixel don't count in measures of the boundary and of visible pixels.
    """
    found = {}
    for (region, metric), value in values.items():
        if metric == "continuity" or region == "visible":
            value = value[np.isfinite(values["whole_composite", "l1"]) <= np.isfinite(value)]
        if len(value):
            found[region, metric] = float(value.mean()), len(value)
    return found


def average_by_area(images):
    """Return {(area bin, metric): (mean, number of holes)} of a frame with area, l1 and psnr."""
    bins = pd.cut(images.area, np.arange(len(AREAS) + 1) / 10, labels=AREAS)
    return {
        (region, metric): (float(part[metric].mean()), len(part))
        for region, part in images.groupby(bins, observed=True)
        for metric in ("l1", "psnr")
    }


def measure_game(history, probed, noise):
    """Return {metric of the region training: value} of the frames of history.csv and probe.csv.

    noise: the deviation between batches with frozen networks.
    """
    last = history[history.stage == history.stage.max()]
    return {
        "stability": probed.probe_g.std() / noise if noise else float("nan"),
        "noise": noise,
        "d_accuracy": last.d_accuracy.mean(),
    }
