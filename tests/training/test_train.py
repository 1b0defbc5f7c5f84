import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from inpaint_lib import masks, models, setups
from inpaint_lib.data import packs
from inpaint_lib.study import devices, files, processes, provenance
from inpaint_lib.training import artifacts, jobs, loop, step

CHECKPOINT_ALWAYS = {"checkpoint_seconds": 0}


class Stop(Exception):
    pass


def stop_at(step):
    def watch(run, state, bar):
        if state.step >= step:
            raise Stop

    return watch


def quiet(*_):
    pass


def contents(folder):
    """What a run computed, without what depends on the clock."""
    tables = {
        "history": pd.read_csv(folder / "history.csv").drop(columns="images_per_second").to_csv(),
        "per_image": (folder / "per_image.csv.gz").read_bytes(),
        "stages": (folder / "stages.csv").read_bytes(),
    }
    weights = {p.name: {k: v.numpy().tobytes() for k, v in load_file(p).items()} for p in (folder / "stages").iterdir()}
    return tables, weights


@pytest.fixture
def reference(micro, run_of):
    run = run_of(micro())
    loop.fit(run, quiet)
    found = contents(run.folder)
    for path in run.folder.rglob("*"):
        if path.is_file():
            path.unlink()
    return found


@pytest.mark.parametrize("step", [3, 8, 15, 16])
def test_a_resumed_run_equals_an_uninterrupted_one(reference, micro, run_of, step):
    run = run_of(micro(**CHECKPOINT_ALWAYS))
    with pytest.raises(Stop):
        loop.fit(run, stop_at(step))
    assert (run.folder / "checkpoint.pt").exists() and not (run.folder / "result.json").exists()
    loop.fit(run, quiet)
    assert contents(run.folder) == reference


def test_a_killed_run_equals_an_uninterrupted_one(reference, micro, run_of):
    run = run_of(micro(**CHECKPOINT_ALWAYS))
    code = (
        "from tests.conftest import MICRO; from inpaint_lib.study import grid; from inpaint_lib.training import loop;"
        "study = grid.open_study('smoke', MICRO | {'checkpoint_seconds': 0});"
        "loop.fit(next(r for r in study.runs() if r.setup == 'progressive'))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    while not (run.folder / "checkpoint.pt").exists():
        assert child.poll() is None, "the child ended before its first checkpoint"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    loop.fit(run, quiet)
    assert contents(run.folder) == reference


@pytest.mark.parametrize("step", [3, 8, 16])
def test_an_interrupted_run_is_saved_at_once_and_goes_on_to_the_same_bytes(reference, micro, run_of, step):
    run = run_of(micro(checkpoint_seconds=1000))

    def press_stop(run, state, bar):
        if state.step == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loop.fit(run, press_stop)
    saved = torch.load(run.folder / "checkpoint.pt", weights_only=True)["state"]["step"]
    assert saved == min(16, {3: 6, 8: 9, 16: 16}[step]), "the next log point"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    loop.fit(run, quiet)  # the lock is free
    assert contents(run.folder) == reference


def test_a_second_interrupt_stops_at_once():
    with pytest.raises(KeyboardInterrupt), processes.interrupts_kept() as interrupted:
        signal.raise_signal(signal.SIGINT)
        assert interrupted.is_set()
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second interrupt was kept")


def test_an_interrupt_nobody_answered_is_raised_at_the_end_and_other_threads_are_left_alone():
    with pytest.raises(KeyboardInterrupt), processes.interrupts_kept():
        signal.raise_signal(signal.SIGINT)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: processes.interrupts_kept().__enter__()).result()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("architecture", ["context_encoder", "free_form"])
def test_a_resumed_run_of_any_architecture_equals_an_uninterrupted_one(micro, run_of, architecture):
    """Batch norm's running statistics and spectral norm's vectors are state, too."""
    found = []
    for stops in ((), (5, 11)):
        run = run_of(micro(architectures=[architecture], test_images=4, **CHECKPOINT_ALWAYS))
        for stop in stops:
            with pytest.raises(Stop):
                loop.fit(run, stop_at(stop))
        loop.fit(run, quiet)
        found.append(contents(run.folder))
        shutil.rmtree(run.folder)
    assert found[0] == found[1]


def test_loading_changes_no_byte_of_a_run(micro, run_of):
    found = []
    for loading in ("resident", "prefetch"):
        run = run_of(micro(loading=loading))
        loop.fit(run, quiet)
        found.append(contents(run.folder))
        assert files.read_json(run.folder / "result.json")["sittings"][0]["loading"] == loading
        shutil.rmtree(run.folder)
    assert found[0] == found[1]


