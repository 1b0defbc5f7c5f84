"""Networks that others trained, for metrics: found in torch hub's cache, downloaded into it, or named as a file.

Their SHA-256 is checked, so a metric never bears a name that its weights do not.
"""

import socket
import urllib.error
from dataclasses import dataclass
from pathlib import Path

import torch

from ..study import files


@dataclass(frozen=True)
class Weights:
    what: str
    metrics: str  # that need them
    key: str  # of the configuration
    url: str
    sha256: str


WEIGHTS = {
    "inception": Weights(
        "the 2015-12-05 Inception", "FID and IS", "inception_weights",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
    "alexnet": Weights(
        "torchvision's AlexNet", "LPIPS", "lpips_weights", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    ),
}  # fmt: skip


class NotAvailable(ValueError):
    """Weights are not at hand; the message says how to get them."""


def cached(name):
    """Where torch hub keeps them."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS[name].url.rsplit("/", 1)[1]


def find(name, wanted="auto"):
    """The weights file that the configuration's value names, its SHA-256 checked. Raises NotAvailable."""
    weights = WEIGHTS[name]
    if wanted in ("random", "none"):
        raise NotAvailable(f"this profile does without {weights.what} (set {weights.key}=auto)")
    path = cached(name) if wanted == "auto" else Path(wanted)
    cure = f"run once with a network, or put the file of {weights.url} there"
    if wanted != "auto":
        cure = f"{weights.key} must name a copy of {weights.url}, or be auto"
    if not path.is_file():
        raise NotAvailable(f"no {path.name} in {'the cache of torch hub' if wanted == 'auto' else path.parent}: {cure}")
    if (found := files.file_sha256(path)) != weights.sha256:
        raise NotAvailable(f"{path.name} is not {weights.what} (SHA-256 {found[:16]}, not {weights.sha256[:16]}): {cure}")
    return path


def identity(name, wanted):
    """The SHA-256 of what `find` finds, or why it finds nothing."""
    try:
        return files.file_sha256(find(name, wanted))
    except NotAvailable as error:
        return str(error)


def fetch(name, wanted="auto"):
    """Download them into torch hub's cache if `auto` lacks them -> what went wrong, or None. Raises NotAvailable for a named
    file that does not hold them."""
    weights = WEIGHTS[name]
    if wanted not in ("auto", "random", "none"):
        find(name, wanted)
    elif wanted == "auto" and identity(name, wanted) != weights.sha256:
        return _download(name)
    return None


def _download(name):
    weights = WEIGHTS[name]
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)
    try:
        cached(name).parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(weights.url, str(cached(name)), weights.sha256, progress=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        return f"{weights.what} cannot be downloaded ({error}): {weights.metrics} will read 'not available'"
    finally:
        socket.setdefaulttimeout(before)
