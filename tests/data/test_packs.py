"""Packs: made once, the same every time, complete or not there."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from inpaint_lib import masks
from inpaint_lib.data import packing, packs, sources
from inpaint_lib.study import files
from inpaint_lib.study.provenance import SettingsChanged
from tests.conftest import MICRO, distance, lanczos, repository, smooth

ALL = {"data.train_images": 1000, "data.test_images": 1000}


def folder(root, n=30, size=40):
    root.mkdir(parents=True)
    for k in range(n):
        Image.fromarray(smooth(size, size, k)).save(root / f"{k:04d}.png")
    return root


@pytest.fixture
def images(tmp_path):
    return folder(tmp_path / "images")


@pytest.fixture
def packed(images, micro):
    """packed({"dotted.key": value}) -> the pack of `images`."""
    settings = {"grid.datasets": ["folder"], "machine.data_root": str(images)}
    return lambda overrides=None: packs.prepare(micro(settings | (overrides or {})), "folder")


def contents(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


@pytest.mark.parametrize("dataset", ["faces", "clutter"])
def test_a_pack_is_made_once_and_is_the_same_every_time(micro, monkeypatch, dataset):
    study = micro({"grid.datasets": [dataset]})
    pack = packs.prepare(study, dataset)
    assert pack.train.shape == (24, 32, 32, 3) and pack.test.shape == (8, 32, 32, 3)
    assert isinstance(pack.train, np.memmap) and pack.train.dtype == np.uint8
    assert not {i.tobytes() for i in pack.train} & {i.tobytes() for i in pack.test}
    written = contents(pack.folder)
    assert set(written) == {*packing.FILES, "manifest.json", "skipped.csv", ".lock"}
    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_pack", lambda *_: pytest.fail("it was made again"))
        packs.prepare(study, dataset)
    (pack.folder / "manifest.json").unlink()
    packs.prepare(study, dataset)
    assert contents(pack.folder) == written
    for split in ("train", "test"):
        pixels = np.load(pack.folder / f"{split}.npy")
        assert pack.identity[split] == hashlib.sha256(pixels).hexdigest()


@pytest.mark.parametrize("damage", ["missing", "short", "header", "manifest", "older manifest"])
def test_a_damaged_pack_is_made_again(micro, damage):
    pack = packs.prepare(micro(), "clutter")
    target = pack.folder / ("manifest.json" if "manifest" in damage else "train.npy")
    data = target.read_bytes()
    if damage == "missing":
        target.unlink()
    elif damage == "older manifest":
        target.write_text(json.dumps({"settings": {"image_size": 32}, "files": {}}))
    else:
        target.write_bytes(data[:100] if damage != "header" else data.replace(b"|u1", b"|i1"))
    assert packs.prepare(micro(), "clutter").manifest == pack.manifest


def test_an_unprepared_or_unknown_data_set_is_refused_in_one_line(micro, tmp_path):
    with pytest.raises(FileNotFoundError, match="clutter of profile smoke .* run ./run_all.sh smo"):
        packs.open_pack(micro(), "clutter")
    with pytest.raises(sources.SourceError, match="no data set 'faecs': there are faces, clutter"):
        packs.prepare(micro(), "faecs")
    assert list(tmp_path.iterdir()) == []


def test_another_setting_gives_another_pack_unless_runs_were_trained_on_it(micro):
    first = packs.prepare(micro(), "clutter")
    second = packs.prepare(micro({"data.seed": 1}), "clutter")
    assert second.manifest["settings"]["data"]["seed"] == 1
    assert second.identity["train"] != first.identity["train"]
    assert packs.find_current(micro(), "clutter") is None
    run = micro().folder / "clutter/custom/fixed/seed0"
    run.mkdir(parents=True)
    packs.refuse_changed(micro(), "clutter")  # a folder without work
    (run / "checkpoint.pt").touch()
    before = contents(second.folder)
    with pytest.raises(SettingsChanged, match="on which runs were trained.*data.seed") as caught:
        packs.prepare(micro(), "clutter")
    assert "\n" not in str(caught.value) and contents(second.folder) == before
    assert packs.find_trained(micro(), "clutter") == [run]


def test_stored_test_masks_are_the_ones_drawn(micro):
    pack = packs.prepare(micro(), "clutter")
    for family in masks.FAMILIES:
        for width in (8, 16):
            stored = pack.test_masks(family, width)
            assert np.array_equal(stored, masks.draw_test_masks(family, 8, width, 32, 0))
            assert np.array_equal(pack.test_masks(family, width, [5, 2]), stored[[5, 2]])
            fraction = pack.manifest["masks"][f"{family}_{width}"]["hole_fraction"]
            assert np.isclose(stored.mean(), fraction, atol=1e-6)
    with pytest.raises(KeyError):
        pack.test_masks("square", 9)
    other = packs.prepare(micro({"data.mask_seed": 5}), "clutter").identity
    assert [key for key in other if other[key] != pack.identity[key]] == ["masks"]


def test_every_file_that_is_left_out_is_listed_with_its_reason(packed, images, monkeypatch):
    monkeypatch.setattr(packing, "SHARD_IMAGES", 4)
    Image.fromarray(smooth(40, 40, 3)).save(images / "again.bmp")  # the pixels of 0003.png
    (images / "torn.png").write_bytes((images / "0000.png").read_bytes()[:500])
    (images / "read.me").write_text("hello")
    (images / "=cmd|<b>\n.png").write_bytes(b"")
    pack = packed(ALL)
    skipped = pack.skipped()
    found = dict(zip(skipped.file, skipped.reason, strict=True))
    assert found.pop("torn.png") == "truncated"
    assert found.pop("read.me") == "format not read"
    assert found.pop("=cmd|<b>\\x0a.png") == "empty"  # a line stays a line
    ((file, reason),) = found.items()
    assert reason == "duplicate" and file in ("again.bmp", "0003.png")
    expected = [lanczos(smooth(40, 40, k), 32) for k in range(30)]
    everything = [*pack.train, *pack.test]
    nearest = [np.argmin([distance(i, e).max() for e in expected]) for i in everything]
    assert sorted(nearest) == list(range(30))
    for pixels, k in zip(everything, nearest, strict=True):
        assert distance(pixels, expected[k]).max() <= 1.5


def test_the_test_image_of_two_equal_ones_stays(packed, images):
    folder(images / "train")
    folder(images / "test", 3)
    for path in images.glob("*.png"):
        path.unlink()
    pack = packed(ALL)
    assert pack.manifest["images"] == {"test": 3, "train": 27}
    assert set(pack.skipped().file) == {f"train/{k:04d}.png" for k in range(3)}


def test_too_many_bad_files_stop_the_preparation_and_leave_the_earlier_pack(packed, images):
    place = packed(ALL).folder
    old = contents(place)
    for k in range(4):
        (images / f"{k:04d}.png").write_bytes(b"")
    what = r"can be used \(4 empty\): at most 10% .*skipped.csv lists them"
    with pytest.raises(sources.SourceError, match=what) as why:
        packed(ALL)
    assert "\n" not in str(why.value)
    left = contents(place)
    listed = left.pop("skipped.csv").decode()
    assert left.items() <= old.items() and all(f"{k:04d}.png" in listed for k in range(4))
    folder(images / "train")
    (images / "test").mkdir()
    (images / "test/0.png").write_bytes(b"no image")
    with pytest.raises(sources.SourceError, match=r"30 .* training and 0 for testing can be used"):
        packed(ALL)


def test_a_changed_source_gives_another_pack(packed, images):
    first = packed()
    assert packed().manifest == first.manifest
    for k in range(30):
        Image.fromarray(smooth(40, 40, 100 + k)).save(images / f"{k:04d}.png")
    second = packed()
    assert second.manifest["settings"]["source"] != first.manifest["settings"]["source"]
    assert second.identity["train"] != first.identity["train"]


@pytest.mark.parametrize("place", ["_write_split", "_write_masks"])
def test_an_interrupt_leaves_the_old_pack_and_nothing_half_written(packed, monkeypatch, place):
    old = contents(packed().folder)
    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(packing, place, lambda *_: signal.raise_signal(signal.SIGINT))
        packed({"data.seed": 1})
    assert contents(packed().folder) == old


PREPARE = """
import json, sys
if __name__ == "__main__":  # workers import this file too
    from inpaint_lib.data import packing, packs
    from inpaint_lib.study import grid
    packing.SHARD_IMAGES, packing.IMAGES_PER_WORKER = 16, 1
    pack = packs.prepare(grid.open_study("smoke", json.loads(sys.argv[1])), sys.argv[2])
    print(json.dumps(pack.identity))