def test_setups_share_initial_weights(micro):
    study = micro(setups=list(setups.SETUPS), architectures=list(models.ARCHITECTURES))
    runs_of = {a: [run for run in study.runs() if run.architecture == a] for a in models.ARCHITECTURES}
    for first, *others in runs_of.values():
        assert len(others) == len(setups.SETUPS) - 1
        plain = step.Levers(torch.float32)
        reference = loop.start(first, torch.device("cpu"), plain)
        for run in others:
            state = loop.start(run, torch.device("cpu"), plain)
            for name in ("G", "D"):
                weights = getattr(state, name).state_dict()
                assert all(torch.equal(v, weights[k]) for k, v in getattr(reference, name).state_dict().items())


def test_setups_see_the_same_images_and_holes_that_differ_in_size_alone(micro, monkeypatch):
    compute, seen, steps = step.Step._compute, {}, None

    def recording(self, images, u):
        steps.append((images.clone(), masks.FAMILIES[self.family](u, self.controls[0], self.size)))
        compute(self, images, u)

    monkeypatch.setattr(step.Step, "_compute", recording)
    for run in micro().runs():
        steps = seen.setdefault(run.setup, [])
        loop.fit(run, quiet)
    for (real_a, mask_a), (real_b, mask_b), width in zip(seen["fixed"], seen["progressive"], [8] * 8 + [16] * 8, strict=True):
        assert torch.equal(real_a, real_b)
        assert (mask_a.sum((1, 2, 3)) == 256).all() and (mask_b.sum((1, 2, 3)) == width**2).all()
        # the same unit draw places both: the top left corners keep their share of the room
        for m, n in zip(mask_a[:, 0], mask_b[:, 0], strict=True):
            (y, x), (v, u) = (k.nonzero().amin(0).tolist() for k in (m, n))
            assert abs(y / 17 - v / (33 - width)) <= 1 / 17 and abs(x / 17 - u / (33 - width)) <= 1 / 17


def test_setups_differ_by_the_setup_alone(micro, run_of):
    """A progressive run whose only stage is the full-size hole is the fixed run, byte for byte."""
    study = micro(mask_widths=[16])
    found = []
    for setup in ("fixed", "progressive"):
        run = run_of(study, setup)
        loop.fit(run, quiet)
        found.append(contents(run.folder))
    assert found[0] == found[1]


def test_the_setup_reaches_the_mask_and_the_weights_of_the_step(micro, run_of, monkeypatch):
    run = run_of(micro(), "progressive")
    loop.fit(run, quiet)
    history = pd.read_csv(run.folder / "history.csv")
    assert list(history.step) == [3, 6, 8, 9, 12, 15, 16]
    assert list(history.mask_width) == [8, 8, 8, 16, 16, 16, 16]
    monkeypatch.setitem(setups.SETUPS, "fixed", lambda s, step: setups.Phase(s.stage(step), 16, 1.0, 0.0))
    silent = run_of(micro(), "fixed")
    loop.fit(silent, quiet)
    history = pd.read_csv(silent.folder / "history.csv")
    weights = silent.model.loss_weights
    expected = sum(weights[t] * history[t] for t in ("l1_valid", "l1_hole", "perceptual"))
    assert np.allclose(history.total_g, expected, rtol=1e-5)  # no adversarial term in G's loss ...
    assert history.adversarial_d.iloc[-1] != history.adversarial_d.iloc[0]  # ... and D is trained all the same


def test_a_finished_run_is_returned_as_it_is(micro, run_of):
    run = run_of(micro())
    first = loop.fit(run, quiet)
    stamp = (run.folder / "result.json").stat().st_mtime_ns
    assert loop.fit(run, stop_at(0)) == first
    assert (run.folder / "result.json").stat().st_mtime_ns == stamp


def test_a_missing_file_is_made_again_without_training(micro, run_of):
    run = run_of(micro())
    first = loop.fit(run, quiet)
    found = contents(run.folder)
    (run.folder / "stages.csv").unlink()
    again = loop.fit(run, stop_at(0))  # would stop at the first step
    assert contents(run.folder) == found
    assert again["sittings"] == first["sittings"], "where it was trained must not change"
    (run.folder / "stages" / "1.safetensors").unlink()  # this one takes training
    loop.fit(run, quiet)
    assert contents(run.folder) == found


def test_every_sitting_is_on_record(micro, run_of):
    run = run_of(micro(**CHECKPOINT_ALWAYS))
    with pytest.raises(Stop):
        loop.fit(run, stop_at(9))
    result = loop.fit(run, quiet)
    assert [s["from_step"] for s in result["sittings"]] == [0, 9]
    assert result["sittings"][0]["provenance"]["versions"]["torch"] == torch.__version__.split("+")[0]


