"""Measure training steps: ours against a textbook loop, in turn, and ours with one option changed.

    ./run_all.sh bench [--quick] [--device cpu|cuda] [--case SIZE:ARCHITECTURE ...]

The textbook loop is examples/textbook.py: eager float32, plain Adam, batches and masks drawn one by
one, D on real and fake images apart and not frozen for G, `.item()` on every loss. Networks, losses
and images are the same. Each variant has a process of its own.

Cases: 64 px at the widths of `medium`, batch 16; 128 px at the full widths of `paper`, batch 64 on
CUDA and 8 on a CPU (4 for custom); the perceptual loss has random weights. training_<device>.md and
.json in reports/benchmarks are written after every case; cases measured before on that device with
the same torch stay until they are measured again.
"""

import argparse
import contextlib
import multiprocessing
import platform
import re
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from inpaint_lib import models
from inpaint_lib.data import faces
from inpaint_lib.study import config as configuration
from inpaint_lib.study import devices, files, grid, processes
from inpaint_lib.study.command import Parser, exit_with, fail, say
from inpaint_lib.training import trial
from inpaint_lib.training.step import WARM_UP, Options, choose_options, choose_precision

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports" / "benchmarks"
IMAGES = 64
SECONDS = 3  # of a turn
PROFILES = {64: "medium", 128: "paper"}
CASES = [(size, name) for size in PROFILES for name in models.ARCHITECTURES]


def case_of(size, architecture, device, more=()):
    """Return the run of a case: its networks, losses and batch size; `more` overrides settings."""
    overrides = {
        "grid.datasets": ["faces"],
        "grid.architectures": [architecture],
        "data.image_size": size,
        "data.train_images": IMAGES,
        "training.perceptual_weights": "random",
        "training.perceptual_width": 64,
        "training.precision": "auto",
        "machine.device": device,
        "machine.threads": torch.get_num_threads(),
    }
    if size == 128 and device == "cpu":
        overrides["curriculum.batch_size"] = 4 if architecture == "custom" else 8
    study = grid.Study("bench", configuration.load(PROFILES[size], overrides | dict(more)))
    return grid.Run(study, "faces", architecture, "progressive", 0)


def images_of(run):
    """Return the images of a case, (IMAGES, H, W, 3) uint8."""
    return np.stack(list(faces.draw(range(IMAGES), run.config.data.image_size)))


def textbook(run, device):
    """Return a function that trains one step of examples/textbook.py."""
    sys.path.insert(0, str(ROOT / "examples"))
    import textbook

    images = torch.from_numpy(images_of(run)).permute(0, 3, 1, 2) / 127.5 - 1
    steps = textbook.train(run.architecture, run.config, list(images), device=device)
    return lambda: next(steps)


# --- a variant in its own process


def serve(pipe, size, architecture, device, variant):
    """Train for each number of seconds in the pipe -> (steps, seconds, peak bytes); None ends."""
    from torch.utils.flop_counter import FlopCounterMode

    processes.work_for_parent()
    run, place, cuda = case_of(size, architecture, device), torch.device(device), device == "cuda"
    options = choose_options(run.config, place, architecture)
    if variant == "textbook":
        step = textbook(run, place)
    else:
        step = trial.create_stepper(run, place, changed(options, variant), images_of(run))
    with FlopCounterMode(display=False) as counter:
        step()
    for _ in range(4 if cuda else 0):  # past compilation and capture
        step()
    wait(device)
    batch = run.config.curriculum.batch_size
    flop = counter.get_total_flops() / batch
    pipe.send({"flop": flop, "options": vars(options), "batch": batch})
    while (seconds := pipe.recv()) is not None:
        steps, begun = 0, time.perf_counter()
        while not steps or time.perf_counter() - begun < seconds:
            step()
            steps += 1
            if not cuda or steps % 20 == 0:
                wait(device)
        if variant != "textbook":
            step.fast.read()
        wait(device)
        peak = devices.measure_peak_memory(place)["device" if cuda else "host"]
        pipe.send((steps, time.perf_counter() - begun, peak))


