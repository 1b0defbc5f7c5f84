"""What the suite survives, counted: kills at random moments, a hostile machine, bad input, a Slurm cluster.

    ./run_all.sh reliability [--quick] [--parts kills,cases,slurm] [--kills N,N,N]

Writes reports/reliability.md. Kills: one experiment, killed again and again; between kills the same command goes on from what
the last one left. When it ends by itself its tables are compared with those of an undisturbed run, and it starts anew until
enough kills have struck. After every kill all its processes must end within seconds, and every file under a final name must be
whole. A kill is lost if what was started after it ends with other tables or not at all. Cases: the tests of the files in CASES.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors import safe_open

from inpaint_lib.data import packs
from inpaint_lib.study import files, grid, provenance
from inpaint_lib.training import artifacts

ROOT = Path(__file__).resolve().parent.parent
REPORT, KEPT = ROOT / "reports" / "reliability.md", ROOT / "reports" / "benchmarks" / "reliability.json"
GRID = {
    "train_images": 200, "test_images": 32, "total_images": 512, "batch_size": 8, "mask_widths": [8, 16], "log_every": 4,
    "datasets": ["faces"], "architectures": ["custom"], "setups": ["progressive"], "perceptual_width": 4,
    "checkpoint_seconds": 0,
}  # fmt: skip
PREPARED = GRID | {"train_images": 2000}  # enough for two workers
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
END = 30  # seconds that a signalled process and its children may take to end
CASES = {
    "a hostile machine: disk, folders, clock, concurrency, NaN, memory": "tests/project/test_trouble.py",
    "bad input: command line, configuration, data, masks, weights, parameters": "tests/project/test_bad_input.py",
    "fuzzing: random and mutated input": "tests/project/test_fuzz.py",
    "security: pickles, HTML, archives, listening": "tests/project/test_security.py",
    "training: resume, checkpoints, refusals": "tests/training/test_train.py",
    "preparation: kills, damage": "tests/data/test_data.py",
    "other people's shells, folders and files": "tests/workflow/test_surroundings.py",
    "data as people pack and name them": "tests/data/test_sources.py",
    "photographs, masks and names of every kind": "tests/photos/test_inpaint.py",
    "GPUs leased": "tests/workflow/test_leases.py",
}
OPENED = ("from inpaint_lib.data import packs; from inpaint_lib.study import grid; from inpaint_lib.training import loop;"
          "study = grid.open_study('smoke', {grid});")  # fmt: skip


class Target:
    """One kind of process: how it is started, what it prints when its work begins, whom to kill, what it must leave, what to
    delete for another go, and how late a kill comes at most, as a share of an undisturbed run."""

    def __init__(self, name, command, begins, victims, made, clear, late=0.7):
        self.name, self.command, self.begins, self.victims, self.made, self.clear = name, command, begins, victims, made, clear
        self.late = late


def targets():
    script = OPENED + "print('begins', flush=True);"
    train, prepare = script.format(grid=GRID) + "loop.fit(study.runs()[0])", script.format(grid=PREPARED)
    run = grid.open_study("smoke", GRID).runs()[0]
    under = Path("runs/smoke") / run.name
    settings = [f"--set={key}={json.dumps(value)}" for key, value in GRID.items()]
    parameters = {"profile": "smoke", "dataset": "faces", "setup": "progressive", "seed": 0, "overrides": GRID}
    tables_of_a_run = ("history.csv", "stages.csv", "per_image.csv.gz", "stages/1.safetensors", "stages/2.safetensors")

    def run_files(output, names=tables_of_a_run):
        return {name: content(output / under / name) for name in names}

    def notebook_command(output):
        folder = output / under
        return [sys.executable, "-P", "-m", "workflow.run_notebook", "10_train_custom", folder / "notebook.ipynb",
                folder / "result.json", json.dumps(parameters)]  # fmt: skip

    def kernel(process, names):
        return [p for p in names if "ipykernel_launcher" in names[p]]

    def alone(process, names):
        return [[process.pid]]

    def runner_and_kernel(process, names):
        found = kernel(process, names)
        return [[process.pid], found, [process.pid, *found]] if found else [[process.pid]]

    def one_of_the_engines(process, names):
        """run_all.sh, Snakemake, or the process that forks kernels."""
        snakemake = [p for p in names if "-m snakemake" in names[p] and "--directory" in names[p]][:1]
        warm = [p for p in names if "-m workflow.warm" in names[p]]
        return [[process.pid], *([found] for found in (*snakemake, *warm))]

    def parent_or_worker(process, names):
        workers = [p for p in names if "spawn_main" in names[p]]
        return [[process.pid]] * max(len(workers), 1) + [[worker] for worker in workers]

    return [
        Target("Snakemake and run_all.sh", lambda output: [ROOT / "run_all.sh", "smoke", *settings], "profile smoke",
               one_of_the_engines,  # study.json names the commit, and whether a file was changed since, as this report is
               lambda o: {p.name: content(p) for p in (o / "reports/smoke/tables").iterdir() if p.name != "study.json"},
               ("runs", "reports"), 0.35),
        Target("papermill and its kernel", notebook_command, "start", runner_and_kernel,
               lambda o: run_files(o, (*tables_of_a_run, "evaluation.csv")), (under,)),
        Target("training process", lambda output: [sys.executable, "-c", train], "begins",
               alone, run_files, (under,)),
        Target("data preparation", lambda output: [sys.executable, "-c", prepare + "packs.prepare(study, 'faces')"], "begins",
               parent_or_worker, lambda o: {p.name: content(p) for p in (o / "runs/smoke/faces/data").glob("[!.]*")},
               ("runs",)),
    ]  # fmt: skip


def content(path):
    """A file's bytes, or what of them does not depend on the clock."""
    if path.name == "history.csv":
        return pd.read_csv(path).drop(columns="images_per_second").to_csv().encode()
    if path.suffix == ".safetensors":  # the order of its header is not fixed
        with safe_open(path, "np") as file:
            return {key: file.get_tensor(key).tobytes() for key in file.keys()}
    return path.read_bytes()


