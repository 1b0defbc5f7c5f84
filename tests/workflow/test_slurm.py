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

from inpaint_lib.study import grid
from tests.workflow.commands import ROOT, SETTINGS, is_refusal, start, tables
from workflow import __main__ as command
from workflow import slurm

# --- no Slurm needed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "pbs"], "--cluster: invalid choice: 'pbs'"),
        (["--cluster", "slurm"], "--cluster slurm: no sbatch is on the PATH"),
        (["--runs-per-gpu", "0"], "--runs-per-gpu: invalid choice: 0 (choose from 1, 2,"),
    ],
)
def test_a_wrong_request_gets_one_line_and_leaves_no_trace(
    output, monkeypatch, asked, arguments, message
):
    monkeypatch.setenv("PATH", str(output))
    found = asked("smoke", *SETTINGS, *arguments)
    assert is_refusal(*found) and message in found[2] and not list(output.iterdir())


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:1", "Slurm assigns the GPU: set machine.device=cuda"),
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


def test_it_is_said_before_it_starts_how_long_jobs_may_take():
    said = slurm.describe_jobs(grid.open_study("paper"), 8)  # 240 trainings: 30 rounds of 8
    assert said.startswith("244 jobs of Slurm, at most 24 hours each, 720 in all with 8 at a time")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs: 8\ndefault-resources:\n\truntime: 60\n", "config.yaml is not valid YAML"),
        ("jobs: 8\ndefault-resources:\n  # runtime: 60\n", "runtime=None: give whole minutes"),
        ("jobs: 8\ndefault-resources: [runtime=60]\n", "runtime=None: give whole minutes"),
        ("jobs: 8\nset-resources: train\n", "runtime=None: give whole minutes"),
        ("- jobs\n", "runtime=None: give whole minutes"),
        ("default-resources: {runtime: 1h}\n", "runtime='1h': give whole minutes"),
        ("jobs: many\ndefault-resources: {runtime: 60}\n", "jobs='many': give a whole number"),
        ("default-resources: {runtime: 60}\n", "jobs=None: give a whole number"),
    ],
)
def test_a_profile_of_slurm_that_was_edited_wrongly_is_refused_in_a_line(
    tmp_path, monkeypatch, text, message
):
    (tmp_path / "config.yaml").write_text(text)
    monkeypatch.setattr(slurm, "PROFILE", tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        slurm.describe_jobs(grid.open_study("paper"), None)


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


def trained_once(result):
    """Return whether a run logged every step once and each sitting began later than the last."""
    steps = pd.read_csv(result.parent / "history.csv").step
    sittings = [sitting["from_step"] for sitting in json.loads(result.read_text())["sittings"]]
    return steps.is_monotonic_increasing and steps.is_unique and sittings == sorted(set(sittings))


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=f"{missing()}")
def test_a_study_on_slurm_survives_and_ends_with_the_tables_of_a_local_one(tmp_path):
    """On two nodes: Ctrl-C, its command killed, one job cancelled, one slurmd killed."""
    arguments = ["smoke", *SETTINGS, "--set=curriculum.total_images=640"]
    arguments.append("--set=machine.checkpoint_seconds=1")
    local = start(*arguments, INPAINT_OUTPUT=str(tmp_path / "local"))
    output, daemons = tmp_path / "output", tmp_path / "slurm"
    runs_folder = output / "runs" / "smoke"

    def begin():
        return start(*arguments, "--cluster", "slurm", INPAINT_OUTPUT=str(output))

    local_slurm("start", daemons, 2)
    try:
        stopped = begin()
        until(queue)
        stopped.send_signal(signal.SIGINT)
        stopped.communicate(timeout=60)
        assert not queue()

        killed = begin()
        until(lambda: two_trainings(runs_folder))
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=20)
        left = set(queue())
        assert len(left) == 2

        last = begin()
        until(lambda: not left & set(queue()))
        (cancelled, _), (requeued, node) = until(lambda: two_trainings(runs_folder)).items()
        subprocess.run(["scancel", cancelled], check=True)
        os.kill(int((daemons / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)
        until(lambda: queue().get(requeued, ("", ""))[:2] != ("RUNNING", node))
        local_slurm("start", daemons, 2)

        out, err = last.communicate(timeout=3600)
        assert last.returncode == 0 and not queue(), out + err
        assert len(set(re.findall(r"SLURM jobid (\d+)", out + err))) >= 6
        assert [trained_once(path) for path in finished(runs_folder)] == [True, True]
    finally:
        local_slurm("stop", daemons)
    out, err = local.communicate()
    assert local.returncode == 0 and tables(output) == tables(tmp_path / "local"), out + err
    assert not os.path.lexists("/etc/slurm/slurm.conf")
