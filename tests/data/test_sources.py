"""The loaders on miniature trees in the publishers' formats: CelebA, COCO, any folder."""

import errno
import io
import os
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from inpaint_lib.data import containers, packs, sources
from tests.conftest import distance, lanczos, smooth
from workflow import checks


def celeba_tree(root, n=60):
    """n aligned 178 x 218 JPEGs and the partition file: one in six validation, one in six test."""
    folder = root / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    parts = []
    for k in range(1, n + 1):
        Image.fromarray(smooth(218, 178, k)).save(folder / f"{k:06d}.jpg", quality=90)
        parts.append(f"{k:06d}.jpg {(0, 0, 0, 0, 1, 2)[k % 6]}")
    (root / "celeba" / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return {p: [line.split()[0] for line in parts if line.endswith(p)] for p in "012"}


def coco_tree(root, n_train=20, n_test=10):
    for part, count in (("train2014", n_train), ("val2014", n_test)):
        folder = root / "coco" / part
        folder.mkdir(parents=True)
        for k in range(count):
            shape = (480, 640) if k % 2 else (640, 427)
            image = Image.fromarray(smooth(*shape, 1000 * (part == "val2014") + k))
            image.save(folder / f"COCO_{part}_{k:012d}.jpg")


def folder_tree(root, n=20, prefix=""):
    root.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        Image.fromarray(smooth(50, 40, k)).save(root / f"{prefix}{k}.png")


def zipped(folder, inside):
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{inside}{path.relative_to(folder)}")
    shutil.rmtree(folder)


def plan_of(dataset, root, **data):
    given = {"train_images": 1000, "test_images": 1000, "seed": 0, "image_size": 32} | data
    machine = SimpleNamespace(data_root=str(root))
    return sources.find_dataset(dataset).plan(
        SimpleNamespace(data=SimpleNamespace(**given), machine=machine)
    )


def fingerprint(dataset, root):
    config = SimpleNamespace(machine=SimpleNamespace(data_root=str(root)))
    return sources.find_dataset(dataset).fingerprint(config)


def pixels_of(items):
    return sources.read_pixels("folder", items, 32, 0)


def names(items):
    """Return the file names of items, without folders."""
    return [name.rpartition("/")[2] for _, name in items]


def refused(dataset, root, match):
    """Check that a plan is refused in one line that matches."""
    with pytest.raises(sources.SourceError, match=match) as caught:
        plan_of(dataset, root)
    assert "\n" not in str(caught.value)


def test_celeba_trains_on_its_training_and_test_partitions_and_tests_on_validation(tmp_path):
    parts = celeba_tree(tmp_path)
    plan = plan_of("celeba", tmp_path)
    assert names(plan.train) == sorted(parts["0"] + parts["2"])
    assert names(plan.test) == sorted(parts["1"])
    few = plan_of("celeba", tmp_path, train_images=7, test_images=3)
    assert (len(few.train), len(few.test)) == (7, 3) and set(names(few.test)) <= set(parts["1"])
    assert few.train != plan_of("celeba", tmp_path, train_images=7, test_images=3, seed=1).train


def test_celeba_is_found_as_other_sites_lay_it_out(tmp_path):
    """The partition as CSV, perhaps with a byte order mark; the images in one folder more."""
    celeba_tree(tmp_path)
    plan = plan_of("celeba", tmp_path)
    folder = tmp_path / "celeba/img_align_celeba"
    folder.rename(tmp_path / "held")
    folder.mkdir()
    (tmp_path / "held").rename(folder / "img_align_celeba")
    partition = folder.parent / "list_eval_partition.txt"
    lines = partition.read_text().replace(" ", ",")
    partition.with_suffix(".csv").write_text("\ufeffimage_id,partition\n" + lines)
    partition.unlink()
    other = plan_of("celeba", tmp_path)
    assert names(other.train) == names(plan.train) and names(other.test) == names(plan.test)


def test_coco_trains_on_train2014_and_tests_on_val2014(tmp_path, micro):
    coco_tree(tmp_path)
    settings = {"grid.datasets": ["coco"], "machine.data_root": str(tmp_path)}
    study = micro(settings)
    pack, plan = packs.prepare(study, "coco"), sources.find_dataset("coco").plan(study.config)
    assert pack.manifest["images"] == {"train": 20, "test": 8}
    for pixels, name in zip(pack.test, names(plan.test), strict=True):
        k = int(name.removeprefix("COCO_val2014_").removesuffix(".jpg"))
        decoded = smooth(*((480, 640) if k % 2 else (640, 427)), 1000 + k)
        assert distance(pixels, lanczos(decoded, 32)).mean() < 2  # JPEG


def test_at_most_10000_celeba_and_5000_coco_images_test(monkeypatch, tmp_path):
    listed = [f"{k:06d}.jpg" for k in range(1, 14001)]
    monkeypatch.setattr(containers, "list_names", lambda folder: listed)
    for part in ("img_align_celeba", "train2014", "val2014"):
        (tmp_path / part).mkdir()
    lines = [f"{name} {int(name <= '012000.jpg')}" for name in listed]
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(lines))
    for dataset, most in (("celeba", 10_000), ("coco", 5000)):
        assert len(plan_of(dataset, tmp_path, test_images=99_999).test) == most


