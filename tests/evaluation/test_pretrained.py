"""Pretrained weights: found and checked, or reported as missing with what to do."""

import hashlib

import pytest
import torch
import torchvision
from pytorch_fid.inception import FID_WEIGHTS_URL

from inpaint_lib.evaluation import pretrained


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


def test_the_addresses_are_the_libraries_own():
    assert pretrained.WEIGHTS["inception"].url == FID_WEIGHTS_URL
    assert pretrained.WEIGHTS["alexnet"].url == torchvision.models.AlexNet_Weights.DEFAULT.url
    for weights in pretrained.WEIGHTS.values():  # names end with the first digits of the SHA-256
        assert weights.url.removesuffix(".pth").rsplit("-", 1)[1] == weights.sha256[:8]


@pytest.mark.parametrize("name", pretrained.WEIGHTS)
def test_missing_weights_are_named_with_the_remedy(hub, name):
    missing = f"no {pretrained.locate_cached(name).name} in torch hub's cache: run once"
    with pytest.raises(pretrained.NotAvailable, match=missing):
        pretrained.find(name)
    with pytest.raises(pretrained.NotAvailable, match="switched off: .*_weights is none"):
        pretrained.find(name, "none")
    assert pretrained.fetch(name, "none") is None


def test_other_weights_are_refused(hub):
    hub.mkdir()
    path = pretrained.locate_cached("inception")
    path.write_bytes(b"something else")
    digest = hashlib.sha256(b"something else").hexdigest()[:16]
    for wanted in ("auto", str(path)):
        message = f"is not the 2015-12-05 Inception .SHA-256 {digest}"
        with pytest.raises(pretrained.NotAvailable, match=message):
            pretrained.find("inception", wanted)


def test_the_identity_changes_when_weights_become_available(hub, monkeypatch):
    missing = pretrained.identify("inception", "auto")
    assert "run once with internet access" in missing
    monkeypatch.setattr(
        pretrained.files, "hash_file", lambda *_: pretrained.WEIGHTS["inception"].sha256
    )
    hub.mkdir()
    pretrained.locate_cached("inception").write_bytes(b"")
    assert pretrained.identify("inception", "auto") == pretrained.WEIGHTS["inception"].sha256


@pytest.mark.parametrize("name", pretrained.WEIGHTS)
def test_a_failed_download_is_one_line_and_leaves_nothing(hub, monkeypatch, name):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    hub.mkdir()
    pretrained.locate_cached(name).write_bytes(b"a damaged file is asked for again")
    message = pretrained.fetch(name)
    assert f"cannot be downloaded (no network): no {pretrained.WEIGHTS[name].metrics}" in message
    assert "\n" not in message and [p.name for p in hub.iterdir()] == [
        pretrained.locate_cached(name).name
    ]
