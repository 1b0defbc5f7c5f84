"""Weights of others: found, checked, or said to be missing with the cure."""

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
    for weights in pretrained.WEIGHTS.values():  # torch hub's names end with the first digits of the SHA-256
        assert weights.url.removesuffix(".pth").rsplit("-", 1)[1] == weights.sha256[:8]


@pytest.mark.parametrize("name", pretrained.WEIGHTS)
def test_missing_weights_are_named_with_the_cure(hub, name):
    with pytest.raises(pretrained.NotAvailable, match=f"no {pretrained.cached(name).name} in the cache of torch hub: run once"):
        pretrained.find(name)


def test_other_weights_are_refused(hub, tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes(b"something else")
    digest = hashlib.sha256(b"something else").hexdigest()[:16]
    with pytest.raises(pretrained.NotAvailable, match=f"other.pth is not the 2015-12-05 Inception .SHA-256 {digest}"):
        pretrained.find("inception", str(other))
    hub.mkdir()
    pretrained.cached("inception").write_bytes(b"something else")
    with pytest.raises(pretrained.NotAvailable, match="is not the 2015-12-05 Inception"):
        pretrained.find("inception", "auto")


@pytest.mark.parametrize(("name", "value"), [("inception", "random"), ("alexnet", "none")])
def test_a_profile_can_do_without(name, value):
    with pytest.raises(pretrained.NotAvailable, match=f"does without .* {name.title()[:4]}"):
        pretrained.find(name, value)
    assert pretrained.fetch(name, value) is None


def test_what_weights_are_there_is_an_identity_that_changes_when_they_come(hub, monkeypatch):
    missing = pretrained.identity("inception", "auto")
    assert "run once with a network" in missing
    monkeypatch.setattr(pretrained, "find", lambda *_: __file__)
    assert pretrained.identity("inception", "auto") == hashlib.sha256(open(__file__, "rb").read()).hexdigest()


@pytest.mark.parametrize("name", pretrained.WEIGHTS)
def test_a_failed_download_is_one_line_and_leaves_nothing(hub, monkeypatch, name):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    hub.mkdir()
    pretrained.cached(name).write_bytes(b"a damaged file is asked for again")
    trouble = pretrained.fetch(name)
    assert "cannot be downloaded (no network)" in trouble and pretrained.WEIGHTS[name].metrics in trouble
    assert "\n" not in trouble and [p.name for p in hub.iterdir()] == [pretrained.cached(name).name]
