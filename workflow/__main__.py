"""./run_all.sh PROFILE, and how a training gets from there to its notebook.

`study` checks what must hold, describes the study in study.json and starts Snakemake on the
Snakefile. Its jobs come back to `notebook`, which executes one notebook. Everything else that
run_all.sh can do is in commands.py and outputs.py.
"""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from inpaint_lib.study.command import exit_with, fail, say

from . import commands, outputs
from .arguments import ROOT, parse_arguments, read_overrides
from .processes import die_with_parent, interrupt_on_terminate, pause_together, stop_with

NOTEBOOKS = ROOT / "notebooks"
# of a kernel, by name: importing their modules takes seconds
USER_ERRORS = ("ConfigError", "WeightsError", "SourceError", "SettingsChanged")
INCOMPLETE = "not all was done; what is finished is kept, the same command goes on from here"


def main(argv):
    """Do what the command line asks and return the exit code."""
    name = argv[0] if argv else ""
    try:
        if name == "notebook":
            return notebook(*argv[1:])
        if command := (commands.COMMANDS | outputs.COMMANDS).get(name):
            return command(argv[1:]) or 0
        return study(argv) or 0
    except (ValueError, OSError) as error:
        return fail(2, error, "  FAILED" if name in ("notebook", "report") else "run_all.sh")


# --- the study


def study(argv):
    """Make what is missing or stale of a study, and return the exit code."""
    args = parse_arguments(argv)
    overrides, begun = read_overrides(args), time.monotonic()
    from inpaint_lib.training import artifacts, weights  # the library: seconds that --help saves

    from . import checks, estimate, gpus, graph, room, slurm

    study = checks.open_requested(args, overrides)
    starts = weights.check(study.config)
    if args.estimate:
        return say(*estimate.estimate(study))
    if args.only:
        commands.rebuild(study, args.only)
        return show(study, begun)
    changed = checks.check_study(study, args)
    where = "" if args.cluster else checks.check_machine(study, args.jobs)
    slots = [] if args.cluster else gpus.list_gpus(study.config.machine.device)
    slots *= args.runs_per_gpu
    jobs = args.jobs or len(slots) or study.config.machine.jobs
    where += room.check_space(study, changed, jobs)
    described = graph.describe(study, overrides, slots, bool(args.cluster))
    with commands.lock_study(study):
        for folder in {} if args.dry_run else changed:
            say(f"deleting {folder.relative_to(study.folder)}: made with other settings")
            artifacts.discard(folder)
        how = "as jobs of Slurm"
        if not args.cluster:
            how = f"{min(jobs, len(slots) or jobs)} at a time"
            how += f", on GPU {', '.join(dict.fromkeys(slots))}" if slots else ""
        elif not args.dry_run and (left := slurm.cancel_jobs(study)):
            how += f"; {left} jobs that an earlier command left are cancelled"
        say(
            f"profile {study.profile}: {len(study.runs())} training runs, {how}{where}",
            *filter(None, [starts]),
        )
        pause_together()
        code = snakemake(study, args, described, args.jobs if args.cluster else jobs)
        if code == 130 or (code == 0 and args.dry_run):
            return code
        return fail(1, INCOMPLETE) if code else show(study, begun)


def show(study, begun):
    """Print the table, what follows for images of one's own, and where the report is."""
    from . import own

    table = (study.report / "tables" / "table.md").read_text(encoding="utf-8")
    page = os.path.relpath(study.report / "index.html")
    took = f"{time.monotonic() - begun:.0f} s"
    say("", *table.splitlines(), *own.conclude(study), "", took, page)


def snakemake(study, args, described, jobs):
    """Run Snakemake in runs/<profile> and return its exit code, 130 if it was interrupted."""
    from inpaint_lib.study import files, grid

    from . import slurm

    files.write_json(study.folder / "study.json", described)
    command = [sys.executable, "-P", "-m", "workflow.engine", "--workflow-profile", "none"]
    command += ["--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--directory", str(study.folder)]
    command += ["--configfile", str(study.folder / "study.json")]
    command += ["--rerun-triggers", "mtime", "params", "input", "--rerun-incomplete"]
    command += ["--keep-going", "--nolock", *(["--dry-run"] if args.dry_run else [])]
    quiet = not (args.cluster or args.dry_run)
    if args.cluster:
        command += [
            "--profile",
            str(slurm.PROFILE),
            "--slurm-jobname-prefix",
            slurm.name_jobs(study),
        ]
        command += ["--quiet", "host", "reason", "rules", *(["--jobs", str(jobs)] if jobs else [])]
    else:
        command += ["--profile", "none", "--cores", str(jobs), "--latency-wait", "5"]
        command += ["--quiet", "rules", *(["host", "progress", "reason"] if quiet else [])]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    environment = {
        # another node's processes are none of ours: there jobs are known by their name
        "INPAINT_STUDY_PID": "" if args.cluster else str(os.getpid()),
        # absolute: every process has a working directory of its own
        "INPAINT_OUTPUT": str(grid.get_output_root()),
        # Snakemake and matplotlib need a cache, and a home may be missing; torch's stays the user's
        "XDG_CACHE_HOME": str(study.folder / ".snakemake" / "cache"),
        "TORCH_HOME": os.environ.get("TORCH_HOME") or f"{cache}/torch",
    }
    # alone it would wait for its jobs to end, and on a cluster submit anew what is cancelled
    end = signal.SIGKILL if args.cluster else signal.SIGTERM
    child = subprocess.Popen(
        command,
        preexec_fn=lambda: die_with_parent(end),
        start_new_session=True,
        env=os.environ | environment,
        stdout=subprocess.PIPE if args.dry_run else None,
        stderr=subprocess.PIPE if quiet else None,
        encoding="utf-8",
        errors="backslashreplace",
    )
    try:
        return follow(child)
    except KeyboardInterrupt:
        say("stopping; finished work is kept, the same command goes on from here")
        os.killpg(child.pid, end)
        child.communicate()
        if args.cluster:
            time.sleep(1)  # what was being submitted is in the queue by now
            slurm.cancel_jobs(study)
        return 130


