"""Run a whole study: ./run_all.sh [PROFILE] [options]. Checks first, then Snakemake on the graph of notebooks, then tables."""

import fcntl
import os
import sys
import time

from inpaint_lib.study.command import ended, fail, say

from .arguments import arguments, overrides_of


def main(argv):
    try:
        args = arguments(argv)
        overrides = overrides_of(args)
        from . import checks, estimate, gpus, graph, slurm  # the library comes with them: seconds that --help does without

        study = checks.opened(args, overrides)
        if args.estimate:
            frame, whole = estimate.estimate(study)
            say(*estimate.as_text(study, frame, whole).splitlines())
            estimate.keep(study, whole)
            return 0
        if not args.again and (left := checks.published_elsewhere(study)):
            say(f"{len(left)} runs are published and not trained again (they are, with --again)")
            overrides["without"] = sorted({*study.config.without, *left})
            study = checks.opened(args, overrides)
            if not study.runs():
                say("nothing is left to be done; see reports/published, ./run_all.sh verify NAME")
                return 0
        changed = checks.ready(study, args)
        asked, words = slurm.requests(study) if args.cluster else (None, "")
        slots = [] if args.cluster else gpus.found(study.config.device) * (args.runs_per_gpu or 1)
        if slots:
            gpus.folder()
        settings = None if args.only else graph.graph(study, overrides) | {"slurm": asked, "gpus": ",".join(slots)}
        study.folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        return fail(2, error)
    try:
        with open(study.folder / ".study.lock", "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return fail(2, f"another run_all.sh works on profile {study.profile}; wait for it or stop it")
            if args.only:
                return rebuild(study, args.only)
            return carry_out(study, args, settings, changed, overrides.get("jobs"), slots, words)
    except OSError as error:
        return fail(1, error)


def carry_out(study, args, settings, changed, jobs, slots, words):
    """Make what is missing or stale -> exit code. `changed`: folders of runs to be deleted first; `jobs`: how many at a time,
    if that was asked for; `slots`: GPUs to lease; `words`: what there is to say of the cluster's jobs."""
    from inpaint_lib.training import artifacts

    from . import slurm, snakemake

    begun, started = time.monotonic(), time.time()
    for folder in {} if args.dry_run else changed:
        say(f"deleting {folder.relative_to(study.folder)}: made with other settings")
        artifacts.discard(folder)
    jobs = jobs or (None if args.cluster else len(slots) or study.config.jobs)
    if not args.cluster:
        words = f"{min(jobs, len(slots) or jobs)} at a time"
        words += f", on GPU {', '.join(dict.fromkeys(slots))}" if slots else ""
    elif not args.dry_run and (left := slurm.cancel(slurm.name(study))):
        words = f"{left} jobs that an earlier run left are cancelled; {words}"
    say(f"profile {study.profile}: {len(study.runs())} training runs, {words}")
    code = snakemake.run(study, settings, args, jobs)
    if code not in (0, 130) and args.cluster:
        print(*slurm.failures(study.folder, started), sep="\n", file=sys.stderr)
    if code == 130 or (code == 0 and args.dry_run):
        return code
    if code:
        return fail(1, "not all was done; what is finished is kept, the same command goes on from here")
    return show(study, begun)


def rebuild(study, what):
    """Tables, or tables and report, from the finished runs on disk -> exit code."""
    from inpaint_lib.results import report, tables

    begun = time.monotonic()
    try:
        tables.write(study)
        if what == "report":
            report.build(study)
    except (FileNotFoundError, ValueError) as error:
        return fail(2, error)
    return show(study, begun)


def show(study, begun):
    """Print the table and where the report is -> exit code."""
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
