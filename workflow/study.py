"""Run a whole study: read the profile, hand the graph of notebooks to Snakemake, print the table. Called by run_all.sh."""

import argparse
import ast
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gpus
import slurm
from processes import die_with_parent, interrupt_on_terminate

ROOT = Path(__file__).resolve().parent.parent
TRAINING_NOTEBOOKS = {p.stem.split("_train_")[1]: p.stem for p in sorted((ROOT / "notebooks").glob("1*_train_*.ipynb"))}
GRID = ("datasets", "architectures", "setups", "seeds")
# what no result depends on
MACHINE = ("device", "jobs", "fused_adam", "keep_memory", "compile", "cuda_graph", "deterministic", "loading",
           "checkpoint_seconds", "evaluation_batch", "data_root")  # fmt: skip


def arguments(argv):
    """The command line. Raises ValueError."""
    profiles = ", ".join(sorted(p.stem for p in (ROOT / "config").glob("*.yaml") if p.stem != "hypotheses"))
    parser = argparse.ArgumentParser(
        prog="run_all.sh",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Prepare data, train, measure, draw and write reports/PROFILE/index.html. What is already done and\n"
        "still valid is not done again.",
        epilog="other commands:\n"
        "  run_all.sh test [pytest arguments]   set up everything and run all tests\n"
        "  run_all.sh lab [jupyter arguments]   JupyterLab on localhost\n"
        "  run_all.sh reliability [--quick]     kills, hostile disks, bad input, a Slurm cluster: an hour or more (minutes)\n"
        "  run_all.sh bench [--quick]           training speed against a textbook loop, on this machine: 10 minutes (2)\n"
        "  run_all.sh compare A B               what differs between two runs or two reports (their folders)\n"
        "  run_all.sh inpaint PHOTO (--mask MASK | --box x,y,w,h) --weights RUN -o OUT.png   fill holes in your own photos\n\n"
        "one's own images: run_all.sh smoke --datasets folder --data-root DIR\n\n"
        "environment: INPAINT_ENV=current uses the active Python as it is; INPAINT_OUTPUT=DIR writes runs/ and\n"
        "reports/ there instead of here.",
    )
    parser.add_argument("profile", nargs="?", default="tiny", help=f"one of {profiles} (default: tiny)")
    for name, what in (("datasets", "data sets"), ("architectures", "architectures"), ("setups", "training setups")):
        parser.add_argument(f"--{name}", metavar="A,B", help=f"only these {what} (default: the profile's)")
    parser.add_argument("--seeds", metavar="0,1", help="training seeds (default: the profile's)")
    parser.add_argument("--data-root", metavar="DIR", help="where the images of celeba, coco or folder lie")
    parser.add_argument(
        "--download", action="store_true", help="fetch what is missing there, if the data set's own library offers it (celeba)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time (default: the profile's)")
    parser.add_argument("--runs-per-gpu", type=int, metavar="N", help="runs that share a GPU at a time (default: 1)")
    parser.add_argument("--cluster", metavar="slurm", help="submit every step as a job; --jobs N: in the queue at a time")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
                        help="any configuration key, e.g. --set total_images=7680 --set models.custom.lr_g=1e-4")  # fmt: skip
    parser.add_argument("--only", choices=("tables", "report"), help="rebuild these from runs/ alone, in seconds")
    parser.add_argument("--force-new", action="store_true",
                        help="delete runs that were made with other settings, and make them anew")  # fmt: skip
    parser.add_argument("--estimate", action="store_true",
                        help="time some steps here, print hours, disk and memory of every run, and do no more")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="list what would be done, and do none of it")

    def refuse(message):
        raise ValueError(f"{message}; see ./run_all.sh --help")

    parser.error = refuse
    return parser.parse_args(argv)


def overrides_of(args):
    """The configuration keys the command line sets. Raises ValueError."""
    import yaml

    overrides = {}
    for item in args.settings:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"--set {item}: write it as KEY=VALUE")
        try:
            overrides[key] = yaml.safe_load(value)
        except Exception:  # the reader lets more than its own errors through
            raise ValueError(f"--set {item}: {value!r} is no YAML value; put it in quotes") from None
    for name in GRID[:3]:
        if getattr(args, name) is not None:
            overrides[name] = getattr(args, name).split(",")
    if args.seeds is not None:
        try:
            overrides["seeds"] = [int(seed) for seed in args.seeds.split(",")]
        except ValueError:
            raise ValueError(f"--seeds {args.seeds}: give whole numbers separated by commas") from None
    if args.jobs is not None:
        overrides["jobs"] = args.jobs
    if args.data_root is not None:
        overrides["data_root"] = args.data_root
    if overrides.get("data_root"):  # every process has a working directory of its own
        overrides["data_root"] = os.path.realpath(os.path.expanduser(str(overrides["data_root"])))
    for key in ("perceptual_weights", "inception_weights"):
        if os.path.isfile(str(overrides.get(key))):
            overrides[key] = os.path.realpath(overrides[key])
    return overrides