def examine(device, tiny, size, architecture, variant):
    """Return what a case takes to begin, its rate, and how busy the device is; variant as above.

    Of kernels only those of CUDA are known. tiny: one step of two images each time.
    """
    from torch.utils.flop_counter import FlopCounterMode

    run = case_of(int(size), architecture, device, {"curriculum.batch_size": 2} if tiny else {})
    place, images = torch.device(device), images_of(run)
    options = choose_options(run.config, place, run.architecture)
    with FlopCounterMode(display=False) as counter:  # of a step that is not compiled
        trial.create_stepper(run, place, Options(options.precision), images)()
    options = changed(options, variant)
    begun, step = time.perf_counter(), trial.create_stepper(run, place, options, images)

    def train(steps):
        begun, steps = time.perf_counter(), 1 if tiny else max(1, int(steps))
        for _ in range(steps):
            step()
        wait(device)
        return (time.perf_counter() - begun) / steps

    train(WARM_UP + 2)
    found = {"s to start": time.perf_counter() - begun}
    each = train(2 * SECONDS / train(3))
    with torch.profiler.profile() as profile:
        train(10)
    on_card = [e for e in profile.events() if e.device_type.name == "CUDA"]
    busy = sum(e.self_device_time_total for e in on_card if not e.is_user_annotation) / 1e7
    return found | {
        "images/s": run.config.curriculum.batch_size / each,
        "ms a step": 1e3 * each,
        "ms of kernels a step": 1e3 * busy,
        "device waits": 1 - busy / each,
        "TFLOP/s": counter.get_total_flops() / each / 1e12,
        "fell back": step.fast.options.compile != options.compile,
        "options": ", ".join(f"{k} {v}" for k, v in vars(options).items()),
    }


def changed(options, variant):
    """Return the options of a variant: "ours" as they are, else that one the other way round."""
    if variant == "ours":
        return options
    value = "float32" if variant == "precision" else not getattr(options, variant)
    return replace(options, **{variant: value})


def wait(device):
    """Wait until a device has done all its work."""
    if device == "cuda":
        torch.cuda.synchronize()


class Ended(RuntimeError):
    """A variant's process has ended by itself; what it printed says why."""


class Variant:
    """A process that trains when told to. Its methods raise Ended where it no longer answers."""

    def __init__(self, *case):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, *case))
        self.process.start()
        other.close()
        self.about, self.rates, self.peak = None, [], 0

    def answer(self):
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            raise Ended from None

    def ask(self, what):
        with contextlib.suppress(OSError):  # a pipe that nobody reads gives no answer either
            self.pipe.send(what)
        return self.answer()

    def measure(self):
        """Train for a turn and note the images/s."""
        steps, elapsed, self.peak = self.ask(SECONDS)
        self.rates.append(steps * self.about["batch"] / elapsed)

    def found(self):
        """Return what the turns gave."""
        return {
            "images_per_second": statistics.median(self.rates),
            "spread": [min(self.rates), max(self.rates)],
            "peak_memory_bytes": self.peak,
        }

    def end(self):
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(30)
        self.process.kill()


