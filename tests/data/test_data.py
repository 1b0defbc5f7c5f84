import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from inpaint_lib import masks
from inpaint_lib.data import packs, scenes, sources
from inpaint_lib.study import files
from tests.conftest import distance, lanczos, repository, smooth


def test_the_wheels_carry_the_photographs_and_one_motorcycle_view_only():
    photos = scenes.photographs()
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
    monkeypatch.setattr(scenes, "photographs", lambda: paths)
    for size in (32, 64, 128):
        config = SimpleNamespace(train_images=90, test_images=90, image_size=size, data_seed=0)
        plan = sources.DATASETS["scenes"].plan(config)
        assert len(plan.train) == len(plan.test) == 90
        assert max(pixels.max() for pixels in sources.DATASETS["scenes"].pixels(plan.train, size, 0)) == 0
        assert min(pixels.min() for pixels in sources.DATASETS["scenes"].pixels(plan.test, size, 0)) == 255


@pytest.mark.parametrize("split", ["train", "test"])
def test_crops_have_several_scales_and_lie_inside(split):
    boxes = scenes.crop_boxes(300, 600, split, 500, np.random.default_rng(0), 64)
    assert len(set(boxes[:, 2])) == 3
    assert boxes[:, 0].min() >= 0 and (boxes[:, 0] + boxes[:, 2]).max() <= 300
    assert (boxes[:, 1] + boxes[:, 2]).max() <= (400 if split == "train" else 600)
    assert boxes[:, 1].min() >= (0 if split == "train" else 400)


def test_a_crop_is_the_photographs_area_average_when_reduced_by_a_whole_factor():
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(photo[:8, :8]).resize((64, 64), Image.Resampling.BICUBIC))
    reduced = scenes.crop(smooth, (0, 0, 64), 16).astype(float)
    average = smooth.reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(reduced - average).mean() < 4


EMBEDDED = ("faces", "scenes")


@pytest.mark.parametrize("dataset", EMBEDDED)
def test_a_pack_is_drawn_once_and_is_the_same_every_time(micro, dataset, tmp_path):
    study = micro(datasets=[dataset])
    pack = packs.prepare(study, dataset)
    assert pack.train.shape == (24, 32, 32, 3) and pack.test.shape == (8, 32, 32, 3) and pack.train.dtype == np.uint8
    assert isinstance(pack.train, np.memmap)
    stamps = {p.name: p.stat().st_mtime_ns for p in pack.folder.iterdir() if p.suffix in (".npy", ".npz", ".json")}
    packs.prepare(study, dataset)
    assert stamps == {name: (pack.folder / name).stat().st_mtime_ns for name in stamps}
    (pack.folder / "manifest.json").unlink()
    assert packs.prepare(study, dataset).manifest == pack.manifest
    for name, entry in pack.manifest["files"].items():
        masks_own = files.text_sha256(json.dumps(pack.manifest["masks"]))
        assert entry["sha256"] == (masks_own if name == "masks.npz" else files.file_sha256(pack.folder / name))


@pytest.mark.parametrize("damage", ["missing", "short", "manifest"])
def test_a_damaged_pack_is_drawn_again(micro, damage):
    pack = packs.prepare(micro(), "scenes")
    target = pack.folder / ("manifest.json" if damage == "manifest" else "train.npy")
    if damage == "missing":
        target.unlink()
    else:
        target.write_bytes(target.read_bytes()[:100])
    assert packs.prepare(micro(), "scenes").manifest == pack.manifest


def test_another_setting_gives_another_pack(micro):
    first = packs.prepare(micro(), "scenes").manifest
    second = packs.prepare(micro(data_seed=1), "scenes").manifest
    assert first["files"]["train.npy"]["sha256"] != second["files"]["train.npy"]["sha256"]
    assert second["settings"]["data_seed"] == 1


def test_train_and_test_share_no_image(micro):
    for dataset in EMBEDDED:
        pack = packs.prepare(micro(datasets=[dataset]), dataset)
        assert not {i.tobytes() for i in pack.train} & {i.tobytes() for i in pack.test}


def test_stored_test_masks_are_the_ones_drawn(micro):
    pack = packs.prepare(micro(), "scenes")
    for family in masks.FAMILIES:
        for width in (8, 16):
            stored = pack.test_masks(family, width)
            assert np.array_equal(stored, masks.frozen(family, 8, width, 32, 0))
            assert np.isclose(stored.mean(), pack.manifest["masks"][f"{family}_{width}"]["hole_fraction"], atol=1e-6)


def test_every_test_image_of_scenes_names_its_photograph(micro):
    manifest = packs.prepare(micro(), "scenes").manifest
    assert manifest["test_groups"] == list(scenes.photographs())
    json.dumps(manifest)


# --- packing folders of images: resumed, shared, damaged, full


def folder(root, n=30, size=40):
    root.mkdir()
    for k in range(n):
        Image.fromarray(smooth(size, size, k)).save(root / f"{k:04d}.png")
    return root