def test_a_folder_is_split_by_seed_one_in_five_for_testing(tmp_path):
    folder_tree(tmp_path / "a" / "deep")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    plan = plan_of("folder", tmp_path)
    assert len(plan.test) == 4 and len(plan.train) == 16 and not set(plan.test) & set(plan.train)
    assert plan_of("folder", tmp_path, seed=1).test != plan.test
    folder_tree(tmp_path / "b", 1)
    again = plan_of("folder", tmp_path)
    assert len(set(again.test) - set(plan.test)) <= 1, "one more image must not shuffle the split"


@pytest.mark.parametrize("above", ["", "wrap/", "a/b/"])
@pytest.mark.parametrize("parts", [("train", "test"), ("Training", "testing"), ("train", "Valid")])
def test_folders_for_training_and_testing_make_the_split_at_any_depth(tmp_path, above, parts):
    for part in parts:
        folder_tree(tmp_path / above / part / "deep", 3)
        if part == parts[0]:
            refused("folder", tmp_path, "all images of .* in a folder for training.* add a folder")
    others = ["others"] + ["validation"] * (parts[1] != "Valid")  # test images go before
    for other in others:
        folder_tree(tmp_path / other, 1)
    plan = plan_of("folder", tmp_path)
    for split, part in zip((plan.train, plan.test), parts, strict=True):
        assert [name for _, name in split] == [f"{above}{part}/deep/{k}.png" for k in range(3)]
    assert [name for name, *_ in plan.passed_over] == [f"{other}/0.png" for other in others]


@pytest.mark.parametrize("part", ["test", "val"])
def test_with_a_folder_for_testing_alone_all_other_images_train(tmp_path, part):
    folder_tree(tmp_path, 4)
    folder_tree(tmp_path / "cats", 4)
    folder_tree(tmp_path / part, 3)
    plan = plan_of("folder", tmp_path)
    assert [name for _, name in plan.test] == [f"{part}/{k}.png" for k in range(3)]
    assert len(plan.train) == 8 and plan.passed_over == []


@pytest.mark.parametrize("place", ["@eaDir/0.png", ".thumbnails/large", "#recycle", "a/.git"])
def test_what_a_system_leaves_is_not_entered_and_hides_no_image(tmp_path, monkeypatch, place):
    folder_tree(tmp_path, 6)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    before = fingerprint("folder", tmp_path)
    folder_tree(tmp_path / place, 3, "thumb")
    (tmp_path / place / "link").symlink_to(tmp_path)
    plan = plan_of("folder", tmp_path)
    assert len(plan.train) + len(plan.test) == 6 and plan.passed_over == []
    assert fingerprint("folder", tmp_path) == before


PACKED = {"as published": "{part}/", "flat": "", "folders more": "data/{part}/{part}/"}


@pytest.mark.parametrize("inside", PACKED.values(), ids=PACKED)
def test_zips_are_read_as_people_and_macs_pack_them(tmp_path, inside):
    celeba_tree(tmp_path, 12)
    coco_tree(tmp_path, 6, 4)
    before = [plan_of(dataset, tmp_path) for dataset in ("celeba", "coco")]
    pixels = [pixels_of(plan.train + plan.test) for plan in before]
    for part in ("celeba/img_align_celeba", "coco/train2014", "coco/val2014"):
        folder = tmp_path / part
        under = inside.format(part=folder.name)
        listed = [path.name for path in folder.iterdir()]
        zipped(folder, under)
        with zipfile.ZipFile(folder.with_suffix(".zip"), "a") as archive:
            archive.writestr(f"{under}.DS_Store", b"x")
            for name in listed:
                archive.writestr(f"__MACOSX/{under}._{name}", b"\0\5\x16\7" + bytes(80))
    for dataset, plan, expected in zip(("celeba", "coco"), before, pixels, strict=True):
        found = plan_of(dataset, tmp_path)
        assert names(found.train) == names(plan.train) and names(found.test) == names(plan.test)
        assert np.array_equal(pixels_of(found.train + found.test), expected)


