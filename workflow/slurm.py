"""A study on a Slurm cluster: no job is left behind or submitted twice."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from inpaint_lib.study import files

PROFILE = Path(__file__).resolve().parent / "profiles" / "slurm"


def check(config):
    """Raise ValueError unless there is a Slurm that answers and that may choose the GPU."""
    if not shutil.which("sbatch"):
        raise ValueError(
            "--cluster slurm: there is no sbatch on the PATH; run this on a login node"
        )
    if config.machine.device.startswith("cuda:"):
        what = f"--cluster slurm: machine.device={config.machine.device}: Slurm assigns the GPU"
        raise ValueError(f"{what}; set machine.device=cuda")
    _slurm("squeue", "--noheader", "--user", str(os.getuid()))


def _slurm(*command):
    """Return a Slurm command's output. Raises ValueError with what it says if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise ValueError(f"--cluster slurm: {command[0]}: {said}")
    return done.stdout


def name(study):
    """Return what the names of all jobs of this study's folder begin with."""
    return f"inpaint-{files.text_sha256(str(study.folder))[:12]}"


def cancel(name, patience=120):
    """Cancel this user's jobs of that name, wait for their end, and return how many there were.

    A node that doesn't answer may keep its job longer; the run folder's lock keeps others out.
    """
    seen, deadline = set(), time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(ValueError):  # a controller that is busy answers the next time
            user = ("--user", str(os.getuid()))
            queue = _slurm("squeue", "--noheader", *user, "--format", "%i %j").splitlines()
            jobs = [line.split(maxsplit=1) for line in queue if line.strip()]
            if not (left := [job for job, title in jobs if title.startswith(f"{name}_")]):
                break
            seen |= set(left)
            subprocess.run(["scancel", *left], capture_output=True, check=False)
        time.sleep(1)
    return len(seen)


def failures(folder, since):
    """Return what failed jobs of `folder` said since a time, each with its log."""
    lines = []
    for log in sorted(folder.glob("slurm_logs/**/*.log")):
        if log.stat().st_mtime >= since:
            text = log.read_text(encoding="utf-8", errors="replace")
            said = re.findall(r"^ +FAILED +(.*)|^slurmstepd: error: (.*)", text, re.M)
            if said:
                lines.append(f"  FAILED  {' '.join(max(said[-1], key=len).split())}  ({log})")
    return lines
