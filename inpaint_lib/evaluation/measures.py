"""The measures of filled holes, per image, and of the adversarial game, per run.

Beside L1, L2 and PSNR (metrics.py), per image:

- ssim: structural similarity (Wang et al. 2004; 11 x 11 Gaussian windows) of the composite.
- lpips: learned perceptual distance (Zhang et al. 2018, AlexNet) of the composite; in the region
  hole_window of the smallest square around the hole alone, of at least WINDOW pixels.
- colour: CIEDE2000 between the mean CIELAB colours of the filled hole and of the truth there.
- continuity: mean absolute difference between composite and truth of the gradient across the
  hole's boundary (pairs of neighbouring pixels of which one lies in the hole). It says how well the
  fill joins, not whether another fill would have joined as well.

Of the adversarial game: stability (training/probe.py); d_accuracy, D's balanced accuracy, mean over
the last stage; transient_peak, the highest loss in a stage minus the mean of the stage before, the
worst; settling_share, the share of a stage's log points until SETTLED in a row lie within two
deviations of the stage's second half, worst stage.
"""

import itertools

import numpy as np
import pytorch_msssim
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from .. import losses, metrics

SETTLED, WINDOW = 3, 32


def colour(output, real, mask):
    """Return CIEDE2000 of the mean colours in the hole: (B,). Images (B,3,H,W) in [-1, 1]."""
    hole, means = mask.cpu().double().numpy(), []
    for image in (output, real):
        lab = rgb2lab(((image.double() + 1) / 2).cpu().numpy(), channel_axis=1)  # CIELAB, D65
        means.append((lab * hole).sum((2, 3)) / hole.sum((2, 3)))
    return torch.from_numpy(np.atleast_1d(deltaE_ciede2000(*means)))


def continuity(output, real, mask):
    """Return the difference of the gradients across the boundary: (B,), NaN if all is hole."""
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
OF_RUN = ("stability", "noise", "d_accuracy", "transient_peak", "settling_share")
MEASURES = {  # every (region, metric) there can be
    *itertools.product(metrics.REGIONS, metrics.METRICS),
    *EXTRA,
    ("hole", "overfitting"),
    *(("whole_composite", name) for name in ("lpips", "fid", "kid", "is")),
    ("hole_window", "lpips"),
    *(("hole_snapshot", name) for name in metrics.METRICS),
    *(("training", name) for name in OF_RUN),
}


def measure(batches, lpips=None, raw=True, extra=True):
    """Return {(region, metric): (N,) float64} of `(output, real, mask)` batches, and the composites
    (N,H,W,3) uint8.

    raw: also of the output outside the hole. extra: also EXTRA, and LPIPS if its network is given.
    """
    parts, composites = [], []
    for output, real, mask in batches:
        values = metrics.per_image(output, real, mask)
        found = {
            (region, metric): values[:, i, j]
            for i, region in enumerate(metrics.REGIONS)
            for j, metric in enumerate(metrics.METRICS)
            if raw or region != "whole_raw"
        }
        whole = losses.composite(output, real, mask)
        if extra:
            found |= {key: function(output, real, mask) for key, function in EXTRA.items()}
            found |= distances(lpips, whole, real, mask) if lpips else {}
        parts.append({key: value.double().cpu() for key, value in found.items()})
        composites.append(metrics.to_uint8(whole))
    joined = {key: torch.cat([part[key] for part in parts]).numpy() for key in parts[0]}
    return joined, np.concatenate(composites)


@torch.inference_mode()
def distances(network, whole, real, mask):
    """Return LPIPS of composites and of windows around their holes: {(region, metric): (B,)}."""
    device, size = next(network.parameters()).device, mask.shape[-1]
    pair, windows = [x.float().to(device) for x in (whole, real)], []
    for k, hole in enumerate(mask[:, 0].bool().cpu()):
        ends = [(int(at.min()), int(at.max()) + 1) for at in hole.nonzero(as_tuple=True)]
        side = min(size, max(WINDOW, *(high - low for low, high in ends)))
        top, left = (int(min(max((a + b - side) / 2, 0), size - side)) for a, b in ends)
        part = (slice(k, k + 1), slice(None), slice(top, top + side), slice(left, left + side))
        windows.append(network(*(x[part] for x in pair)).flatten())
    return {
        ("whole_composite", "lpips"): network(*pair).flatten(),
        ("hole_window", "lpips"): torch.cat(windows),
    }


def means(values):
    """Return {key: mean over images}; images without boundary do not count in continuity."""
    found = {key: float(np.mean(value)) for key, value in values.items()}
    if (key := ("hole", "continuity")) in values:
        found[key] = float(np.nanmean(values[key]))
    return found


def stability(history, probed, noise):
    """Return {name of OF_RUN: value} from history.csv, probe.csv and the noise between batches."""
    by_stage = [part.adversarial_g.to_numpy() for _, part in history.groupby("stage")]
    peaks = [part.max() - before.mean() for before, part in itertools.pairwise(by_stage)]
    settling = []
    for part in by_stage[1:]:
        late, row = part[len(part) // 2 :], min(SETTLED, len(part))
        inside = np.abs(part - late.mean()) <= 2 * late.std()
        settled = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(inside, row).all(1))
        settling.append(settled[0] / len(part) if len(settled) else 1.0)
    return {
        "stability": probed.probe_g.std() / noise if len(probed) > 1 and noise else float("nan"),
        "noise": noise,
        "d_accuracy": history.d_accuracy[history.stage == history.stage.max()].mean(),
        "transient_peak": max(peaks, default=float("nan")),  # last_only has one stage
        "settling_share": max(settling, default=float("nan")),
    }
