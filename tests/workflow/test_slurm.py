"""A study on a Slurm cluster of two nodes on this machine; skipped where there is no Slurm."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pandas as pd
import pytest
import yaml

from tests.workflow.commands import ROOT, SETTINGS, is_refusal, start, tables
from workflow import __main__ as command
from workflow import slurm

# --- no Slurm needed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "pbs"], "--cluster: invalid choice: 'pbs'"),
        (["--cluster", "slurm"], "--cluster slurm: there is no sbatch on the PATH"),
        (["--cluster", "slurm", "--runs-per-gpu", "2"], "--runs-per-gpu 2: Slurm assigns the GPUs"),
        (["--runs-per-gpu", "0"], "--runs-per-gpu 0: give a whole number, 1 or more"),
    ],
)
def test_a_wrong_request_gets_one_line_and_leaves_no_trace(
    output, monkeypatch, capsys, arguments, message
):
    monkeypatch.setenv("PATH", str(output))
    code = command.main(["smoke", *SETTINGS, *arguments])
    out, err = capsys.readouterr()
    assert is_refusal(code, out, err) and message in err and not list(output.iterdir())


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:1", "Slurm assigns the GPU; set machine.device=cuda"),
        ("cpu", "squeue: cannot contact"),
    ],
)
def test_slurm_assigns_the_gpu_and_must_answer(output, monkeypatch, capsys, device, message):
    said = "echo 'cannot contact the controller' >&2; exit 1"
    for name, does in (("sbatch", "exit 0"), ("squeue", said)):
        (output / name).write_text(f"#!/bin/sh\n{does}\n")
        (output / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{output}:/usr/bin:/bin")
    assert command.main(["smoke", "--cluster", "slurm", f"--set=machine.device={device}"]) == 2
    assert message in capsys.readouterr().err
    assert {p.name for p in output.iterdir()} == {"sbatch", "squeue"}


def test_a_failed_job_is_reported_with_its_log(tmp_path):
    said = {"1": "  FAILED  10_train: OutOfMemory: l1_hole\nExiting\n", "2": "  done    10_train\n"}
    for name, text in said.items():
        log = tmp_path / "slurm_logs" / "rule_train" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text)
    line = f"  FAILED  10_train: OutOfMemory: l1_hole  ({log.with_name('1.log')})"
    assert slurm.failures(tmp_path, 0) == [line]
    assert slurm.failures(tmp_path, time.time() + 60) == []


def test_what_jobs_ask_for_is_in_the_profile_alone():
    profile = yaml.safe_load((slurm.PROFILE / "config.yaml").read_text())
    assert profile["executor"] == "slurm" and profile["retries"] >= 1
    assert {"runtime", "mem_mb"} <= profile["default-resources"].keys()


# --- the drill: real daemons


def missing():
    """Why a Slurm cannot be started here, or None."""
    if absent := [
        name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name)
    ]:
        return f"no {', '.join(absent)}: tests/workflow/local_slurm.sh install"
    return "only root can start Slurm's daemons" if os.getuid() else None


def local_slurm(*arguments):
    done = subprocess.run(
        [ROOT / "tests/workflow/local_slurm.sh", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def queue():
    """{job id: (state, node, comment)} of every job that waits or runs."""
    done = subprocess.run(
        ["squeue", "-h", "-o", "%i|%T|%N|%k"], capture_output=True, text=True, check=True
    )
    return {
        job: tuple(rest) for job, *rest in (line.split("|") for line in done.stdout.splitlines())
    }


def until(condition, seconds=120):
    """The first true value of `condition()`. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain; the queue: {queue()}"
        time.sleep(0.3)
    return value


def two_trainings(profile_folder):
    """{job: node} of two trainings that run, each past its start, else nothing."""
    running = {
        job: node
        for job, (state, node, comment) in queue().items()
        if state == "RUNNING" and "rule_train" in comment
    }
    under_way = {p.parent for p in profile_folder.glob("*/*/*/*/run.json")}
    return (
        running
        if len(running) == 2 <= len(under_way - {p.parent for p in finished(profile_folder)})
        else {}
    )


def finished(profile_folder):
    return list(profile_folder.glob("*/*/*/*/result.json"))


def drill(folder, profile, arguments, reference):
    """Run a study on two nodes: Ctrl-C, its command killed, one job cancelled, one slurmd killed.

    reference(): the tables of the same study, {name: bytes}. Return what happened, as a dict.
    """
    output, daemons = folder / "output", folder / "slurm"
    runs_folder, begun = output / "runs" / profile, time.monotonic()
    local_slurm("start", daemons, 2)
    try:
        stopped = start(profile, *arguments, "--cluster", "slurm", INPAINT_OUTPUT=str(output))
        until(queue)
        stopped.send_signal(signal.SIGINT)
        stopped.communicate(timeout=60)
        after_ctrl_c = len(queue())

        first = start(profile, *arguments, "--cluster", "slurm", INPAINT_OUTPUT=str(output))
        until(lambda: two_trainings(runs_folder))
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=20)
        left = set(queue())

        second = start(profile, *arguments, "--cluster", "slurm", INPAINT_OUTPUT=str(output))
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
    """Return whether a run logged every step once and each sitting began later than the last."""
    steps = pd.read_csv(result.parent / "history.csv").step
    sittings = [sitting["from_step"] for sitting in json.loads(result.read_text())["sittings"]]
    return steps.is_monotonic_increasing and steps.is_unique and sittings == sorted(set(sittings))


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=f"{missing()}")
def test_a_study_on_slurm_survives_and_ends_with_the_tables_of_a_local_one(tmp_path):
    arguments = [
        *SETTINGS,
        "--set=curriculum.total_images=640",
        "--set=machine.checkpoint_seconds=1",
    ]
    local = start("smoke", *arguments, INPAINT_OUTPUT=str(tmp_path / "local"))

    def reference():
        out, err = local.communicate()
        assert local.returncode == 0, out + err
        return tables(tmp_path / "local")

    told = drill(tmp_path, "smoke", arguments, reference)
    assert (
        told.pop("seconds") and told.pop("jobs") >= 6 and told.pop("left by a killed command") == 2
    )
    assert told.pop("equal") and told.pop("finished") == 2
    assert {k for k, v in told.items() if v == 1} == {"cancelled", "killed slurmd"}
    assert {k for k, v in told.items() if v == 0} == {
        "left after Ctrl-C",
        "trained twice",
        "left in the queue",
    }
    assert not os.path.lexists("/etc/slurm/slurm.conf")
