"""A study on a Slurm cluster: real daemons on this machine, two nodes; skipped where Slurm is not installed."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from inpaint_lib.study import config, files
from tests.conftest import repository
from tests.workflow.test_workflow import SETTINGS, start, tables
from workflow import __main__ as command
from workflow import estimate, slurm

ROOT = Path(repository())

# --- what jobs ask for; no Slurm needed


def cost_of(study, architecture, device="cpu"):
    settings = estimate.settings_of(study.config, architecture)
    return {architecture: {"seconds": 7200.0, "host": 2**31, "device": device, "settings": settings}}


def test_jobs_ask_for_what_was_measured_on_such_a_device_with_a_margin(micro):
    study = micro(device="cpu", threads=2)
    asked, words = slurm.requests(study)
    assert asked["gpu"] == 0 and asked["threads"] == 2 and "./run_all.sh smoke --estimate measures" in words
    default = asked["train"]["custom"]
    estimate.keep(study, {"measured": cost_of(study, "custom")})
    asked, words = slurm.requests(study)
    minutes, mib = slurm.TIMES * 120 + slurm.MINUTES, slurm.TIMES * 2048 + slurm.MIB
    assert asked["train"]["custom"] == {"runtime": minutes, "mem_mb": mib} and "not measured" not in words
    assert slurm.requests(micro(device="cuda"))[0] == {"threads": 1, "gpu": 1, "train": {"custom": default}}
    assert "srun --gpus=1 ./run_all.sh smoke --estimate measures" in slurm.requests(micro(device="cuda"))[1]
    assert slurm.requests(micro(device="cpu", total_images=6400))[0]["train"]["custom"] == default
    estimate.keep(study, {"measured": cost_of(study, "free_form")})
    assert set(files.read_json(study.folder / estimate.FILE)) == {"custom", "free_form"}


def test_finished_runs_tell_what_the_next_will_cost(micro):
    study = micro(device="cpu")
    for k, r in enumerate(study.runs()):
        settings = config.run_settings(study.config, r.dataset, r.architecture, r.setup, r.seed) | {"code": "of then"}
        result = {"settings": settings, "seconds": 60.0 * (k + 1), "peak_memory_bytes": {"host": 2**30}, "device": "cpu"}
        r.folder.mkdir(parents=True)
        files.write_json(r.folder / "result.json", result)
    longest = 60 * len(study.runs())
    assert slurm.requests(study)[0]["train"]["custom"]["runtime"] == math.ceil(slurm.TIMES * longest / 60) + slurm.MINUTES
    assert slurm.measured(study, "custom", gpu=True) is None


def test_the_command_that_estimates_keeps_what_it_measured(micro, output, monkeypatch, capsys):
    study = micro()
    monkeypatch.setattr(estimate, "estimate", lambda study: (None, {"measured": cost_of(study, "custom")}))
    monkeypatch.setattr(estimate, "as_text", lambda *_: "hours")
    assert command.main(["smoke", *SETTINGS, "--estimate"]) == 0 and capsys.readouterr().out == "hours\n"
    assert [p.name for p in output.rglob("*") if p.is_file()] == [estimate.FILE]
    assert slurm.measured(study, "custom", gpu=False)["seconds"] == 7200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "pbs"], "--cluster pbs: only slurm is known"),
        (["--cluster", "slurm"], "--cluster slurm: there is no sbatch on the PATH"),
        (["--cluster", "slurm", "--runs-per-gpu", "2"], "--runs-per-gpu 2: Slurm assigns the GPUs"),
        (["--runs-per-gpu", "0"], "--runs-per-gpu 0: give a whole number, 1 or more"),
    ],
)
def test_a_wrong_request_gets_one_line_and_leaves_no_trace(output, monkeypatch, capsys, arguments, message):
    monkeypatch.setenv("PATH", str(output))
    assert command.main(["smoke", *SETTINGS, *arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err and len(err.splitlines()) == 1 and not out and not list(output.iterdir())


def test_slurm_assigns_the_gpu_and_must_answer(output, monkeypatch, capsys):
    for name, said in (("sbatch", "exit 0"), ("squeue", "echo 'cannot contact the controller' >&2; exit 1")):
        (output / name).write_text(f"#!/bin/sh\n{said}\n")
        (output / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{output}:/usr/bin:/bin")
    for wanted, message in (("cuda:1", "Slurm assigns the GPU; set device=cuda"), ("cpu", "squeue: cannot contact")):
        assert command.main(["smoke", "--cluster", "slurm", "--set", f"device={wanted}"]) == 2
        assert message in capsys.readouterr().err and {p.name for p in output.iterdir()} == {"sbatch", "squeue"}


def test_a_failed_job_is_told_with_its_log(tmp_path):
    for name, text in (("1", "  FAILED  10_train_custom: OutOfMemory: l1_hole\nExiting\n"), ("2", "  done    10_train\n")):
        log = tmp_path / "slurm_logs" / "rule_train" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text)
    said = f"  FAILED  10_train_custom: OutOfMemory: l1_hole  ({log.with_name('1.log')})"
    assert slurm.failures(tmp_path, 0) == [said] and slurm.failures(tmp_path, time.time() + 60) == []


# --- the drill: real daemons


def missing():
    """Why a Slurm cannot be started here, or None."""
    if absent := [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name)]:
        return f"no {', '.join(absent)}: workflow/local_slurm.sh install"
    return "only root can start Slurm's daemons" if os.getuid() else None


def local_slurm(*arguments):
    done = subprocess.run([ROOT / "workflow/local_slurm.sh", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def queue():
    """{job id: (state, node, comment)} of every job that waits or runs."""
    done = subprocess.run(["squeue", "-h", "-o", "%i|%T|%N|%k"], capture_output=True, text=True, check=True)
    return {job: tuple(rest) for job, *rest in (line.split("|") for line in done.stdout.splitlines())}


def until(condition, seconds=120):
    """The first true value of `condition()`. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain; the queue: {queue()}"
        time.sleep(0.3)
    return value