def test_the_content_of_a_weights_file_is_part_of_the_identity(micro, run_of, tmp_path):
    path = tmp_path / "vgg.pth"
    torch.save({"a": torch.zeros(1)}, path)
    run = run_of(micro(perceptual_weights=str(path), perceptual_width=64))
    pack = packs.prepare(run.study, run.dataset)
    before = jobs.resolve(run, pack).settings
    torch.save({"a": torch.ones(1)}, path)
    assert jobs.resolve(run, pack).settings != before


@pytest.mark.parametrize("left", ["finished", "interrupted", "no config.json", "no config.json, no result"])
def test_work_of_other_settings_is_refused_and_left_as_it_is(micro, run_of, left):
    run = run_of(micro(**CHECKPOINT_ALWAYS))
    if left == "interrupted":
        with pytest.raises(Stop):
            loop.fit(run, stop_at(9))
    else:
        loop.fit(run, quiet)
    for name in ("config.json", "result.json")[: left.count("no ")]:
        (run.folder / name).unlink()
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    other = run_of(micro(**{"models.custom.lr_g": 1e-3}))
    with pytest.raises(provenance.SettingsChanged, match=r"run scenes/custom.*\(lr_g 0.0005 -> 0.001\).*--force-new"):
        loop.fit(other, quiet)
    assert {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()} == before
    assert jobs.changed(other.study).keys() == ({run.folder} if "config" not in left else set())
    artifacts.discard(run.folder)
    assert loop.fit(other, quiet)["settings"]["lr_g"] == 1e-3


def test_a_pack_that_runs_were_trained_on_is_not_overwritten_by_one_of_another_configuration(micro, run_of):
    run, other = run_of(micro()), micro(test_images=4)
    packs.prepare(other, "scenes")
    packs.prepare(run.study, "scenes")  # nothing was trained on the first
    loop.fit(run, quiet)
    pixels = (run.study.data_folder("scenes") / "test.npy").read_bytes()
    with pytest.raises(provenance.SettingsChanged, match=r"data set scenes.*\(test_images 8 -> 4\)"):
        packs.prepare(other, "scenes")
    assert (run.study.data_folder("scenes") / "test.npy").read_bytes() == pixels
    grid = micro(test_images=4, setups=["fixed"])  # in which the finished run is not
    assert list(jobs.changed(grid)) == [run.folder]


def test_nothing_is_refused_where_nothing_was_trained(micro, run_of):
    run = run_of(micro())
    with pytest.raises(Stop):
        loop.fit(run, stop_at(3))
    assert (run.folder / "config.json").exists() and not (run.folder / "checkpoint.pt").exists()
    other = micro(**{"models.custom.lr_g": 1e-3, "test_images": 4})
    assert jobs.changed(other) == {} and loop.fit(run_of(other), quiet)["settings"]["lr_g"] == 1e-3


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[:5000]
    elif how == "one bit":
        content[len(content) // 2] ^= 1
    elif how == "empty":
        content = b""
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "one bit", "empty"])
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_goes_on(reference, micro, run_of, capsys, how):
    run = run_of(micro(**CHECKPOINT_ALWAYS))
    with pytest.raises(Stop):
        loop.fit(run, stop_at(9))
    damage(run.folder / "checkpoint.pt", how)
    with pytest.raises(Stop):
        loop.fit(run, stop_at(0))
    said = capsys.readouterr().out
    assert "checkpoint.pt cannot be read" in said and "going on from checkpoint.previous.pt" in said
    result = loop.fit(run, quiet)
    assert [s["from_step"] for s in result["sittings"]][:2] == [0, 8]
    assert contents(run.folder) == reference and not list(run.folder.glob("checkpoint.previous*"))


def test_with_both_checkpoints_damaged_training_starts_again(reference, micro, run_of, capsys):
    run = run_of(micro(**CHECKPOINT_ALWAYS))
    with pytest.raises(Stop):
        loop.fit(run, stop_at(9))
    for name in artifacts.CHECKPOINTS:
        damage(run.folder / name, "one bit")
    result = loop.fit(run, quiet)
    assert "training starts again" in capsys.readouterr().out
    assert [s["from_step"] for s in result["sittings"]] == [0] and contents(run.folder) == reference


def test_a_kill_between_the_two_renames_loses_one_checkpoint(reference, micro, run_of, capsys):
    run = run_of(micro(**CHECKPOINT_ALWAYS))
    with pytest.raises(Stop):
        loop.fit(run, stop_at(9))
    (run.folder / "checkpoint.pt").unlink()
    assert [s["from_step"] for s in loop.fit(run, quiet)["sittings"]] == [0, 8]
    assert contents(run.folder) == reference