"""


def preparing(tmp_path, output, dataset="folder", **more):
    """Start a process that packs with two or more workers into `output`."""
    script = tmp_path / "prepare.py"
    script.write_text(PREPARE)
    overrides = MICRO | ALL | {"machine.data_root": str(tmp_path / "images")}
    environment = os.environ | {"INPAINT_OUTPUT": str(output), "PYTHONPATH": repository()}
    command = [
        sys.executable,
        script,
        json.dumps(overrides | {"grid.datasets": [dataset]} | more),
        dataset,
    ]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_after_a_kill_the_workers_end_and_the_next_packs_are_the_same(tmp_path, packed):
    """SIGKILL of the parent while workers read and it writes; what it left is no pack. Afterwards
    two processes prepare the same and wait for each other."""
    shutil.rmtree(tmp_path / "images")
    folder(tmp_path / "images", 200, 120)
    whole = packed(ALL)
    place = tmp_path / "killed/runs/smoke/folder/data"
    process = preparing(tmp_path, tmp_path / "killed")
    deadline = time.monotonic() + 60
    while not list(place.glob(".*.tmp.npy")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)  # returns when the last holder of its output has ended
    assert not (place / "manifest.json").exists()
    both = [preparing(tmp_path, tmp_path / "killed") for _ in range(2)]
    told = [p.communicate(timeout=120)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    answers = [json.loads(text.splitlines()[-1]) for text in told]
    assert answers == [whole.identity] * 2 and contents(place) == contents(whole.folder)


EXTENSION = """
import numpy as np
from inpaint_lib.data.sources import DATASETS, Dataset, Plan

