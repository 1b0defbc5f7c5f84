"""./run_all.sh status PROFILE: how far every run is. It only reads."""

import fcntl
import sys
import time
from collections import Counter

from inpaint_lib.study import files, grid
from inpaint_lib.study.command import ended, fail, say
from inpaint_lib.training import artifacts

from .arguments import overrides_of, study_parser

STATES = ("finished", "running", "interrupted", "diverged", "missing")


def state_of(run):
    """Return (state, details) of a run."""
    if result := files.read_json(run.folder / "result.json"):
        diverged = result["outcome"] == "diverged"
        return ("diverged", result["why"]) if diverged else ("finished", "")
    if is_locked(run.folder):
        return "running", progress(run)
    if grid.holds_work(run.folder):
        return "interrupted", progress(run)
    return "missing", ""


def is_locked(folder):
    """Return whether a process holds the folder's lock, without creating a file."""
    try:
        with open(folder / ".lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError) as error:
        return isinstance(error, BlockingIOError)
    return False


def progress(run):
    """Return stage, step, age of the last checkpoint and the time left at this run's own speed."""
    paths = [run.folder / name for name in grid.CHECKPOINTS]
    saved = ((path, artifacts.load_checkpoint(path)) for path in paths if path.is_file())
    for path, checkpoint in saved:
        if not checkpoint:  # damaged
            continue
        step, steps = checkpoint["state"]["step"], run.config.curriculum.steps
        stage = run.phase(min(step, steps - 1)).stage + 1
        age = duration(time.time() - path.stat().st_mtime)
        left = duration((steps - step) * checkpoint["state"]["seconds"] / max(1, step))
        where = f"stage {stage} of {run.n_stages}, step {step} of {steps}"
        return f"{where}, checkpoint {age} old, about {left} left"
    return "no checkpoint yet"


def duration(seconds):
    """Return a number of seconds as people say it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{max(0, seconds):.0f} s"


def main(argv):
    parser = study_parser("run_all.sh status", "Say how far a study's runs are.", profile=None)
    try:
        args = parser.parse_args(argv)
        study = grid.open_study(args.profile, overrides_of(args))
    except ValueError as error:
        return fail(2, error)
    found = [(run.name, *state_of(run)) for run in study.runs()]
    counts = Counter(state for _, state, _ in found)
    numbers = ", ".join(f"{counts[state]} {state}" for state in STATES)
    say(f"profile {study.profile}: {len(found)} runs: {numbers}")
    width = max(len(name) for name, _, _ in found)
    say(*(f"{name:{width}}  {state:11}  {details}".rstrip() for name, state, details in found))
    return 0


if __name__ == "__main__":
    ended(main, sys.argv[1:])