def two_trainings(profile_folder):
    """{job: node} of two trainings that run, each past its start, else nothing."""
    running = {job: node for job, (state, node, comment) in queue().items() if state == "RUNNING" and "rule_train" in comment}
    under_way = {p.parent for p in profile_folder.glob("*/*/*/*/config.json")}
    return running if len(running) == 2 <= len(under_way - {p.parent for p in finished(profile_folder)}) else {}


def finished(profile_folder):
    return list(profile_folder.glob("*/*/*/*/result.json"))


def drill(folder, profile, arguments, reference):
    """Run a study on two nodes: Ctrl-C, its command killed and started again, one job cancelled, one slurmd killed and started
    again. `reference()`: the tables of the same study, {name: bytes}. Needs root and Slurm. -> what happened, as a dict.
    """
    output, daemons = folder / "output", folder / "slurm"
    runs_folder, begun = output / "runs" / profile, time.monotonic()
    local_slurm("start", daemons, 2)
    try:
        stopped = start(output, profile, *arguments, "--cluster", "slurm")
        until(queue)
        stopped.send_signal(signal.SIGINT)
        stopped.communicate(timeout=60)
        after_ctrl_c = len(queue())

        first = start(output, profile, *arguments, "--cluster", "slurm")
        until(lambda: two_trainings(runs_folder))
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=20)
        left = set(queue())

        second = start(output, profile, *arguments, "--cluster", "slurm")
        until(lambda: not left & set(queue()))
        (cancelled, _), (requeued, node) = until(lambda: two_trainings(runs_folder)).items()
        subprocess.run(["scancel", cancelled], check=True)
        os.kill(int((daemons / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
        until(lambda: queue().get(requeued, ("", ""))[:2] != ("RUNNING", node))
        local_slurm("start", daemons, 2)

        out, err = second.communicate(timeout=3600)
        assert second.returncode == 0, out + err
        written = tables(output, profile)
        told = {
            "jobs": len(set(re.findall(r"SLURM jobid (\d+)", out + err))),
            "left after Ctrl-C": after_ctrl_c,
            "left by a killed command": len(left),
            "cancelled": 1,
            "killed slurmd": 1,
            "finished": len(finished(runs_folder)),
            "trained twice": sum(not once(path) for path in finished(runs_folder)),
            "left in the queue": len(queue()),
            "equal": written == reference(),
        }
    finally:
        local_slurm("stop", daemons)
    return told | {"seconds": round(time.monotonic() - begun)}


def once(result):
    """Whether a run logged every step once and each of its sittings went on later than the one before."""
    steps = pd.read_csv(result.parent / "history.csv").step
    sittings = [sitting["from_step"] for sitting in json.loads(result.read_text())["sittings"]]
    return steps.is_monotonic_increasing and steps.is_unique and sittings == sorted(set(sittings))


@pytest.mark.skipif(bool(missing()), reason=f"{missing()}")
def test_a_study_on_slurm_survives_and_ends_with_the_tables_of_a_local_one(tmp_path):
    arguments = [*SETTINGS, "--set=total_images=640", "--set=checkpoint_seconds=1"]
    local = start(tmp_path / "local", "smoke", *arguments)

    def reference():
        out, err = local.communicate()
        assert local.returncode == 0, out + err
        return tables(tmp_path / "local")

    told = drill(tmp_path, "smoke", arguments, reference)
    assert told.pop("seconds") and told.pop("jobs") >= 6 and told.pop("left by a killed command") == 2
    assert told.pop("equal") and told.pop("finished") == 2
    assert {k for k, v in told.items() if v == 1} == {"cancelled", "killed slurmd"}
    assert {k for k, v in told.items() if v == 0} == {"left after Ctrl-C", "trained twice", "left in the queue"}
    assert not os.path.lexists("/etc/slurm/slurm.conf")