def measure(size, architecture, device, rounds, ablate):
    """Return a case as the report shows it. An option that fails when changed is left out.

    Raises Ended if either loop fails.
    """
    options = choose_options(
        case_of(size, architecture, device).config, torch.device(device), architecture
    )
    names = [k for k, v in vars(options).items() if v is True or v == "bfloat16"]
    if device == "cuda":
        names += [name for name in ("channels_last", "deterministic") if name not in names]
    names = names if ablate else []
    everyone = ("textbook", "ours", *names)
    variants = {name: Variant(size, architecture, device, name) for name in everyone}
    textbook, ours, without = variants["textbook"], variants["ours"], {}
    try:
        for variant in variants.values():  # they start together and wait for their turns
            with contextlib.suppress(Ended):
                variant.about = variant.answer()
        for _ in range(rounds):
            textbook.measure()
            ours.measure()
        textbook.end()
        ours.end()
        for name in names:
            try:
                variants[name].measure()
                without[name] = variants[name].found()["images_per_second"]
            except (Ended, TypeError):  # about is None where it did not start
                say(f"{size} px {architecture}: the process with {name} changed failed")
    finally:
        for variant in variants.values():
            variant.end()
    slow, fast, about = textbook.found(), ours.found(), ours.about
    return {
        "size": size,
        "architecture": architecture,
        "date": time.strftime("%Y-%m-%d"),
        "batch": about["batch"],
        "textbook": slow,
        "ours": fast,
        "speedup": fast["images_per_second"] / slow["images_per_second"],
        "gflop_per_image": about["flop"] / 1e9,
        "options": about["options"],
        "without": without,
    }


# --- the device and the report


def measured_peak(device):
    """Return measured TFLOP/s of a matrix product in the precision that is used."""
    place, cuda = torch.device(device), device == "cuda"
    name, n = choose_precision("auto", place), 8192 if cuda else 2048
    a, b, x = (torch.ones(n, n, dtype=getattr(torch, name), device=place) for _ in range(3))
    times = []
    for _ in range(6):
        wait(device)
        begun = time.perf_counter()
        torch.mm(a, b, out=x)
        wait(device)
        times.append(time.perf_counter() - begun)
    return {"tflops": 2 * n**3 / min(times) / 1e12, "dtype": name}


def name_of(device):
    """Return a device's name; processors of one name with and without bfloat16 have two."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    model = re.search("model name\\s*: (.*)", info.read_text()) if info.is_file() else None
    native = choose_precision("auto", torch.device(device)) == "bfloat16"
    name, n = model[1] if model else platform.machine(), torch.get_num_threads()
    return f"{name}, {n} thread{'s' * (n != 1)}{', bfloat16' if native else ''}"


def rows_of(header, rows):
    """Return a Markdown table as lines."""
    cells = [header, ["---"] * len(header), *rows]
    return ["", *(f"| {' | '.join(map(str, row))} |" for row in cells), ""]


def rate(found):
    low, high = found["spread"]
    return f"{found['images_per_second']:.3g} ({low:.3g}-{high:.3g})"


def as_markdown(result):
    """Return the report's text."""
    cases, peak = result["cases"], result["peak"]
    dates, names = (
        sorted({c["date"] for c in cases}),
        sorted({n for c in cases for n in c["without"]}),
    )
    speeds, changes = [], []
    for c in cases:
        ours, case = c["ours"]["images_per_second"], [c["size"], c["architecture"]]
        tflops = c["gflop_per_image"] * ours / 1e3
        memory = [f"{c[v]['peak_memory_bytes'] / 2**30:.2f}" for v in ("textbook", "ours")]
        numbers = [f"{v:.3g}" for v in (c["speedup"], c["gflop_per_image"], tflops)]
        share, pair = f"{tflops / peak['tflops']:.0%}", [rate(c["textbook"]), rate(c["ours"])]
        speeds.append([*case, c["batch"], *pair, *numbers, share, f"{' / '.join(memory)} GiB"])
        shares = {name: f"{value / ours:.2f}" for name, value in c["without"].items()}
        changes.append([*case, *(shares.get(name, "-") for name in names)])
    header = "px|architecture|batch|textbook|ours|ratio|GFLOP/image|TFLOP/s|of peak|memory, both"
    lines = [
        f"# Training speed on {result['device']}",
        "",
        f"`./run_all.sh bench{' --quick' if result['quick'] else ''}`, torch {result['torch']}, "
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}. Images/s of complete steps, feeding "
        "and logging included: medians (least to most) over rounds in turn. The textbook loop is "
        f"examples/textbook.py. Peak: {peak['tflops']:.3g} TFLOP/s, measured with a matrix "
        f"product in {peak['dtype']}.",
        *rows_of(header.split("|"), speeds),
    ]
    if names:
        lines += ["Ours with one option changed, as a share of ours:"]
        lines += rows_of(["px", "architecture", *names], changes)
    options = ", ".join(f"{k} {v}" for k, v in cases[0]["options"].items())
    mean = statistics.geometric_mean(c["speedup"] for c in cases)
    lines += [f"Options: {options}.", "", f"Geometric mean ratio {mean:.2f}"]
    if all("precision" in c["without"] for c in cases):  # float32, as the textbook loop
        of = [c["without"]["precision"] / c["textbook"]["images_per_second"] for c in cases]
        lines[-1] += f"; in float32 {statistics.geometric_mean(of):.2f}, by case: "
        lines[-1] += ", ".join(f"{ratio:.2f}" for ratio in of)
    return "\n".join([*lines, ""])


