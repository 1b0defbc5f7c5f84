"""Weights of pretrained networks for metrics: in torch hub's cache, downloaded, or in a file.

Their SHA-256 is checked, except for a VGG-16 for LPIPS: lpips.load checks its names and shapes.
"""

import socket
from dataclasses import dataclass
from pathlib import Path

import torch

from ..study import files
from . import lpips


@dataclass(frozen=True)
class Weights:
    what: str
    metrics: str  # that need them
    key: str  # of the configuration
    url: str
    sha256: str


WEIGHTS = {
    "inception": Weights(
        "the 2015-12-05 Inception",
        "FID, KID and IS",
        "evaluation.inception_weights",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "alexnet": Weights(
        "torchvision's AlexNet",
        "LPIPS",
        "evaluation.lpips_weights",  # auto; a file holds a VGG-16
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
}


class NotAvailable(ValueError):
    """Weights are not available; the message says how to get them."""


def locate_cached(name):
    """Return the path of these weights in torch hub's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS[name].url.rsplit("/", 1)[1]


def find(name, wanted="auto"):
    """Return the checked file of weights: auto, none, or a path. Raises NotAvailable."""
    weights = WEIGHTS[name]
    if wanted == "none":
        raise NotAvailable(f"switched off: {weights.key} is none")
    path, place = Path(wanted), Path(wanted).parent
    remedy = f"{weights.key} must name a copy of {weights.url}, or be auto"
    if wanted == "auto":
        path, place = locate_cached(name), "torch hub's cache"
        remedy = f"run once with internet access, or put the file of {weights.url} there"
    if not path.is_file():
        raise NotAvailable(f"no {path.name} in {place}: {remedy}")
    found, vgg = files.hash_file(path), name == "alexnet" and wanted != "auto"
    if found != weights.sha256 and not vgg:
        differs = f"SHA-256 {found[:16]}, not {weights.sha256[:16]}"
        raise NotAvailable(f"{path.name} is not {weights.what} ({differs}): {remedy}")
    return path


def identify(name, wanted):
    """Return the SHA-256 of the file that `find` returns, or its message of refusal."""
    try:
        return files.hash_file(find(name, wanted))
    except NotAvailable as error:
        return str(error)


def fetch(name, wanted="auto"):
    """Download missing weights of `auto` to torch hub's cache; return an error message, or None.

    Raises NotAvailable, or losses.WeightsError, for a file that does not contain the weights.
    """
    weights = WEIGHTS[name]
    if wanted not in ("auto", "none"):
        find(name, wanted)
        if name == "alexnet":
            lpips.load(wanted)
    if wanted != "auto" or identify(name, wanted) == weights.sha256:
        return None
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)
    try:
        locate_cached(name).parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(weights.url, str(locate_cached(name)), weights.sha256)
    except (OSError, RuntimeError) as error:  # RuntimeError: another SHA-256
        return f"{weights.what} cannot be downloaded ({error}): no {weights.metrics}"
    finally:
        socket.setdefaulttimeout(before)
    return None
