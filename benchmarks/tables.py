"""Measure how long a study of the paper's size takes from run folders to report, and the memory.

    PYTHONPATH=. python benchmarks/tables.py [--images 10000] [--seeds 5]

Writes made-up run folders (tests/results/synthetic.py) of the profile `paper` into a temporary
folder, then does what the notebooks 20 and 30 and the last step do, each part in a process of its
own as there: collect, save and tables; load and figures; load and report. Writes
reports/benchmarks/tables.md.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from explorer import processor

from inpaint_lib.results import collect, figures, frames, report, standing, stats, tables
from inpaint_lib.study import files, grid
from inpaint_lib.study.command import Parser, say
from tests.results import synthetic

PAGE = Path(__file__).resolve().parent.parent / "reports" / "benchmarks" / "tables.md"
GOAL = 300, 4  # seconds in all, GB
DATA = {"grid.datasets": ["faces", "clutter"], "data.train_images": 100}


@contextmanager
def part(name):
    """Print {"part", "seconds"} of what is done inside."""
    begun = time.monotonic()
    yield
    print(json.dumps({"part": name, "seconds": time.monotonic() - begun}), flush=True)


def metrics(study):
    """Do what notebook 20 does."""
    with part("collect"):
        results = collect.collect(study)
    with part("save"):
        frames.save(results, study.report / "results")
    with part("verdicts and gates"):
        stats.judge(results)
        standing.judge_runs(results)
    with part("tables"):
        tables.write(results, study.report / "tables")


def drawings(study):
    """Do what notebook 30 does."""
    with part("load for the figures"):
        results = frames.load(study.report / "results")
    drawn = {}
    for kind in figures.KINDS:
        with part(f"draw {kind}"):
            drawn |= figures.draw(results, kind)
    with part("save figures"):
        report.save_figures(study.report / "figures", drawn)


def pages(study):
    """Do what the study's last step does."""
    with part("load for the report"):
        results = frames.load(study.report / "results")
    with part("report"):
        report.build(results, study.report)


STEPS = {f.__name__: f for f in (metrics, drawings, pages)}


def measure(settings):
    """Return [{"part", "seconds"}] of all steps, and the largest memory of a process in GB."""
    found, memory = [], 0
    for step in STEPS:
        command = [sys.executable, __file__, "--step", step, json.dumps(settings)]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        *parts, last = map(json.loads, child.stdout.splitlines())
        found, memory = found + parts, max(memory, last["gb"])
    return found, memory


def page(found, memory, runs, images):
    """Return the lines of the report."""
    seconds = sum(one["seconds"] for one in found)
    yield from ("# Tables, figures and report of a study of the paper's size", "")
    yield f"`benchmarks/tables.py`, {processor()}, {os.cpu_count()} CPU cores: {runs} made-up runs,"
    yield f"{images:,} test images. Goal: {GOAL[0]} s and {GOAL[1]} GB."
    yield from ("", f"In all **{seconds:.0f} s**; the largest process had **{memory:.1f} GB**.", "")
    yield from ("| part | seconds |", "| --- | ---: |")
    for one in found:
        yield f"| {one['part']} | {one['seconds']:.1f} |"


def main():
    parser = Parser(prog="benchmarks/tables.py", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--step", nargs=2, help="of the benchmark itself")
    args = parser.parse_args()
    if args.step:
        STEPS[args.step[0]](grid.open_study("paper", json.loads(args.step[1])))
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return print(json.dumps({"gb": kilobytes * 1024 / 1e9}))
    settings = DATA | {"data.test_images": args.images, "grid.seeds": [*range(args.seeds)]}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["INPAINT_OUTPUT"] = folder
        study = grid.open_study("paper", settings)
        synthetic.write_folders(study)
        lines = [*page(*measure(settings), len(study.runs()), args.images)]
    files.write_text(PAGE, "\n".join(lines) + "\n")
    say(*lines)


if __name__ == "__main__":
    main()