def case(text):
    """Return the entry of CASES that SIZE:ARCHITECTURE names."""
    named = {f"{size}:{architecture}": (size, architecture) for size, architecture in CASES}
    if text not in named:
        raise argparse.ArgumentTypeError(f"{text!r}: give one of {', '.join(named)}")
    return named[text]


def update(path, found, peak, device, quick):
    """Write path.json and path.md with one more case and return the report's text.

    Cases of another torch are dropped.
    """
    result = files.read_json(path.with_suffix(".json")) or {}
    if result.get("torch") != torch.__version__ or "peak" not in result:  # or of an older version
        result = {"torch": torch.__version__, "cases": []}
    key = (found["size"], found["architecture"])
    others = [c for c in result["cases"] if (c["size"], c["architecture"]) != key]
    cases = sorted([*others, found], key=lambda c: CASES.index((c["size"], c["architecture"])))
    peak = max(peak, result.get("peak", peak), key=lambda p: p["tflops"])
    result |= {"device": device, "quick": quick, "peak": peak, "cases": cases}
    files.write_json(path.with_suffix(".json"), result)
    text = as_markdown(result)
    with files.replace(path.with_suffix(".md")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def main(argv):
    """Measure the cases that `argv` names."""
    parser = Parser(prog="run_all.sh bench", description=__doc__.splitlines()[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default)
    parser.add_argument(
        "--quick", action="store_true", help="two rounds, no options changed, 64 px unless --case"
    )
    parser.add_argument(
        "--case",
        type=case,
        action="append",
        metavar="SIZE:ARCHITECTURE",
        help="measure this case only, e.g. 128:custom; may be repeated (default: all six)",
    )
    try:
        args = parser.parse_args(argv)
        devices.choose_device(args.device)
    except ValueError as error:
        return fail(2, error)
    begun, device, failed, text = time.monotonic(), name_of(args.device), [], ""
    name = re.sub("[^a-z0-9]+", "_", device.lower()).strip("_")
    path = REPORTS / f"training_{name}{'_quick' if args.quick else ''}"
    for size, architecture in args.case or [c for c in CASES if not args.quick or c[0] == 64]:
        peak, rounds = measured_peak(args.device), 2 if args.quick or size == 128 else 3
        try:
            found = measure(size, architecture, args.device, rounds, not args.quick)
        except Ended:
            failed.append(f"{size}:{architecture}")
            continue
        text = update(path, found, peak, device, args.quick)
        say(f"{size} px {architecture}: {found['speedup']:.2f} times the textbook loop")
    if failed:
        return fail(1, f"{', '.join(failed)}: a process failed; the other cases are in {path}.md")
    say(*text.splitlines(), f"{time.monotonic() - begun:.0f} s; {path}.md")
    return 0


if __name__ == "__main__":
    exit_with(main, sys.argv[1:])