@pytest.fixture
def packed(tmp_path, micro):
    """packed(**overrides) -> the pack of the images in tmp_path/images, at most 8 images a shard."""
    images = folder(tmp_path / "images")
    settings = {"datasets": ["folder"], "data_root": str(images)}
    return lambda **overrides: packs.prepare(micro(**settings | overrides), "folder")


def test_every_file_that_is_left_out_is_listed_with_its_reason(packed, tmp_path):
    images = tmp_path / "images"
    Image.fromarray(smooth(40, 40, 3)).save(images / "again.bmp")  # the pixels of 0003.png
    (images / "torn.png").write_bytes((images / "0000.png").read_bytes()[:500])
    (images / "read.me").write_text("hello")
    (images / "=cmd|<b>\n.png").write_bytes(b"")
    pack = packed(train_images=100, test_images=100)
    skipped = pack.skipped()
    found = dict(zip(skipped.file, skipped.reason, strict=True))
    assert found.pop("read.me") == "not an image by its name" and found.pop("torn.png") == "truncated"
    assert found.pop("=cmd|<b>\\x0a.png") == "empty"  # a line stays a line
    ((file, reason),) = found.items()
    assert reason == "duplicate" and file in ("again.bmp", "0003.png")
    assert len(pack.train) + len(pack.test) == 30 and pack.manifest["images"]["train"] == len(pack.train)
    assert sum(pack.manifest["skipped"].values()) == 4
    everything = {i.tobytes() for i in pack.train} | {i.tobytes() for i in pack.test}
    assert len(everything) == 30 and bytes(32 * 32 * 3) not in everything


def test_the_test_image_of_two_equal_ones_stays(packed, tmp_path):
    images = tmp_path / "images"
    for part in ("train", "test"):
        (images / part).mkdir()
    for k in range(30):
        (images / f"{k:04d}.png").rename(images / ("test" if k < 5 else "train") / f"{k:04d}.png")
    for k in range(4):
        shutil.copy(images / "test" / f"{k:04d}.png", images / "train" / f"copy{k}.png")
    pack = packed(train_images=100, test_images=100)
    assert list(pack.manifest["images"].values()) == [5, 25]
    assert set(pack.skipped().file) == {f"train/copy{k}.png" for k in range(4)}
    assert pack.manifest["test_groups"] == [f"test/{k:04d}.png" for k in range(5)]


def test_rows_and_their_names_stay_together_when_some_are_left_out(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "SHARD_IMAGES", 4)
    for k in (2, 17):
        (tmp_path / "images" / f"{k:04d}.png").write_bytes(b"")
    pack = packed(train_images=100, test_images=100)
    assert len(pack.train) + len(pack.test) == 28
    for name, pixels in zip(pack.manifest["test_groups"], pack.test, strict=True):
        assert distance(pixels, lanczos(smooth(40, 40, int(name[:4])), 32)).max() <= 1.5


def test_more_than_a_tenth_of_bad_files_stops_with_a_summary(packed, tmp_path):
    for k in range(4):
        (tmp_path / "images" / f"{k:04d}.png").write_bytes(b"" if k % 2 else b"no image")
    with pytest.raises(sources.SourceError, match="more than 10%.*2 (empty|not an image).*unusable.csv") as caught:
        packed(train_images=100, test_images=100)
    assert "\n" not in str(caught.value)
    left = {p.name for p in (tmp_path / "runs/smoke/folder/data").iterdir()}
    assert left <= {"unusable.csv", ".lock"}


def test_a_source_gone_bad_leaves_the_earlier_pack_whole(packed, tmp_path):
    before = packed(train_images=100, test_images=100)
    files = {p.name: p.read_bytes() for p in before.folder.iterdir()}
    for k in range(4):
        (tmp_path / "images" / f"{k:04d}.png").write_bytes(b"")
    with pytest.raises(sources.SourceError, match="more than 10%"):
        packed(train_images=100, test_images=100)
    assert {name: (before.folder / name).read_bytes() for name in files} == files


def test_a_changed_source_or_setting_gives_another_pack(packed, tmp_path):
    first = packed().manifest
    assert packed().manifest == first
    for k in range(30):
        Image.fromarray(smooth(40, 40, 100 + k)).save(tmp_path / "images" / f"{k:04d}.png")
    second = packed().manifest
    assert second["settings"]["source"] != first["settings"]["source"] and second["files"] != first["files"]
    third = packed(image_size=64).manifest
    assert third["files"]["train.npy"]["bytes"] > 3 * second["files"]["train.npy"]["bytes"]