def pixels(items, size, seed):
    for item in items:
        yield np.full((size, size, 3), item, np.uint8)

items = Plan(list(range(40)), list(range(100, 120)))
DATASETS["grey"] = Dataset("plain grey images", lambda config: items, pixels)
"""


@pytest.mark.slow
def test_workers_find_a_data_set_of_an_extension(tmp_path):
    (tmp_path / "grey.py").write_text(EXTENSION)
    more = {"extensions": [str(tmp_path / "grey.py")]}
    process = preparing(tmp_path, tmp_path / "out", "grey", **more)
    identity = json.loads(process.communicate(timeout=60)[0].splitlines()[-1])
    expected = np.repeat(np.arange(40, dtype=np.uint8), 32 * 32 * 3)
    assert identity["train"] == hashlib.sha256(expected).hexdigest()


def test_pixels_of_another_kind_are_refused_by_name(micro, monkeypatch):
    wrong = replace(sources.DATASETS["faces"], pixels=lambda *_: [np.zeros((32, 32, 3))] * 32)
    monkeypatch.setitem(sources.DATASETS, "faces", wrong)
    with pytest.raises(sources.SourceError, match="faces: pixels.. must yield .*uint8.*float64"):
        packs.prepare(micro(), "faces")


def dies(*_):
    signal.raise_signal(signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_is_reported(packed, monkeypatch):
    monkeypatch.setattr(packing, "IMAGES_PER_WORKER", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(sources, "read_pixels", dies)
    with pytest.raises(sources.SourceError, match="a worker was killed"):
        packed()
    assert not multiprocessing.active_children()
    assert not list((files.Path(os.environ["INPAINT_OUTPUT"])).rglob("*.tmp*"))