def check_notebook(name):
    """Raise ValueError, naming the notebook and the cure, if it could not be executed with parameters."""
    cure = f"mend it, or get it back: git checkout -- {name}"
    path = ROOT / name
    if not path.is_file():
        raise ValueError(f"{name} is missing; give it its name again, or get it back: git checkout -- {name}")
    try:
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        tagged = any("parameters" in c["metadata"].get("tags", []) for c in cells)
        sources = ["".join(c["source"]) for c in cells]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(f"{name} is not a notebook; {cure}") from None
    if not tagged:
        raise ValueError(f"{name} has no cell tagged 'parameters'; {cure}")
    for number, source in enumerate(sources, 1):
        try:
            if not any(line.lstrip().startswith(("%", "!")) for line in source.splitlines()):  # IPython's own
                compile(source, name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            raise ValueError(f"{name}, code cell {number}, line {error.lineno}: {error.msg}; {cure}") from None


def graph(study, overrides):
    """Everything the Snakefile needs to know: plain values, no import of the library there."""
    from inpaint_lib import config, data, evaluate, pretrained, runs, tables, train

    def digest(notebook, *sources):
        check_notebook(f"notebooks/{notebook}.ipynb")
        return runs.code_digest(f"notebooks/{notebook}.ipynb", *sources)

    everything = ("inpaint_lib/**/*.py", "config/hypotheses.yaml")
    settings = config.to_dict(study.config)
    identity = {k: v for k, v in settings.items() if k not in (*MACHINE, *GRID, "models")}
    identity["weights"] = {name: pretrained.identity(name, settings[w.key]) for name, w in pretrained.WEIGHTS.items()}
    return {
        "python": sys.executable,
        "runner": str(ROOT / "workflow" / "run_notebook.py"),
        "report": str(study.report),
        "tables": list(tables.FILES),
        "datasets": list(study.config.datasets),
        "runs": [str(run.folder.relative_to(study.folder)) for run in study.runs()],
        "notebooks": TRAINING_NOTEBOOKS,
        "parameters": {  # a run does not depend on what else is in the grid
            "run": {"profile": study.profile, "overrides": {k: v for k, v in overrides.items() if k not in GRID}},
            "grid": {"profile": study.profile, "overrides": overrides},
        },
        "settings": {
            "prepare": {
                d: data.settings_of(study.config, d) | {"notebook": digest("00_data_prep", "inpaint_lib/plots.py")}
                for d in study.config.datasets
            },
            "train": {
                a: identity
                | {
                    "model": settings["models"][a],
                    "code": digest(
                        TRAINING_NOTEBOOKS.get(a, f"1?_train_{a}"),
                        *train.SOURCES,
                        *evaluate.CODE,
                        f"inpaint_lib/models/{a}.py",
                        *(f"inpaint_lib/{name}.py" for name in ("plots", "stats", "tables")),
                    ),
                }
                for a in study.config.architectures
            },  # fmt: skip
            "tables": identity | {"models": settings["models"], "code": digest("20_metrics", *everything)},
            "figures": digest("30_figures", *everything),
            "report": runs.code_digest(*everything, "inpaint_lib/*.j2"),
        },
    }


def places(study, only):
    """Every file that will be written, those of the reports last; `only` those."""
    from inpaint_lib import artifacts, tables

    report = ["index.html", "notebooks/metrics.html", "figures/captions.json", *(f"tables/{name}" for name in tables.FILES)]
    pack = ["manifest.json", "train.npy", "test.npy", "masks.npz", "skipped.csv", "summary.json", "notebook.ipynb"]
    trained = [*artifacts.files(study.config), "result.json", "evaluation.csv", "evaluation.json", "notebook.ipynb"]
    output = Path(os.environ.get("INPAINT_OUTPUT") or ROOT).absolute()  # as given: it may be a link to nowhere
    return [
        output / "runs" / study.profile / "study.json",
        *(study.folder / name for name in (".study.lock", "metrics.ipynb", "figures.ipynb")),
        *([study.data_folder(d) / name for d in study.config.datasets for name in pack] if not only else ()),
        *([run.folder / name for run in study.runs() for name in trained] if not only else ()),
        *(study.report / name for name in report),
    ]


def leave_the_future(*folders):
    """If files are dated in the future, because the clock was set back, date all of them back by as much: Snakemake, which
    goes by the order of their dates, would never believe that what it makes now is newer."""
    files = [(path, path.stat()) for folder in folders for path in folder.rglob("*") if path.is_file()]
    ahead = max((stat.st_mtime_ns for _, stat in files), default=0) - time.time_ns()
    if ahead > 0:
        for path, stat in files:
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - ahead))


def fetch(config):
    """Download the data sets that data_root lacks. Raises ValueError."""
    from inpaint_lib import sources

    if not config.data_root:
        raise ValueError("--download: say where to with --data-root DIR")
    for name in config.datasets:
        try:
            sources.DATASETS[name].fingerprint(config)
        except sources.SourceError:
            sources.download(name, config.data_root)


