"""The real loaders on miniature trees in the publishers' formats: CelebA, COCO, and anybody's folder."""

import os
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from inpaint_lib.data import containers, images, packs, sources
from tests.conftest import distance, lanczos, smooth


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
            Image.fromarray(smooth(*shape, 1000 * (part == "val2014") + k)).save(folder / f"COCO_{part}_{k:012d}.jpg")


def folder_tree(root, n=20, prefix=""):
    root.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        Image.fromarray(smooth(50, 40, k)).save(root / f"{prefix}{k}.png")


def zipped(folder, inside):
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{inside}{path.relative_to(folder)}")
    shutil.rmtree(folder)


def config(root, **other):
    given = {"data_root": str(root), "train_images": 1000, "test_images": 1000, "data_seed": 0, "image_size": 32}
    return SimpleNamespace(**given | other)


def names(items):
    return [sources._file_name(item) for item in items]


def test_celeba_trains_on_its_training_and_test_partitions_and_tests_on_validation(tmp_path):
    parts = celeba_tree(tmp_path)
    plan = sources.DATASETS["celeba"].plan(config(tmp_path))
    assert names(plan.train) == sorted(parts["0"] + parts["2"]) and names(plan.test) == sorted(parts["1"])
    few = sources.DATASETS["celeba"].plan(config(tmp_path, train_images=7, test_images=3))
    assert (len(few.train), len(few.test)) == (7, 3) and set(names(few.test)) <= set(parts["1"])
    other = sources.DATASETS["celeba"].plan(config(tmp_path, train_images=7, test_images=3, data_seed=1))
    assert few.train != other.train


@pytest.mark.parametrize("layout", ["zip", "csv", "doubled"])
def test_celeba_is_found_zipped_and_as_other_sites_lay_it_out(tmp_path, micro, layout):
    celeba_tree(tmp_path)
    folder = tmp_path / "celeba" / "img_align_celeba"
    settings = {"datasets": ["celeba"], "data_root": str(tmp_path)}
    plain = packs.prepare(micro(**settings), "celeba").manifest["files"]["train.npy"]
    if layout == "zip":
        zipped(folder, "img_align_celeba/")
    elif layout == "doubled":
        folder.rename(tmp_path / "held")
        folder.mkdir()
        (tmp_path / "held").rename(folder / "img_align_celeba")
    else:
        partition = folder.parent / "list_eval_partition.txt"
        lines = partition.read_text().replace(" ", ",")
        partition.unlink()
        partition.with_suffix(".csv").write_text("image_id,partition\n" + lines)
    assert packs.prepare(micro(**settings), "celeba").manifest["files"]["train.npy"] == plain


@pytest.mark.parametrize("layout", ["folders", "zips"])
def test_coco_trains_on_train2014_and_tests_on_val2014(tmp_path, micro, layout):
    coco_tree(tmp_path)
    if layout == "zips":
        zipped(tmp_path / "coco" / "train2014", "train2014/")
        zipped(tmp_path / "coco" / "val2014", "val2014/")
    pack = packs.prepare(micro(datasets=["coco"], data_root=str(tmp_path)), "coco")
    assert pack.manifest["images"] == {"train": 20, "test": 8}
    assert all("COCO_val2014_" in name for name in pack.manifest["test_groups"])
    shown = pack.manifest["test_groups"][0]
    decoded = smooth(*((480, 640) if int(shown[-5]) % 2 else (640, 427)), 1000 + int(shown[-16:-4]))
    assert distance(pack.test[0], lanczos(decoded, 32)).mean() < 2  # JPEG


def test_at_most_10000_celeba_and_5000_coco_images_test(monkeypatch, tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    lines = [f"{k:06d}.jpg {int(k <= 12000)}" for k in range(1, 14001)]
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(lines))
    monkeypatch.setattr(containers, "every_name", lambda folder: [f"{k:06d}.jpg" for k in range(1, 14001)])
    plan = sources.DATASETS["celeba"].plan(config(tmp_path, test_images=99_999))
    assert (len(plan.train), len(plan.test)) == (1000, 10_000)
    for part in ("train2014", "val2014"):
        (tmp_path / part).mkdir()
    monkeypatch.setattr(containers, "every_name", lambda folder: [f"{k}.jpg" for k in range(6000)])
    assert len(sources.DATASETS["coco"].plan(config(tmp_path, test_images=99_999)).test) == 5000


