"""A study of a user's images ends with what to use, how sure that is, and a command that works."""

import dataclasses
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from inpaint_lib.evaluation import evaluate
from inpaint_lib.results import advice
from inpaint_lib.training import loop
from tests.conftest import smooth
from tests.results import synthetic
from tests.workflow.commands import SETTINGS, call, current
from workflow import __main__ as command
from workflow import commands, own

SETTINGS = [text for text in SETTINGS if "grid.datasets" not in text]


@pytest.fixture
def photos(tmp_path):
    """A folder of a few photos: odd names, one text, and a test image that is a copy."""
    root = tmp_path / "my photos"
    for part, n in (("train", 24), ("test", 6)):
        (root / part).mkdir(parents=True)
        for k in range(n):
            image = Image.fromarray(smooth(60, 80, k + 100 * (part == "test")))
            image.save(root / part / f"it's {k}.png")
    Image.fromarray(smooth(60, 80, 200)).save(root / "test/a\nb.png")
    Image.fromarray(smooth(60, 80, 3)).resize((120, 90)).save(root / "test/copy.jpg", quality=60)
    (root / "train/notes.txt").write_text("no image")
    return root


def study_of(micro, root, **overrides):
    """A study of the folder, its runs trained and measured."""
    given = {"grid.datasets": ["folder"], "machine.data_root": str(root)}
    study = micro(given | overrides)
    for run in study.runs():
        loop.fit(run, lambda *_: None, after_stage=evaluate.evaluate)
    return study


def test_the_end_names_setup_certainty_weights_copies_and_a_command_that_works(
    photos, micro, capsys, tmp_path, monkeypatch
):
    study_of(micro, photos)
    monkeypatch.chdir(tmp_path)
    asked = ["smoke", "--data", str(photos), *SETTINGS, "--only", "tables"]
    assert command.main(asked) == 0
    out = capsys.readouterr().out
    assert "folder, custom: use " in out and "(1 seed)." in out
    assert "How certain this is cannot be said: that takes 3 seeds" in out
    assert (
        "It was chosen and measured on the same 8 test images, so the numbers are optimistic."
        in out
    )
    assert "baseline" in out and "Weights: runs/smoke/folder/custom/" in out
    assert "1 of 8 test images nearly equal a training image" in out
    assert "test/copy.jpg and train/it's 3.png" in out
    [line] = [line.strip() for line in out.splitlines() if " inpaint " in line]
    code, _, err = call("bash", "-c", line, env=current(), cwd=tmp_path)
    assert code == 0, err
    assert Image.open(tmp_path / "filled.png").size == (120, 90)


def test_photos_that_have_gone_leave_the_advice_and_rows_by_their_numbers(photos, micro):
    study = study_of(micro, photos, **{"grid.setups": ["fixed"]})
    commands.rebuild_report(study, "tables")
    shutil.rmtree(photos)
    lines = own.conclude(study)
    assert "No other setup was trained." in lines[1]
    assert any("inpaint PHOTO --box X,Y,WIDTH,HEIGHT" in line for line in lines)
    assert re.search(r"1 of 8 test images .*: test \d+ and training \d+$", lines[-1])


def test_few_images_are_warned_about_with_what_to_expect(photos, capsys, micro):
    own.report_images(SimpleNamespace(train=[0] * 160, test=[0] * 40))
    out, err = capsys.readouterr()
    assert out == "folder: 200 images, 160 to train on and 40 to test on\n" and not err
    own.report_images(SimpleNamespace(train=[0] * 159, test=[0] * 40))
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "199 images, 159 to train on and 40 to test" in err
    assert "--from" in err


# --- which setup


def advised(**options):
    options = {"architectures": ("custom",), "diverged": (), "n_images": 40} | options
    return advice.advise(synthetic.study(datasets=("faces",), **options), "faces")


def test_the_better_setup_is_advised_with_its_interval_over_seeds():
    [one] = advised(setups=("fixed", "progressive"), seeds=range(5))
    assert one["run"].startswith("faces/custom/progressive/seed")
    assert "faces, custom: use progressive. Its error, over all hole widths" in one["text"]
    assert "the next: -2" in one["text"] and "(5 seeds, 95 % interval -2" in one["text"]
    assert (
        "better than each of the others" in one["text"]
        and "chosen on half of the 40" in one["text"]
    )
    assert "It beats all baselines" in one["text"]


def test_what_cannot_be_told_apart_is_said():
    [one] = advised(setups=("fixed", "progressive"), seeds=range(3), effect={}, noise=0.05)
    assert "It does not differ clearly from " in one["text"]


def test_a_setup_that_diverges_is_not_advised_and_bad_networks_are_called_so():
    lost = ("faces/custom/progressive/seed1",)
    [one] = advised(setups=("fixed", "progressive"), seeds=range(3), diverged=lost)
    assert "use fixed" in one["text"]
    for level, words in ((0.5, "not good enough to use; train longer"), (0.215, "does not beat")):
        [one] = advised(setups=("fixed",), level={"custom": level})
        assert words in one["text"], one["text"]


def test_an_architecture_that_fills_the_centre_alone_comes_last():
    found = advised(
        architectures=("context_encoder", "custom", "free_form"),
        level={"custom": 0.12, "context_encoder": 0.01, "free_form": 0.10},
    )
    assert [one["run"].split("/")[1] for one in found] == ["free_form", "custom", "context_encoder"]


def test_half_of_the_images_choose_and_the_other_half_measure():
    results = synthetic.study(
        datasets=("faces",),
        architectures=("custom",),
        setups=("fixed", "progressive"),
        seeds=range(3),
        diverged=(),
        n_images=40,
    )
    images = results.per_image.copy()
    images.loc[images.query("setup == 'fixed'").index, images.columns % 2 == 0] *= 0.1
    results = dataclasses.replace(results, per_image=images)
    [one] = advice.advise(results, "faces")
    assert "use fixed" in one["text"] and "the next: +" in one["text"]
    assert "progressive is better: the halves disagree" in one["text"]
    assert np.isfinite(images).all(axis=None)
