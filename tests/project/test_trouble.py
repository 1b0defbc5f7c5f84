"""A hostile machine: full and read-only disks, files in the way, values that are not finite, too little memory."""

import contextlib
import os
import subprocess
import time

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from inpaint_lib import models
from inpaint_lib.data import packs
from inpaint_lib.evaluation import evaluate
from inpaint_lib.study import devices, files, grid
from inpaint_lib.training import artifacts, loop, step
from tests.conftest import MICRO
from tests.training.test_train import CHECKPOINT_ALWAYS, Stop, contents, quiet, stop_at
from tests.workflow.test_workflow import SETTINGS
from workflow import __main__ as command
from workflow import snakemake


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(contents of a run, bytes that it and its pack take)"""
    output = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(output))
        run = progressive(**CHECKPOINT_ALWAYS)
        loop.fit(run, quiet)
        whole = sum(p.stat().st_blocks * 512 for p in output.rglob("*"))
        pack = sum(p.stat().st_blocks * 512 for p in run.study.data_folder("scenes").rglob("*"))
        return contents(run.folder), whole, pack


def progressive(architecture="custom", **overrides):
    study = grid.open_study("smoke", MICRO | {"architectures": [architecture], "setups": ["progressive"]} | overrides)
    return study.runs()[0]


def left_over(folder):
    return [p for p in folder.rglob("*.tmp*") if p.is_file()]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_full_disk_is_told_and_with_room_it_goes_on_to_the_same_bytes(disk, undisturbed, share):
    expected, whole, pack = undisturbed
    place = disk(int(pack + share * (whole - pack)) // 4096 * 4096)
    run = progressive(**CHECKPOINT_ALWAYS)
    with pytest.raises(OSError, match="the disk is full; make room and run the same command again"):
        loop.fit(run, quiet)
    assert not left_over(place) and not (run.folder / "result.json").exists()
    for path in (run.folder / "stages").glob("*.safetensors"):
        load_file(path)
    assert all(artifacts.load_checkpoint(p) for p in run.folder.glob("checkpoint*.pt"))
    disk(50 * 2**20)
    loop.fit(run, quiet)
    assert contents(run.folder) == expected


def test_a_disk_without_room_for_the_pack_is_refused_before_any_work(disk):
    disk(64 * 1024)
    with pytest.raises(ValueError, match=r"the pack needs .* GB more|the disk is full"):
        try:
            packs.prepare(progressive().study, "scenes")
        except OSError as error:
            raise ValueError(error) from None


def refused(capsys, *arguments):
    code = command.main(["smoke", *SETTINGS, *arguments])
    out, err = capsys.readouterr()
    assert code == 2 and not out and len(err.strip().splitlines()) == 1, (code, out, err)
    return err


def test_a_full_or_a_read_only_disk_is_refused_before_any_work(disk, capsys):
    place = disk(64 * 1024)
    assert f"{place}: the disk is full" in refused(capsys)
    disk(50 * 2**20, "ro")
    assert str(place) in (said := refused(capsys)) and "INPAINT_OUTPUT" in said
    assert not list(place.iterdir())


RUN = "runs/smoke/scenes/custom/progressive/seed0"
IN_THE_WAY = ["runs", "runs/smoke", "runs/smoke/scenes", "runs/smoke/scenes/data", RUN, f"{RUN}/stages", f"{RUN}/model",
              "reports", "reports/smoke/tables", "reports/smoke/figures"]  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "dangling link"])
@pytest.mark.parametrize("name", IN_THE_WAY)
def test_what_lies_where_a_folder_belongs_is_named(output, capsys, name, kind):
    place = output / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("mine") if kind == "file" else place.symlink_to(output / "nowhere")
    assert f"{place} is a" in (said := refused(capsys)) and "where a folder belongs; move it away" in said
    assert [p for p in output.rglob("*") if not p.is_dir()] == [place]
    assert kind != "file" or place.read_text() == "mine"


@pytest.mark.parametrize("name", [f"{RUN}/result.json", f"{RUN}/checkpoint.pt", "runs/smoke/scenes/data/train.npy",
                                  "runs/smoke/study.json", "reports/smoke/index.html"])  # fmt: skip
def test_a_folder_where_a_file_belongs_is_named(output, capsys, name):
    (output / name / "mine").mkdir(parents=True)
    assert f"{output / name} is a folder where a file belongs; move it away" in refused(capsys)
    assert (output / name / "mine").is_dir()


@pytest.mark.parametrize("kind", ["file", "link to nowhere"])
def test_output_that_is_no_folder_is_named(output, capsys, monkeypatch, kind):
    place = output / "place"
    monkeypatch.setenv("INPAINT_OUTPUT", str(place))
    place.write_text("mine") if kind == "file" else place.symlink_to(output / "nowhere")
    assert f"{place} is a {kind} where a folder belongs" in refused(capsys)
    assert list(output.iterdir()) == [place]


def test_a_place_that_becomes_read_only_in_training_is_named_and_the_run_goes_on_later(disk, undisturbed):
    place, run = disk(50 * 2**20), progressive(**CHECKPOINT_ALWAYS)

    def close(run, state, bar):
        if state.step == 9:  # by a mount over it: a disk with open files cannot be made read-only itself
            subprocess.run(["mount", "--bind", place, place], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)

    with pytest.raises(files.OutputError, match=rf"^{run.folder} cannot be written to; mend its permissions"):
        loop.fit(run, close)
    subprocess.run(["umount", "--lazy", place], check=True)
    assert loop.fit(run, quiet)["sittings"][1]["from_step"] == 9
    assert contents(run.folder) == undisturbed[0]


# --- the clock


def test_files_of_the_future_keep_their_order(tmp_path):
    for k in range(3):
        (tmp_path / str(k)).touch()
        os.utime(tmp_path / str(k), ns=(2**62 + k * 10**6,) * 2)
    snakemake.leave_the_future(tmp_path)
    times = [(tmp_path / str(k)).stat().st_mtime for k in range(3)]
    assert times == sorted(set(times)) and times[-1] <= time.time()


def test_a_clock_that_runs_backwards_makes_no_duration_negative(output, monkeypatch):
    run, seconds = progressive(), iter(range(2**31, 0, -60))
    monkeypatch.setattr(time, "time", lambda: next(seconds))
    result = loop.fit(run, quiet)
    history = pd.read_csv(run.folder / "history.csv")
    assert result["seconds"] >= result["step_seconds"] > 0 and (history.images_per_second > 0).all()


def test_a_second_run_all_on_a_profile_ends_with_a_line(output, capsys, monkeypatch):
    def meanwhile(study, *_):
        assert command.main(["smoke", *SETTINGS]) == 2
        return 1

    monkeypatch.setattr(snakemake, "run", meanwhile)
    assert command.main(["smoke", *SETTINGS]) == 1
    err = capsys.readouterr().err
    assert err.count("another run_all.sh works on profile smoke; wait for it or stop it") == 1


# --- values that are not finite


def plant(monkeypatch, what, network, value):
    """From the 12th step on: a non-finite value in a batch, a weight or a gradient of G or D."""
    done = [0]
    compute, to_float = step.Step._compute, step.metrics.to_float

    def poisoned(self, images, u):
        done[0] += 1
        if done[0] == 12 and what == "weight":
            next(getattr(self.state, network).parameters()).data.view(-1)[0] = value
        if done[0] == 12 and what == "gradient":
            parameter = next(getattr(self.state, network).parameters())
            parameter.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([0]), value))
        return compute(self, images, u)

    def batch(images, device):
        floats = to_float(images, device)
        if done[0] == 12 and what == "batch":
            floats = floats.clone()
            floats[0, 0, 0, 0] = value
        return floats

    monkeypatch.setattr(step.Step, "_compute", poisoned)
    monkeypatch.setattr(step.metrics, "to_float", batch)


WHERE = [("batch", ""), ("weight", "G"), ("weight", "D"), ("gradient", "G"), ("gradient", "D")]


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
@pytest.mark.parametrize(("what", "network"), WHERE, ids=["".join(w) for w in WHERE])
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_a_value_that_is_not_finite_stops_training_and_is_never_saved(output, architecture, what, network, value):
    run = progressive(architecture, **CHECKPOINT_ALWAYS)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, what, network, value)
        result = loop.fit(run, quiet)
    assert result["outcome"] == "diverged" and 0 < result["step"] < 16
    assert "became" in result["why"] or "is not finite" in result["why"]
    assert files.read_json(run.folder / "result.json") == result and not (run.folder / "checkpoint.pt").exists()
    weights = []
    for path in (run.folder / "stages").iterdir():
        weights += load_file(path).values()
    assert all(bool(w.isfinite().all()) for w in weights)


def test_after_a_value_that_was_not_finite_training_goes_on_to_the_same_bytes(output, undisturbed):
    run = progressive(**CHECKPOINT_ALWAYS)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, "gradient", "G", float("nan"))
        assert loop.fit(run, quiet)["outcome"] == "diverged"
    assert loop.fit(run, quiet)["outcome"] == "diverged"
    for name in ("result.json", grid.DIVERGED):  # by a person who knows that it was the memory
        (run.folder / name).unlink()
    loop.fit(run, quiet)
    assert contents(run.folder) == undisturbed[0]


# --- memory


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])  # fmt: skip
def test_too_little_memory_says_what_to_set_and_the_batch_stays_as_it_is(output, undisturbed, error):
    run = progressive(**CHECKPOINT_ALWAYS)
    with contextlib.suppress(Stop):
        loop.fit(run, stop_at(9))

    def full(*_):
        raise error

    with pytest.MonkeyPatch.context() as patch, pytest.raises(devices.OutOfMemory) as told:
        patch.setattr(step.Step, "_compute", full)
        loop.fit(run, quiet)
    for words in ("batch_size lower than 4 (which changes the experiment)", "precision=bfloat16", "loading=prefetch"):
        assert words in str(told.value) and "\n" not in str(told.value)
    assert artifacts.load_checkpoint(run.folder / "checkpoint.pt")["state"]["step"] == 9
    loop.fit(run, quiet)
    assert contents(run.folder) == undisturbed[0]


def test_too_little_memory_for_an_evaluation_names_its_batch(output):
    run = progressive()
    loop.fit(run, quiet)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(devices.OutOfMemory, match="evaluation_batch lower than 16"):
        patch.setattr(evaluate.metrics, "inpaint", full)
        evaluate.evaluate(run)
    assert evaluate.evaluate(run)


def test_another_error_is_no_lack_of_memory(output):
    config = progressive().study.config
    with pytest.raises(RuntimeError, match="no such thing") as told, devices.enough_memory(config, "training"):
        raise RuntimeError("no such thing")
    assert not isinstance(told.value, devices.OutOfMemory)
