"""What bfloat16 changes: final hole L1 in bfloat16 minus float32, against the spread over training seeds.

    PYTHONPATH=. python benchmarks/precision.py [--profile tiny] [--seeds 3] [--images 640]

Trains every architecture, progressive on faces, in both precisions with the same seeds (a CPU without bfloat16 emulates it: the
same rounding, slowly). Writes reports/benchmarks/precision.md.
"""

import argparse
import os
import tempfile
import time

import numpy as np
import pandas as pd
import torch

from inpaint_lib import models
from inpaint_lib.study import config, devices, grid
from inpaint_lib.training import loop

PRECISIONS = ("float32", "bfloat16")


def final(run):
    """Hole L1 after the last stage with the widest hole."""
    loop.fit(run)
    table = pd.read_csv(run.folder / "stages.csv").query("region == 'hole'")
    return table[(table.stage == table.stage.max()) & (table.mask_width == table.mask_width.max())].l1.iloc[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, help="images per run (default: the profile's)")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["INPAINT_OUTPUT"] = folder
        for precision in PRECISIONS:
            settings = {"datasets": ["faces"], "setups": ["progressive"], "precision": precision}
            settings |= {"seeds": list(range(args.seeds)), "threads": torch.get_num_threads()}
            settings |= {"total_images": args.images} if args.images else {}
            study = grid.open_study(args.profile, settings)
            for run in study.runs():
                found[run.architecture, run.seed, precision] = final(run)
    device = devices.choose_device("auto")
    lines = [
        "# What bfloat16 changes",
        "",
        f"`python benchmarks/precision.py --profile {args.profile} --seeds {args.seeds} --images {study.config.total_images}`, "
        f"{device.type}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}. Hole L1 on the frozen masks after "
        "the last stage; progressive on faces; the same seeds in both precisions.",
        "",
        "| architecture | float32, mean | deviation over seeds | bfloat16 - float32, mean | largest | shift below the spread |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for architecture in models.ARCHITECTURES:
        plain, half = (np.array([found[architecture, k, p] for k in range(args.seeds)]) for p in PRECISIONS)
        spread, shift = plain.std(ddof=1), half - plain
        smaller = "yes" if abs(shift.mean()) < spread else "no"
        cells = f"{plain.mean():.4f} | {spread:.4f} | {shift.mean():+.4f} | {np.abs(shift).max():.4f} | {smaller}"
        lines.append(f"| {architecture} | {cells} |")
    path = config.ROOT / "reports" / "benchmarks" / "precision.md"
    path.write_text("\n".join(lines) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
