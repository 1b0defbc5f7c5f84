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
from workflow import __main__ as command

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


@pytest.fixture
def asked(place, capfd):
    """asked(*arguments) -> what a command gives."""

    def ask(*arguments):
        capfd.readouterr()
        code = command.main([*map(str, arguments)])
        return code, *capfd.readouterr()

    return ask


def contents(folder):
    return {p: p.is_file() and p.read_bytes() for p in folder.rglob("*") if p.name[0] != "."}


def no_folder(place):
    return place / "none"


def a_file(place):
    return place / "square_8/00000.png"


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


def one_missing(place):
    (place / "square_16/00007.png").unlink()


def odd_names(place):
    odd = place.rename(place.with_name("a b\nc"))
    (odd / "square_8/00001.png").rename(odd / "square_8/00001 \n.png")
    return odd


def edited(place):
    told = files.read_json(place / "manifest.json")
    files.write_json(place / "manifest.json", told | {"protocol": 2})


def torn(place):
    (place / "manifest.json").write_text("{")


def without_manifest(place):
    (place / "manifest.json").unlink()


BAD = {
    no_folder: "x/none is no folder: name",
    a_file: "x/square_8/00000.png is no folder: name",
    empty: "x holds no folder of outputs: center_8/ or center_16/",
    file_for_a_folder: "x cannot be used (square_8/00000.png is missing",
    damaged: "square_8/00001.png is truncated",
    jpegs: "x cannot be used (square_8/00000.png is missing",
    one_missing: "cannot be used (square_16/00007.png is missing): give 8-bit RGB PNGs of",
    odd_names: "a b c cannot be used (square_8/00001.png is missing",
    edited: "manifest.json differs from clutter of profile smoke in protocol",
    torn: "manifest.json has been changed since ./run_all.sh export",
    without_manifest: "copy it there, or give --profile and --dataset",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_a_bad_folder_is_one_line_and_nothing_is_written(spoil, place, asked, output):
    folder = spoil(place) or place
    before = contents(output)
    found = asked("score", folder, "--name", "mine")
    assert is_refusal(*found) and BAD[spoil] in found[2], found
    assert contents(output) == before


def test_bad_words_of_the_command_are_one_line_each(place, asked, output):
    (output / "full").mkdir()
    (output / "full/photo.jpg").touch()
    asked("score", place, "--name", "mine")
    fill_in(packs.existing(grid.open_study("smoke", MICRO), DATA), place, "mean colour", SETS[2:4])
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
        ): "has no data set coco; it has clutter",
        ("export", "nope", DATA, output / "e"): "nope",
        ("export", "smoke", "nope", output / "e"): "has no data set nope; it has clutter",
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
