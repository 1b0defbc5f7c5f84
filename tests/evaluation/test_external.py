"""Other methods' outputs: the export, and their measurement."""

import hashlib
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from inpaint_lib import masks
from inpaint_lib.data import packs
from inpaint_lib.evaluation import baselines, evaluate, external
from inpaint_lib.study import files

DATA = "clutter"
SETS = [f"{family}_{width}" for family in masks.FAMILIES for width in (8, 16)]


@pytest.fixture
def study(micro):
    made = micro({"evaluation.images_elsewhere": 6})
    packs.prepare(made, DATA)
    return made


@pytest.fixture
def pack(study):
    return packs.open_pack(study, DATA)


def packed(key):
    family, _, width = key.rpartition("_")
    return family, int(width)


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def fill_in(pack, folder, name, sets=SETS):
    """Write the outputs of a baseline."""
    for key in sets:
        filled = baselines.fill(name, pack.test, pack.test_masks(*packed(key)))
        external._save(pack, folder, key, filled)
    return folder


def score(study, folder, name="theirs", **options):
    return external.score(study, DATA, packs.open_pack(study, DATA), folder, name, **options)


# --- out


def test_an_export_is_lossless_and_shows_nothing_of_the_hole_in_inputs(pack, tmp_path):
    external.export(pack, "smoke", DATA, tmp_path / "out")
    told = files.read_json(tmp_path / "out/manifest.json")
    names = [f"{k:05d}.png" for k in range(8)]
    images = np.stack([pixels(tmp_path / "out/images" / name) for name in names])
    assert np.array_equal(images, pack.test)
    assert hashlib.sha256(images).hexdigest() == told["sha256 of decoded pixels"]["images"]
    assert set(told["sha256 of decoded pixels"]["masks"]) == set(SETS)
    for key in SETS:
        holes = np.stack([pixels(tmp_path / "out/masks" / key / name) for name in names])
        assert set(np.unique(holes)) == {0, 255}
        assert (
            hashlib.sha256(holes // 255).hexdigest()
            == told["sha256 of decoded pixels"]["masks"][key]
        )
        seen = np.stack([pixels(tmp_path / "out/inputs" / key / name) for name in names])
        assert (
            np.array_equal(seen[holes == 0], images[holes == 0]) and (seen[holes > 0] == 128).all()
        )
    assert told["families and widths"] == dict.fromkeys(masks.FAMILIES, [8, 16])
    listed = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert len(listed) == 1 + 8 * (1 + 2 * len(SETS))


def test_an_export_takes_an_empty_folder_or_its_own_and_no_other(pack, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    external.export(pack, "smoke", DATA, out)
    (out / "images/00003.png").unlink()
    (out / "lama").mkdir()
    external.export(pack, "smoke", DATA, out)
    assert (out / "images/00003.png").is_file() and (out / "lama").is_dir()
    for change in ({"protocol": 2}, {"dataset": "faces"}):
        files.write_json(
            out / "manifest.json", external.describe_export(pack, "smoke", DATA) | change
        )
        with pytest.raises(ValueError, match="holds something else: name an empty or a new folder"):
            external.export(pack, "smoke", DATA, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").touch()
    with pytest.raises(ValueError, match="holds something else"):
        external.export(pack, "smoke", DATA, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["photo.jpg"]
    with pytest.raises(ValueError, match=r"photo.jpg is a file where a folder is needed"):
        external.export(pack, "smoke", DATA, tmp_path / "mine/photo.jpg")


def test_an_interrupted_export_has_no_manifest_and_the_same_command_completes_it(
    pack, tmp_path, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(external.Image.Image, "save", full)
    with pytest.raises(OSError, match="the disk is full"):
        external.export(pack, "smoke", DATA, tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()
    monkeypatch.undo()
    external.export(pack, "smoke", DATA, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*external.PARTS, "manifest.json"}


# --- in


@pytest.mark.parametrize("name", ["Telea", "Navier-Stokes"])
def test_a_baseline_scored_as_external_outputs_has_exactly_the_same_numbers(
    name, study, pack, extractor, tmp_path
):
    of_table = evaluate.measure_baselines(study, DATA)
    ours = of_table[of_table.baseline == name].query("metric != 'overfitting'")
    found, lines = score(study, fill_in(pack, tmp_path / "x", name))
    theirs = found[found.region != "visible"]
    same = evaluate.COLUMNS
    assert ours[same].to_csv(index=False) == theirs[same].to_csv(index=False)
    assert {"fid", "lpips_vgg", "ssim"} <= set(theirs.metric) and "area_10_20" in set(theirs.region)
    assert (found[found.region == "visible"].query("metric != 'psnr'").value == 0).all()
    assert lines[0].startswith("64 outputs") and len(lines) == 1 + 4
    read, stale = external.read_scores(study.config, pack)
    assert list(read) == ["theirs"] and read["theirs"].equals(found) and not stale


def test_changed_known_pixels_are_composited_and_named(study, pack, tmp_path):
    exact, _ = score(study, fill_in(pack, tmp_path / "a", "nearest"), "exact")
    fill_in(pack, tmp_path / "b", "nearest")
    changed = pixels(tmp_path / "b/square_8/00002.png").astype(int)
    known = pack.test_masks("square", 8)[2] == 0
    changed[known] = np.where(changed[known] > 99, changed[known] - 9, changed[known] + 9)
    Image.fromarray(changed.astype(np.uint8)).save(tmp_path / "b/square_8/00002.png")
    found, lines = score(study, tmp_path / "b", "changed")
    assert "differ in 1 of them, by up to 9 of 255 (square_8/00002.png):" in lines[1]
    differ = found[found.value != exact.value]
    assert set(differ.region) == {"visible"} and set(differ.mask_family) == {"square"}
    (l1,) = differ[differ.metric == "l1"].value
    assert l1 == pytest.approx(9 / 255 / 8, rel=1e-6)


def test_a_family_may_be_left_out_and_other_files_are_named(study, pack, tmp_path):
    folder = fill_in(pack, tmp_path / "x", "nearest", ["free_form_8", "free_form_16"])
    (folder / "free_form_8/00008.png").touch()
    (folder / "a note\nof two lines.txt").touch()
    (folder / "square").mkdir()
    found, lines = score(study, folder)
    assert (
        set(found.mask_family) == {"free_form"}
        and lines[0] == "16 outputs, of the families free_form"
    )
    assert lines[1].startswith(
        "2 other files are not measured: a note\nof two lines.txt, free_form"
    )


def damaged(path):
    path.write_bytes(path.read_bytes()[:-40])


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_if(size):
    """Let the header of a PNG say another size."""

    def write(path):
        stored = bytearray(path.read_bytes())
        stored[16:24] = struct.pack(">II", *size)
        stored[29:33] = struct.pack(">I", zlib.crc32(stored[12:29]))
        path.write_bytes(stored)

    return write


UNUSABLE = {
    "64 x 64, not 32 x 32": lambda path: Image.new("RGB", (64, 64)).save(path),
    "no PNG but JPEG": lambda path: Image.new("RGB", (32, 32)).save(path, "JPEG"),
    "no 8-bit RGB but L": lambda path: Image.new("L", (32, 32)).save(path),
    "no 8-bit RGB but RGBA": lambda path: Image.new("RGBA", (32, 32)).save(path),
    "not an image": lambda path: path.write_text("a text"),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": damaged,
    "decompression bomb more than 179 megapixels": as_if((60_000, 60_000)),
    "9000 x 9000, not 32 x 32": as_if((9000, 9000)),
    "no 8-bit RGB": lambda path: cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint16)),
    "not a regular file": as_folder,
}


def test_an_unusable_output_is_named_with_its_reason_and_nothing_is_written(study, pack, tmp_path):
    fill_in(pack, tmp_path / "x", "nearest", ["square_8", "square_16"])
    path = tmp_path / "x/square_8/00001.png"
    kept = path.read_bytes()
    for why, spoil in UNUSABLE.items():
        path.write_bytes(kept)
        spoil(path)
        what = rf"1 of 16 outputs in .* cannot be used \(square_8/00001.png is {why}"
        with pytest.raises(ValueError, match=what):
            score(study, tmp_path / "x")
        assert not (pack.folder / "external").exists()


def test_a_manifest_of_other_data_beside_the_outputs_is_refused(study, pack, tmp_path):
    out = fill_in(pack, tmp_path / "export/theirs", "nearest", ["square_8", "square_16"])
    path = out.parent / "manifest.json"
    told = external.describe_export(pack, "smoke", DATA)
    files.write_json(path, told)
    score(study, out)
    told["sha256 of decoded pixels"]["images"] = "0" * 64
    files.write_json(path, told)
    with pytest.raises(ValueError, match=r"differs from clutter of profile smoke in sha256 of"):
        score(study, out)


def test_a_name_keeps_its_outputs_until_overwrite(study, pack, tmp_path):
    some = ["square_8", "square_16"]
    first, _ = score(study, fill_in(pack, tmp_path / "a", "nearest", some), "mine")
    assert score(study, tmp_path / "a", "mine")[0].equals(first)
    fill_in(pack, tmp_path / "b", "mean colour", some)
    with pytest.raises(ValueError, match="--name mine has other outputs"):
        score(study, tmp_path / "b", "mine")
    assert external.read_scores(study.config, pack)[0]["mine"].equals(first)
    other, _ = score(study, tmp_path / "b", "mine", overwrite=True)
    assert external.read_scores(study.config, pack)[0]["mine"].equals(other) and not other.equals(
        first
    )
    for name in ("", "a b", "a\nb", "../x", "x/y", "-x", "|", "ö", "x" * 41):
        with pytest.raises(ValueError, match="use up to 40 letters"):
            score(study, tmp_path / "a", name)


def test_scores_of_other_settings_are_left_out_and_named(study, micro, pack, tmp_path):
    score(study, fill_in(pack, tmp_path, "nearest", ["square_8", "square_16"]), "mine")
    other = micro({"evaluation.images_elsewhere": 5})
    assert external.read_scores(other.config, pack) == ({}, ["mine"])
