"""Check Slurm, name the jobs of a study and cancel them: none is left behind or submitted twice."""

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from inpaint_lib.study import config as configuration
from inpaint_lib.study import files

PROFILE = Path(__file__).resolve().parent / "profiles" / "slurm"


def check_slurm(config):
    """Check that Slurm answers and may choose the GPU. Raises ValueError."""
    if not shutil.which("sbatch"):
        raise ValueError("--cluster slurm: no sbatch is on the PATH: run this on a login node")
    if config.machine.device.startswith("cuda:"):
        what = f"--cluster slurm: machine.device={config.machine.device}: Slurm assigns the GPU"
        raise ValueError(f"{what}: set machine.device=cuda")
    _queue()


def describe_jobs(study, at_a_time):
    """Return a line's part: how many jobs a study is, and for how long the profile may ask Slurm.

    Raises ValueError for a profile without whole minutes or without jobs.
    """
    settings = configuration.read_yaml(path := PROFILE / "config.yaml")
    minutes = _get(settings, "set-resources", "train", "runtime")
    minutes = minutes or _get(settings, "default-resources", "runtime")
    if not isinstance(minutes, int):
        raise ValueError(f"{path}: runtime={minutes!r}: give whole minutes")
    at_a_time = at_a_time or _get(settings, "jobs")
    if not isinstance(at_a_time, int) or at_a_time < 1:
        raise ValueError(f"{path}: jobs={at_a_time!r}: give a whole number, or --jobs N")
    runs, others = len(study.runs()), len(study.config.grid.datasets) + 2
    at_a_time = min(at_a_time, runs)
    hours = -(-runs // at_a_time) * minutes / 60
    asked = f"{minutes / 60:.3g} hours each, {hours:,.0f} in all with {at_a_time} at a time"
    return f"{runs + others} jobs of Slurm, at most {asked} ({path.name})"


def _get(settings, *keys):
    """Return an entry of nested settings, or None if there is none."""
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _queue():
    """Return {job id: name} of this user's jobs. Raises ValueError with what Slurm says."""
    command = ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i %j"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise ValueError(f"--cluster slurm: squeue: {said}")
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())


def name_jobs(study):
    """Return the prefix of the names of this study's jobs."""
    return f"inpaint-{files.hash_text(str(study.folder))[:12]}"


def cancel_jobs(study):
    """Cancel this user's jobs of a study, wait for their end, and return how many there were."""
    seen, patience = set(), time.monotonic() + 120  # a node that does not answer keeps its job
    while time.monotonic() < patience:
        with contextlib.suppress(ValueError):  # a busy controller answers the next time
            left = [
                job for job, title in _queue().items() if title.startswith(f"{name_jobs(study)}_")
            ]
            if not left:
                break
            seen |= set(left)
            subprocess.run(["scancel", *left], capture_output=True, check=False)
        time.sleep(1)
    return len(seen)