def test_a_folder_is_split_by_seed_one_in_five_for_testing(tmp_path):
    folder_tree(tmp_path / "a" / "deep")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    plan = sources.DATASETS["folder"].plan(config(tmp_path))
    assert len(plan.test) == 4 and len(plan.train) == 16 and not set(plan.test) & set(plan.train)
    hidden = (".hidden.png", "hidden, or the system's: a thumbnail or a copy", ".png")
    assert plan.passed_over == (hidden, ("notes.txt", "not an image by its name", ".txt"))
    assert sources.DATASETS["folder"].plan(config(tmp_path, data_seed=1)).test != plan.test
    folder_tree(tmp_path / "b", 1)
    again = sources.DATASETS["folder"].plan(config(tmp_path))
    assert len(set(again.test) - set(plan.test)) <= 1, "one more image must not shuffle the split"


def test_sub_folders_train_and_test_make_the_split(tmp_path):
    for part, n in (("Train", 5), ("test", 3), ("other", 2)):
        folder_tree(tmp_path / part, n)
    plan = sources.DATASETS["folder"].plan(config(tmp_path))
    assert names(plan.train) == [f"Train/{k}.png" for k in range(5)] and names(plan.test) == [f"test/{k}.png" for k in range(3)]
    assert [reason for _, reason, _ in plan.passed_over] == ["outside Train/ and test/"] * 2


@pytest.mark.parametrize("above", ["", "wrap/", "a/b/"])
@pytest.mark.parametrize("parts", [("train", "test"), ("Training", "testing"), ("training", "val")])
def test_folders_for_training_and_testing_make_the_split_also_inside_one_folder(tmp_path, above, parts):
    for part, n in zip(parts, (5, 3), strict=True):
        folder_tree(tmp_path / above / part, n)
    (tmp_path / "readme.txt").touch(), (tmp_path / ".cache").mkdir()
    plan = sources.DATASETS["folder"].plan(config(tmp_path))
    assert (len(plan.train), len(plan.test)) == (5, 3)
    assert all(n.startswith(f"{above}{parts[0]}/") for n in names(plan.train))


