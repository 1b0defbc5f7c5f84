"""Complete runs: equal bytes after any stop, paired setups, refusal, identity, outcomes."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from inpaint_lib import PROTOCOL, masks, models, setups
from inpaint_lib.data import packs
from inpaint_lib.study import files, grid, processes, provenance
from inpaint_lib.training import artifacts, identity, loop, probe, step
from tests.conftest import snapshot
from tests.training.runs import contents, never, stop

ALWAYS = {"machine.checkpoint_seconds": 0}
CPU = torch.device("cpu")


@pytest.fixture
def run(micro, run_of):
    """A run with a checkpoint at every log point."""
    return run_of(micro(ALWAYS))


@pytest.fixture(scope="session")
def reference(finished):
    return contents(finished / "runs/smoke/clutter/custom/progressive/seed0")


# --- resumed runs


@pytest.mark.parametrize("step", [3, 8, 15, 16])
def test_a_resumed_run_equals_an_uninterrupted_one(reference, run, step):
    stop(run, step)
    assert (run.folder / "checkpoint.pt").exists() and not (run.folder / "result.json").exists()
    loop.fit(run)
    assert contents(run.folder) == reference


@pytest.mark.slow
def test_a_killed_run_equals_an_uninterrupted_one(reference, run):
    code = (
        "from tests.conftest import MICRO; from inpaint_lib.study import grid;"
        "from inpaint_lib.training import loop;"
        "study = grid.open_study('smoke', MICRO | {'machine.checkpoint_seconds': 0});"
        "loop.fit(next(r for r in study.runs() if r.setup == 'progressive'))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not (run.folder / "checkpoint.pt").exists():
        assert child.poll() is None, "the child ended before its first checkpoint"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    loop.fit(run)
    assert contents(run.folder) == reference


@pytest.mark.parametrize(("step", "saved_at"), [(3, 6), (8, 9), (16, 16)])
def test_an_interrupted_run_is_saved_at_the_next_log_point_and_goes_on_to_the_same_bytes(
    reference, micro, run_of, step, saved_at
):
    run = run_of(micro({"machine.checkpoint_seconds": 1000}))

    def press_stop(run, state):
        if state.step == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loop.fit(run, press_stop)
    saved = torch.load(run.folder / "checkpoint.pt", weights_only=True)["state"]["step"]
    assert saved == saved_at and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    loop.fit(run)  # the lock is free
    assert contents(run.folder) == reference


def test_a_second_interrupt_stops_at_once():
    with pytest.raises(KeyboardInterrupt), processes.defer_interrupts() as interrupted:
        signal.raise_signal(signal.SIGINT)
        assert interrupted.is_set()
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second interrupt was kept")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["context_encoder", "free_form"])
def test_a_resumed_run_of_any_architecture_equals_an_uninterrupted_one(micro, run_of, architecture):
    """Batch norm's running statistics and spectral norm's vectors are state, too."""
    found, run = [], run_of(micro({"grid.architectures": [architecture]} | ALWAYS))
    for stops in ((), (5, 11)):
        for at in stops:
            stop(run, at)
        loop.fit(run)
        found.append(contents(run.folder))
        shutil.rmtree(run.folder)
    assert found[0] == found[1]


def damage(path, how):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:5000], "one bit": content, "empty": b""}[how])


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    reference, run, capsys, tmp_path, damaged
):
    stop(run, 9)
    for how in ("cut", "empty"):
        other = shutil.copy(run.folder / "checkpoint.pt", tmp_path / how)
        damage(other, how)
        assert artifacts.load_checkpoint(other) is None
    for name in grid.CHECKPOINTS[:damaged]:
        damage(run.folder / name, "one bit")
    result, said = loop.fit(run), capsys.readouterr().out
    assert "checkpoint.pt is damaged" in said
    assert ["resuming from checkpoint.previous.pt", "training starts again"][damaged - 1] in said
    assert [s["from_step"] for s in result["sittings"]] == ([0, 8] if damaged == 1 else [0])
    assert contents(run.folder) == reference and not list(run.folder.glob("checkpoint.previous*"))


def test_a_kill_between_the_two_renames_loses_one_checkpoint(reference, run):
    stop(run, 9)
    (run.folder / "checkpoint.pt").unlink()
    result = loop.fit(run)
    sittings = result["sittings"]
    assert [s["from_step"] for s in sittings] == [0, 8]
    assert sittings[0]["provenance"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert contents(run.folder) == reference


def test_a_missing_file_is_made_again_without_training(copied, micro, run_of):
    run = run_of(micro())
    first = files.read_json(run.folder / "result.json")
    found, stamp = contents(run.folder), (run.folder / "result.json").stat().st_mtime_ns
    assert loop.fit(run, never) == first, "a finished run is returned as it is"
    assert (run.folder / "result.json").stat().st_mtime_ns == stamp
    (run.folder / "model" / "model.json").unlink()
    again = loop.fit(run, never)
    assert contents(run.folder) == found
    assert again["sittings"] == first["sittings"], "where it was trained must not change"
    (run.folder / "stages" / "1.safetensors").unlink()  # this one takes training
    loop.fit(run)
    assert contents(run.folder) == found


# --- paired runs


def test_setups_see_the_same_images_and_holes_that_differ_in_size_alone(micro, monkeypatch):
    compute, seen, steps = step.Step._compute, {}, None

    def recording(self, images, u):
        steps.append((images.clone(), masks.FAMILIES[self.family](u, self.controls[0], self.size)))
        compute(self, images, u)

    monkeypatch.setattr(step.Step, "_compute", recording)
    for run in micro().runs():
        steps = seen.setdefault(run.setup, [])
        loop.fit(run)
    widths = [8] * 8 + [16] * 8
    for fixed, grown, width in zip(seen["fixed"], seen["progressive"], widths, strict=True):
        (real_a, mask_a), (real_b, mask_b) = fixed, grown
        assert torch.equal(real_a, real_b)
        assert (mask_a.sum((1, 2, 3)) == 256).all() and (mask_b.sum((1, 2, 3)) == width**2).all()
        # the same unit draw places both: the top left corners keep their share of the room
        for m, n in zip(mask_a[:, 0], mask_b[:, 0], strict=True):
            corner, other = (k.nonzero().amin(0) for k in (m, n))
            assert ((corner / 17 - other / (33 - width)).abs() <= 1 / 17).all()


def test_setups_differ_by_the_setup_alone(micro, run_of):
    """A progressive run whose only stage is the largest hole is the fixed run, byte for byte."""
    study = micro({"curriculum.mask_widths": [16]})
    runs = [run_of(study, setup) for setup in ("fixed", "progressive")]
    for run in runs:
        loop.fit(run)
    assert contents(runs[0].folder) == contents(runs[1].folder)


# --- identity and refusal


@pytest.mark.parametrize("left", ["finished", "interrupted", "no run.json"])
def test_work_of_other_settings_is_refused_and_left_as_it_is(
    finished, output, micro, run_of, run, left
):
    if left == "interrupted":
        stop(run, 9)
    else:
        fixed = shutil.ignore_patterns("fixed")
        shutil.copytree(finished, output, dirs_exist_ok=True, ignore=fixed)
    if left == "no run.json":
        (run.folder / "run.json").unlink()
    before = snapshot(run.folder)
    other = run_of(micro({"models.custom.lr_g": 1e-3}))
    message = r"run clutter/custom.*lr_g=0.0005, now 0.001:.*--force-new"
    with pytest.raises(provenance.SettingsChanged, match=message):
        loop.fit(other)
    assert snapshot(run.folder) == before
    if left != "no run.json":
        assert list(identity.find_changed(other.study)) == [run.folder]
    if left == "finished":  # on changed data, though it is not in the grid
        changed = micro({"data.test_images": 4, "grid.setups": ["fixed"]})
        assert list(identity.find_changed(changed)) == [run.folder]
    artifacts.discard(run.folder)
    assert loop.fit(other)["identity"]["settings"]["model"]["lr_g"] == 1e-3


def test_nothing_is_refused_where_nothing_was_trained(micro, run_of):
    run = run_of(micro())
    stop(run, 3)
    assert (run.folder / "run.json").exists() and not (run.folder / "checkpoint.pt").exists()
    other = micro({"models.custom.lr_g": 1e-3, "data.test_images": 4})
    assert identity.find_changed(other) == {} and loop.fit(run_of(other))


def test_identity_has_the_scientific_settings_alone(micro, run_of, monkeypatch, tmp_path):
    def of(**overrides):
        run = run_of(micro(overrides))
        return identity.identify(run, packs.prepare(run.study, run.dataset), "cpu")

    plain = of()
    assert plain["protocol"] == PROTOCOL and plain["settings"]["training"]["precision"] == "float32"
    assert plain["settings"]["initial_weights"] is None
    assert plain["settings"]["mask_source"] == "square"
    kept = {"evaluation.recorded_points": 2, "evaluation.recorded_images": 2}
    assert of(**kept) == plain
    machine = {"machine.threads": 2, "machine.loading": "prefetch", "machine.fused_adam": "off"}
    assert of(**machine) == of(**{"evaluation.fid_stages": "all"}) == plain
    for native in (False, True):  # auto is resolved
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda n=native: n)
        assert (of(**{"training.precision": "auto"}) == plain) == (not native)
    for key, value in (("data.mask_seed", 1), ("training.log_every", 4), ("data.test_images", 4)):
        assert of(**{key: value}) != plain, key
    path, found = tmp_path / "vgg.pth", []
    for content in (torch.zeros(1), torch.ones(1)):
        torch.save({"a": content}, path)
        given = {"training.perceptual_weights": str(path), "training.perceptual_width": 64}
        found.append(of(**given))
    assert found[0] != found[1], "the content of a weights file counts"


# --- outcomes and what is left


def test_a_log_point_between_trained_steps_has_no_gradients_of_another(micro, run_of, monkeypatch):
    def every_other(schedule, step):
        return dataclasses.replace(setups.fixed(schedule, step), trains=step % 2 == 1)

    entry = dataclasses.replace(setups.SETUPS["fixed"], phase=every_other)
    monkeypatch.setitem(setups.SETUPS, "every_other", entry)
    run = run_of(micro({"grid.setups": ["every_other"]}), "every_other")
    assert loop.fit(run)["outcome"] == "finished"
    history = pd.read_csv(run.folder / "history.csv")  # at 9 nothing was trained since 8
    measured = history.step[history.adversarial_share.notna()]
    assert measured.tolist() == [6, 8, 12, 16] and len(history) == 6


@pytest.mark.parametrize("term", ["l1_hole", "adversarial_d"])
def test_a_run_that_diverges_ends_with_that_outcome_and_the_term_named(
    micro, run_of, monkeypatch, term
):
    run, add = run_of(micro()), step.Step._add
    poisoned = {term: torch.tensor(float("nan"))}
    with monkeypatch.context() as patch:
        patch.setattr(step.Step, "_add", lambda self, logged: add(self, logged | poisoned))
        result = loop.fit(run)
    assert result["outcome"] == "diverged" and result["step"] == 3
    assert result["why"] == f"{term} became nan between steps 0 and 3"
    assert not (run.folder / "checkpoint.pt").exists()
    with pytest.raises(loop.Diverged, match=result["why"]):
        loop.require_finished(result)
    assert loop.fit(run, never) == result  # an outcome is not drawn again


def test_a_non_finite_weight_is_never_saved(run, monkeypatch):
    def poison(run, state):
        if state.step == 3:
            next(state.D.parameters()).data[0] = float("inf")

    saved = []
    monkeypatch.setattr(artifacts, "save_checkpoint", lambda _, value: saved.append(value["state"]))
    assert loop.fit(run, poison)["outcome"] == "diverged"
    assert [state["step"] for state in saved] == [3]


def test_bfloat16_trains_and_ends_near_float32(copied, micro, run_of):
    run = run_of(micro({"training.precision": "bfloat16"}))
    plain = files.read_json(run.folder / "result.json")
    artifacts.discard(run.folder)
    result = loop.fit(run)
    assert (plain["precision"], result["precision"]) == ("float32", "bfloat16")
    assert np.isclose(plain["final"]["l1_hole"], result["final"]["l1_hole"], rtol=0.1)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_shares_are_taken_before_the_update_and_the_log_agrees_with_the_probe(
    micro, run_of, monkeypatch, architecture
):
    run, taken, done = (
        run_of(micro({"grid.architectures": [architecture]})),
        probe.measure_gradients,
        [],
    )
    monkeypatch.setattr(
        probe, "measure_gradients", lambda step, *of: done.append(step.count) or taken(step, *of)
    )
    loop.fit(run)
    history = pd.read_csv(run.folder / "history.csv")
    assert done == list(history.step.diff().fillna(3) - 1), "steps since the last log point"
    probed = pd.read_csv(run.folder / "probe.csv").set_index("step").probe_g
    last = history[history.stage == 2]
    assert list(last.probe_g) == pytest.approx(list(probed[last.step]), rel=1e-5)


def test_a_finished_run_leaves_its_log_its_stages_and_its_generator_with_a_description(
    micro, run_of
):
    run, seen = run_of(micro()), []

    def after_stage(run, stage):
        artifacts.load_networks(run, stage)
        steps = list(pd.read_csv(run.folder / "history.csv").step)
        seen.append((stage, steps[-1], identity.read_result(run) is not None))

    result = loop.fit(run, after_stage=after_stage)
    loop.fit(run, after_stage=after_stage)  # does nothing
    assert seen == [(1, 8, False), (2, 16, True)]
    history = pd.read_csv(run.folder / "history.csv")
    assert list(history.step) == [3, 6, 8, 9, 12, 15, 16]
    assert list(history.mask_width) == [8, 8, 8, 16, 16, 16, 16]
    assert list(history.hole_fraction) == pytest.approx([(w / 32) ** 2 for w in history.mask_width])
    shares = history.grad_norm_adversarial / history.grad_norm_reconstruction
    assert list(history.adversarial_share) == pytest.approx(list(shares))
    assert history.gradient_cosine.abs().max() <= 1 and history.d_accuracy.between(0, 1).all()
    probed = pd.read_csv(run.folder / "probe.csv").set_index("step").probe_g
    assert list(probed.index) == list(range(9, 17)), "every step of the last stage"

    with safe_open(run.folder / "stages" / "2.safetensors", "pt") as stored:
        assert stored.metadata()["step"] == "16" and stored.metadata()["run"] == run.name
    reference = artifacts.load_generator(run, 2).state_dict()
    final = torch.load(run.folder / "checkpoint.pt", weights_only=True)["state"]
    assert all(torch.equal(v, final["average"][f"module.{k}"]) for k, v in reference.items())
    for k, v in artifacts.load_networks(run, 2)[1].state_dict().items():
        assert torch.equal(v, final["D"][k])

    weights = load_file(run.folder / "model" / "model.safetensors")
    assert weights.keys() == reference.keys()  # no discriminator
    assert all(torch.equal(v, reference[k]) for k, v in weights.items())
    description = files.read_json(run.folder / "model" / "model.json")
    with safe_open(run.folder / "model" / "model.safetensors", "pt") as stored:
        assert json.loads(stored.metadata()["description"]) == description
    assert description["settings"] == result["identity"]["settings"]
    assert description["data"]["identity"] == packs.open_pack(run.study, run.dataset).identity
    assert description["training"]["images"] == 64
