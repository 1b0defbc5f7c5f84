"""What export and score refuse: one line, and nothing is written."""

import shutil

import pytest
from PIL import Image

from inpaint_lib.data import packs
from inpaint_lib.evaluation import external
from inpaint_lib.study import files, grid
from tests.conftest import MICRO
from tests.evaluation.test_external import SETS, fill_in
from tests.workflow.commands import is_refusal

DATA = "clutter"


@pytest.fixture
def place(micro, output):
    """A folder with outputs and their manifest; runs/ is beside it."""
    study = micro()
    settings = {"profile": "smoke", "overrides": MICRO}
    files.write_json(study.folder / "study.json", {"parameters": {"grid": settings}})
    pack = packs.prepare(study, DATA)
    files.write_json(output / "x/manifest.json", external.describe_export(pack, "smoke", DATA))
    return fill_in(pack, output / "x", "nearest", SETS[2:4])


def contents(folder):
    return {p: p.is_file() and p.read_bytes() for p in folder.rglob("*") if p.name[0] != "."}


def empty(place):
    for name in ("square_8", "square_16"):
        shutil.rmtree(place / name)


def file_for_a_folder(place):
    shutil.rmtree(place / "square_8")
    (place / "square_8").touch()


def damaged(place):
    path = place / "square_8/00001.png"
    path.write_bytes(path.read_bytes()[:-30])


def jpegs(place):
    for path in place.glob("*/*.png"):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()


def unusual_names(place):
    renamed = place.rename(place.with_name("a b\nc"))
    (renamed / "square_8/00001.png").rename(renamed / "square_8/00001 \n.png")
    return renamed


def edited(place):
    manifest = files.read_json(place / "manifest.json")
    files.write_json(place / "manifest.json", manifest | {"protocol": 2})


def without_manifest(place):
    (place / "manifest.json").unlink()


BAD = {  # what spoils the folder and perhaps returns another one -> words of the message
    lambda place: place / "none": "x/none is not a folder: name",
    lambda place: place / "square_8/00000.png": "x/square_8/00000.png is not a folder: name",
    lambda place: (place / "square_16/00007.png").unlink(): "00007.png is missing): give 8-bit",
    lambda place: (
        (place / "manifest.json").write_text("{") and None
    ): "manifest.json has been changed",
    empty: "x holds no folder of outputs: center_8/ or center_16/",
    file_for_a_folder: "x cannot be used (square_8/00000.png is missing",
    damaged: "square_8/00001.png is truncated",
    jpegs: "x cannot be used (square_8/00000.png is missing",
    unusual_names: "a b c cannot be used (square_8/00001.png is missing",
    edited: "manifest.json differs from clutter of profile smoke in protocol",
    without_manifest: "copy it there, or give --profile and --dataset",
}


@pytest.mark.parametrize(("spoil", "words"), BAD.items(), ids=BAD.values())
def test_a_bad_folder_is_one_line_and_nothing_is_written(spoil, words, place, asked, output):
    folder = spoil(place) or place
    before = contents(output)
    found = asked("score", folder, "--name", "mine")
    assert is_refusal(*found) and words in found[2], found
    assert contents(output) == before


def test_bad_words_of_the_command_are_one_line_each(place, asked, output):
    (output / "full").mkdir()
    (output / "full/photo.jpg").touch()
    asked("score", place, "--name", "mine")
    fill_in(packs.open_pack(grid.open_study("smoke", MICRO), DATA), place, "mean colour", SETS[2:4])
    before = contents(output)
    for words, why in {
        ("score", place): "--name",
        ("score", place, "--name", "a b"): "--name a b is not allowed: use up to 40 letters",
        ("score", place, "--name", "mine"): "--name mine has other outputs: choose another",
        ("score", place, "--name", "n", "--profile", "nope"): "nope",
        (
            "score",
            place,
            "--name",
            "n",
            "--dataset",
            "coco",
        ): "has no data set coco: choose one of clutter",
        ("export", "nope", DATA, output / "e"): "nope",
        ("export", "smoke", "nope", output / "e"): "has no data set nope: choose one of clutter",
        ("export", "smoke", DATA): "folder",
        ("export", "smoke", DATA, output / "full"): "holds something else: name an empty or a new",
        ("export", "smoke", DATA, output / "full/photo.jpg"): "is a file where a folder is needed",
    }.items():
        found = asked(*words)
        assert is_refusal(*found) and why in found[2].lower(), (words, found)
        assert contents(output) == before, words


def test_without_a_manifest_the_command_may_name_the_data(place, asked):
    without_manifest(place)
    code, out, err = asked(
        "score", place, "--name", "mine", "--profile", "smoke", "--dataset", DATA
    )
    assert code == 0 and "square_16: hole L1 0." in out and not err
    assert "follow with the runs: ./run_all.sh smoke" in out