def test_a_kill_at_any_shard_costs_that_shard_alone(packed, tmp_path, monkeypatch):
    """Interrupted after every single shard; the pack equals the one made in one go, and no finished shard is read twice."""
    monkeypatch.setattr(packs, "SHARD_IMAGES", 4)
    expected = packed(train_images=100, test_images=100)
    files = {name: (expected.folder / name).read_bytes() for name in ("train.npy", "test.npy", "masks.npz", "skipped.csv")}
    shutil.rmtree(expected.folder)
    write, written = sources.write_shard, []

    def once(dataset, items, *rest):
        if written and written[-1] is None:
            raise KeyboardInterrupt
        found = write(dataset, items, *rest)
        written.extend([items, None])  # the next shard is not begun
        return found

    monkeypatch.setattr(sources, "write_shard", once)
    for _ in range(7):
        with pytest.raises(KeyboardInterrupt):
            packed(train_images=100, test_images=100)
        written.append(0)
    pack = packed(train_images=100, test_images=100)
    shards = [str(items) for items in written if isinstance(items, list)]
    assert len(shards) == len(set(shards)) == 8
    assert files == {name: (pack.folder / name).read_bytes() for name in files}


PREPARE = """
import json, sys
if __name__ == "__main__":  # workers import this file too
    from inpaint_lib.data import packs
    from inpaint_lib.study import grid
    packs.SHARD_IMAGES, packs.IMAGES_PER_WORKER = 16, 1
    pack = packs.prepare(grid.open_study("smoke", json.loads(sys.argv[1])), "folder")
    print(pack.manifest["files"]["train.npy"]["sha256"])
"""


def preparing(tmp_path, output):
    """A process that packs tmp_path/images with two or more workers into `output`."""
    script = tmp_path / "prepare.py"
    script.write_text(PREPARE)
    overrides = {"datasets": ["folder"], "data_root": str(tmp_path / "images"), "train_images": 1000, "test_images": 1000}
    environment = os.environ | {"INPAINT_OUTPUT": str(output), "PYTHONPATH": repository()}
    return subprocess.Popen([sys.executable, script, json.dumps(overrides)], env=environment, stdout=subprocess.PIPE, text=True)


def test_killed_again_and_again_the_workers_end_and_the_pack_is_the_same(tmp_path, packed):
    """SIGKILL of the parent at random moments while workers write; its workers end, and its journal is gone on with."""
    shutil.rmtree(tmp_path / "images")
    folder(tmp_path / "images", 300, 200)
    whole = packed(train_images=1000, test_images=1000).manifest["files"]["train.npy"]["sha256"]
    rng, kept = np.random.default_rng(0), []
    place = tmp_path / "killed/runs/smoke/folder/data"
    for _ in range(2):
        process = preparing(tmp_path, tmp_path / "killed")
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:  # until there is more in the journals than before
            time.sleep(0.02 + 0.1 * rng.random())
            if (lines := sum(len(p.read_text().splitlines()) for p in place.glob(".*.journal"))) > sum(kept[-1:]):
                kept.append(lines)
                break
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)  # returns when the last process that holds its output has ended
    assert kept == sorted(kept)
    assert preparing(tmp_path, tmp_path / "killed").communicate()[0].strip() == whole
    left = {p.name for p in place.iterdir()}
    assert left == {"train.npy", "test.npy", "masks.npz", "skipped.csv", "manifest.json", ".lock"}


def test_two_processes_that_prepare_the_same_wait_for_each_other(tmp_path):
    folder(tmp_path / "images", 100, 60)
    first, second = (preparing(tmp_path, tmp_path / "out") for _ in range(2))
    answers = [p.communicate(timeout=60)[0].splitlines()[-1] for p in (first, second)]
    assert answers[0] == answers[1] and len(answers[0]) == 64


def test_damage_to_what_was_kept_is_found_and_done_again(packed, tmp_path, monkeypatch):
    """After a power cut a journal may name pixels that never reached the disk, or end in half a line."""
    expected = packed(train_images=100, test_images=100)
    whole = (expected.folder / "train.npy").read_bytes()
    manifest = expected.manifest
    shutil.rmtree(expected.folder)
    monkeypatch.setattr(packs, "SHARD_IMAGES", 4)
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(packs, "_write_masks", lambda *_: 1 / 0)
        packed(train_images=100, test_images=100)
    (partial,) = expected.folder.glob(".train.*.partial")
    bytes_ = bytearray(partial.read_bytes())
    bytes_[-100:] = bytes(100)
    partial.write_bytes(bytes_)
    (journal,) = expected.folder.glob(".train.*.journal")
    journal.write_text(journal.read_text()[:-30])
    again = packed(train_images=100, test_images=100)
    assert (again.folder / "train.npy").read_bytes() == whole and again.manifest == manifest


def test_a_full_disk_is_told_before_anything_is_read(packed, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(packs.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(sources, "write_shard", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(sources.SourceError, match="needs .* GB more, the disk has 0.0 GB free; set INPAINT_OUTPUT"):
        packed()


def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_told(packed, monkeypatch):
    monkeypatch.setattr(packs, "IMAGES_PER_WORKER", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(sources, "write_shard", dies)
    with pytest.raises(sources.SourceError, match="a worker was killed"):
        packed()
    assert not multiprocessing.active_children()