@pytest.mark.parametrize("term", ["l1_hole", "adversarial_d"])
def test_a_run_that_diverges_ends_with_that_outcome_and_the_term_named(micro, run_of, monkeypatch, term):
    run = run_of(micro())
    add = step.Step._add
    poisoned = {term: torch.tensor(float("nan"))}
    with monkeypatch.context() as patch:
        patch.setattr(step.Step, "_add", lambda self, logged: add(self, logged | poisoned))
        result = loop.fit(run, quiet)
    assert result["outcome"] == "diverged" and result["step"] == 3
    assert result["why"] == f"{term} became nan between steps 0 and 3" and not (run.folder / "checkpoint.pt").exists()
    with pytest.raises(loop.Diverged, match=result["why"]):
        loop.finished(result)
    (run.folder / "result.json").unlink()  # as for a stale notebook
    assert loop.fit(run, quiet) == result  # an outcome is not drawn again
    assert files.read_json(run.folder / "result.json") == result


def test_a_non_finite_weight_is_never_saved(micro, run_of):
    run = run_of(micro(**CHECKPOINT_ALWAYS))

    def poison(run, state, bar):
        if state.step == 3:
            next(state.D.parameters()).data[0] = float("inf")

    with pytest.MonkeyPatch.context() as patch:
        saved = []
        patch.setattr(artifacts, "save_checkpoint", lambda folder, value: saved.append(value["state"]["step"]))
        assert loop.fit(run, poison)["outcome"] == "diverged"
    assert saved == [3]


def test_stage_weights_hold_both_networks_and_say_what_they_are(micro, run_of):
    run = run_of(micro())
    loop.fit(run, quiet)
    with safe_open(run.folder / "stages" / "2.safetensors", "pt") as stored:
        assert stored.metadata()["step"] == "16" and stored.metadata()["run"] == run.name
        assert any(k.startswith("discriminator.") for k in stored.keys())
    G = artifacts.load_generator(run, 2)
    final = torch.load(run.folder / "checkpoint.pt", weights_only=True)["state"]["average"]
    assert all(torch.equal(v, final[f"module.{k}"]) for k, v in G.state_dict().items())


def test_a_few_images_are_learnt(micro, run_of):
    """Training on eight images brings the hole's error well below that of the untrained network and of a grey fill."""
    study = micro(train_images=8, test_images=8, total_images=1600, batch_size=8, mask_widths=[8], log_every=50)
    run = run_of(study, "fixed")
    loop.fit(run, quiet)
    history = pd.read_csv(run.folder / "history.csv")
    assert history.l1_hole.iloc[-1] < 0.5 * history.l1_hole.iloc[0]


def test_bfloat16_trains_and_ends_near_float32(micro, run_of):
    found = {}
    for precision in ("float32", "bfloat16"):
        run = run_of(micro(precision=precision))
        result = loop.fit(run, quiet)
        artifacts.discard(run.folder)
        found[precision] = result["final"]["l1_hole"]
        assert result["precision"] == precision
    assert np.isclose(found["float32"], found["bfloat16"], rtol=0.1)


def test_the_tests_train_on_the_cpu_wherever_they_run(micro, monkeypatch):
    """Bytes are compared: on CUDA sums have no fixed order."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.choose_device(micro().config.device) == torch.device("cpu")


def test_a_device_that_is_not_there_is_named():
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: cuda is not available here"):
            devices.choose_device("cuda")
    assert devices.choose_device("cpu") == torch.device("cpu")


def test_two_processes_do_not_train_one_run_at_once(micro, run_of):
    run = run_of(micro())
    packs.prepare(run.study, run.dataset)
    code = "import pathlib, sys\nfrom inpaint_lib.study import files\nwith files.locked(pathlib.Path(sys.argv[1])): input()"
    command, environment = [sys.executable, "-c", code, run.folder], os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
    while not (run.folder / ".lock").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    waiting = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert "waiting for another process" in waiting.stdout.readline()
    holder.kill()  # the system frees a dead holder's lock
    waiting.communicate("\n", timeout=20)
    assert waiting.returncode == 0
    holder.wait()


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(Stop), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise Stop
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_equal_tables_give_equal_bytes_whoever_writes_them(tmp_path, monkeypatch, name):
    frame, found = pd.DataFrame({"a": [1.5, np.nan], "b": ["x", "y"]}), set()
    for pid in (7, 8):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        files.write_csv(tmp_path / name, frame)
        found.add((tmp_path / name).read_bytes())
    assert len(found) == 1 and pd.read_csv(tmp_path / name).equals(frame)


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    other = tmp_path / f".a.txt.{os.getppid()}.tmp.txt"
    other.write_text("half")
    with files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert other.read_text() == "half"


@pytest.mark.parametrize("name", ["a.txt", "a" * 251 + ".txt", "a." + "t" * 253], ids=["short", "long", "long suffix"])
def test_what_a_killed_process_left_half_written_is_removed(tmp_path, monkeypatch, name):
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 999999999)
        files.temporary_for(tmp_path / name).write_text("half")
    assert len(list(tmp_path.iterdir())) == 1
    with files.replacing(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == [name]
