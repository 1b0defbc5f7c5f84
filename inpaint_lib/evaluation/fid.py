"""Frechet Inception Distance and Inception Score, from one pass of the network over the images.

FID (Heusel et al. 2017) = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) over the 2048 pool3 features; IS (Salimans et al. 2016) =
exp(mean KL(p(y|x) || p(y))) over the 1008 classes, without the bias of the last layer, mean of ten splits in the images' order.
Network and weights are pytorch-fid's: the 2015-12-05 Inception, images resized to 299 px bilinearly and scaled to x / 127.5 - 1
(torch-fidelity and the TensorFlow original: x / 128 - 1). Statistics are float64.

Where the weights are not at hand there is no FID. `random` stands in for the machinery: a small seeded network whose numbers
bear names of their own and compare with no published figure.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.special
import torch
from torch import nn

from .. import metrics, rng
from ..study import files
from . import pretrained

SPLITS = 10
SUBSETS, SUBSET = 100, 1000  # of KID, as in its authors' code
NEGATIVE = 1e-3  # share of negative eigenvalues' weight above which the square root counts as complex


@dataclass(frozen=True)
class Extractor:
    """`suffix` names its metrics, `digest` its weights; `network` maps (B,3,H,W) in [-1, 1] to features, `classes` these to
    logits."""

    suffix: str
    digest: str
    network: nn.Module
    classes: torch.Tensor


def parts_of_inception():
    """pytorch-fid's Inception without weights; its own constructor would download them."""
    from pytorch_fid import inception as parts

    network = parts._inception_v3(num_classes=1008, aux_logits=False, weights=None)  # noqa: SLF001
    network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = (
        parts.FIDInceptionA(channels, pool_features=pool) for channels, pool in ((192, 32), (256, 64), (288, 64))
    )
    network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e = (
        parts.FIDInceptionC(768, channels_7x7=width) for width in (128, 160, 160, 192)
    )
    network.Mixed_7b, network.Mixed_7c = parts.FIDInceptionE_1(1280), parts.FIDInceptionE_2(2048)
    return network


def inception(path, device="cpu"):
    """Inception with the weights of a file, without asking whose they are."""
    network = parts_of_inception()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    classes = network.fc.weight.detach().to(device)
    network.fc = nn.Identity()  # what is left puts out pool3
    resized = nn.Sequential(nn.Upsample((299, 299), mode="bilinear", align_corners=False), network)
    return Extractor("", files.file_sha256(path), resized.to(device).eval(), classes)


def random_features(device="cpu"):
    """A small seeded network: 64 features, 10 classes."""
    generator, layers, channels = rng.keyed(0, "random features"), [], 3
    for width in (16, 32, 64):
        layer = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        for p in layer.parameters():
            nn.init.normal_(p, 0, (2 / (9 * channels)) ** 0.5 if p.ndim > 1 else 0.1, generator=generator)
        layers, channels = [*layers, layer, nn.ReLU()], width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(device).eval()
    return Extractor("_random", "seeded", network, torch.randn(10, 64, generator=generator).to(device))


def extractor(weights, device="cpu"):
    """What the configuration's `inception_weights` asks for. Raises pretrained.NotAvailable."""
    return random_features(device) if weights == "random" else inception(pretrained.find("inception", weights), device)


@torch.inference_mode()
def features(extractor, images, batch_size):
    """(N,H,W,3) uint8 -> features (N, d) and logits (N, classes), float64 arrays, whatever the batch size."""
    device, found = extractor.classes.device, []
    for start in range(0, len(images), batch_size):
        found.append(extractor.network(metrics.to_float(np.array(images[start : start + batch_size]), device)).double().cpu())
    found = torch.cat(found)
    return found.numpy(), (found @ extractor.classes.double().cpu().T).numpy()


def statistics(found):
    """Mean and covariance of (N, d) features, float64."""
    return found.mean(0), np.atleast_2d(np.cov(found, rowvar=False))


def distance(one, other):
    """The Frechet distance of two (mean, covariance) pairs, and the share of eigenvalues' weight that came out negative, where
    a plain matrix square root would turn complex."""
    (m1, s1), (m2, s2) = one, other
    values, vectors = scipy.linalg.eigh(s1)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    eigenvalues = scipy.linalg.eigvalsh(root @ s2 @ root)
    negative = -eigenvalues[eigenvalues < 0].sum() / max(np.abs(eigenvalues).sum(), 1e-300)
    found = ((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.sqrt(eigenvalues.clip(0)).sum()
    return max(float(found), 0.0), negative  # equal sets: rounding may fall below


def inception_score(logits):
    """Mean over the splits; fewer splits where there are fewer images."""
    scores, splits = [], min(SPLITS, len(logits))
    for k in range(splits):
        part = logits[k * len(logits) // splits : (k + 1) * len(logits) // splits]
        log_p = part - scipy.special.logsumexp(part, axis=1, keepdims=True)
        p = np.exp(log_p)
        scores.append(np.exp((p * (log_p - np.log(p.mean(0)))).sum(1).mean()))
    return float(np.mean(scores))


def warnings(count, width, negative=0.0):
    """What a reader must know of a distance from `count` images and `width` features."""
    found = []
    if count <= width:
        found.append(f"{count:,} images for {width:,} features: the covariance has not full rank, and FID is biased upward")
    elif count < 2048:
        found.append(f"{count:,} images: FID is biased upward by so few (10,000 or more are usual)")
    if negative > NEGATIVE:
        found.append(f"the covariances' product has negative eigenvalues ({negative:.1%} of the weight): its root is complex")
    return found


def kernel_distance(real, fake, seed=0):
    """KID (Binkowski et al. 2018): unbiased squared MMD of two sets of (N, d) features under the kernel (x y / d + 1)^3, as a
    mean over SUBSETS random subsets of SUBSET images; sets no larger than that are compared whole. Below 0 by chance for equal
    distributions. NaN for fewer than two images."""
    from torchmetrics.image.kid import poly_mmd  # seconds of import

    n, draw = min(len(real), len(fake)), np.random.default_rng(seed)
    if n < 2:
        return float("nan")
    if n <= SUBSET:
        return float(poly_mmd(*map(torch.from_numpy, (real[:n], fake[:n]))))
    pairs = ([torch.from_numpy(x[draw.choice(len(x), SUBSET, replace=False)]) for x in (real, fake)] for _ in range(SUBSETS))
    return float(np.mean([float(poly_mmd(*pair)) for pair in pairs]))


def reference(folder, extractor, images, batch_size, protocol):
    """Features of the true images, (N, d) float64, kept in `folder` under a hash of data, weights and code (`protocol`)."""
    path = folder / f"reference_{files.text_sha256(repr((extractor.digest, protocol)))[:16]}.npy"
    with files.locked(folder, f".{path.stem}.lock"):  # runs that end together need it together
        if not path.is_file():
            with files.replacing(path) as temporary:
                np.save(temporary, features(extractor, images, batch_size)[0].astype(np.float32))  # which is what they are
    return np.load(path).astype(np.float64)