def test_celeba_that_was_not_unpacked_completely_is_refused(tmp_path):
    celeba_tree(tmp_path, 60)
    paths = sorted((tmp_path / "celeba/img_align_celeba").iterdir())
    paths[0].unlink()
    plan = plan_of("celeba", tmp_path)
    assert plan.passed_over == [("000001.jpg", "not there", "list_eval_partition.txt")]
    for path in paths[1:10]:
        path.unlink()
    refused("celeba", tmp_path, "holds 50 of the 60 files")
    for path in paths[10:]:
        path.rename(path.with_name(f"face{path.name}"))
    layout = "DIR or DIR/celeba must"
    refused("celeba", tmp_path, f"holds 0 of the 60 files in list_eval_partition.txt: .* {layout}")


@pytest.mark.parametrize("dataset", ["celeba", "coco"])
def test_a_whole_archive_is_taken_and_not_the_folder_whose_unpacking_was_broken_off(
    tmp_path, dataset
):
    celeba_tree(tmp_path, 12)
    coco_tree(tmp_path, 6, 4)
    before = plan_of(dataset, tmp_path)
    for part in ("celeba/img_align_celeba", "coco/train2014", "coco/val2014"):
        folder = tmp_path / part
        names_of_all = sorted(path.name for path in folder.iterdir())
        zipped(folder, f"{folder.name}/")
        folder.mkdir()
        with zipfile.ZipFile(folder.with_suffix(".zip")) as archive:
            archive.extract(f"{folder.name}/{names_of_all[0]}", folder.parent)
    found = plan_of(dataset, tmp_path)
    assert names(found.train) == names(before.train) and names(found.test) == names(before.test)
    assert all(container.endswith(".zip") for container, _ in found.train + found.test)


