"""Whether the code of training and evaluation still computes what another commit's did, to the bit: if so, runs of both may
stand in one study, and config/same_numbers.json says it.

    PYTHONPATH=. python benchmarks/same_numbers.py COMMIT

Trains and evaluates a run of every architecture and setup in a checkout of COMMIT and in this one, side by side, on the CPU and
in every precision that it has, and compares data (those of the embedded sets), weights, logs, measures and fillings. If all are
equal, the digests of today's code are written down as standing for those of COMMIT; else the files that differ are named, and
nothing is written. Two minutes on two cores. On CUDA sums have no fixed order: equality to the bit is not to be had there, and
not claimed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("history.csv", "probe.csv", "stages.csv", "per_image.csv.gz", "evaluation.csv", "baseline_*.csv")
ARRAYS = ("stages/*.safetensors", "data/*.npy", "data/masks.npz")
SPEED = ["images_per_second"]  # what differs between equal runs
SETTINGS = {"datasets": ["faces"], "device": "cpu", "train_images": 64, "test_images": 16, "total_images": 160}
PACKED = ("faces", "scenes")


def train(precision):
    """In the checkout that PYTHONPATH names: train and evaluate, and print {what: digest of its code}."""
    from inpaint_lib import setups
    from inpaint_lib.data import packs
    from inpaint_lib.evaluation import evaluate
    from inpaint_lib.results import collect
    from inpaint_lib.study import files, grid, provenance
    from inpaint_lib.training import jobs

    if files.ROOT == ROOT:
        provenance.SAME = Path(os.devnull)  # its own digests, not those it stands for
    study = grid.open_study("smoke", SETTINGS | {"setups": list(setups.SETUPS), "precision": precision})
    collect.complete(study, watch=lambda *_: None)
    collect.measure_fillings(study, study.config.datasets)
    for name in PACKED:
        packs.prepare(study, name)
    found = {name: packs.settings_of(study.config, name)["code"] for name in PACKED}
    found |= {run.architecture: jobs.resolve(run, None).settings["code"] for run in study.runs()}
    print(json.dumps(found | {"evaluation": provenance.code_digest(*evaluate.CODE)}))


def training(checkout, output, precision):
    """A process that trains with a checkout's code and leaves its runs in `output`."""
    known = os.environ | {"PYTHONPATH": str(checkout), "INPAINT_OUTPUT": str(output), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", __file__, "--train", precision]
    return subprocess.Popen(command, cwd=checkout, env=known, stdout=subprocess.PIPE, text=True)


def differences(one, other):
    """The files of two folders of runs whose content differs, or which one of them lacks, relative to them."""
    names = {path.relative_to(folder) for folder in (one, other) for what in (*TABLES, *ARRAYS)
             for path in folder.rglob(what)}  # fmt: skip
    return [str(name) for name in sorted(names) if not _equal(one / name, other / name)]


def _equal(one, other):
    if not (one.is_file() and other.is_file()):
        return False
    if one.suffix in (".npy", ".npz"):
        return one.read_bytes() == other.read_bytes()
    if one.suffix == ".safetensors":  # the headers hold the digests
        a, b = load_file(one), load_file(other)
        return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=True) for k in a)
    a, b = (pd.read_csv(path, dtype=str).drop(columns=SPEED, errors="ignore") for path in (one, other))
    return a.equals(b)


def main(commit):
    from inpaint_lib.study import config, devices, files, provenance
    from inpaint_lib.training.step import choose_levers

    native = choose_levers(config.load("smoke", {"precision": "auto"}), devices.choose_device("cpu")).describe()["precision"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        subprocess.run(["git", "worktree", "add", "-q", "--detach", folder / "then", commit], cwd=ROOT, check=True)
        try:
            for precision in dict.fromkeys(("float32", native)):
                checkouts = {"then": folder / "then", "now": ROOT}
                working = [training(at, folder / f"{precision}_{name}", precision) for name, at in checkouts.items()]
                then, now = (json.loads(process.communicate()[0].splitlines()[-1]) for process in working)
                found = differences(*(folder / f"{precision}_{name}" for name in ("then", "now")))
                if found:
                    sys.exit("\n".join([f"{precision}: {len(found)} files differ from those of {commit}:", *found]))
                print(f"{precision}: all files are equal to those of {commit}", flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", folder / "then"], cwd=ROOT, check=True)
    same = {now[name]: then[name] for name in now if now[name] != then[name]}
    known = files.read_json(provenance.SAME) or {}
    files.write_json(provenance.SAME, known | same)
    print(f"{len(same)} digests written to {provenance.SAME.relative_to(ROOT)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    train(given.commit) if given.train else main(given.commit)
