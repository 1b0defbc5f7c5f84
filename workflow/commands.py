"""The commands of ./run_all.sh: show, status, clean, publish and verify.

Each raises ValueError or OSError for what it refuses.
"""

import contextlib
import fcntl
import os
import time
from collections import Counter
from datetime import timedelta
from inspect import getdoc

import yaml

from inpaint_lib.results import collect, frames, ledger, networks, published, tables
from inpaint_lib.study import config, files, grid
from inpaint_lib.study.command import Parser, fail, say
from inpaint_lib.training import artifacts

from . import kernels, room
from .arguments import make_parser, read_overrides


def parse_study(command, argv, *named, **options):
    """Return (study, parsed arguments) of a command about one study. Raises ValueError.

    command: the function, whose docstring --help prints; named: its arguments beside PROFILE;
    options: {name: keyword arguments of add_argument}.
    """
    parser = make_parser(f"run_all.sh {command.__name__}", getdoc(command), profile=None)
    for name in named:
        parser.add_argument(name, metavar=name.upper())
    for name, how in options.items():
        parser.add_argument(f"--{name}", **how)
    args = parser.parse_args(argv)
    return grid.open_study(args.profile, read_overrides(args)), args


def show(argv):
    """Print a profile's configuration with all it extends, as YAML."""
    study, _ = parse_study(show, argv)
    found = config.to_dict(study.config)
    say(*yaml.safe_dump(found, sort_keys=False, default_flow_style=None).splitlines())


# --- status


def status(argv):
    """Print how far every run of a study is; change nothing."""
    study, _ = parse_study(status, argv)
    found = [(run.name, *read_state(run)) for run in study.runs()]
    counts = Counter(state for _, state, _ in found)
    states = ("finished", "running", "interrupted", "diverged", "missing")
    numbers = ", ".join(f"{counts[state]} {state}" for state in states)
    say(f"profile {study.profile}: {len(found)} runs: {numbers}")
    width = max(len(name) for name, _, _ in found)
    say(*(f"{name:{width}}  {state:11}  {details}".rstrip() for name, state, details in found))
    if others := study.ended_elsewhere():
        what = "more finished runs do not belong to these options: give theirs to list them"
        say(f"{len(others)} {what}")


def read_state(run):
    """Return (state, details) of a run."""
    made = files.read_json(run.folder / "run.json") or {"settings": {}}
    given = made["settings"].get("initial_weights")
    start = f"from given weights {given[:12]}" if given else ""
    if result := files.read_json(run.folder / "result.json"):
        diverged = result["outcome"] == "diverged"
        return ("diverged", result["why"]) if diverged else ("finished", start)
    running = _is_locked(run.folder)
    if not running and not grid.holds_work(run.folder):
        return "missing", ""
    progress = f"{_describe_progress(run)} {start}".strip()
    return "running" if running else "interrupted", progress


