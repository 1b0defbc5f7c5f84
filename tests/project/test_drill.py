"""The drill, on demand (`./run_all.sh test -m drill --kills 30`): what the suite survives.

Kills: one experiment is killed again and again; between kills the same command goes on from what
the last one left. When it ends by itself, what it made is compared with that of an undisturbed run,
and it starts anew. Situations and bad inputs: the tests of some files. Each part is counted in
reports/benchmarks/reliability.json as it is done, for the code of that moment; the same command
goes on from there, and reports/reliability.md says it all.
"""

import contextlib
import json
import multiprocessing
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from inpaint_lib.data import packs
from inpaint_lib.study import files, grid, provenance
from inpaint_lib.training import artifacts, loop
from tests.conftest import MICRO
from tests.training.runs import contents
from tests.workflow.commands import ROOT, current, tables

pytestmark = pytest.mark.drill
KEPT = ROOT / "reports" / "benchmarks" / "reliability.json"
REPORT = ROOT / "reports" / "reliability.md"
GRID = MICRO | {
    "data.train_images": 200,
    "data.test_images": 32,
    "curriculum.total_images": 512,
    "curriculum.batch_size": 8,
    "training.log_every": 4,
    "grid.datasets": ["faces"],
    "grid.setups": ["progressive"],
    "machine.checkpoint_seconds": 0,
}
PREPARED = GRID | {"data.train_images": 2000}  # enough for two workers
SETTINGS = [f"--set={key}={json.dumps(value)}" for key, value in GRID.items()]
RUN = "runs/smoke/faces/custom/progressive/seed0"
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
END = 30  # seconds that the processes of a killed command may take to end
PARTS = {
    "situations": {
        "calls and limits that are refused": "tests/workflow/test_refusals.py",
        "other people's shells, folders and files": "tests/workflow/test_surroundings.py",
        "failures of the machine: disk, folders, NaN, memory": "tests/project/test_trouble.py",
        "preparation: kills, damage": "tests/data/test_packs.py",
        "training: resume, checkpoints, refusals": "tests/training/test_train.py",
        "GPUs leased": "tests/workflow/test_leases.py",
    },
    "bad inputs": {
        "command line, configuration, data, masks, weights": "tests/project/test_bad_input.py",
        "random and mutated input, each example": "tests/project/test_fuzz.py",
        "data as people pack and name them": "tests/data/test_sources.py",
        "image files of every kind": "tests/data/test_images.py",
        "photographs, masks and names of every kind": "tests/photos/test_inpaint.py",
        "pickles, HTML, archives, listening": "tests/project/test_security.py",
    },
}


# --- what is counted, and the report