def hear_ctrl_c():
    """A process in the background inherits SIGINT ignored; one at a terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(target, output, mark):
    environment = os.environ | {"INPAINT_OUTPUT": str(output), "INPAINT_ENV": "current", "INPAINT_DRILL": mark,
                                "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}  # fmt: skip
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.Popen(list(map(str, target.command(output))), env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=hear_ctrl_c)  # fmt: skip


def living(mark):
    """{pid: command line} of the processes that descend from the one started with this mark."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"INPAINT_DRILL={mark}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def follow(process, words):
    """(event set when `words` were printed, list of the lines printed so far)."""
    begun, lines = threading.Event(), []

    def read():
        for line in process.stdout:
            lines.append(line)
            if words in line:
                begun.set()
        begun.set()

    threading.Thread(target=read, daemon=True).start()
    return begun, lines


def torn(output):
    """Files under a final name that cannot be read to their end."""
    checks = {
        ".json": lambda p: json.loads(p.read_text()),
        ".ipynb": lambda p: json.loads(p.read_text()),
        ".csv": lambda p: pd.read_csv(p),
        ".gz": lambda p: pd.read_csv(p),
        ".npy": lambda p: np.load(p, mmap_mode="r").shape,
        ".npz": lambda p: zipfile.ZipFile(p).testzip() and 1 / 0,
        ".pt": lambda p: artifacts.load_checkpoint(p)["state"]["step"],
        ".safetensors": lambda p: safe_open(p, "np").keys(),
        ".png": lambda p: Image.open(p).load(),
        ".pdf": lambda p: p.read_bytes().rstrip().endswith(b"%%EOF") or 1 / 0,
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


def clear(target, output):
    for name in target.clear:
        shutil.rmtree(output / name, ignore_errors=True)


def finish(target, output, mark):
    """Run the command to its end -> (exit code, seconds from where its work begins, what it printed)."""
    process = start(target, output, mark)
    begun, lines = follow(process, target.begins)
    begun.wait()
    since = time.monotonic()
    code = process.wait(timeout=900)
    return code, time.monotonic() - since, "".join(lines)


def drill(target, name, kills, output, reference, seconds, seed):
    """Kill `kills` times -> {tried, survived, lost, orphans, torn, completed, notes}."""
    drawn, told = random.Random(seed), Counter()
    notes, pending = [], 0
    shutil.copytree(output.with_name("packed"), output)
    clear(target, output)

    def settle(code, said):
        nonlocal pending
        equal = code == 0 and target.made(output) == reference
        told["survived" if equal else "lost"] += pending
        told["completed"] += 1
        if not equal:
            notes.append(f"{target.name}, {name}: exit code {code}: {' '.join(said.split())[-300:]}")
        if left := [str(p.relative_to(output)) for p in output.rglob("*.tmp*")]:
            notes.append(f"{target.name}, {name}: left behind: {', '.join(left)}")
        pending = 0
        clear(target, output)

    while told["tried"] < kills:
        mark = uuid.uuid4().hex
        process = start(target, output, mark)
        begun, lines = follow(process, target.begins)
        begun.wait()
        try:
            code = process.wait(timeout=drawn.uniform(0, target.late * seconds))
            settle(code, "".join(lines))
            continue
        except subprocess.TimeoutExpired:
            victims = drawn.choice(target.victims(process, living(mark)))
        struck = 0
        for victim in victims:
            try:
                os.kill(victim, SIGNALS[name])
                struck += 1
            except ProcessLookupError:
                continue
        told["tried"] += bool(struck)
        pending += bool(struck)
        if process.pid not in victims:  # the command may go on, or notice and end
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10 * seconds)
        deadline = time.monotonic() + END
        while (left := living(mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            told["orphans"] += len(left)
            notes.append(f"{target.name}, {name}: still there after {END} s: {'; '.join(left.values())[:300]}")
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        process.wait()
        if damaged := torn(output):
            told["torn"] += len(damaged)
            notes.append(f"{target.name}, {name}: {damaged[0]}")
        print(f"{target.name:26} {name:8} {told['tried']:3} of {kills}", flush=True)
    if pending:
        code, _, said = finish(target, output, uuid.uuid4().hex)
        settle(code, said)
    shutil.rmtree(output)
    return {key: told[key] for key in ("tried", "survived", "lost", "orphans", "torn", "completed")} | {"notes": notes}


def kill_tests(kills, folder, keep, lanes=2):
    """Every target with every signal, `lanes` at a time; `keep([{target, signal, tried, ...}])` after each."""
    references, timed = {}, {}
    os.environ["INPAINT_OUTPUT"] = str(folder / "packed")  # what training builds on, made once for all
    packs.prepare(grid.open_study("smoke", GRID), "faces")
    for target in targets():
        output = folder / target.name
        shutil.copytree(folder / "packed", output)
        clear(target, output)
        code, timed[target.name], said = finish(target, output, uuid.uuid4().hex)
        if code:
            sys.exit(f"{target.name} fails undisturbed: {said[-2000:]}")
        references[target.name] = target.made(output)
        print(f"{target.name}: {timed[target.name]:.1f} s undisturbed", flush=True)
    jobs = [(target, name) for name in SIGNALS for target in targets()]

    def one(job):
        number, (target, name) = job
        found = drill(target, name, kills[name], folder / str(number), references[target.name], timed[target.name], number)
        done.append({"target": target.name, "signal": name} | found)
        keep(sorted(done, key=lambda row: list(timed).index(row["target"])))

    done = []
    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(one, enumerate(jobs)))


def cases(thorough):
    """{heading: {file, passed, failed, skipped, seconds, notes}} of the tests in CASES."""
    found = {}
    for heading, file in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            xml = Path(folder) / "junit.xml"
            profile = ["--hypothesis-profile=thorough"] if thorough and file.endswith("fuzz.py") else []
            subprocess.run([sys.executable, "-m", "pytest", file, f"--junitxml={xml}", *profile], cwd=ROOT, check=False,
                           preexec_fn=hear_ctrl_c)  # fmt: skip
            suite = ElementTree.parse(xml).getroot().find("testsuite")
        kinds, notes = Counter(), []
        for case in suite.iter("testcase"):
            kind = next((k for k in ("failure", "error", "skipped") if case.find(k) is not None), "passed")
            kinds[kind] += 1
            if kind != "passed":
                notes.append(f"{kind}: {case.get('name')}: {case.find(kind).get('message', '')[:200]}")
        found[heading] = {"file": file, "passed": kinds["passed"], "failed": kinds["failure"] + kinds["error"],
                          "skipped": kinds["skipped"], "seconds": round(float(suite.get("time"))), "notes": notes}  # fmt: skip
    return found


def slurm_test(quick, folder):
    """The drill of tests/workflow/test_slurm.py, on the smoke study of one data set or a smaller one -> what happened."""
    from tests.workflow import test_slurm, test_workflow

    if why := test_slurm.missing():
        return {"skipped": why}
    arguments = [*test_workflow.SETTINGS, "--set=total_images=640"] if quick else ["--datasets", "faces"]
    arguments += ["--set=checkpoint_seconds=1", "--jobs", "4"]

    def reference():
        local = test_workflow.start(folder / "local", "smoke", *arguments)
        out, err = local.communicate()
        if local.returncode:
            sys.exit(out + err)
        return test_workflow.tables(folder / "local", "smoke")

    version = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    return test_slurm.drill(folder / "cluster", "smoke", arguments, reference) | {"version": version}


def report(kept):
    where = "{system}, {cpus} CPU cores, Python {python}, torch {torch}; commit {commit}; {minutes} minutes"
    lines = ["# Reliability", "", "Made by `./run_all.sh reliability`; `benchmarks/reliability.py` tells how.", ""]
    if part := kept.get("kills"):
        rows = part["found"]
        lines += ["## Kills at random moments", "", where.format(**part), "",
                  "One experiment: custom, progressive, one seed, drawn faces at 32 px. *Survived*: the same command, given "
                  "again, ended with the tables of an undisturbed run, byte for byte (images/s aside). *Lost*: it did not. "
                  f"*Orphans*: processes left {END} s after the kill. *Torn*: files under a final name that were not whole. "
                  "*Completed*: how often the command came to its end and its tables were compared. Kills pile up: what one "
                  "leaves is gone on with and killed again.", "",
                  "| killed | by | tried | survived | lost | orphans | torn files | completed |",
                  "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
        keys = ("tried", "survived", "lost", "orphans", "torn", "completed")
        lines += ["| " + " | ".join(str(row[key]) for key in ("target", "signal", *keys)) + " |" for row in rows]
        lines += ["| **all** | | " + " | ".join(f"**{sum(row[key] for row in rows)}**" for key in keys) + " |", ""]
        lines += [f"- {note}" for row in rows for note in row["notes"]]
        lines += ["", "Snakemake and run_all.sh: one of the two, by chance. Papermill and its kernel: either or both. Data "
                  "preparation: the process or one of its workers. Training: the process that trains.", ""]  # fmt: skip
    if part := kept.get("cases"):
        lines += ["## Cases", "", where.format(**part), "", "| what | tests in | tried | survived | lost | skipped | s |",
                  "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
        lines += [f"| {heading} | `{f['file']}` | {f['passed'] + f['failed']} | {f['passed']} | {f['failed']} | {f['skipped']} "
                  f"| {f['seconds']} |" for heading, f in part["found"].items()]  # fmt: skip
        lines += ["", *(f"- {note}" for f in part["found"].values() for note in f["notes"]), ""]
    if part := kept.get("slurm"):
        lines += ["## A Slurm cluster", "", where.format(**part), ""]
        if "skipped" in part["found"]:
            lines += [f"Not run: {part['found']['skipped']}.", ""]
        else:
            lines += ["Two nodes on this machine. The command is stopped by Ctrl-C, started again, killed by SIGKILL, started "
                      "again; then one running job is cancelled and the daemon of one node is killed and started again. "
                      "*Equal*: the tables are those of a local run, byte for byte.", "", "| what | |", "| --- | ---: |",
                      *(f"| {key} | {value} |" for key, value in part["found"].items()), ""]  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(prog="run_all.sh reliability", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="three kills each, few examples, a small study on Slurm: minutes")
    parser.add_argument("--kills", metavar="N,N,N", help="kills per process by SIGKILL, SIGTERM, Ctrl-C (30; quick: 3)")
    parser.add_argument("--parts", default="kills,cases,slurm", help="which (default: all); the others' last results are kept")
    args = parser.parse_args()
    if unknown := set(args.parts.split(",")) - {"kills", "cases", "slurm"}:
        parser.error(f"--parts {args.parts}: no part {unknown.pop()}; there are kills, cases, slurm")
    if not Path("/proc/self/environ").exists():
        parser.error("needs Linux: processes are found through /proc")
    os.environ["TQDM_DISABLE"] = "1"
    kept, kills = files.read_json(KEPT) or {}, (args.kills or ("3" if args.quick else "30")).split(",")
    if len(kills) not in (1, 3) or not all(n.isdigit() and int(n) for n in kills):
        parser.error(f"--kills {args.kills}: give one whole number, or three, 1 or more")
    kills = dict(zip(SIGNALS, map(int, kills if len(kills) == 3 else 3 * kills), strict=True))
    done = {
        "kills": lambda folder, keep: kill_tests(kills, folder, keep),
        "cases": lambda folder, keep: keep(cases(not args.quick)),
        "slurm": lambda folder, keep: keep(slurm_test(args.quick, folder)),
    }
    for part in args.parts.split(","):
        begun, made = time.monotonic(), provenance.current()

        def keep(found, part=part, begun=begun, made=made):
            kept[part] = {"found": found, "system": made["system"], "python": made["python"], "torch": torch.__version__,
                          "commit": made["commit"], "cpus": os.cpu_count(),
                          "minutes": round((time.monotonic() - begun) / 60)}  # fmt: skip
            files.write_json(KEPT, kept)
            with files.replacing(REPORT) as temporary:
                temporary.write_text(report(kept))

        with tempfile.TemporaryDirectory() as folder:
            done[part](Path(folder), keep)
    print(REPORT.read_text(), os.path.relpath(REPORT), sep="\n")
    lost = [r for r in kept.get("kills", {}).get("found", []) if r["lost"] or r["orphans"] or r["torn"]]
    failed = [f for f in kept.get("cases", {}).get("found", {}).values() if f["failed"]]
    return 1 if lost or failed or kept.get("slurm", {}).get("found", {}).get("equal") is False else 0


if __name__ == "__main__":
    sys.exit(main())
