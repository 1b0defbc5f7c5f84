"""./run_all.sh PROFILE, from the command line to the execution of each notebook.

`run_study` checks data, settings, device and disk, describes the study in study.json and starts
Snakemake on the Snakefile. Its jobs call `execute_notebook` for one notebook each. The other
commands of run_all.sh are in commands.py and outputs.py.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from inpaint_lib.study.command import exit_with, fail, say, warn

from .arguments import ROOT, parse_arguments, read_overrides
from .processes import die_with_parent, interrupt_on_terminate, pause_together, stop_with

NOTEBOOKS = ROOT / "notebooks"
COMMANDS = "show status clean publish verify export score _report".split()
# errors of a kernel that one line explains, by name: importing their modules takes seconds
USER_ERRORS = ("ConfigError", "WeightsError", "SourceError", "SettingsChanged")
INCOMPLETE = "some steps failed; finished work is kept, the same command continues from here"


def main(argv):
    """Run a command and return the exit code."""
    name = argv[0] if argv else ""
    try:
        if name == "_notebook":
            return execute_notebook(*argv[1:])
        if name == "lab":
            from . import lab

            return lab.lab(argv[1:]) or 0
        if name not in COMMANDS:
            return run_study(argv) or 0
        from . import commands, outputs  # the library: seconds that --help and lab save

        return (commands.COMMANDS | outputs.COMMANDS)[name](argv[1:]) or 0
    except (ValueError, OSError) as error:
        return fail(2, error, "  FAILED" if name in ("_notebook", "_report") else "run_all.sh")


# --- the study


def run_study(argv):
    """Run the missing and stale steps of a study, and return the exit code."""
    args = parse_arguments(argv)
    overrides, begun = read_overrides(args), time.monotonic()
    from inpaint_lib.training import artifacts, weights  # the library: seconds that --help saves

    from . import checks, commands, estimate, gpus, graph, room, slurm

    if not (study := checks.open_requested(args, overrides)):
        return 0
    starts = weights.check_initial(study.config)
    if args.estimate:
        return say(*estimate.estimate(study))
    if args.only:
        with commands.lock_study(study):
            commands.rebuild_report(study, args.only)
        return _print_result(study, begun)
    changed = checks.check_study(study, args)
    where = "" if args.cluster else checks.check_machine(study, args.jobs)
    slots = [] if args.cluster else gpus.list_gpus(study.config.machine.device, args.runs_per_gpu)
    jobs = args.jobs or len(slots) or study.config.machine.jobs
    try:
        where += room.check_space(study, changed, jobs)
    except ValueError as error:  # a dry run lists all the same what would be done
        if not args.dry_run:
            raise
        warn(error)
    how = slurm.describe_jobs(study, args.jobs) if args.cluster else ""
    described = graph.describe(study, overrides, slots, bool(args.cluster))
    with commands.lock_study(study):
        for folder in {} if args.dry_run else changed:
            say(f"deleting {folder.relative_to(study.folder)}: made with other settings")
            artifacts.discard(folder)
        if not args.cluster:
            how = f"{min(jobs, len(slots) or jobs)} at a time"
            how += f", on GPU {', '.join(dict.fromkeys(slots))}" if slots else ""
        elif not args.dry_run and (left := slurm.cancel_jobs(study)):
            how += f"; {left} jobs that an earlier command left are cancelled"
        first = f"profile {study.profile}: {len(study.runs())} training runs, {how}{where}"
        say(first, *filter(None, [starts]))
        pause_together()
        code = run_snakemake(study, args, described, args.jobs if args.cluster else jobs)
        if code == 130 or (code == 0 and args.dry_run):
            return code
        return fail(1, INCOMPLETE) if code else _print_result(study, begun)


def _print_result(study, begun):
    """Print the table, advice on the user's images, and where the report is."""
    from . import own

    table = (study.report / "tables" / "table.md").read_text(encoding="utf-8")
    page = os.path.relpath(study.report / "index.html")
    took = f"{time.monotonic() - begun:.0f} s"
    say("", *table.splitlines(), *own.conclude(study), "", took, page)


