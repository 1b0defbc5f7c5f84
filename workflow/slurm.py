"""A study on a Slurm cluster: what its jobs ask for, and that none is left behind or submitted twice."""

import contextlib
import hashlib
import math
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import yaml

from inpaint_lib.study import files
from inpaint_lib.study.config import run_settings

from . import estimate

PROFILE = Path(__file__).resolve().parent / "profiles" / "slurm"
TIMES, MINUTES, MIB = 1.5, 10, 1000  # what jobs get beyond their measured cost: times it, and for start-up and the notebook


def check(cluster, config):
    """Raise ValueError unless `cluster` is a Slurm that answers and that may choose the GPU."""
    if cluster != "slurm":
        raise ValueError(f"--cluster {cluster}: only slurm is known")
    if not shutil.which("sbatch"):
        raise ValueError("--cluster slurm: there is no sbatch on the PATH; run this where jobs are submitted from")
    if config.device.startswith("cuda:"):
        raise ValueError(f"--cluster slurm: device: {config.device}: Slurm assigns the GPU; set device=cuda")
    _slurm("squeue", "--noheader", "--user", str(os.getuid()))


def _slurm(*command):
    """A Slurm command's output. Raises ValueError with what it says if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"--cluster slurm: {command[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def name(study):
    """What the names of all jobs of this study's folder begin with."""
    return f"inpaint-{hashlib.sha256(str(study.folder).encode()).hexdigest()[:12]}"


def jobs(name):
    """The ids of this user's jobs of that name that wait or run."""
    lines = _slurm("squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i %j").splitlines()
    return [job for job, _, title in (line.strip().partition(" ") for line in lines) if title.startswith(f"{name}_")]


def cancel(name, patience=120):
    """Cancel the jobs of that name and wait until they have ended -> how many there were. A node that does not answer may keep
    its job longer; the lock of the run's folder keeps that apart from the next."""
    seen, deadline = set(), time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(ValueError):  # a controller that is busy answers the next time
            if not (left := jobs(name)):
                break
            seen |= set(left)
            subprocess.run(["scancel", *left], capture_output=True, check=False)
        time.sleep(1)
    return len(seen)


def requests(study):
    """What jobs ask for, {"threads", "gpu", "train": {architecture: {"runtime" (minutes), "mem_mb"}}}, and a line about it."""
    config = study.config
    gpu = config.device == "cuda" or (config.device == "auto" and "gpu" in _slurm("sinfo", "--noheader", "--format", "%G"))
    default = yaml.safe_load((PROFILE / "config.yaml").read_text(encoding="utf-8"))["default-resources"]
    train = {a: {key: default[key] for key in ("runtime", "mem_mb")} for a in config.architectures}
    costs = {a: cost for a in config.architectures if (cost := measured(study, a, gpu))}
    for architecture, cost in costs.items():
        minutes, mib = cost["seconds"] / 60, cost["host"] / 2**20
        train[architecture] = {"runtime": math.ceil(TIMES * minutes) + MINUTES, "mem_mb": math.ceil(TIMES * mib) + MIB}
    asked = "; ".join(f"{a} {train[a]['runtime']} min, {train[a]['mem_mb']} MB" for a in train)
    line = f"a training job asks for: {asked}{', 1 GPU' if gpu else ''}"
    if missing := ", ".join(a for a in train if a not in costs):
        command = f"{'srun --gpus=1 ' if gpu else ''}./run_all.sh {study.profile} --estimate"
        line += f" ({missing}: not measured, so the default of {PROFILE.name}/config.yaml; {command} measures)"
    return {"threads": config.threads, "gpu": int(gpu), "train": train}, line


def measured(study, architecture, gpu):
    """{"seconds", "host" (bytes)} of a run with these settings on such a device: as --estimate measured it, else those of the
    longest finished run, else None."""
    found = []
    kept = (files.read_json(study.folder / estimate.FILE) or {}).get(architecture)
    if kept and kept["settings"] == estimate.settings_of(study.config, architecture):
        found.append(kept)
    for run in study.runs():
        result = files.read_json(run.folder / "result.json") if run.architecture == architecture else None
        settings = run_settings(study.config, run.dataset, architecture, run.setup, run.seed)
        if result and settings.items() <= result["settings"].items():
            memory = result["peak_memory_bytes"]["host"]
            found.append({"device": result["device"], "seconds": result["seconds"], "host": memory})
    found = [cost for cost in found if (cost["device"] not in ("cpu", "mps")) == gpu]
    return found[0] if found and found[0] is kept else max(found, key=lambda cost: cost["seconds"], default=None)


def failures(folder, since):
    """What failed jobs of `folder` said since a time, each with its log: on a cluster they do not speak to the terminal."""
    lines = []
    for log in sorted(folder.glob("slurm_logs/**/*.log")):
        if log.stat().st_mtime >= since:
            text = log.read_text(encoding="utf-8", errors="replace")
            said = re.findall(r"^ +FAILED +(.*)|^slurmstepd: error: (.*)", text, re.M)
            lines += [f"  FAILED  {' '.join(max(said[-1], key=len).split())}  ({log})"] if said else []
    return lines
