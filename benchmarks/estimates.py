"""Compare what --estimate says with real runs.

    PYTHONPATH=. python benchmarks/estimates.py [--profiles small medium] [--images 4096]

One run of every architecture on faces under fixed, with so many training images, is estimated,
then trained and evaluated alone. Writes reports/benchmarks/estimates.md after every run.
"""

import os
import tempfile
import time

from explorer import processor

from inpaint_lib.data import packs
from inpaint_lib.evaluation import evaluate
from inpaint_lib.study import files, grid
from inpaint_lib.study.command import Parser, say
from inpaint_lib.training import loop
from workflow import estimate

PAGE = files.ROOT / "reports" / "benchmarks" / "estimates.md"
GOAL = 0.8, 1.25  # estimated over measured
ONE = {"grid.datasets": ["faces"], "grid.setups": ["fixed"], "grid.seeds": [0]}


def measure(run):
    """Return (estimated, measured) seconds of a run with its evaluations."""
    found = estimate.time_run(run)
    packs.prepare(run.study, run.dataset)
    begun = time.monotonic()
    loop.fit(run, watch=lambda *_: None, after_stage=evaluate.evaluate)
    return 3600 * (found.training + found.evaluation), time.monotonic() - begun


def write(rows, images, path=PAGE):
    """Write the report."""
    lines = ["# Is --estimate right?", "", f"`benchmarks/estimates.py`, {processor()}: runs of "]
    lines[-1] += f"{images:,} images with their evaluations, one at a time."
    lines += ["Goal: a ratio of {} to {}.".format(*GOAL), ""]
    lines += ["| profile | architecture | estimated (s) | measured (s) | ratio |"]
    lines += ["| --- | --- | ---: | ---: | ---: |"]
    for names, (said, took) in rows.items():
        lines.append(
            "| {} | {} | {:.0f} | {:.0f} | {:.2f} |".format(*names, said, took, said / took)
        )
    files.write_text(path, "\n".join(lines) + "\n")
    return lines


def main():
    parser = Parser(prog="benchmarks/estimates.py", description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", nargs="+", default=["small", "medium"])
    parser.add_argument("--images", type=int, default=4096, help="of a run")
    args, rows, lines = parser.parse_args(), {}, []
    for profile in args.profiles:
        with tempfile.TemporaryDirectory() as os.environ["INPAINT_OUTPUT"]:
            study = grid.open_study(profile, ONE | {"curriculum.total_images": args.images})
            for run in study.runs():
                rows[profile, run.architecture] = measure(run)
                lines = write(rows, args.images)
    say(*lines)


if __name__ == "__main__":
    main()
