"""The commands of ./run_all.sh beside a study: show, status, clean, publish, verify, lab (lab.py).

Each raises ValueError or OSError for what it refuses. --help does without the library.
"""

import contextlib
import fcntl
import os
import time
from collections import Counter
from datetime import timedelta

from inpaint_lib.study.command import Parser, fail, say

from . import lab
from .arguments import overrides_of, study_parser


def opened(argv, about, *named, **options):
    """Return (study, parsed arguments) of a command about one study; options: {name: keyword
    arguments of add_argument}."""
    from inpaint_lib.study import grid

    parser = study_parser(f"run_all.sh {about.split(':')[0]}", about, profile=None)
    for name in named:
        parser.add_argument(name, metavar=name.upper())
    for name, how in options.items():
        parser.add_argument(f"--{name}", **how)
    args = parser.parse_args(argv)
    return grid.open_study(args.profile, overrides_of(args)), args


def show(argv):
    import yaml

    from inpaint_lib.study import config

    study, _ = opened(argv, "show: print a profile's configuration with all it extends, as YAML.")
    found = config.to_dict(study.config)
    say(*yaml.safe_dump(found, sort_keys=False, default_flow_style=None).splitlines())


# --- status: it only reads


def status(argv):
    study, _ = opened(argv, "status: say how far every run of a study is.")
    found = [(run.name, *state_of(run)) for run in study.runs()]
    counts = Counter(state for _, state, _ in found)
    states = ("finished", "running", "interrupted", "diverged", "missing")
    numbers = ", ".join(f"{counts[state]} {state}" for state in states)
    say(f"profile {study.profile}: {len(found)} runs: {numbers}")
    width = max(len(name) for name, _, _ in found)
    say(*(f"{name:{width}}  {state:11}  {details}".rstrip() for name, state, details in found))
    if others := study.ended_elsewhere():
        say(f"{len(others)} more runs that have ended lie here: give the options of their training")


def state_of(run):
    """Return (state, details) of a run."""
    from inpaint_lib.study import files, grid

    made = files.read_json(run.folder / "run.json") or {"settings": {}}
    given = made["settings"].get("initial_weights")
    start = f"from given weights {given[:12]}" if given else ""
    if result := files.read_json(run.folder / "result.json"):
        diverged = result["outcome"] == "diverged"
        return ("diverged", result["why"]) if diverged else ("finished", start)
    if is_locked(run.folder):
        return "running", f"{progress(run)} {start}".strip()
    if not grid.holds_work(run.folder):
        return "missing", ""
    return "interrupted", f"{progress(run)} {start}".strip()


