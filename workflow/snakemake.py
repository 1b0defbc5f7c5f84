"""Snakemake as a child: started on the study's graph, stopped with it."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

from inpaint_lib.study import files, grid
from inpaint_lib.study.command import fail, say

from . import slurm
from .arguments import ROOT
from .graph import REPORT
from .processes import die_with_parent

COMMON = (
    *("--workflow-profile", "none", "--rerun-triggers", "mtime", "params", "input"),
    *("--rerun-incomplete", "--keep-going", "--nolock"),
)


def leave_the_future(*folders):
    """Date files back, all by as much, if some are dated in the future: the clock was set back.

    Snakemake goes by the order of dates; what it makes now would never be newer.
    """
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    dated = [(path, path.stat()) for path in paths]
    ahead = max((stat.st_mtime_ns for _, stat in dated), default=0) - time.time_ns()
    if ahead > 0:
        for path, stat in dated:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - ahead))


def run(study, settings, args, jobs):
    """Run Snakemake in runs/<profile> and return its exit code; an error of its own is one line."""
    files.write_json(study.folder / "study.json", settings)
    leave_the_future(study.folder, study.report)
    if not args.dry_run:
        study.report.mkdir(parents=True, exist_ok=True)
    link(study.folder / REPORT, study.report)
    quiet = not (args.cluster or args.dry_run)
    if args.cluster:  # another node's processes are none of ours: jobs are known by their name
        os.environ.pop("INPAINT_STUDY_PID", None)
        where = ["--profile", str(slurm.PROFILE), "--slurm-jobname-prefix", slurm.name(study)]
        where += ["--quiet", "host", "reason", "rules", *(["--jobs", str(jobs)] if jobs else [])]
    else:
        os.environ["INPAINT_STUDY_PID"] = str(os.getpid())
        where = ["--profile", "none", "--cores", str(jobs), "--latency-wait", "5"]
        where += ["--quiet", "rules", *(["host", "progress", "reason"] if quiet else [])]
    # absolute: every process has a working directory of its own
    os.environ["INPAINT_OUTPUT"] = str(grid.output_root())
    # Snakemake and matplotlib need a cache, and a home may be missing; torch hub's stays the user's
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    caches = {"XDG_CACHE_HOME": str(study.folder / ".snakemake" / "cache")}
    caches |= {"TORCH_HOME": os.environ.get("TORCH_HOME") or f"{cache}/torch"}
    command = [sys.executable, "-P", "-m", "snakemake", *where, *COMMON]
    command += ["--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--directory", str(study.folder)]
    command += ["--configfile", str(study.folder / "study.json")]
    command += ["--dry-run"] if args.dry_run else []
    return _wait(command, study, args, caches, quiet)


def _wait(command, study, args, caches, quiet):
    """Run Snakemake, pass a request to stop on to it, and return its exit code."""
    # alone it would wait for its jobs to end, and on a cluster submit anew what is cancelled
    end = signal.SIGKILL if args.cluster else signal.SIGTERM
    child = subprocess.Popen(
        command,
        preexec_fn=lambda: die_with_parent(end),
        start_new_session=True,
        env=os.environ | caches,
        stdout=subprocess.PIPE if args.dry_run else None,
        stderr=subprocess.PIPE if quiet else None,
    )
    listener = _Listener(child.stderr) if quiet else None
    try:
        for line in child.stdout or ():  # what nobody reads must not break the child
            say(line.decode(errors="replace").rstrip())
        code = child.wait()
    except KeyboardInterrupt:
        say("stopping; finished work is kept, the same command goes on from here")
        os.killpg(child.pid, end)
        child.wait()
        if args.cluster:
            time.sleep(1)  # what was being submitted is in the queue by now
            slurm.cancel(slurm.name(study))
        return 130
    if code and listener and (reason := listener.reason()):
        fail(code, reason)
    return code


def link(path, target):
    """Make `path` a link to `target` in one step; a copied study may have a folder in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    new = files.temporary_for(path)
    new.symlink_to(target)
    os.replace(new, path)


class _Listener(threading.Thread):
    """Read the stderr of Snakemake and its jobs: pass on how notebooks failed, keep the rest."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.kept, self.passed_on = stream, [], False
        self.start()

    def run(self):
        for line in io.TextIOWrapper(self.stream, encoding="utf-8", errors="backslashreplace"):
            if line.startswith("  FAILED"):
                self.passed_on = True
                sys.stderr.write(line)
                sys.stderr.flush()
            elif line.strip():
                self.kept.append(line.strip())

    def reason(self):
        """Return why Snakemake ended, in a line; nothing if a notebook has said it."""
        self.join(timeout=5)  # a job that outlives Snakemake may still hold the stream
        if self.passed_on:
            return ""
        errors = [k for k, line in enumerate(self.kept) if re.search(r"Error|Exception", line)]
        text = " ".join(self.kept[errors[0] if errors else -8 :])
        return textwrap.shorten(f"Snakemake: {text}", 600, placeholder=" ...")