def follow(child):
    """Wait for Snakemake and return its exit code.

    What a dry run lists and how notebooks fail is passed on; an error of its own is one line.
    """
    failed, kept = False, []
    for line in child.stdout or ():
        say(line.rstrip())  # what nobody reads must not break the child
    for line in child.stderr or ():
        if line.startswith("  FAILED"):
            failed = True
            print(line, end="", file=sys.stderr, flush=True)
        elif line.strip():
            kept.append(line.strip())
    code = child.wait()
    if code and kept and not failed:
        errors = [k for k, line in enumerate(kept) if re.search(r"Error|Exception", line)]
        said = f"Snakemake: {' '.join(kept[errors[0] if errors else -8 :])}"
        fail(code, textwrap.shorten(said, 600, placeholder=" ..."))
    return code


# --- one notebook of it


def notebook(name, executed, artefact, *parameters):
    """Execute a notebook into a file, with parameters in JSON objects; return 0.

    It is done if its last cell wrote `artefact`: after a dead kernel papermill marks the cells that
    never ran as completed. Of a failed execution <executed>.failed.ipynb is kept. Raises ValueError
    with what went wrong; where it is the settings, everything is as before.
    """
    # jsonschema would compile a grammar of URIs, over a second that no notebook needs
    sys.modules["rfc3987_syntax"] = None
    import papermill

    from inpaint_lib.study import files

    from . import gpus, kernels

    executed, artefact = Path(executed).resolve(), Path(artefact).resolve()
    before = artefact.stat().st_mtime_ns if artefact.is_file() else 0
    given = {key: value for text in parameters for key, value in json.loads(text).items()}
    shown = ("dataset", "architecture", "setup", "seed")
    label = " ".join([name, *(str(given[key]) for key in shown if key in given)])
    failed, temporary = executed.with_suffix(".failed.ipynb"), files.name_temporary(executed)
    lock = files.lock(executed.parent, f".{executed.stem}.lock")
    say(f"  start   {label}")
    with lock, gpus.lease(os.environ.get("INPAINT_GPUS")) as gpu, kernels.isolate() as options:
        if gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        begun = time.monotonic()
        kind = why = ""  # of an error
        try:
            paths = [
                kernels.escape_braces(path) for path in (NOTEBOOKS / f"{name}.ipynb", temporary)
            ]
            with files.writing(executed):
                papermill.execute_notebook(*paths, given, cwd=str(NOTEBOOKS), **options)
        except papermill.PapermillExecutionError as error:
            kind, why = error.ename, error.evalue
            if kind not in (*USER_ERRORS, "Diverged"):
                why = f"{kind}: {why} (cell {error.exec_count}; see {failed})"
        except (RuntimeError, OSError) as error:  # a kernel that died or does not start
            kind = type(error).__name__
            why = f"{kind}: {error}"
        written = artefact.is_file() and artefact.stat().st_mtime_ns != before
        if written and kind in ("", "Diverged"):
            os.replace(temporary, executed)
            failed.unlink(missing_ok=True)
            outcome = f"diverged: {why}" if why else f"{time.monotonic() - begun:.0f} s"
            say(f"  done    {label}  {outcome}")  # that a run diverged is an outcome
            return 0
        if kind not in USER_ERRORS and files.read_json(temporary):  # on a full disk it may be torn
            os.replace(temporary, failed)
        temporary.unlink(missing_ok=True)
    died = f"the notebook ended without writing {artefact.name}: its kernel died"
    raise ValueError(f"{label}: {why or died}")


if __name__ == "__main__":
    interrupt_on_terminate()
    if sys.argv[1:2] == ["notebook"]:
        die_with_parent()
        if pid := os.environ.get("INPAINT_STUDY_PID"):
            stop_with(int(pid))
    exit_with(main, sys.argv[1:])
