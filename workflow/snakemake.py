"""Snakemake as a child: started on the study's graph, stopped with it."""

import contextlib
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

from . import slurm, warm
from .arguments import ROOT
from .processes import die_with_parent

REPORT = ".report"  # in a study's folder, a link to its report: braces in a path would be Snakemake's wildcards


def leave_the_future(*folders):
    """If files are dated in the future, because the clock was set back, date all of them back by as much: Snakemake, which
    goes by the order of their dates, would never believe that what it makes now is newer."""
    dated = [(path, path.stat()) for folder in folders for path in folder.rglob("*") if path.is_file()]
    ahead = max((stat.st_mtime_ns for _, stat in dated), default=0) - time.time_ns()
    if ahead > 0:
        for path, stat in dated:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - ahead))


def run(study, settings, args, jobs):
    """Start Snakemake in runs/<profile>, pass signals on -> its exit code. A failure of its own is told in one line."""
    files.write_json(study.folder / "study.json", settings)
    leave_the_future(study.folder, study.report)
    if not args.dry_run:
        study.report.mkdir(parents=True, exist_ok=True)
    _link(study.folder / REPORT, study.report)
    quietly = not (args.cluster or args.dry_run)
    if args.cluster:  # another node's processes are none of ours: jobs are known by their name
        os.environ.pop("INPAINT_STUDY_PID", None)
        where = ["--profile", str(slurm.PROFILE), "--slurm-jobname-prefix", slurm.name(study),
                 "--quiet", "host", "reason", "rules", *(["--jobs", str(jobs)] if jobs else [])]  # fmt: skip
    else:
        os.environ["INPAINT_STUDY_PID"] = str(os.getpid())
        where = ["--profile", "none", "--cores", str(jobs), "--latency-wait", "5",
                 "--quiet", "rules", *(["host", "progress", "reason"] if quietly else [])]  # fmt: skip
    # Snakemake and matplotlib insist on a cache, and a home may not be there; torch hub's stays where the user has it
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    caches = {"XDG_CACHE_HOME": str(study.folder / ".snakemake" / "cache")}
    caches |= {"TORCH_HOME": os.environ.get("TORCH_HOME") or f"{cache}/torch"}
    os.environ["INPAINT_OUTPUT"] = str(grid.output_root())  # absolute: every process has a working directory of its own
    command = [
        sys.executable, "-P", "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile"),
        "--directory", str(study.folder), "--configfile", str(study.folder / "study.json"),
        *where, "--workflow-profile", "none", "--rerun-triggers", "mtime", "params", "input", "--rerun-incomplete",
        "--keep-going", "--nolock",
        *(["--dry-run"] if args.dry_run else []),
    ]  # fmt: skip
    with contextlib.nullcontext() if args.cluster or args.dry_run else warm.waiting(os.environ | caches) as address:
        caches |= {"INPAINT_WARM": address} if address else {}
        return _ended(command, study, args, caches, quietly)


def _ended(command, study, args, caches, quietly):
    """The exit code of Snakemake, whose cancelling is passed on."""
    # alone it would wait for its jobs to end, and on a cluster submit anew what is cancelled
    end = signal.SIGKILL if args.cluster else signal.SIGTERM
    child = subprocess.Popen(command, preexec_fn=lambda: die_with_parent(end), start_new_session=True, env=os.environ | caches,
                             stdout=subprocess.PIPE if args.dry_run else None,
                             stderr=subprocess.PIPE if quietly else None)  # fmt: skip
    listener = _Listener(child.stderr) if quietly else None
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


def _link(path, target):
    """Make `path` a link to `target` in one step, whatever lay there: a copy of the study may have a folder in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    new = files.temporary_for(path)
    new.symlink_to(target)
    os.replace(new, path)


class _Listener(threading.Thread):
    """Hears what Snakemake and its jobs say on stderr: passes on what notebooks say of their failures, keeps the rest."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.kept, self.told = stream, [], False
        self.start()

    def run(self):
        for line in io.TextIOWrapper(self.stream, encoding="utf-8", errors="backslashreplace"):
            if line.startswith("  FAILED"):
                self.told = True
                sys.stderr.write(line)
                sys.stderr.flush()
            elif line.strip():
                self.kept.append(line.strip())

    def reason(self):
        """Why Snakemake ended, in a line, unless a notebook has said it."""
        self.join(timeout=5)  # a job that outlives Snakemake may still hold the stream
        first = next((k for k, line in enumerate(self.kept) if re.search(r"Error|Exception", line)), -8)
        return "" if self.told else textwrap.shorten("Snakemake: " + " ".join(self.kept[first:]), 600, placeholder=" ...")