@pytest.mark.parametrize("above", ["", "wrap/"])
@pytest.mark.parametrize("empty", ["train", "test"])
def test_an_empty_folder_for_training_or_testing_is_refused(tmp_path, above, empty):
    for part in ("train", "test"):
        (tmp_path / above / part).mkdir(parents=True)
        folder_tree(tmp_path / above / part, 0 if part == empty else 6)
    with pytest.raises(sources.SourceError, match=f"{above}{empty} holds no image; fill it") as caught:
        sources.DATASETS["folder"].plan(config(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_split_without_usable_images_says_why_in_words(tmp_path, micro):
    folder_tree(tmp_path / "in/train", 20)
    folder_tree(tmp_path / "in/test", 1)
    (tmp_path / "in/test/0.png").write_bytes(b"no image")
    with pytest.raises(sources.SourceError, match=r"no usable image is left for the test split \(1 not an image\)"):
        packs.prepare(micro(datasets=["folder"], data_root=str(tmp_path / "in")), "folder")


def test_images_that_were_passed_over_as_hidden_are_counted(tmp_path):
    folder_tree(tmp_path / ".thumbnails", 6)
    with pytest.raises(sources.SourceError, match="holds 0 images .*; 6 hidden or the system's were passed over"):
        sources.DATASETS["folder"].plan(config(tmp_path))


def test_a_folder_named_as_an_archive_is_a_folder(tmp_path):
    folder_tree(tmp_path / "photos.zip", 6)
    plan = sources.DATASETS["folder"].plan(config(tmp_path / "photos.zip"))
    assert len(plan.train) == 5 and all(not isinstance(p, sources.Unusable) for p in sources._file_pixels(plan.train, 32, 0))


def test_the_systems_folders_are_not_entered_for_a_stamp_and_hide_no_image(tmp_path, monkeypatch):
    folder_tree(tmp_path / "images", 3)
    folder_tree(tmp_path / ".thumbnails", 3)
    (tmp_path / ".thumbnails" / "link").symlink_to(tmp_path / "images")
    entered, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (entered.append(str(path)), scandir(path))[1])
    containers.stamp(tmp_path)
    assert entered == [str(tmp_path), str(tmp_path / "images")]
    assert len(containers.names(tmp_path)) == 3 and len(containers.every_name(tmp_path)) == 6


@pytest.mark.parametrize("part", ["val", "Valid", "validation"])
def test_a_folder_for_validation_is_for_testing_where_there_is_no_test(tmp_path, part):
    folder_tree(tmp_path / "train", 5)
    folder_tree(tmp_path / part, 3)
    plan = sources.DATASETS["folder"].plan(config(tmp_path))
    assert (len(plan.train), len(plan.test)) == (5, 3) and all(name.startswith(part) for name in names(plan.test))
    folder_tree(tmp_path / "test", 2)
    plan = sources.DATASETS["folder"].plan(config(tmp_path))
    assert len(plan.test) == 2 and {reason for _, reason, _ in plan.passed_over} == {"outside train/ and test/"}


@pytest.mark.parametrize("place", ["@eaDir/0.png", ".thumbnails/large", "__MACOSX", "#recycle", "a/.git"])
def test_what_a_system_leaves_is_passed_over_and_counted(tmp_path, place):
    folder_tree(tmp_path, 6)
    folder_tree(tmp_path / place, 2, "._")
    before = sources.DATASETS["folder"].fingerprint(config(tmp_path))
    folder_tree(tmp_path / place, 3, "thumb")
    plan = sources.DATASETS["folder"].plan(config(tmp_path))
    assert len(plan.train) + len(plan.test) == 6 and len(plan.passed_over) == 5
    assert {reason for _, reason, _ in plan.passed_over} == {"hidden, or the system's: a thumbnail or a copy"}
    assert sources.DATASETS["folder"].fingerprint(config(tmp_path)) == before


PACKED = {  # what stands before a file's name in an archive
    "as published": "{part}/", "flat": "", "folders more": "data/{part}/{part}/",
}  # fmt: skip


@pytest.mark.parametrize("inside", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("mac", [False, True])
def test_zips_are_read_as_people_pack_them(tmp_path, inside, mac):
    celeba_tree(tmp_path, 12)
    coco_tree(tmp_path, 6, 4)
    plans = [sources.DATASETS[dataset].plan(config(tmp_path)) for dataset in ("celeba", "coco")]
    wanted = [(names(plan.train), names(plan.test)) for plan in plans]
    for folder in (tmp_path / "celeba/img_align_celeba", tmp_path / "coco/train2014", tmp_path / "coco/val2014"):
        under = inside.format(part=folder.name)
        listed = sorted(folder.iterdir())
        with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
            for path in listed:
                archive.write(path, f"{under}{path.name}")
                if mac:
                    archive.writestr(f"__MACOSX/{under}._{path.name}", b"\0\5\x16\7" + bytes(80))
            archive.writestr(f"{under}.DS_Store", b"x")
        shutil.rmtree(folder)
    for dataset, (train, test) in zip(("celeba", "coco"), wanted, strict=True):
        plan = sources.DATASETS[dataset].plan(config(tmp_path))
        assert [[n.rpartition("/")[2] for n in names(items)] for items in (plan.train, plan.test)] == [
            [n.rpartition("/")[2] for n in items] for items in (train, test)
        ]
        found = [*sources._file_pixels(plan.train, 32, 0)]
        assert all(not isinstance(pixels, sources.Unusable) for pixels in found)


def test_one_damaged_member_of_a_compressed_zip_is_one_bad_image(tmp_path):
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        path = tmp_path / f"{kind}.zip"
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("a.png", np.random.default_rng(0).bytes(4000))
        whole = bytearray(path.read_bytes())
        whole[300:620] = b"\xff" * 320
        path.write_bytes(whole)
        (found,) = sources._file_pixels([(str(path), "a.png")], 32, 0)
        assert isinstance(found, sources.Unusable) and found.reason == "damaged"


def test_a_byte_order_mark_hides_no_image_of_celeba(tmp_path):
    celeba_tree(tmp_path, 12)
    partition = tmp_path / "celeba/list_eval_partition.txt"
    partition.write_bytes(b"\xef\xbb\xbf" + partition.read_bytes())
    plan = sources.DATASETS["celeba"].plan(config(tmp_path))
    assert len(plan.train) + len(plan.test) == 12


def test_celeba_of_another_name_is_told_with_the_layout_wanted(tmp_path):
    celeba_tree(tmp_path, 12)
    for path in (tmp_path / "celeba/img_align_celeba").iterdir():
        path.rename(path.with_name(f"face{path.name}"))
    with pytest.raises(sources.SourceError, match="holds 0 of the 12 files in list_eval_partition.txt. DIR or DIR/celeba must"):
        sources.DATASETS["celeba"].plan(config(tmp_path))


def test_a_png_with_megabytes_of_text_is_whole(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x>" + "history " * 200_000 + "</x>", zip=True)
    Image.fromarray(smooth(40, 40)).save(tmp_path / "xmp.png", pnginfo=text)
    before = PngImagePlugin.MAX_TEXT_CHUNK
    assert images.read(tmp_path / "xmp.png", 32).shape == (32, 32, 3) and PngImagePlugin.MAX_TEXT_CHUNK == before


def test_links_are_followed_and_loops_end(tmp_path):
    folder_tree(tmp_path / "images", 6)
    (tmp_path / "images" / "self").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    (tmp_path / "images" / "a.png").symlink_to(tmp_path / "images" / "a.png")
    elsewhere = tmp_path.with_name(tmp_path.name + "-elsewhere")
    folder_tree(elsewhere, 2)
    (tmp_path / "linked").symlink_to(elsewhere)
    found = containers.names(tmp_path)
    assert len(found) == 6 + 1 + 2 and sum(name.startswith("linked/") for name in found) == 2


@pytest.mark.parametrize(
    ("dataset", "make", "said"),
    [
        ("celeba", lambda root: None, "has no whole list_eval_partition.txt"),
        ("celeba", lambda root: (root / "list_eval_partition.txt").write_text("000001.jpg 0\n"), "img_align_celeba.zip"),
        ("celeba", lambda root: ((root / "img_align_celeba").mkdir(), (root / "list_eval_partition.txt").write_text("?")),
         "no line like"),
        ("celeba", lambda root: ((root / "list_eval_partition.txt").write_text("000001.jpg 0\n"),
                                 (root / "img_align_celeba.zip").write_bytes(b"PK half a download")), "has no whole"),
        ("coco", lambda root: (root / "train2014").mkdir(), "has no whole val2014 or val2014.zip"),
        ("coco", lambda root: ((root / "train2014").mkdir(), (root / "val2014").mkdir()), "no .jpg file"),
        ("folder", lambda root: None, "holds 0 images"),
        ("folder", lambda root: folder_tree(root, 1), "holds 1 images"),
        ("folder", lambda root: root.rmdir(), "there is no folder"),
    ],
)  # fmt: skip
def test_a_wrong_layout_is_told_with_the_right_one(tmp_path, dataset, make, said):
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    with pytest.raises(sources.SourceError, match=said) as caught:
        sources.DATASETS[dataset].fingerprint(config(root))
        sources.DATASETS[dataset].plan(config(root))
    assert "\n" not in str(caught.value)


def test_a_data_set_without_its_root_says_how_to_name_it():
    for dataset in ("celeba", "coco", "folder"):
        with pytest.raises(sources.SourceError, match="--data-root DIR"):
            sources.DATASETS[dataset].fingerprint(config(""))


def test_the_fingerprint_follows_the_files_and_not_their_place(tmp_path):
    folder_tree(tmp_path / "a")
    fingerprint = lambda root: sources.DATASETS["folder"].fingerprint(config(root))  # noqa: E731
    first = fingerprint(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # keeps the times
    assert fingerprint(tmp_path / "b") == first
    os.utime(tmp_path / "b" / "3.png", (1, 1))
    assert fingerprint(tmp_path / "b") != first
    (tmp_path / "a" / "3.png").unlink()
    assert fingerprint(tmp_path / "a") != first


def test_a_zip_is_read_in_memory_and_its_damage_is_told(tmp_path):
    path = tmp_path / "a.zip"
    Image.fromarray(smooth(40, 40)).save(tmp_path / "good.png")
    good = (tmp_path / "good.png").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../outside.png", good)
        archive.writestr("empty.png", b"")
        archive.writestr("torn.png", good)
        archive.writestr("huge.png", b"x")
        archive.getinfo("huge.png").file_size = 1 << 40
    torn = path.read_bytes().replace(good, good[:-40] + b"!" * 40)
    torn = torn[: torn.index(b"outside.png")] + good.join(torn[torn.index(b"outside.png") :].split(good[:-40] + b"!" * 40, 1))
    path.write_bytes(torn)
    items = [(str(path), name) for name in ("../../outside.png", "empty.png", "torn.png", "huge.png", "missing.png")]
    found = [p.reason if isinstance(p, sources.Unusable) else p.shape for p in sources._file_pixels(items, 32, 0)]
    assert found == [(32, 32, 3), "empty", "damaged", "decompression bomb", "unreadable"]
    assert not (tmp_path.parent.parent / "outside.png").exists()


def test_download_names_the_licence_first_and_the_cure_after_a_failure(tmp_path, monkeypatch, capsys):
    import torchvision.datasets

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "CelebA", no_network)
    with pytest.raises(sources.SourceError, match="no route to host.*img_align_celeba"):
        sources.download("celeba", tmp_path)
    assert capsys.readouterr().out.startswith("CelebA is for non-commercial research only")
    with pytest.raises(sources.SourceError, match="cocodataset.org"):
        sources.download("coco", tmp_path)


def test_download_calls_the_library_of_the_data_set(tmp_path, monkeypatch):
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, "CelebA", lambda root, split, download: celeba_tree(tmp_path))
    sources.download("celeba", tmp_path)
    assert sources.DATASETS["celeba"].plan(config(tmp_path)).train