def run_snakemake(study, settings, args, jobs):
    """Start Snakemake in runs/<profile>, pass signals on, and return its exit code."""
    from inpaint_lib import runs

    runs.write_json(study.folder / "study.json", settings)
    leave_the_future(study.folder, study.report)
    if args.cluster:  # another node's processes are none of ours: jobs are known by their name
        os.environ.pop("INPAINT_STUDY_PID", None)
        where = ["--profile", str(slurm.PROFILE), "--slurm-jobname-prefix", slurm.name(study),
                 "--quiet", "host", "reason", "rules", *(["--jobs", str(jobs)] if jobs else [])]  # fmt: skip
    else:
        os.environ["INPAINT_STUDY_PID"] = str(os.getpid())
        where = ["--cores", str(jobs), "--latency-wait", "5", "--quiet", "rules" if args.dry_run else "all"]
    os.environ["INPAINT_OUTPUT"] = str(runs.output_root())  # absolute: every process has a working directory of its own
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile"),
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


def main(argv):
    try:
        args = arguments(argv)
        overrides = overrides_of(args)
        from inpaint_lib import artifacts, data, evaluate, losses, pretrained, runs, sources, stats, tables, train

        if args.profile.endswith((".yaml", ".yml")):
            raise ValueError(f"{args.profile}: name a profile of config/, not a file")
        study = runs.open_study(args.profile, overrides)
        stats.registered(measures=evaluate.MEASURES)
        if args.runs_per_gpu is not None and (args.cluster or args.runs_per_gpu < 1):
            why = "Slurm assigns the GPUs" if args.cluster else "give a whole number, 1 or more"
            raise ValueError(f"--runs-per-gpu {args.runs_per_gpu}: {why}")
        if args.cluster:
            slurm.check(args.cluster, study.config)
        if args.estimate:
            from inpaint_lib import estimate

            frame, whole = estimate.estimate(study)
            print(estimate.as_text(study, frame, whole))
            estimate.keep(study, whole)
            return 0
        if reason := next(filter(None, map(runs.obstacle, places(study, args.only))), None):
            raise ValueError(reason)
        if args.download and not args.dry_run:
            fetch(study.config)
        if args.only:
            tables.check(study)
        elif not args.dry_run:
            for dataset in study.config.datasets:  # what is wrong there is said before anything is fetched
                data.settings_of(study.config, dataset)
                sources.DATASETS[dataset].plan(study.config)
            if any("perceptual" in losses.OBJECTIVES[name].terms for name in study.config.architectures):
                losses.Perceptual(study.config.perceptual_weights, study.config.perceptual_width)
            for name, weights in pretrained.WEIGHTS.items():
                if trouble := pretrained.fetch(name, getattr(study.config, weights.key)):
                    print(trouble, file=sys.stderr, flush=True)
        changed = {} if args.only else train.changed(study)
        if changed and not args.force_new:
            raise ValueError(f"{next(iter(changed.values()))}{f'; {len(changed)} runs are concerned' * (len(changed) > 1)}")
        asked, words = slurm.requests(study) if args.cluster else (None, "")
        slots = [] if args.cluster else gpus.found(study.config.device) * (args.runs_per_gpu or 1)
        if slots:
            gpus.folder()
        settings = graph(study, overrides) | {"slurm": asked, "gpus": ",".join(slots)} if not args.only else None
        study.folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"run_all.sh: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    try:
        with open(study.folder / ".study.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                reason = f"another run_all.sh works on profile {study.profile}; wait for it or stop it"
                print(f"run_all.sh: {reason}", file=sys.stderr)
                return 2
            begun, started = time.monotonic(), time.time()
            if args.only:
                return rebuild(study, args.only, begun)
            for folder in {} if args.dry_run else changed:
                print(f"deleting {folder.relative_to(study.folder)}: made with other settings", flush=True)
                artifacts.discard(folder)
            jobs = overrides.get("jobs") or (None if args.cluster else len(slots) or study.config.jobs)
            if not args.cluster:
                words = f"{min(jobs, len(slots) or jobs)} at a time"
                words += f", on GPU {', '.join(dict.fromkeys(slots))}" if slots else ""
            elif not args.dry_run and (left := slurm.cancel(slurm.name(study))):
                words = f"{left} jobs that an earlier run left are cancelled; {words}"
            print(f"profile {study.profile}: {len(study.runs())} training runs, {words}", flush=True)
            code = run_snakemake(study, settings, args, jobs)
            if code not in (0, 130) and args.cluster:
                print(*slurm.failures(study.folder, started), sep="\n", file=sys.stderr)
    except OSError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 1
    if code == 130 or (code == 0 and args.dry_run):
        return code
    if code:
        print("run_all.sh: not all was done; what is finished is kept, the same command goes on from here", file=sys.stderr)
        return 1
    show(study, begun)
    return 0


def rebuild(study, what, begun):
    """Tables, or tables and report, from the finished runs on disk -> exit code."""
    from inpaint_lib import report, tables

    try:
        tables.write(study)
        if what == "report":
            report.build(study)
    except (FileNotFoundError, ValueError) as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    show(study, begun)
    return 0


def show(study, begun):
    table = (study.report / "tables" / "table.md").read_text()
    print(f"\n{table}\n{time.monotonic() - begun:.0f} s\n{os.path.relpath(study.report / 'index.html')}")


if __name__ == "__main__":
    interrupt_on_terminate()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
