"""Published networks are the runs' own in half precision, and fill holes by their name."""

import dataclasses

import numpy as np
import pytest
import torch

from inpaint_lib.photos import inpaint
from inpaint_lib.results import networks, published
from inpaint_lib.study import config as configuration
from inpaint_lib.study import files
from inpaint_lib.training import artifacts, loop, weights
from tests.results import synthetic

GRID = {"grid.architectures": ["context_encoder"], "grid.setups": ["fixed", "recon_only"]}
GRID |= {"grid.seeds": [0, 1]}


def test_what_is_published_fills_holes_as_the_run_does(micro, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PUBLISHED", tmp_path)
    study = micro(GRID)
    for run in study.runs():
        loop.fit(run, lambda *_: None)
    base = tmp_path / "mine"
    files.write_json(base / "study.json", {"config": configuration.to_dict(study.config)})
    assert networks.save_networks(micro(GRID | {"grid.seeds": [1]}), base) == []  # not the first
    assert networks.save_networks(study, base) == ["mine/clutter/context_encoder/fixed"]
    assert networks.save_networks(study, base) == []  # what is there stays

    run = study.runs()[0]
    of_run = inpaint.load(run.folder)
    halved = inpaint.load("mine/clutter/context_encoder/fixed")
    assert dataclasses.replace(halved, generator=None) == dataclasses.replace(
        of_run, generator=None
    )
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    hole = np.zeros((32, 32), bool)
    hole[10:20, 12:20] = True
    fills = [inpaint.fill(model, image, hole)[0].astype(int) for model in (of_run, halved)]
    assert np.abs(fills[0] - fills[1]).max() <= 1
    there = networks.safe_open(
        base / "networks/clutter/context_encoder/fixed/model.safetensors", "pt"
    )
    _, D = artifacts.load_networks(run, run.n_stages)
    for name, value in D.state_dict().items():
        kept = there.get_tensor(f"discriminator.{name}")
        torch.testing.assert_close(kept, networks.halve(value))
    images = np.load(base / "networks/clutter/calibration.npz")["images"]
    assert images.shape == (24, 32, 32, 3)


def test_networks_stay_those_of_the_first_published_seed(tmp_path):
    results = synthetic.study(["faces"], ["custom"], ["fixed"], seeds=[0, 1])
    place = tmp_path / "networks/faces/custom/fixed"
    place.mkdir(parents=True)
    (place / "model.safetensors").touch()
    assert [*networks.find_files(results, tmp_path, "model.safetensors")][0].endswith("seed0")
    (tmp_path / "networks/seed.json").write_text("1")  # 0 was published later
    assert [*networks.find_files(results, tmp_path, "model.safetensors")][0].endswith("seed1")


def test_a_network_that_is_not_published_is_told_with_how_to_train_it(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PUBLISHED", tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="not published: train it .*run_all.sh"):
        inpaint.load("mine/faces/custom/replay")
    with pytest.raises(ValueError, match="does not exist"):
        inpaint.load("other/faces/custom/fixed")


@pytest.mark.parametrize("base", published.list_studies(), ids=lambda base: base.name)
def test_published_networks_are_found_by_their_names(base):
    for path in base.glob("networks/*/*/*/model.safetensors"):
        name = "/".join([base.name, *path.relative_to(base / "networks").parts[:3]])
        assert inpaint.load(name).architecture == path.parts[-3]
