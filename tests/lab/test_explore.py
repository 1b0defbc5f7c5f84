"""What the explorer knows of a study and answers to its page, without a browser."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from inpaint_lib import metrics, models
from inpaint_lib.data import sources
from inpaint_lib.evaluation import evaluate
from inpaint_lib.lab import answers, saved, state, widget
from inpaint_lib.results import bundle, collect, frames, networks, published, script, select
from inpaint_lib.study import grid
from inpaint_lib.training import artifacts, loop
from tests.conftest import MICRO

GRID = MICRO | {"grid.architectures": ["custom", "context_encoder"]}
NAMES = [
    "clutter/custom/fixed/seed0",
    "clutter/custom/progressive/seed0",
    "clutter/context_encoder/fixed/seed0",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three finished micro runs of four: custom under two setups, context_encoder under one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(tmp_path_factory.mktemp("explore")))
        study = grid.open_study("smoke", GRID)
        for run in study.runs()[:3]:
            loop.fit(run, lambda *_: None, after_stage=evaluate.evaluate)
        evaluate.measure_baselines(study, "clutter")
        yield study


@pytest.fixture(scope="module")
def opened(trained):
    return state.load_study("smoke", GRID)


@pytest.fixture(scope="module")
def results(trained):
    return collect.collect(trained, partial=True)


def test_the_script_has_every_file_once_and_loads_nothing():
    there = {path.stem for path in script.STATIC.glob("*.js")}
    assert there == {*script.FILES, "report"} and len(set(script.FILES)) == len(script.FILES)
    text = script.make_module()
    assert text.count("\n") <= 2000 and text.endswith("export default { render };\n")
    assert "export" not in script.make_script() and "import " not in text
    for source in (text, script.STYLE):
        addresses = source.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in addresses and "url(" not in addresses and "fetch(" not in addresses


# --- which study


def test_the_newest_finished_profile_is_opened_and_what_is_missing_is_named(trained):
    # settings are the profile's where no command left others
    found = state.load_study("smoke", GRID)
    assert list(found.runs) == NAMES
    missing = "clutter/context_encoder/progressive/seed0"
    assert found.about["lacks"] == {missing: "not finished"}
    assert [name for name, _ in state.list_studies()][0] == "smoke"
    other = state.load_study("smoke", GRID | {"models.custom.lr_g": 0.1234})
    assert list(other.runs) == NAMES[2:]
    assert "lr_g" in other.about["lacks"][NAMES[0]]


def test_runs_outside_the_grid_are_found(trained):
    found = state.load_study("smoke", GRID | {"grid.setups": ["fixed"]})
    assert list(found.runs) == NAMES


def test_without_a_finished_run_the_message_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    monkeypatch.setattr(published, "FOLDER", tmp_path / "published")
    with pytest.raises(FileNotFoundError, match=r"no finished run in .*: ./run_all.sh smoke$"):
        state.load_study("smoke")
    with pytest.raises(FileNotFoundError, match=r"no published study: .*: ./run_all.sh smoke$"):
        state.load_study()


def test_a_published_study_is_opened_where_nothing_is_trained(results, tmp_path, monkeypatch):
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    monkeypatch.setattr(published, "FOLDER", tmp_path / "published")
    frames.save(results, tmp_path / "published/smoke")
    found = state.load_study()
    assert found.about["opened"] == "published/smoke" and list(found.runs) == NAMES
    assert not found.about["live"] and found.about["points"] == []


# --- what is shown


def test_errors_by_stage_are_those_of_the_tables(opened, results):
    rows = select.get_by_stage(results)
    table = rows[rows.metric == "l1"].dropna(subset="stage")
    for name in NAMES:
        dataset, architecture, setup, _ = name.split("/")
        own = table[(table.architecture == architecture) & (table.setup == setup)]
        expected = own.pivot_table("value", "stage", "mask_width").to_numpy()
        stages, images = opened.errors(name)
        assert stages == pytest.approx(expected, rel=1e-6)
        measured = evaluate.read_image_errors(opened.runs[name])
        assert images[1, 3] == np.float32(measured.query("mask_width == 16 and image == 3").l1)


def test_recorded_fills_are_those_kept_and_have_the_errors_of_the_tables(opened):
    for name in NAMES:
        run, image = opened.runs[name], opened.about["datasets"]["clutter"]["recorded"][1]
        found = opened.recorded(name, image)
        kept = np.load(run.folder / "recording.npz")
        assert np.array_equal(found["fills"], kept["fills"][:, 1])
        truth, holes = opened.image("clutter", image)
        fill, hole = found["end_fills_16"][-1], holes[f"{run.model.mask_family}_16"] == 1
        error = np.abs(fill[hole] / 255.0 - truth[hole] / 255.0).mean()
        l1 = evaluate.read_image_errors(run).query("mask_width == 16 and image == @image").l1.item()
        assert error == pytest.approx(l1, abs=0.003)  # the fill is rounded to 8 bits


def test_a_recording_is_shown_by_its_own_images_whatever_is_recorded_now(trained, opened):
    name, settings = NAMES[0], {"evaluation.recorded_images": 3}
    other, kept = state.load_study("smoke", GRID | settings), opened.about["datasets"]["clutter"]
    images = other.about["datasets"]["clutter"]["recorded"]
    assert kept["recorded"] == [0, 2, 5, 7] and images == [0, 4, 7]
    for image in (0, 7):
        expected = opened.recorded(name, image)["fills"]
        assert np.array_equal(other.recorded(name, image)["fills"], expected)
    with pytest.raises(ValueError, match="did not record test image 4: evaluation.images_elsewh"):
        other.recorded(name, 4)
    path = trained.runs()[0].folder / "recording.npz"
    assert bundle.compress_scores(path, images) == {} != bundle.compress_scores(path, [0, 2, 5, 7])


def test_runs_are_shown_without_the_images_they_were_trained_on(trained, monkeypatch):
    def gone(_):
        raise sources.SourceError("no images there")

    entry = dataclasses.replace(sources.DATASETS["clutter"], fingerprint=gone)
    monkeypatch.setitem(sources.DATASETS, "clutter", entry)
    assert list(state.load_study("smoke", GRID).runs) == NAMES


def test_a_published_study_shows_the_same_as_its_run_folders(
    opened, results, trained, tmp_path, monkeypatch
):
    shown = state.Published(results, tmp_path, [])
    for name in NAMES:
        assert shown.errors(name)[0] == pytest.approx(opened.errors(name)[0], rel=1e-6)
        assert shown.errors(name)[1] == pytest.approx(opened.errors(name)[1], rel=1e-6)
        log, other = shown.history(name), opened.history(name)
        assert log.d_accuracy.tolist() == pytest.approx(other.d_accuracy.tolist())
        fills, kept = shown.recorded(name, 2), opened.recorded(name, 2)
        assert np.array_equal(fills["end_fills_16"], kept["end_fills_16"])
        findings = shown.health(name)[["rule", "stage", "level"]].to_dict("records")
        assert findings == opened.health(name)[["rule", "stage", "level"]].to_dict("records")
    with pytest.raises(ValueError, match="without its network"):
        answers.fill(shown, [], NAMES[:1], 1, 16, 2)
    frames.save(results, tmp_path)
    networks.save_networks(trained, tmp_path)
    # files that were used elsewhere, and a setup of an extension, need not be here
    elsewhere = copy.deepcopy(results.about)
    for section, key in (("evaluation", "inception_weights"), ("training", "perceptual_weights")):
        elsewhere["config"][section][key] = "/elsewhere/x.pth"
    elsewhere["config"]["grid"]["setups"].append("shrinking")
    shown = state.Published(dataclasses.replace(results, about=elsewhere), tmp_path, [])
    [fill] = answers.fill(shown, [], NAMES[2:], 2, 8, 2)["runs"]
    [same] = answers.fill(opened, [], NAMES[2:], 2, 8, 2)["runs"]
    assert fill["l1"] == pytest.approx(same["l1"], rel=0.01)  # half precision
    assert np.array_equal(
        shown.recorded(NAMES[0], 2)["fills"], opened.recorded(NAMES[0], 2)["fills"]
    )
    assert shown.about["points"] == opened.about["points"]
    with pytest.raises(ValueError, match="last stage"):
        answers.fill(shown, [], NAMES[2:], 1, 8, 2)
    with monkeypatch.context() as patch:  # an architecture of an extension: without its networks
        others = {k: v for k, v in models.ARCHITECTURES.items() if k != "context_encoder"}
        patch.setattr(models, "ARCHITECTURES", others)
        shown = state.Published(results, tmp_path, [])
    assert shown.runs[NAMES[2]] is None and shown.runs[NAMES[0]]


def test_networks_are_read_once_and_forgotten_when_they_are_too_many(trained, monkeypatch):
    found, read = state.load_study("smoke", GRID), []
    load = artifacts.load_networks
    monkeypatch.setattr(artifacts, "load_networks", lambda *of: read.append(of) or load(*of))
    for image in (1, 2, 3):
        answers.fill(found, [], NAMES, 2, 16, image)
    assert len(read) == 3
    monkeypatch.setattr(saved, "KEPT", 1)
    answers.fill(found, [], NAMES, 1, 16, 1)
    assert len(found.kept.found) == 1 and found.kept.bytes < 1e7


def test_attention_copies_from_known_patches_alone(opened):
    G, _ = models.create("free_form", 64, generator_width=8)
    features, mask = torch.randn(1, 32, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., 4:8, 4:8] = 1
    weights, valid = G.attention.weights(features, mask)
    assert weights.shape == (1, 64, 64) and 0 < valid.sum() < 64
    assert not weights[0, valid[0] == 0].any()
    assert weights.sum(1).numpy() == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match="custom has no attention"):
        answers.attention(opened, [], NAMES[0], 2, 16, 0)


# --- messages


class Page:
    """Takes what an Explorer sends."""

    def __init__(self, opened, monkeypatch):
        self.explorer, self.sent = widget.Explorer(opened), []
        monkeypatch.setattr(self.explorer, "send", lambda *of: self.sent.append(of))

    def ask(self, kind, **params):
        self.explorer.answer({"id": "a", "kind": kind, "params": params}, [])
        return self.sent.pop()


def test_an_answer_has_its_arrays_as_bytes(opened, monkeypatch):
    page = Page(opened, monkeypatch)
    message, buffers = page.ask("image", dataset="clutter", image=2)
    where = message["answer"]["truth"]
    assert message["id"] == "a" and where["shape"] == [32, 32, 3] and where["dtype"] == "uint8"
    truth = np.frombuffer(buffers[where["buffer"]], np.uint8).reshape(32, 32, 3)
    assert np.array_equal(truth, opened.image("clutter", 2)[0])
    message, buffers = page.ask("recorded", runs=NAMES[:1], image=0)
    scores = message["answer"]["runs"][0]["scores_0"]
    assert scores["dtype"] == "float32"
    assert len(buffers[scores["buffer"]]) == 4 * np.prod(scores["shape"])


def test_d_with_batch_norm_judges_an_image_as_it_did_in_training(opened):
    run, images = opened.runs[NAMES[2]], opened.about["datasets"]["clutter"]["recorded"]
    fills = [answers.fill(opened, [], [run.name], 2, 16, k)["runs"][0] for k in images]
    holed = zip(*(opened.holed(run, 16, k) for k in images), strict=True)
    D, G = opened.networks(run, 2)[1], opened.generator(run, 2, 16)
    assert not D.training
    [(output, real, mask)] = metrics.inpaint(G, *map(np.stack, holed), "cpu", len(images))
    D = copy.deepcopy(D).train()  # which sees a batch of the recorded images in a recording, too
    for key, judged in {"scores": output, "real": real}.items():
        with torch.no_grad():
            expected = D(run.architecture_entry.objective.seen(judged, real, mask))[0][-1]
        found = np.concatenate([fill[key][0].ravel() for fill in fills])
        assert np.allclose(found, expected.ravel(), atol=1e-4)


def test_what_cannot_be_answered_is_a_line_and_the_traceback_stays_in_the_log(
    opened, monkeypatch, capsys
):
    page = Page(opened, monkeypatch)
    said = page.ask("attention", run=NAMES[0], stage=2, width=16, image=0)[0]
    assert said == {"id": "a", "error": "custom has no attention."}
    assert capsys.readouterr().err == ""
    said = page.ask("fill", runs=["nobody"], stage=2, width=16, image=0)[0]
    assert "\n" not in said["error"]
    said = page.ask("recorded", runs=NAMES[:1], image=-5)[0]
    assert "\n" not in said["error"]
    assert "KeyError" in page.ask("nothing")[0]["error"]
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_study_is_refused_and_the_open_one_stays(opened, monkeypatch):
    page = Page(opened, monkeypatch)
    said = page.ask("open", study="nowhere")[0]
    assert "nowhere" in said["error"] and page.explorer.state is opened
    other = SimpleNamespace(about={"opened": "other"})
    monkeypatch.setattr(state, "load_study", lambda name: other)
    page.ask("open", study="other")
    assert page.explorer.state is other and page.explorer.meta == other.about