def run_snakemake(study, args, described, jobs):
    """Run Snakemake in runs/<profile> and return its exit code, 130 if it was interrupted."""
    from inpaint_lib.study import files, grid

    from . import slurm

    settings = study.folder / (".snakemake/dry_run.json" if args.dry_run else "study.json")
    files.write_json(settings, described)
    quiet = ["host", "reason", "rules"]
    if args.cluster:
        options = ["--profile", str(slurm.PROFILE)]
        options += ["--slurm-jobname-prefix", slurm.name_jobs(study)]
        options += ["--jobs", str(jobs)] if jobs else []
    else:
        options = ["--profile", "none", "--cores", str(jobs), "--latency-wait", "5"]
        quiet += [] if args.dry_run else ["progress"]
    command = [sys.executable, "-P", "-m", "workflow.engine", "--workflow-profile", "none"]
    command += ["--snakefile", str(ROOT / "workflow" / "Snakefile")]
    command += ["--directory", str(study.folder)]
    command += ["--configfile", str(settings)]
    command += ["--rerun-triggers", "mtime", "params", "input", "--rerun-incomplete"]
    command += ["--keep-going", "--nolock", *options, "--quiet", *quiet]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    environment = {
        # on a cluster no process id: a job may run on another node
        "INPAINT_STUDY_PID": "" if args.cluster else str(os.getpid()),
        # absolute: every process has a working directory of its own
        "INPAINT_OUTPUT": str(grid.get_output_root()),
        # Snakemake and matplotlib need a cache, and a home may be missing; torch's stays the user's
        "XDG_CACHE_HOME": str(study.folder / ".snakemake" / "cache"),
        "TORCH_HOME": os.environ.get("TORCH_HOME") or f"{cache}/torch",
        # what one run compiles all others find, on other nodes and after a restart too
        "TORCHINDUCTOR_CACHE_DIR": str(study.folder / ".snakemake" / "cache" / "torchinductor"),
    }
    pipes = {} if args.cluster else {"stderr": subprocess.PIPE}
    if args.dry_run:
        command.append("--dry-run")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # SIGKILL: on SIGTERM Snakemake can deadlock, and on a cluster it would submit jobs again
    child = subprocess.Popen(
        command,
        preexec_fn=lambda: die_with_parent(signal.SIGKILL),
        start_new_session=True,
        env=os.environ | environment,
        encoding="utf-8",
        errors="backslashreplace",
        **pipes,
    )
    try:
        return _follow(child, args.dry_run)
    except KeyboardInterrupt:
        say("stopping; finished work is kept, the same command continues from here")
        child.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)  # its jobs, which save their work
        child.communicate()  # ends when the last of them has closed its output
        if args.cluster:
            time.sleep(1)  # what was being submitted is in the queue by now
            slurm.cancel_jobs(study)
        return 130


def _follow(child, dry_run):
    """Wait for Snakemake and return its exit code.

    Print failed notebooks, errors of Snakemake itself in one line and, for a dry run, how many
    steps would run.
    """
    failed, steps, kept = False, {}, []
    for line in child.stdout or child.stderr or ():
        if line.startswith("  FAILED"):
            failed = True
            print(line, end="", file=sys.stderr, flush=True)
        elif step := re.fullmatch(r"(prepare|train|tables|figures|report) +(\d+)\s*", line):
            steps[step[1]] = f"{step[2]} {step[1]}"  # listed twice
        elif line.strip():
            kept.append(line.strip())
    code = child.wait()
    if code and kept and not failed:
        errors = [k for k, line in enumerate(kept) if re.search(r"Error|Exception", line)]
        said = f"Snakemake: {' '.join(kept[errors[0] if errors else -8 :])}"
        fail(code, textwrap.shorten(said, 600, placeholder=" ..."))
    elif dry_run and not code:
        say(f"dry run: {', '.join(steps.values()) or 'nothing to do'}")
    return code


# --- one notebook of it


def execute_notebook(name, executed, artefact, *parameters):
    """Execute a notebook into a file, with parameters in JSON objects; return 0.

    It has succeeded if its last cell wrote `artefact`: papermill marks the cells that a dead kernel
    never ran as completed. A failed execution is kept as <executed>.failed.ipynb, unless
    settings or data are wrong: then no file changes. Raises ValueError with what went wrong.
    """
    # or jsonschema compiles a grammar of URIs: over a second that no notebook needs
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
            with files.explain_errors(executed):
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
            say(f"  done    {label}  {outcome}")  # diverging is an outcome, not a failure
            return 0
        if kind not in USER_ERRORS and files.read_json(temporary):  # None if a full disk cut it off
            os.replace(temporary, failed)
        temporary.unlink(missing_ok=True)
    died = f"the notebook ended without writing {artefact.name}: its kernel died"
    raise ValueError(f"{label}: {why or died}")


if __name__ == "__main__":
    interrupt_on_terminate()
    if sys.argv[1:2] == ["_notebook"]:
        die_with_parent()
        if pid := os.environ.get("INPAINT_STUDY_PID"):
            stop_with(int(pid))
    exit_with(main, sys.argv[1:])
