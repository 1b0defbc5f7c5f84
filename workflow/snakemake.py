"""Snakemake as a child: started on the study's graph, stopped with it."""

import os
import signal
import subprocess
import sys
import time

from inpaint_lib.study import files, grid
from inpaint_lib.study.processes import die_with_parent

from . import slurm
from .arguments import ROOT


def leave_the_future(*folders):
    """If files are dated in the future, because the clock was set back, date all of them back by as much: Snakemake, which
    goes by the order of their dates, would never believe that what it makes now is newer."""
    dated = [(path, path.stat()) for folder in folders for path in folder.rglob("*") if path.is_file()]
    ahead = max((stat.st_mtime_ns for _, stat in dated), default=0) - time.time_ns()
    if ahead > 0:
        for path, stat in dated:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - ahead))


def run(study, settings, args, jobs):
    """Start Snakemake in runs/<profile>, pass signals on, and return its exit code."""
    files.write_json(study.folder / "study.json", settings)
    leave_the_future(study.folder, study.report)
    if args.cluster:  # another node's processes are none of ours: jobs are known by their name
        os.environ.pop("INPAINT_STUDY_PID", None)
        where = ["--profile", str(slurm.PROFILE), "--slurm-jobname-prefix", slurm.name(study),
                 "--quiet", "host", "reason", "rules", *(["--jobs", str(jobs)] if jobs else [])]  # fmt: skip
    else:
        os.environ["INPAINT_STUDY_PID"] = str(os.getpid())
        where = ["--cores", str(jobs), "--latency-wait", "5", "--quiet", "rules" if args.dry_run else "all"]
    os.environ["INPAINT_OUTPUT"] = str(grid.output_root())  # absolute: every process has a working directory of its own
    command = [
        sys.executable, "-P", "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile"),
        "--directory", str(study.folder), "--configfile", str(study.folder / "study.json"),
        *where, "--rerun-triggers", "mtime", "params", "input", "--rerun-incomplete", "--keep-going", "--nolock",
        *(["--dry-run"] if args.dry_run else []),
    ]  # fmt: skip
    # Snakemake alone would wait for its jobs to end, and on a cluster submit anew what is cancelled
    end = signal.SIGKILL if args.cluster else signal.SIGTERM
    child = subprocess.Popen(command, preexec_fn=lambda: die_with_parent(end), start_new_session=True)
    try:
        return child.wait()
    except KeyboardInterrupt:
        print("stopping; finished work is kept, the same command goes on from here", flush=True)
        os.killpg(child.pid, end)
        child.wait()
        if args.cluster:
            time.sleep(1)  # what was being submitted is in the queue by now
            slurm.cancel(slurm.name(study))
        return 130
