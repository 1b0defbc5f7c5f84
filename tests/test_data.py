import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from inpaint_lib import data, masks, runs


def test_the_wheels_carry_the_photographs_and_one_motorcycle_view_only():
    photos = data.photographs()
    assert len(photos) == 8 and all(path.is_file() for path in photos.values())
    assert sum("motorcycle" in name for name in photos) == 1
    assert all(Image.open(path).mode == "RGB" for path in photos.values())


def test_no_test_pixel_is_ever_trained_on(monkeypatch, tmp_path):
    """With the test part of every photograph white and the rest black, training crops are black and test crops white."""
    paths = {}
    for k, (height, width) in enumerate([(300, 451), (512, 512), (427, 640)]):
        photo = np.zeros((height, width, 3), np.uint8)
        photo[:, width - width // 3 :] = 255
        paths[f"p{k}"] = tmp_path / f"{k}.png"
        Image.fromarray(photo).save(paths[f"p{k}"])
    monkeypatch.setattr(data, "photographs", lambda: paths)
    for size in (32, 64, 128):
        config = SimpleNamespace(train_images=90, test_images=90, image_size=size, data_seed=0)
        assert max(chunk.max() for chunk in data._scenes(config, "train")) == 0
        assert min(chunk.min() for chunk in data._scenes(config, "test")) == 255


@pytest.mark.parametrize("split", ["train", "test"])
def test_crops_have_several_scales_and_lie_inside(split):
    boxes = data.crop_boxes(300, 600, split, 500, np.random.default_rng(0), 64)
    assert len(set(boxes[:, 2])) == 3
    assert boxes[:, 0].min() >= 0 and (boxes[:, 0] + boxes[:, 2]).max() <= 300
    assert (boxes[:, 1] + boxes[:, 2]).max() <= (400 if split == "train" else 600)
    assert boxes[:, 1].min() >= (0 if split == "train" else 400)


def test_a_crop_is_the_photographs_area_average_when_reduced_by_a_whole_factor():
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(photo[:8, :8]).resize((64, 64), Image.Resampling.BICUBIC))
    reduced = data.crop(smooth, (0, 0, 64), 16).astype(float)
    average = smooth.reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(reduced - average).mean() < 4


@pytest.mark.parametrize("dataset", data.DATASETS)
def test_a_pack_is_drawn_once_and_is_the_same_every_time(micro, dataset, tmp_path):
    study = micro(datasets=[dataset])
    pack = data.prepare(study, dataset)
    assert pack.train.shape == (24, 32, 32, 3) and pack.test.shape == (8, 32, 32, 3) and pack.train.dtype == np.uint8
    assert isinstance(pack.train, np.memmap)
    stamps = {p.name: p.stat().st_mtime_ns for p in pack.folder.iterdir() if p.suffix in (".npy", ".npz", ".json")}
    data.prepare(study, dataset)
    assert stamps == {name: (pack.folder / name).stat().st_mtime_ns for name in stamps}
    (pack.folder / "manifest.json").unlink()
    assert data.prepare(study, dataset).manifest == pack.manifest
    for name, entry in pack.manifest["files"].items():
        assert runs.file_sha256(pack.folder / name) == entry["sha256"]


@pytest.mark.parametrize("damage", ["missing", "short", "manifest"])
def test_a_damaged_pack_is_drawn_again(micro, damage):
    pack = data.prepare(micro(), "scenes")
    target = pack.folder / ("manifest.json" if damage == "manifest" else "train.npy")
    if damage == "missing":
        target.unlink()
    else:
        target.write_bytes(target.read_bytes()[:100])
    assert data.prepare(micro(), "scenes").manifest == pack.manifest


def test_another_setting_gives_another_pack(micro):
    first = data.prepare(micro(), "scenes").manifest
    second = data.prepare(micro(data_seed=1), "scenes").manifest
    assert first["files"]["train.npy"]["sha256"] != second["files"]["train.npy"]["sha256"]
    assert second["settings"]["data_seed"] == 1


def test_train_and_test_share_no_image(micro):
    for dataset in data.DATASETS:
        pack = data.prepare(micro(datasets=[dataset]), dataset)
        assert not {i.tobytes() for i in pack.train} & {i.tobytes() for i in pack.test}


def test_stored_test_masks_are_the_ones_drawn(micro):
    pack = data.prepare(micro(), "scenes")
    for family in masks.FAMILIES:
        for width in (8, 16):
            stored = pack.test_masks(family, width)
            assert np.array_equal(stored, masks.frozen(family, 8, width, 32, 0))
            assert np.isclose(stored.mean(), pack.manifest["masks"][f"{family}_{width}"]["hole_fraction"], atol=1e-6)


def test_every_test_image_of_scenes_names_its_photograph(micro):
    manifest = data.prepare(micro(), "scenes").manifest
    assert manifest["test_groups"] == list(data.photographs())
    json.dumps(manifest)
