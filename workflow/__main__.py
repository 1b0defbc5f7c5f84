"""Run a study: ./run_all.sh [PROFILE] [options]. First checks, then Snakemake on its notebooks."""

import fcntl
import os
import sys
import time

from inpaint_lib.study.command import ended, fail, say

from .arguments import arguments, overrides_of

INCOMPLETE = "not all was done; what is finished is kept, the same command goes on from here"


def main(argv):
    """Do what the command line asks and return the exit code."""
    try:
        args = arguments(argv)
        overrides = overrides_of(args)
        from . import checks, estimate, gpus, graph  # the library: seconds that --help saves

        study = checks.open_study(args, overrides)
        if args.estimate:
            say(*estimate.estimate(study))
            return 0
        if args.skip_published:
            left_out = checks.published_runs(study)
            say(f"{len(left_out)} runs are published and left out")
            overrides["grid.without"] = sorted({*study.config.grid.without, *left_out})
            study = checks.open_study(args, overrides)
        if args.only:
            return rebuild(study, args.only)
        changed = checks.ready(study, args)
        slots = gpus.found(study.config.machine.device) * (args.runs_per_gpu or 1)
        slots = [] if args.cluster else slots
        if slots:
            gpus.folder()
        settings = graph.graph(study, overrides)
        settings |= {"gpus": ",".join(slots), "cluster": bool(args.cluster)}
        study.folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        return fail(2, error)
    try:
        with open(study.folder / ".study.lock", "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                what = f"another run_all.sh works on profile {study.profile}"
                return fail(2, f"{what}; wait for it or stop it")
            return carry_out(study, args, settings, changed, slots)
    except OSError as error:
        return fail(1, error)


def carry_out(study, args, settings, changed, slots):
    """Make what is missing or stale. `changed`: folders to delete first; `slots`: GPUs to lease."""
    from inpaint_lib.training import artifacts

    from . import slurm, snakemake

    begun, started = time.monotonic(), time.time()
    for folder in {} if args.dry_run else changed:
        say(f"deleting {folder.relative_to(study.folder)}: made with other settings")
        artifacts.discard(folder)
    jobs, how = args.jobs, "as jobs of Slurm"
    if not args.cluster:
        jobs = jobs or len(slots) or study.config.machine.jobs
        how = f"{min(jobs, len(slots) or jobs)} at a time"
        how += f", on GPU {', '.join(dict.fromkeys(slots))}" if slots else ""
    elif not args.dry_run and (left := slurm.cancel(slurm.name(study))):
        how += f"; {left} jobs that an earlier command left are cancelled"
    say(f"profile {study.profile}: {len(study.runs())} training runs, {how}")
    code = snakemake.run(study, settings, args, jobs)
    if code not in (0, 130) and args.cluster:
        print(*slurm.failures(study.folder, started), sep="\n", file=sys.stderr)
    if code == 130 or (code == 0 and args.dry_run):
        return code
    return fail(1, INCOMPLETE) if code else show(study, begun)


def rebuild(study, what):
    """Rebuild the tables, or tables and report, from the finished runs."""
    from inpaint_lib.results import collect, frames, tables

    from . import report

    begun = time.monotonic()
    try:
        results = collect.collect(study)
        frames.save(results, study.report / "results")
        tables.write(results, study.report / "tables")
        if what == "report":
            report.build(study)
    except (FileNotFoundError, ValueError) as error:
        return fail(2, error)
    return show(study, begun)


def show(study, begun):
    """Print the table and where the report is."""
    page = study.report / "index.html"
    if not page.is_file():
        return fail(1, f"{page} was not made, though nothing failed")
    table = (study.report / "tables" / "table.md").read_text(encoding="utf-8")
    say("", *table.splitlines(), "", f"{time.monotonic() - begun:.0f} s", os.path.relpath(page))
    return 0


if __name__ == "__main__":
    if not {"-h", "--help"} & {*sys.argv[1:]}:  # needs the environment
        from .processes import interrupt_on_terminate

        interrupt_on_terminate()
    ended(main, sys.argv[1:])
