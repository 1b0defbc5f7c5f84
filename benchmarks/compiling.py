"""Measure what torch.compile costs at the full widths of `paper`: the first time, and once more.

    PYTHONPATH=. python benchmarks/compiling.py [--case custom:pieces ...]

Each case is the first training step, of two images at 128 px on one CPU core: in a process with an
empty cache, then in another one with what the first has left there. Seconds are of CPU, of the
process and the C++ compilers that it starts. compiling.md and .json in
reports/benchmarks are written after every case; cases measured before stay.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace

import psutil
import torch
import training as bench
from torch._dynamo.utils import counters
from torch._inductor import metrics

from inpaint_lib.study import files
from inpaint_lib.study.command import Parser, exit_with, fail, say
from inpaint_lib.training import step, trial

CASES = "custom:pieces context_encoder:networks free_form:networks custom:networks".split()
PATH = bench.REPORTS / "compiling"


def use_cpu():
    """Return the seconds of CPU that this process and all that it has started have used."""
    running = psutil.Process().children(recursive=True)
    return sum(os.times()[:4]) + sum(sum(child.cpu_times()[:4]) for child in running)


def compile_case(case):
    """Return {"s", "graphs", "kernels"} of a case in this process."""
    architecture, what = case.split(":")
    run, cpu = bench.case_of(128, architecture, "cpu", {"curriculum.batch_size": 2}), "cpu"
    options = step.choose_options(run.config, torch.device(cpu), architecture)
    options = replace(options, compile=True, compile_pieces=what == "pieces")
    train, used = trial.create_stepper(run, torch.device(cpu), options), use_cpu()
    train()
    seconds = use_cpu() - used
    if not train.fast.options.compile:
        raise RuntimeError(f"{case} was not compiled")
    kernels = metrics.generated_kernel_count
    return {"s": seconds, "graphs": counters["stats"]["unique_graphs"], "kernels": kernels}


def measure(case):
    """Return {"first", "again"}: what two processes found, one after the other, with one cache."""
    found, environment = {}, os.environ.copy()
    with tempfile.TemporaryDirectory() as environment["TORCHINDUCTOR_CACHE_DIR"]:
        for name in ("first", "again"):
            command = [sys.executable, __file__, "--process", case]
            done = subprocess.run(command, env=environment, stdout=-1, text=True, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
    return found | {"date": time.strftime("%Y-%m-%d")}


def main(argv):
    """Measure the cases that `argv` names."""
    parser = Parser(prog="benchmarks/compiling.py", description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="this case only")
    parser.add_argument("--process", metavar="CASE", help="of the benchmark itself")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.process:
        return print("\n" + json.dumps(compile_case(args.process)))
    result = files.read_json(PATH.with_suffix(".json")) or {}
    for case in args.case or CASES:
        try:
            result[case] = measure(case) | {"torch": torch.__version__, "on": bench.name_of("cpu")}
        except subprocess.CalledProcessError:
            return fail(1, f"{case}: its process failed", "benchmarks/compiling.py")
        files.write_json(PATH.with_suffix(".json"), result)
        header = "case|graphs|kernels|CPU s, empty cache|CPU s, next process|torch|date".split("|")
        rows = [
            [case, of["first"]["graphs"], of["first"]["kernels"]]
            + [f"{of[name]['s']:.0f}" for name in ("first", "again")]
            + [of["torch"], of["date"]]
            for case, of in result.items()
        ]
        lines = [
            "# What torch.compile costs on a CPU",
            "",
            f"`benchmarks/compiling.py`, {bench.name_of('cpu')}.",
        ]
        files.write_text(PATH.with_suffix(".md"), "\n".join([*lines, *bench.rows_of(header, rows)]))
        say(f"{case}: {result[case]}")
    return 0


if __name__ == "__main__":
    exit_with(main, sys.argv[1:])