def _is_locked(folder):
    """Return whether a process holds the folder's lock; create no file."""
    try:
        with open(folder / ".lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:  # no such file, or a file system without locks
        return isinstance(error, BlockingIOError)
    return False


def _describe_progress(run):
    """Return stage, step, age of the last checkpoint and the time left at this run's speed."""
    for path in (run.folder / name for name in grid.CHECKPOINTS):
        checkpoint = artifacts.load_checkpoint(path, mapped=True) if path.is_file() else None
        if not checkpoint:  # damaged
            continue
        step, steps = checkpoint["state"]["step"], run.config.curriculum.steps
        stage = run.phase(min(step, steps - 1)).stage + 1
        age = timedelta(seconds=max(0, round(time.time() - path.stat().st_mtime)))
        seconds = (steps - step) * checkpoint["state"]["seconds"] / max(1, step)
        left = timedelta(seconds=round(seconds))
        where = f"stage {stage} of {run.n_stages}, step {step} of {steps}"
        return f"{where}, checkpoint {age} old, about {left} left"
    return "no checkpoint yet"


# --- room on disk


def clean(argv):
    """List files of a study that nothing needs any more; remove them with --yes.

    They are checkpoints of finished runs, caches and leftovers of interrupted writes.
    """
    study, args = parse_study(clean, argv, yes={"action": "store_true", "help": "remove them"})
    if not study.folder.is_dir():
        if reason := files.find_obstacle(study.folder / "study.json"):
            raise ValueError(reason)
        return say(f"profile {study.profile}: no run in {study.folder}")
    with lock_study(study):
        found, kept = room.find_removable(study)
        if others := study.ended_elsewhere():
            kept["runs of other options"] = len(others)
        for path, size in (item for of in found.values() for item in of.items()):
            say(f"{os.path.relpath(path)}  {room.format_bytes(size)}")
            if args.yes:
                with files.explain_errors(path):
                    path.unlink()
    parts = [f"{kind} {room.format_bytes(sum(of.values()))}" for kind, of in found.items()]
    done = "removed" if args.yes else "can be removed, with --yes"
    said = [", ".join([*parts, done]) if found else "nothing to remove"]
    said += [f"{n} {kind}: left alone" for kind, n in kept.items()]
    say(f"profile {study.profile}: {'; '.join(said)}")


@contextlib.contextmanager
def lock_study(study):
    """Hold a study's lock. Raises ValueError if another command holds it."""
    with files.lock(study.folder, ".study.lock", wait=False) as alone:
        if not alone:
            what = f"another run_all.sh works on profile {study.profile}"
            raise ValueError(f"{what}: wait for it or stop it")
        yield


# --- published studies


def publish(argv):
    """Add finished runs to reports/published/NAME. Other forms of the command:

    publish --rebuild NAME   rebuild tables, figures and README.md from the saved values
    publish --pages NAME     write the HTML report, index.html, from the saved values
    publish --docs           write what README.md and docs/ say of published studies
    """
    if argv and argv[0].split("=")[0] in ("--rebuild", "--pages", "--docs"):
        return say(*_rewrite(argv))
    who = {"metavar": "NAME", "default": "", "help": "whose runs they are, for docs/results.md"}
    study, args = parse_study(publish, argv, "name", who=who)
    say(*published.publish(collect.collect(study, partial=True), args.name, args.who))
    added = networks.save_networks(study, published.find_folder(args.name))
    say(*(f"networks of {name}" for name in added))
    if published.find_folder(args.name).parent == published.FOLDER:
        say("./run_all.sh publish --docs writes what README.md and docs/ say of it")


def _rewrite(argv):
    """Rewrite files that follow from a published study's saved values; return lines to print."""
    parser = Parser(prog="run_all.sh publish")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--rebuild", metavar="NAME")
    one.add_argument("--pages", metavar="NAME")
    one.add_argument("--docs", action="store_true")
    args = parser.parse_args(argv)
    if args.docs:
        for path, text in ledger.render_pages().items():
            files.write_text(path, text)
        return ["README.md, docs/glossary.md and docs/results.md are written"]
    base, results = published.open_published(args.pages if args.rebuild is None else args.rebuild)
    if args.rebuild:
        published.rebuild(results, base)
        return [f"{base}: tables, figures and README.md rebuilt"]
    from inpaint_lib.results import report  # matplotlib: seconds that other commands save

    recordings = networks.find_files(results, base, "recording.npz")
    return [f"{report.build(results, base, recordings=recordings)}: written"]


def verify(argv):
    """Rebuild a published study's tables, verdicts and README.md, and compare them."""
    parser = Parser(prog="run_all.sh verify", description=verify.__doc__)
    parser.add_argument("name", metavar="NAME", help="of the study, or its folder (with a /)")
    name = parser.parse_args(argv).name
    if wrong := published.verify(name):
        say(*wrong)
        return fail(1, f"{name}: {len(wrong)} files do not follow from the saved values")
    say(f"{name}: tables, verdicts and README.md follow from the saved values")


# --- the report


def write_report(argv):
    """Write the report of a study.json's study: the Snakefile's last step."""
    _build_report(grid.open_study(**files.read_json(argv[0])["parameters"]["grid"]))


def rebuild_report(study, what):
    """Rebuild the tables, or tables and report, from the finished runs."""
    results = collect.collect(study)
    made = files.read_json(study.report / "results" / "study.json") or {}
    if made.get("config") != results.about["config"]:  # the next study makes its own again
        (study.report / "tables" / "done.json").unlink(missing_ok=True)
    frames.save(results, study.report / "results")
    tables.write(results, study.report / "tables")
    if what == "report":
        _build_report(study)


def _build_report(study):
    """Write the report of saved results, with a page for every executed notebook."""
    from inpaint_lib.results import report  # matplotlib: seconds that other commands save

    kernels.extend_jupyter_path()
    results = frames.load(study.report / "results")
    paths = {run.name: run.folder / "recording.npz" for run in study.runs()}
    there = {name: path for name, path in paths.items() if path.is_file()}
    report.build(results, study.report, _list_notebooks(study), there)


def _list_notebooks(study):
    """Return (title, executed notebook, page, run's name or None) of those that there are.

    One training per data set and architecture: others differ in numbers that their run's page has.
    """
    pages = [
        (f"Data: {name}", study.data_folder(name) / "notebook.ipynb", f"data_{name}.html", None)
        for name in study.config.grid.datasets
    ]
    cells = set()
    for run in study.runs():
        path, cell = run.folder / "notebook.ipynb", (run.dataset, run.architecture)
        if path.is_file() and cell not in cells:
            cells.add(cell)
            page = f"{run.name.replace('/', '_')}.html"
            pages.append((f"Training: {run.name}", path, page, run.name))
    for name in ("metrics", "figures"):
        path = study.folder / f"{name}.ipynb"
        pages.append((name.capitalize(), path, f"{name}.html", None))
    return [page for page in pages if page[1].is_file()]


COMMANDS = {f.__name__: f for f in (show, status, clean, publish, verify)}
COMMANDS["_report"] = write_report