def test_an_archive_that_may_not_be_read_is_not_told_as_incomplete(tmp_path, monkeypatch):
    celeba_tree(tmp_path, 12)
    zipped(tmp_path / "celeba/img_align_celeba", "img_align_celeba/")

    def forbidden(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(sources.Path, "open", forbidden)
    with pytest.raises(PermissionError, match="img_align_celeba.zip"):
        plan_of("celeba", tmp_path)


def test_every_file_of_a_folder_is_used_or_told_with_its_reason(tmp_path):
    folder_tree(tmp_path, 30)
    others = ["a.heic", "b.HEIF", "notes.txt", "album.zip", "noextension"]
    for name in others:
        (tmp_path / name).write_bytes(b"x")
    plan = plan_of("folder", tmp_path)
    told = {name: (reason, suffix) for name, reason, suffix in plan.passed_over}
    assert told == {name: ("format not read", os.path.splitext(name)[1].lower()) for name in others}
    assert len(plan.train) + len(plan.test) == 30 and plan.missing == 2 / 32
    fewer = plan_of("folder", tmp_path, train_images=20, test_images=3)
    assert (len(fewer.train), len(fewer.test)) == (20, 3)
    told = [
        name for name, reason, _ in fewer.passed_over if reason == "more than data.train_images"
    ]
    assert len(told) == 7 and not {*told} & {name for _, name in fewer.train + fewer.test}


def test_photos_of_formats_that_are_not_read_and_missing_files_count_as_unusable(
    tmp_path, micro, capsys
):
    folder_tree(tmp_path / "images", 20)
    for k in range(3):
        (tmp_path / "images" / f"{k}.heic").write_bytes(b"x")
    settings = {"grid.datasets": ["folder"], "machine.data_root": str(tmp_path / "images")}
    with pytest.raises(sources.SourceError, match=r"3 format not read.*at most 10% .* missing"):
        packs.prepare(micro(settings), "folder")
    (tmp_path / "images/0.heic").unlink()
    (tmp_path / "images/1.heic").unlink()
    study = micro(settings)
    checks.check_inputs(study.config, download=False)
    assert "folder: left out: 1 format not read" in capsys.readouterr().out
    assert sum(packs.prepare(study, "folder").manifest["images"].values()) == 20


def test_missing_and_unusable_files_of_celeba_are_counted_together(tmp_path, micro):
    celeba_tree(tmp_path, 60)
    paths = sorted((tmp_path / "celeba/img_align_celeba").iterdir())
    for path in paths[:4]:
        path.unlink()
    for path in paths[4:7]:
        path.write_bytes(b"")
    settings = {"grid.datasets": ["celeba"], "machine.data_root": str(tmp_path)}
    settings |= {"data.train_images": 100, "data.test_images": 100}
    with pytest.raises(sources.SourceError, match=r"3 empty, 4 not there"):
        packs.prepare(micro(settings), "celeba")


def test_links_are_followed_and_loops_end(tmp_path):
    folder_tree(tmp_path / "images.zip", 6)  # named as an archive, but a folder
    (tmp_path / "images.zip" / "self").symlink_to(tmp_path / "images.zip")
    (tmp_path / "images.zip" / "up").symlink_to(tmp_path)
    (tmp_path / "images.zip" / "a.png").symlink_to(tmp_path / "images.zip" / "a.png")
    elsewhere = tmp_path.with_name(tmp_path.name + "-elsewhere")
    folder_tree(elsewhere, 2)
    (tmp_path / "linked").symlink_to(elsewhere)
    found = containers.list_names(tmp_path)
    assert len(found) == 6 + 1 + 2 and sum(name.startswith("linked/") for name in found) == 2


LIST = {"list_eval_partition.txt": "000001.jpg 0\n"}
WRONG = [
    ("celeba", {}, "has no complete list_eval_partition.txt"),
    ("celeba", LIST, "has no complete img_align_celeba.zip or img_align_celeba"),
    ("celeba", LIST | {"img_align_celeba.zip": "PK half a download"}, "has no complete"),
    ("celeba", {"list_eval_partition.txt": "?", "img_align_celeba/": ""}, "no line like"),
    ("coco", {"train2014/": ""}, "has no complete val2014.zip or val2014"),
    ("coco", {"train2014/": "", "val2014/": ""}, "no .jpg file"),
    ("folder", {}, "holds 0 images"),
    ("folder", {"1.png": ""}, "holds 1 images"),
    ("folder", None, "there is no folder"),
]
WRONG += [(dataset, "", "name its folder with --data-root DIR") for dataset in ("celeba", "coco")]


@pytest.mark.parametrize(("dataset", "layout", "said"), WRONG)
def test_a_wrong_layout_is_reported_in_one_line(tmp_path, dataset, layout, said):
    root = "" if layout == "" else tmp_path / "root"
    if isinstance(layout, dict):
        root.mkdir()
    for name, content in (layout or {}).items():
        (root / name).mkdir() if name.endswith("/") else (root / name).write_text(content)
    refused(dataset, root, said)


def test_the_fingerprint_follows_the_files_and_not_their_place(tmp_path):
    folder_tree(tmp_path / "a")
    first = fingerprint("folder", tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # keeps the times
    assert fingerprint("folder", tmp_path / "b") == first
    os.utime(tmp_path / "b" / "3.png", (1, 1))
    assert fingerprint("folder", tmp_path / "b") != first
    (tmp_path / "a" / "3.png").unlink()
    assert fingerprint("folder", tmp_path / "a") != first


OUTSIDE = ("../outside.png", "/absolute.png", "link/through.png")
BAD = ("noise.png", "huge.png", "missing.png")


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_is_read_in_memory_and_a_damaged_member_is_one_bad_image(tmp_path, kind):
    path, good = tmp_path / "a.zip", io.BytesIO()
    Image.fromarray(smooth(40, 40)).save(good, "PNG")
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("noise.png", np.random.default_rng(0).bytes(4000))
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(tmp_path))
        for name in OUTSIDE:
            archive.writestr(name, good.getvalue())
        archive.writestr("huge.png", b"x")
        archive.getinfo("huge.png").file_size = 1 << 40
    data = path.read_bytes()
    path.write_bytes(data[:300] + b"\xff" * 320 + data[620:])
    before = set(tmp_path.parent.rglob("*"))
    *read, noise, huge, missing = pixels_of([(str(path), name) for name in (*OUTSIDE, *BAD)])
    assert [p.shape for p in read] == [(32, 32, 3)] * 3
    reasons = [p.reason for p in (noise, huge, missing)]
    assert reasons == ["damaged", "decompression bomb", "damaged"]
    assert set(tmp_path.parent.rglob("*")) == before, "members are written nowhere"


def test_download_names_the_licence_first_and_the_remedy_after_a_failure(
    tmp_path, monkeypatch, capsys
):
    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CelebA", no_network)
    with pytest.raises(sources.SourceError, match="no route to host.*img_align_celeba"):
        sources.download("celeba", tmp_path)
    assert capsys.readouterr().out.startswith("CelebA is for non-commercial research only")
    with pytest.raises(sources.SourceError, match="cocodataset.org"):
        sources.download("coco", tmp_path)
    tree = lambda root, split, download: celeba_tree(tmp_path)  # noqa: E731
    monkeypatch.setattr(torchvision.datasets, "CelebA", tree)
    sources.download("celeba", tmp_path)
    assert plan_of("celeba", tmp_path).train