def code():
    """Return a digest of everything that is tested: counts of other code are not added to."""
    listed = ["git", "ls-files", "inpaint_lib", "workflow", "config", "notebooks", "run_all.sh"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    names = done.stdout.split()
    return files.hash_text("".join(files.hash_file(ROOT / name) for name in sorted(names)))


def counted(part, key):
    """Return what is counted of a part for today's code, or {}."""
    found = (files.read_json(KEPT) or {}).get(part, {}).get(key, {})
    return found if found.get("code") == code() else {}


def keep(part, key, found):
    """Keep what was counted of a part, and write the report."""
    made = provenance.describe_environment()
    where = {"code": code(), "commit": made["commit"], "torch": torch.__version__}
    where |= {"system": f"{made['system']}, {os.cpu_count()} cores, Python {made['python']}"}
    with files.lock(KEPT.parent, ".reliability.lock"):
        kept = files.read_json(KEPT) or {}
        kept.setdefault(part, {})[key] = found | where
        files.write_json(KEPT, kept)
        files.write_text(REPORT, report(kept))


def report(kept):
    """Return the report of what was counted."""
    lines = ["# How often was each failure tried?", ""]
    lines += [
        "`./run_all.sh test -m drill --kills 30 --dist load` writes this page; what it does is in"
    ]
    lines += ["`tests/project/test_drill.py`. Each row names the commit that was tested."]
    keys = ("tried", "survived", "lost", "orphans", "torn", "completed")
    rows = [
        [*key.split(", "), *(row[k] for k in keys), row["commit"]]
        for key, row in kept.get("kills", {}).items()
    ]
    lines += ["", "## Kills at random moments", "", KILLS, ""]
    lines += table(["killed", "by", *keys, "commit"], rows, 2)
    for part, listed in PARTS.items():
        keys = ("tried", "survived", "lost", "skipped", "seconds")
        done = kept.get(part, {})
        rows = [
            [what, f"`{listed[what]}`", *(row[k] for k in keys), row["commit"]]
            for what, row in done.items()
            if what in listed
        ]
        lines += ["", f"## {part.capitalize()}", ""]
        lines += table(["what", "tests in", *keys, "commit"], rows, 2)
    if slurm := kept.get("slurm"):
        found = slurm["found"].items()
        lines += ["", "## A Slurm cluster", "", f"At commit {slurm['commit']}. {SLURM}", ""]
        lines += table(["what", ""], [list(map(str, item)) for item in found], 2, total=False)
    return "\n".join(lines) + "\n"


KILLS = (
    "One run: custom, progressive, one seed, drawn faces at 32 px. *Survived*: the same command, "
    "given again, ended with the tables of an undisturbed run, byte for byte (except images/s). "
    f"*Lost*: it did not. *Orphans*: processes left {END} s after the kill. *Torn*: files with a "
    "final name that were incomplete. *Completed*: how often the run ended and was compared. A "
    "killed run is continued and may be killed again before it ends."
)
SLURM = (
    "Two nodes on this machine. The command is stopped by Ctrl-C, started again, killed by "
    "SIGKILL, started again; then one running job is cancelled and the daemon of one node is "
    "killed and started again. *Equal*: the tables are those of a local run, byte for byte."
)


def table(head, rows, words, total=True):
    """Return the lines of a table whose first columns are words, with a last row of sums."""
    if total and rows:
        sums = [sum(row[k] for row in rows) for k in range(words, len(head) - 1)]
        rows = [*rows, ["**all**", *[""] * (words - 1), *(f"**{n}**" for n in sums), ""]]
    marks = ["---"] * words + ["---:"] * (len(head) - words)
    return [f"| {' | '.join(map(str, row))} |" for row in (head, marks, *rows)]


# --- situations and bad inputs


CASES = [(part, what) for part, listed in PARTS.items() for what in listed]


@pytest.mark.parametrize(("part", "what"), CASES, ids=lambda value: value.replace(" ", "_"))
def test_nothing_is_lost_in(part, what):
    """Run the tests of one file; of a test with random input every example counts."""
    if counted(part, what):
        return
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder, "junit.xml")
        command = [sys.executable, "-m", "pytest", "-n", "0", PARTS[part][what]]
        command += [f"--junitxml={xml}", "--hypothesis-show-statistics", "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        suite = ElementTree.parse(xml).getroot().find("testsuite")
    kinds = Counter()
    for case in suite.iter("testcase"):
        kinds[next((k for k in BAD if case.find(k) is not None), "passed")] += 1
    examples = [int(n) for n in re.findall(r"- (\d+) passing", done.stdout)]
    drawn = len(re.findall(r"^tests/\S+::.*:$", done.stdout, re.M))  # tests of such examples
    lost = kinds["failure"] + kinds["error"]
    survived = kinds["passed"] + sum(examples) - drawn
    found = {"tried": survived + lost, "survived": survived, "lost": lost}
    found |= {"skipped": kinds["skipped"], "seconds": round(float(suite.get("time")))}
    keep(part, what, found)
    assert not lost, done.stdout[-3000:]


BAD = ("failure", "error", "skipped")


# --- kills


class Target:
    """One kind of process: how it starts, who may be killed, what it makes, what to clear."""

    def __init__(self, start, made, clear, words=(), late=0.8):
        self.start, self.made, self.clear = start, made, clear
        self.words = words  # in the command lines of those that may be killed beside it
        self.late = late  # a kill comes at most so late, as a share of an undisturbed run


def forked(work):
    """Return a function that starts `work` in a fork of this process, which has all imported."""

    def begin():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        work()

    def start(output):
        os.environ["INPAINT_OUTPUT"] = str(output)
        process = multiprocessing.get_context("fork").Process(target=begin)
        process.start()
        return process

    return start


def started(command, **more):
    """Return a function that starts a command in a session of its own."""

    def start(output):
        return subprocess.Popen(
            [part.format(output=output) for part in command],
            cwd=ROOT,
            env=current(INPAINT_OUTPUT=str(output), **more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    return start


def of_run(output):
    return contents(output / RUN)


def of_pack(output):
    return {p.name: p.read_bytes() for p in (output / "runs/smoke/faces/data").glob("[!.]*")}


def train():
    loop.fit(grid.open_study("smoke", GRID).runs()[0], lambda *_: None)


def prepare():
    packs.prepare(grid.open_study("smoke", PREPARED), "faces")


PARAMETERS = {"profile": "smoke", "dataset": "faces", "setup": "progressive", "seed": 0}
NOTEBOOK = [sys.executable, "-P", "-m", "workflow", "_notebook", "10_train"]
NOTEBOOK += [f"{{output}}/{RUN}/notebook.ipynb", f"{{output}}/{RUN}/done.json", "{parameters}"]
STUDY = ["bash", str(ROOT / "run_all.sh"), "smoke", "{settings}"]


def filled(command):
    """Return a command with its parameters, whose braces are no places to fill in."""
    given = json.dumps(PARAMETERS | {"overrides": GRID})
    values = {"{parameters}": [given], "{settings}": SETTINGS}
    parts = [part for word in command for part in values.get(word, [word])]
    return [p if "{output}" in p else p.replace("{", "{{").replace("}", "}}") for p in parts]


TARGETS = {
    "run_all.sh and Snakemake": Target(
        started(filled(STUDY)), tables, ("runs", "reports"), ("workflow.engine",), 0.5
    ),
    "papermill and its kernel": Target(
        started(filled(NOTEBOOK), PYTHONPATH=str(ROOT)), of_run, (RUN,), ("ipykernel",)
    ),
    "training process": Target(forked(train), of_run, (RUN,)),
    "data preparation": Target(forked(prepare), of_pack, ("runs",), ("spawn_main",)),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """undisturbed(name) -> what a target makes, and the seconds it takes: measured once."""
    done = {}

    def measured(name):
        if name not in done:
            target, output = TARGETS[name], tmp_path_factory.mktemp("undisturbed")
            begun = time.monotonic()
            assert ended(target.start(output), 900) == 0, f"{name} fails undisturbed"
            done[name] = target.made(output), time.monotonic() - begun
        return done[name]

    return measured


def ended(process, seconds):
    """Return a process's exit code, or None if it still runs after so many seconds."""
    if hasattr(process, "join"):
        process.join(seconds)
        return process.exitcode
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def family(pid):
    """Return a process and all that descend from it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return []


def described(process):
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())
    return ""


def torn(output):
    """Return the files under a final name that cannot be read to their end."""
    checks = {
        ".json": lambda p: json.loads(p.read_text()),
        ".ipynb": lambda p: json.loads(p.read_text()),
        ".csv": pd.read_csv,
        ".gz": pd.read_csv,
        ".npy": lambda p: np.load(p, mmap_mode="r").shape,
        ".npz": lambda p: zipfile.ZipFile(p).testzip() and 1 / 0,
        ".pt": lambda p: artifacts.load_checkpoint(p)["state"]["step"],
        ".safetensors": lambda p: safe_open(p, "np").keys(),
        ".png": lambda p: Image.open(p).load(),
        ".html": lambda p: p.read_text().rstrip().endswith("</html>") or 1 / 0,
    }
    found = []
    for path in output.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(output).parts)
        if path.is_file() and not hidden and path.suffix in checks:
            try:
                checks[path.suffix](path)
            except Exception as error:
                found.append(f"{path.relative_to(output)}: {type(error).__name__}: {error}")
    return found


@pytest.mark.skipif(platform.system() != "Linux", reason="finds processes as Linux lists them")
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("by", SIGNALS)
def test_killed_it_goes_on_to_the_same_end(tmp_path, kills, undisturbed, name, by):
    target, key = TARGETS[name], f"{name}, {by}"
    told = Counter({k: n for k, n in counted("kills", key).items() if isinstance(n, int)})
    if told["tried"] >= kills:
        return
    expected, seconds = undisturbed(name)
    chance, pending, notes = random.Random(f"{key} {told['tried']}"), Counter(), []
    while told["tried"] < kills:
        enough = told["tried"] + pending["tried"] >= kills
        process = target.start(tmp_path)
        wait = 900 if enough else chance.uniform(0, target.late * seconds)
        code = ended(process, wait)
        if code is not None:
            equal = code == 0 and target.made(tmp_path) == expected
            notes += [f"exit code {code}, other content"] * (not equal)
            told += pending + Counter(completed=1)
            told["survived" if equal else "lost"] += pending["tried"]
            pending.clear()
            keep("kills", key, {k: told[k] for k in COUNTED})
            for place in target.clear:
                shutil.rmtree(tmp_path / place, ignore_errors=True)
            continue
        members = family(process.pid)
        others = [p for p in members if any(word in described(p) for word in target.words)]
        victim = chance.choice([members[0], *others]) if members else None
        with contextlib.suppress(psutil.NoSuchProcess, AttributeError):
            victim.send_signal(SIGNALS[by])
            pending["tried"] += 1
        if victim and victim.pid != process.pid:  # the command may go on, or notice and end
            ended(process, 10 * seconds)
        _, left = psutil.wait_procs(members, END)
        ended(process, 1)
        left = [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        pending["orphans"] += len(left)
        notes += [f"orphan: {described(p)[:200]}" for p in left]
        for orphan in left:
            orphan.kill()
        damaged = torn(tmp_path)
        pending["torn"] += len(damaged)
        notes += damaged
    assert not (told["lost"] or told["orphans"] or told["torn"]), notes


COUNTED = ("tried", "survived", "lost", "orphans", "torn", "completed")
