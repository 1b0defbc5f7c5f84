"""FID, KID and Inception Score (IS), from one pass of the Inception network over the images.

FID (Heusel et al. 2017) compares the Gaussians of the 2048 pool3 features. KID (Binkowski et al.
2018) is the unbiased squared MMD under the kernel (x y / d + 1)^3. IS (Salimans et al. 2016) =
exp(mean KL(p(y|x) || p(y))) over the 1008 classes, without the bias of the last layer, mean of ten
splits in the images' order. Network and weights are pytorch-fid's: the 2015-12-05 Inception, images
resized to 299 px bilinearly and scaled to x / 127.5 - 1 (TensorFlow's original: x / 128 - 1).
"""

from dataclasses import dataclass

import numpy as np
import scipy.special
import torch
from torch import nn

from .. import metrics
from ..study import files

SPLITS = 10  # of IS
SUBSETS, SUBSET = 100, 1000  # of KID, as in its authors' code


@dataclass(frozen=True)
class Extractor:
    """`network` maps (B,3,H,W) in [-1, 1] to features (B,d), `classes` features to logits."""

    digest: str  # of the weights
    network: nn.Module
    classes: torch.Tensor


def create_inception():
    """Return pytorch-fid's Inception without weights; pytorch-fid itself would download them."""
    from pytorch_fid import inception as parts  # takes seconds to import

    network = parts._inception_v3(num_classes=1008, aux_logits=False, weights=None)  # noqa: SLF001
    network.Mixed_5b = parts.FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = parts.FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = parts.FIDInceptionA(288, pool_features=64)
    network.Mixed_6b = parts.FIDInceptionC(768, channels_7x7=128)
    network.Mixed_6c = parts.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6d = parts.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6e = parts.FIDInceptionC(768, channels_7x7=192)
    network.Mixed_7b = parts.FIDInceptionE_1(1280)
    network.Mixed_7c = parts.FIDInceptionE_2(2048)
    return network


def load(path, device="cpu"):
    """Return the Extractor with the weights of a file (pretrained.find has checked them)."""
    network = create_inception()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return wrap(network, files.hash_file(path), device)


def wrap(network, digest, device):
    """Return the Extractor of an Inception on a device."""
    classes = network.fc.weight.detach().to(device)
    network.fc = nn.Identity()  # the output is now pool3
    resized = nn.Sequential(nn.Upsample((299, 299), mode="bilinear", align_corners=False), network)
    return Extractor(digest, resized.to(device).eval(), classes)


@torch.inference_mode()
def compute_features(extractor, images, batch_size):
    """Return the features (N, d) float32 of images (N,H,W,3) uint8."""
    found, device = [], extractor.classes.device
    for k in range(0, len(images), batch_size):
        batch = metrics.to_float(np.array(images[k : k + batch_size]), device)
        found.append(extractor.network(batch).cpu())
    return torch.cat(found).numpy()


def load_reference(folder, extractor, images, batch_size, digest):
    """Return the features of the true images, cached in `folder` by images' and weights' hash."""
    path = folder / f"features_{files.hash_text(extractor.digest + digest)[:16]}.npy"
    with files.lock(folder, f".{path.stem}.lock"):  # several runs may need them at once
        if not path.is_file():
            with files.replace(path) as temporary:
                np.save(temporary, compute_features(extractor, images, batch_size))
    return np.load(path)


def compare(extractor, truth, images, batch_size):
    """Return ({"fid", "kid", "is": value}, warnings) of images (N,H,W,3) uint8.

    `truth`: the features of the true images.
    """
    found = compute_features(extractor, images, batch_size).astype(np.float64)
    truth, count, width = truth.astype(np.float64), *found.shape
    if count < 2:
        return {}, ["FID, KID and IS need two images at least"]
    values = {
        "fid": frechet_distance(truth, found),
        "kid": kernel_distance(truth, found),
        "is": inception_score(found @ extractor.classes.double().cpu().numpy().T),
    }
    if count <= width:
        few = f"{count:,} images for {width:,} features: FID is biased upward, as the covariance"
        return values, [f"{few} has not full rank"]
    return values, []


def frechet_distance(one, other):
    """Return the FID of two sets of features (N, d)."""
    # pytorch-fid's matrix root takes five times as long and fails when it is complex (few images)
    from torchmetrics.image.fid import _compute_fid  # takes seconds to import

    statistics = [(x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))) for x in (one, other)]
    (mean, cov), (mean2, cov2) = (map(torch.from_numpy, pair) for pair in statistics)
    return max(float(_compute_fid(mean, cov, mean2, cov2)), 0.0)  # may be below 0 by rounding


def inception_score(logits):
    """Return the Inception Score of logits (N, classes), the mean over SPLITS parts."""
    scores = []
    for part in np.array_split(logits, min(SPLITS, len(logits))):
        log_p = scipy.special.log_softmax(part, axis=1)
        p = np.exp(log_p)
        scores.append(np.exp((p * (log_p - np.log(p.mean(0)))).sum(1).mean()))
    return float(np.mean(scores))


def kernel_distance(real, fake):
    """Return the KID of two sets of features (N, d): the mean over random subsets.

    Sets of at most SUBSET are compared completely. Equal distributions may give values below 0.
    """
    from torchmetrics.image.kid import poly_mmd  # takes seconds to import

    n, draw, found = min(len(real), len(fake)), np.random.default_rng(0), []
    real, fake = torch.from_numpy(real), torch.from_numpy(fake)
    if n <= SUBSET:
        return float(poly_mmd(real[:n], fake[:n]))
    for _ in range(SUBSETS):
        one, other = (x[draw.choice(len(x), SUBSET, False)] for x in (real, fake))
        found.append(float(poly_mmd(one, other)))
    return float(np.mean(found))
