"""A training, watched: what is shown when, and what stopping and finishing look like."""

import time

import numpy as np
import pandas as pd
import pytest

from inpaint_lib.data import packs
from inpaint_lib.evaluation import evaluate
from inpaint_lib.lab import live
from inpaint_lib.results import collect, health
from inpaint_lib.training import artifacts, loop


class Shown:
    """Displays in the order in which they were made, each with all that it showed."""

    def __init__(self, monkeypatch):
        self.all = []
        monkeypatch.setattr("inpaint_lib.lab.live.display", self.display)

    def display(self, what, display_id, raw=False):
        self.all.append(seen := [what])
        return type("Handle", (), {"update": lambda _, what, raw=False: seen.append(what)})()


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.delenv("INPAINT_UNSEEN", raising=False)
    return Shown(monkeypatch)


@pytest.fixture
def run(micro, run_of):
    return run_of(micro())


def test_progress_picture_and_health_are_shown_in_this_order_and_renewed(run, shown, capsys):
    live.train(run, evaluate.evaluate)
    progress, picture, card = shown.all
    assert len(progress) > 1 and run.name in progress[-1]["text/plain"]
    assert "64/64" in progress[-1]["text/plain"] and "\r" not in progress[-1]["text/plain"]
    assert "trained" in picture[-1].get_suptitle() and len(picture[-1].axes) == 4
    size = packs.open_pack(run.study, run.dataset).test.shape[1]
    assert picture[-1].axes[-1].images[0].get_array().shape[1] > size * 8
    assert "Health" in card[-1]["text/html"]
    assert capsys.readouterr().out == ""


def test_a_run_trained_before_shows_its_picture_and_says_how_to_train_another(
    copied, run, shown, capsys
):
    live.train(run)
    picture, card = shown.all
    assert "trained" in picture[0].get_suptitle() and "Health" in card[0]["text/html"]
    out = capsys.readouterr().out
    assert f"{run.name} was trained before: 64 images." in out and "To train another" in out


def test_the_picture_costs_at_most_a_twentieth_of_the_time(copied, run, shown, monkeypatch):
    G = artifacts.load_generator(run, 2)
    history = pd.read_csv(run.folder / "history.csv").to_dict("records")
    state = type("State", (), {"step": 6, "G": G, "history": history})
    clock = iter(np.cumsum([0.0, 100.0, 2.0, 1.0, 39.5, 2.0]).tolist())  # begun, then drawn
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    watch = live.Live()
    for _ in range(3):  # at 100 s; at 103 s, too early; at 142.5 s
        watch(run, state)
    assert len(shown.all[0]) == 2


def test_where_nobody_watches_there_is_a_picture_at_the_end_alone(run, shown, monkeypatch):
    monkeypatch.setenv("INPAINT_UNSEEN", "1")
    live.train(run)
    [[figure]] = shown.all
    assert "trained" in figure.get_suptitle()


def press_stop(*_):
    raise KeyboardInterrupt


def test_stopping_is_shown_as_one_sentence_and_training_goes_on(run, shown, monkeypatch):
    monkeypatch.setattr(live, "check_health", press_stop)
    with pytest.raises(KeyboardInterrupt) as caught:
        live.train(run)
    [sentence] = caught.value._render_traceback_()  # noqa: SLF001
    assert "\n" not in sentence and "run the cell again" in sentence
    monkeypatch.undo()
    assert loop.fit(run, lambda *_: None)["outcome"] == "finished"


def test_findings_of_a_folder_are_those_of_the_study(copied, micro):
    study = micro({"grid.setups": ["progressive"]})
    [run] = study.runs()
    evaluate.complete(run)
    before = live.check_health(run).set_index(["rule", "stage"])
    assert before.sentence["baselines", 2] == "Not measured yet."
    of_study = health.examine_runs(collect.collect(study))[health.COLUMNS]
    pd.testing.assert_frame_equal(live.check_health(run), of_study, check_dtype=False)
    assert (
        "forgetting" in of_study.rule.tolist() and of_study.evidence.str.contains("px: hole").any()
    )