def is_locked(folder):
    """Return whether a process holds the folder's lock, without creating a file."""
    try:
        with open(folder / ".lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:  # no such file, or a file system without locks
        return isinstance(error, BlockingIOError)
    return False


def progress(run):
    """Return stage, step, age of the last checkpoint and the time left at this run's own speed."""
    from inpaint_lib.study import grid
    from inpaint_lib.training import artifacts

    for path in (run.folder / name for name in grid.CHECKPOINTS):
        checkpoint = artifacts.load_checkpoint(path) if path.is_file() else None
        if not checkpoint:  # damaged
            continue
        step, steps = checkpoint["state"]["step"], run.config.curriculum.steps
        stage = run.phase(min(step, steps - 1)).stage + 1
        age = timedelta(seconds=max(0, round(time.time() - path.stat().st_mtime)))
        left = (steps - step) * checkpoint["state"]["seconds"] / max(1, step)
        left = timedelta(seconds=round(left))
        where = f"stage {stage} of {run.n_stages}, step {step} of {steps}"
        return f"{where}, checkpoint {age} old, about {left} left"
    return "no checkpoint yet"


# --- room on disk


def clean(argv):
    from inpaint_lib.study import files

    from . import room

    yes = {"action": "store_true", "help": "remove what is listed"}
    about = """clean: list what of a study nothing needs any more, and remove it with --yes:
    checkpoints of finished runs, caches, what is left of interrupted writes"""
    study, args = opened(argv, about, yes=yes)
    if not study.folder.is_dir():
        if reason := files.find_obstacle(study.folder / "study.json"):
            raise ValueError(reason)
        return say(f"profile {study.profile}: no run in {study.folder}")
    with working_alone(study):
        found, kept = room.removable(study)
        if others := study.ended_elsewhere():
            kept["runs of other options"] = len(others)
        for path, size in (item for of in found.values() for item in of.items()):
            say(f"{os.path.relpath(path)}  {room.in_words(size)}")
            if args.yes:
                with files.explain_errors(path):
                    path.unlink()
    parts = [f"{kind} {room.in_words(sum(of.values()))}" for kind, of in found.items()]
    done = "removed" if args.yes else "can be removed, with --yes"
    said = [", ".join([*parts, done]) if found else "nothing to remove"]
    said += [f"{n} {kind}: left alone" for kind, n in kept.items()]
    say(f"profile {study.profile}: {'; '.join(said)}")


@contextlib.contextmanager
def working_alone(study):
    """Hold a study's lock. Raises ValueError where another command works on it."""
    from inpaint_lib.study import files

    with files.lock(study.folder, ".study.lock", wait=False) as alone:
        if not alone:
            what = f"another run_all.sh works on profile {study.profile}"
            raise ValueError(f"{what}; wait for it or stop it")
        yield


# --- published studies


def publish(argv):
    from inpaint_lib.results import collect, networks, published

    if argv[:1] in (["--rebuild"], ["--pages"], ["--docs"]):
        return say(*derive(argv))
    about = """publish: add finished runs to reports/published/NAME. Of a published study
    publish --rebuild NAME   rebuilds tables, figures and README.md from its saved values
    publish --pages NAME     writes its HTML report, index.html
    publish --docs           writes what README.md and docs/ say of published studies"""
    who = {"metavar": "NAME", "default": "", "help": "whose runs they are, for docs/results.md"}
    study, args = opened(argv, about, "name", who=who)
    say(*published.publish(collect.collect(study, partial=True), args.name, args.who))
    added = networks.save_networks(study, published.find_folder(args.name))
    say(*(f"networks of {name}" for name in added))
    if published.find_folder(args.name).parent == published.FOLDER:
        say("./run_all.sh publish --docs writes what README.md and docs/ say of it")


def derive(argv):
    """Rewrite what follows from a published study's saved values -> lines to print."""
    from inpaint_lib.results import ledger, networks, published, report
    from inpaint_lib.study import files

    parser = Parser(prog="run_all.sh publish")
    parser.add_argument("--rebuild", metavar="NAME", help="tables, figures and README.md of it")
    parser.add_argument("--pages", metavar="NAME", help="its HTML report, from the saved values")
    parser.add_argument("--docs", action="store_true", help="README.md and docs/ of all of them")
    args = parser.parse_args(argv)
    if args.docs:
        for path, text in ledger.render_pages().items():
            files.write_text(path, text)
        return ["README.md, docs/glossary.md and docs/results.md are written"]
    base, results = published.open_published(args.rebuild or args.pages)
    if args.rebuild:
        published.rebuild(results, base)
        return [f"{base}: tables, figures and README.md rebuilt"]
    recordings = networks.find_files(results, base, "recording.npz")
    return [f"{report.build(results, base, recordings=recordings)}: written"]


def verify(argv):
    from inpaint_lib.results import published

    what = "Rebuild a published study's tables, verdicts and README.md, and compare."
    parser = Parser(prog="run_all.sh verify", description=what)
    parser.add_argument("name", metavar="NAME", help="of the study, or its folder (with a /)")
    name = parser.parse_args(argv).name
    if wrong := published.verify(name):
        say(*wrong)
        return fail(1, f"{name}: {len(wrong)} files are not what the saved values say")
    say(f"{name}: tables, verdicts and README.md follow from the saved values")


# --- the report


def report(argv):
    """Write the report of the study that a study.json describes, as the Snakefile's last step."""
    from inpaint_lib.study import files, grid

    build(grid.open_study(**files.read_json(argv[0])["parameters"]["grid"]))


def rebuild(study, what):
    """Rebuild the tables, or tables and report, from the finished runs."""
    from inpaint_lib.results import collect, frames, tables

    results = collect.collect(study)
    frames.save(results, study.report / "results")
    tables.write(results, study.report / "tables")
    if what == "report":
        build(study)


def build(study):
    """Write the report of saved results, with a page for every executed notebook."""
    from inpaint_lib.results import frames, report

    from . import kernels

    kernels.share()
    results = frames.load(study.report / "results")
    paths = {run.name: run.folder / "recording.npz" for run in study.runs()}
    there = {name: path for name, path in paths.items() if path.is_file()}
    report.build(results, study.report, notebooks_of(study), there)


def notebooks_of(study):
    """Return (title, executed notebook, page, run's name or None) of those that are there: of the
    trainings one per data set and architecture, for they differ in numbers that the run's page has.
    """
    pages = [
        (f"Data: {name}", study.data_folder(name) / "notebook.ipynb", f"data_{name}.html", None)
        for name in study.config.grid.datasets
    ]
    trained = [run for run in study.runs() if (run.folder / "notebook.ipynb").is_file()]
    first = {}
    for run in trained:
        first.setdefault((run.dataset, run.architecture), run)
    for run in first.values():
        page = f"{run.name.replace('/', '_')}.html"
        pages.append((f"Training: {run.name}", run.folder / "notebook.ipynb", page, run.name))
    pages.append(("Metrics", study.folder / "metrics.ipynb", "metrics.html", None))
    pages.append(("Figures", study.folder / "figures.ipynb", "figures.html", None))
    return [page for page in pages if page[1].is_file()]


COMMANDS = {f.__name__: f for f in (show, status, clean, publish, verify, report)}
COMMANDS["lab"] = lab.lab
