"""How fast a training step is: ours against a textbook loop, interleaved in one run, and ours with each lever off.

    ./run_all.sh bench [--quick] [--device cpu|cuda] [--case SIZE:ARCHITECTURE ...] [--startup]

The textbook loop is what tutorials do: eager float32, plain Adam, a DataLoader with two workers that draws one mask a sample, D
on real and on fake apart and not frozen for G, `.item()` on every loss. Networks, losses and data are the same. Every variant
lives in a process of its own, since memory settings are a process's, and they take turns.

Cases: 64 px at the narrow widths of `small`, batch 16; 128 px at the full widths of `paper`, batch 8 (custom 4; 64 on CUDA),
perceptual loss on a full-width VGG with random weights. reports/benchmarks/training_<device>.md and .json are written after
every case; cases measured before on that device, with that torch, stay in them until they are measured again.
"""

import argparse
import contextlib
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # or the profiler complains of a GPU it does not need

import torch

from inpaint_lib import losses, masks, models
from inpaint_lib.data import faces
from inpaint_lib.study import config as configuration
from inpaint_lib.study import devices, files, grid, processes
from inpaint_lib.study.command import Parser, ended, fail, say
from inpaint_lib.training import trial
from inpaint_lib.training.step import Levers, choose_levers

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports" / "benchmarks"
IMAGES = 64
KINDS = {  # of operators, by name; the first that matches
    "convolution": r"conv",
    "matrix product": r"mm\b|addmv|(?<!bi)linear",
    "optimiser, norms of gradients": r"adam|_foreach",
    "normalisation": r"norm|var_mean|welford",
    "padding, scaling, copies": r"pad|upsample|copy|cat\b|index|fill|zero|clone|gather|im2col|col2im|contiguous|resize",
    "element-wise and the rest": "",
}
CASES = {(size, name): profile for size, profile in ((64, "medium"), (128, "paper")) for name in models.ARCHITECTURES}


def case_of(size, architecture, device):
    """The run of a case: its networks, losses and batch size."""
    overrides = {"datasets": ["faces"], "image_size": size, "perceptual_weights": "random", "train_images": IMAGES,
                 "architectures": [architecture], "device": device, "threads": torch.get_num_threads()}  # fmt: skip
    if size == 128 and device == "cpu":
        overrides |= {"batch_size": 4 if architecture == "custom" else 8}  # a step of custom takes ten seconds as it is
    study = grid.Study("bench", configuration.load(CASES[size, architecture], overrides))
    return grid.Run(study, "faces", architecture, "progressive", 0)


class Samples(torch.utils.data.Dataset):
    """An image in [-1, 1] and a mask of its own, as a tutorial's data set gives them."""

    def __init__(self, images, family, size):
        self.images, self.family, self.size = images, family, size

    def __len__(self):
        return 2**20  # an epoch longer than any measurement

    def __getitem__(self, k):
        image = self.images[k % len(self.images)]
        mask = masks.generate(self.family, 1, self.size // 2, self.size, torch.Generator().manual_seed(k))
        return image.permute(2, 0, 1).float() / 127.5 - 1, mask[0]


def textbook_step(G, D, opt_g, opt_d, objective, perceptual, weights, options, real, mask):
    """One update of D and of G the plain way -> {name: float}."""
    d_loss, g_loss, _ = objective.adversarial
    stages = G(real * (1 - mask), mask)
    real_scores = losses.scores(D(objective.seen(real, real, mask)))
    fake_scores = losses.scores(D(objective.seen(stages[-1].detach(), real, mask)))
    loss_d = d_loss(real_scores, fake_scores)
    opt_d.zero_grad()
    loss_d.backward()
    opt_d.step()

    adversarial_g = g_loss(losses.scores(D(objective.seen(stages[-1], real, mask))))
    terms = objective.reconstruction(stages, real, mask, perceptual, **options)
    loss_g = weights["adversarial"] * adversarial_g + sum(weights[name] * value for name, value in terms.items())
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    logged = terms | {"adversarial_d": loss_d, "adversarial_g": adversarial_g, "total_g": loss_g}
    return {name: value.item() for name, value in logged.items()}


def made_up(run):
    return faces.draw(range(IMAGES), run.config.image_size, 0)


def textbook(run, device):
    """A function that trains one step, and nothing else."""
    config, model, objective = run.config, run.model, losses.OBJECTIVES[run.architecture]
    images, perceptual = torch.from_numpy(made_up(run)), None
    if "perceptual" in objective.terms:
        perceptual = losses.Perceptual(config.perceptual_weights, config.perceptual_width).to(device)
    G, D = (n.to(device) for n in models.create(run.architecture, config.image_size, 0, **model.widths))
    opt_g, opt_d = (torch.optim.Adam(n.parameters(), lr, model.betas) for n, lr in ((G, model.lr_g), (D, model.lr_d)))
    loader = torch.utils.data.DataLoader(
        Samples(images, model.mask_family, config.image_size), config.batch_size, shuffle=True, num_workers=2, drop_last=True
    )
    batches = iter(loader)

    def step():
        real, mask = (t.to(device) for t in next(batches))
        textbook_step(G, D, opt_g, opt_d, objective, perceptual, model.loss_weights, model.loss_options, real, mask)

    return step


def serve(pipe, size, architecture, device, variant):
    """A process: answers each number of seconds with (steps, seconds) it trained."""
    from torch.utils.flop_counter import FlopCounterMode

    processes.work_for_parent()
    run, place = case_of(size, architecture, device), torch.device(device)
    levers = choose_levers(run.config, place, architecture)
    if variant == "textbook":
        step = textbook(run, place)
    else:
        changes = {"ours": {}, "precision": {"precision": torch.float32}}
        other = changes[variant] if variant in changes else {variant: not getattr(levers, variant)}
        step = trial.stepper(run, place, Levers(**vars(levers) | other), made_up(run))

    def wait():
        torch.cuda.synchronize() if device == "cuda" else None

    with FlopCounterMode(display=False) as counter:
        step()
    for _ in range(4 if device == "cuda" else 0):  # past compilation and capture
        step()
    wait()
    pipe.send({"flop": counter.get_total_flops() / run.config.batch_size, "levers": levers.describe(),
               "batch": run.config.batch_size})  # fmt: skip
    while (seconds := pipe.recv()) is not None:
        if seconds == "profile":
            if device == "cuda":  # without the levers that hide which operator a kernel is of
                step = trial.stepper(run, place, Levers(**vars(levers) | {"compile": False, "cuda_graph": False}))
                step()
                step.fast.read()
            pipe.send(profile(step, device))
            continue
        steps, begun = 0, time.perf_counter()
        while not steps or time.perf_counter() - begun < seconds:
            step()
            steps += 1
            if device == "cuda" and steps % 20:
                continue
            wait()
        if variant != "textbook":
            step.fast.read()
        wait()
        elapsed = time.perf_counter() - begun
        pipe.send((steps, elapsed, devices.peak_memory(place)["device" if device == "cuda" else "host"]))
    if device == "cuda":
        torch.cuda.synchronize()


def profile(step, device):
    """{kind of operator: share of a step's time}, by torch's profiler; the rest is between operators (CPU)."""
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with torch.profiler.profile(activities=activities) as found:
        begun = time.perf_counter()
        step()
        step.fast.read()
        elapsed = 1e6 * (time.perf_counter() - begun)
    shares = dict.fromkeys(KINDS, 0.0)
    for event in found.key_averages():
        if event.key.startswith(("aten::", "autograd::", "torch::")):
            kind = next(k for k, pattern in KINDS.items() if re.search(pattern, event.key))
            shares[kind] += (event.self_device_time_total if device == "cuda" else event.self_cpu_time_total) / elapsed
    return shares


class Ended(RuntimeError):
    """A variant's process has ended by itself: what it printed says why."""


class Variant:
    """A process that trains when told to. Raises Ended where it no longer answers."""

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

    def ready(self):
        self.about = self.answer()

    def measure(self, seconds):
        steps, elapsed, self.peak = self.ask(seconds)
        self.rates.append(steps * self.about["batch"] / elapsed)

    def found(self):
        return {"images_per_second": statistics.median(self.rates), "spread": [min(self.rates), max(self.rates)],
                "peak_memory_bytes": self.peak}  # fmt: skip

    def end(self):
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(30)
        self.process.kill()


def measure(size, architecture, device, seconds, rounds, ablate):
    """A case, as the report shows it; a lever that fails when off is left out. Raises Ended if either loop fails."""
    levers = choose_levers(case_of(size, architecture, device).study.config, torch.device(device), architecture).describe()
    levers = [k for k, v in levers.items() if ablate and ((v is True) or (k == "precision" and v != "float32"))]
    if ablate and device == "cuda":  # a CPU has no such choices
        levers += [name for name in ("channels_last", "deterministic") if name not in levers]
    variants = {name: Variant(size, architecture, device, name) for name in ("textbook", "ours", *levers)}
    pair, off = [variants[name] for name in ("textbook", "ours")], {}
    try:
        for variant in variants.values():  # they start together and wait for their turns
            with contextlib.suppress(Ended):
                variant.ready()
        for _ in range(rounds):
            for variant in pair:
                variant.measure(seconds)
        shares = variants["ours"].ask("profile")
        for variant in pair:
            variant.end()
        for lever in levers:
            try:
                variants[lever].measure(seconds)
                off[lever] = variants[lever].found()["images_per_second"]
            except Ended:
                say(f"{size} px {architecture}: the process without {lever} failed")
    finally:
        for variant in variants.values():
            variant.end()
    textbook, ours = (variant.found() for variant in pair)
    about = variants["ours"].about
    return {"size": size, "architecture": architecture, "date": time.strftime("%Y-%m-%d"), "textbook": textbook, "ours": ours,
            "batch": about["batch"], "speedup": ours["images_per_second"] / textbook["images_per_second"],
            "gflop_per_image": about["flop"] / 1e9, "levers": about["levers"], "without": off, "profile": shares}  # fmt: skip


def activations(architecture):
    """GiB that one step of `paper` keeps for its backward passes at the default batch, in float32: computed on tensors without
    content. The larger of D's update and G's update, each beside G's graph."""
    run = case_of(128, architecture, "cuda" if torch.cuda.is_available() else "cpu")
    config, objective = configuration.load("paper"), losses.OBJECTIVES[architecture]
    saved, weights = {}, set()

    def keep(tensor):
        if (key := tensor.untyped_storage()._cdata) not in weights:
            saved[key] = tensor.untyped_storage()  # held, so that no other takes its place
        return tensor

    def size():
        return sum(storage.nbytes() for storage in saved.values())

    with torch.device("meta"):
        G, D = (n.to("meta") for n in models.create(architecture, 128, 0, **run.model.widths))
        perceptual = losses.Perceptual("random", 64) if "perceptual" in objective.terms else None
        real, mask = torch.empty(config.batch_size, 3, 128, 128), torch.empty(config.batch_size, 1, 128, 128)
        for network in filter(None, (G, D, perceptual)):
            weights |= {p.untyped_storage()._cdata for p in network.parameters()}
        G._check = lambda *_: None
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            stages = G(real * (1 - mask), mask)
            of_g = size()
            kept_d = D(torch.cat([objective.seen(image, real, mask) for image in (real, stages[-1].detach())]))
            update_d = size()
            kept_g = D(objective.seen(stages[-1], real, mask)), objective.reconstruction(stages, real, mask, perceptual,
                                                                                         **run.model.loss_options)  # fmt: skip
            update_g = of_g + size() - update_d
            del kept_d, kept_g
    return max(update_d, update_g) / 2**30


def startup(rounds):
    """Seconds, medians: importing the package, a training notebook's imports, and executing a notebook of these alone."""
    import nbformat

    notebook = nbformat.read(ROOT / "notebooks" / "10_train_custom.ipynb", as_version=4)
    parameters, imports = (c for c in notebook.cells[:3] if c.cell_type == "code")
    with tempfile.TemporaryDirectory() as folder:
        end = nbformat.v4.new_code_cell(f"from pathlib import Path\nPath({folder!r}, 'end').touch()")
        notebook.cells = [parameters, imports, end]
        nbformat.write(notebook, f"{folder}/imports.ipynb")
        runner = (f"from workflow import run_notebook; import pathlib; "
                  f"run_notebook.NOTEBOOKS = pathlib.Path({folder!r}); raise SystemExit("
                  f"run_notebook.main('imports', {folder + '/executed.ipynb'!r}, {folder + '/end'!r}, '{{}}'))")  # fmt: skip
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        lines = [line for line in imports.source.splitlines() if line.startswith(("import", "from"))]
        commands = {"import inpaint_lib": "import inpaint_lib", "a training notebook's imports": "\n".join(lines),
                    "executing a notebook of them": runner}  # fmt: skip
        found = {name: [] for name in commands}
        for _ in range(rounds):
            for name, code in commands.items():
                begun = time.perf_counter()
                subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
                found[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in found.items()}


def precision_of(place):
    """What `auto` means on a device."""
    return choose_levers(configuration.load("smoke", {"precision": "auto"}), place).precision


def measured_peaks(device):
    """Measured TFLOP/s of a matrix product in the precision that is used, and GB/s of a copy."""
    place = torch.device(device)
    dtype = precision_of(place)
    n = 8192 if device == "cuda" else 2048
    a, b, x = (torch.ones(n, n, dtype=dtype, device=place) for _ in range(3))

    def best(work):
        times = []
        for _ in range(6):
            torch.cuda.synchronize() if device == "cuda" else None
            begun = time.perf_counter()
            work()
            torch.cuda.synchronize() if device == "cuda" else None
            times.append(time.perf_counter() - begun)
        return min(times)

    big = torch.ones(2**28 if device == "cuda" else 2**26, device=place)
    other = torch.empty_like(big)
    product, copy = best(lambda: torch.mm(a, b, out=x)), best(lambda: other.copy_(big))
    name = str(dtype).removeprefix("torch.")
    return {"tflops": 2 * n**3 / product / 1e12, "gb_per_s": 2 * big.nbytes / copy / 1e9, "dtype": name}


def name_of(device):
    if device == "cuda":
        return torch.cuda.get_device_name()
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").is_file() else None
    fast = ", bfloat16" * (precision_of(torch.device(device)) == torch.bfloat16)  # else processors of one name share a report
    return f"{model[1] if model else platform.machine()}, {torch.get_num_threads()} threads{fast}"


def paper_cost(cases):
    """Hours of training for one run of `paper` per architecture at the full-width rates, and for the 24 experiments."""
    images = configuration.load("paper").total_images
    hours = {c["architecture"]: images / c["ours"]["images_per_second"] / 3600 for c in cases if c["size"] == 128}
    return hours | {"24 experiments": 8 * sum(hours.values())} if len(hours) == 3 else {}


def as_markdown(result):
    days = sorted(c["date"] for c in result["cases"])
    dates = " to ".join(dict.fromkeys((days[0], days[-1])))
    lines = [
        f"# Training speed on {result['device']}",
        "",
        f"`./run_all.sh bench{' --quick' if result['quick'] else ''}`, torch {result['torch']}, {dates}. Medians "
        "(least to most) over interleaved rounds; images/s of whole steps, feeding and logging included. textbook and levers: "
        "see benchmarks/training.py and inpaint_lib/training/step.py.",
        "",
        f"Measured peaks: {result['peaks']['tflops']:.3g} TFLOP/s (matrix product, {result['peaks']['dtype']}), "
        f"{result['peaks']['gb_per_s']:.3g} GB/s (copy).",
        "",
        "| px | architecture | batch | textbook | ours | ratio | GFLOP/image | TFLOP/s | of peak | memory, textbook / ours |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for c in result["cases"]:
        pair = c["textbook"], c["ours"]
        rates = [f"{v['images_per_second']:.3g} ({v['spread'][0]:.3g}-{v['spread'][1]:.3g})" for v in pair]
        tflops = c["gflop_per_image"] * c["ours"]["images_per_second"] / 1e3
        memory = " / ".join(f"{v['peak_memory_bytes'] / 2**30:.2f}" for v in pair)
        cells = [c["size"], c["architecture"], c["batch"], *rates, f"{c['speedup']:.2f}", f"{c['gflop_per_image']:.3g}",
                 f"{tflops:.3g}", f"{tflops / result['peaks']['tflops']:.0%}", f"{memory} GiB"]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    if any(c["without"] for c in result["cases"]):
        names = sorted({name for c in result["cases"] for name in c["without"]})
        lines += ["", "Ours with one lever the other way (on ones off, off ones on), as a share of ours:"]
        lines += ["", "| px | architecture | " + " | ".join(names) + " |",
                  "| --- | --- |" + " --- |" * len(names)]  # fmt: skip
        for c in result["cases"]:
            shares = [f"{c['without'][n] / c['ours']['images_per_second']:.2f}" if n in c["without"] else "-" for n in names]
            lines.append(f"| {c['size']} | {c['architecture']} | " + " | ".join(shares) + " |")
    lines += ["", "Where a step of ours spends its time (torch's profiler, which slows small operators most):", "",
              "| px | architecture | " + " | ".join(KINDS) + " |", "| --- | --- |" + " --- |" * len(KINDS)]  # fmt: skip
    for c in result["cases"]:
        lines.append(f"| {c['size']} | {c['architecture']} | " + " | ".join(f"{v:.0%}" for v in c["profile"].values()) + " |")
    resolved = ", ".join(f"{k} {v}" for k, v in result["cases"][0]["levers"].items())
    lines += ["", f"Levers as resolved here: {resolved}."]
    if result["startup"]:
        lines += ["", f"Start-up: {', '.join(f'{name} {value:.1f} s' for name, value in result['startup'].items())}."]
    kept = ", ".join(f"{name} {gib:.1f} GiB" for name, gib in result["activations_gib"].items())
    lines += ["", f"What a step of `paper` (batch 64) keeps for its backward passes, computed for float32: {kept}."]
    if result["paper_hours"]:
        hours = ", ".join(f"{name} {value:,.0f} h" for name, value in result["paper_hours"].items())
        lines += ["", f"Extrapolated cost of `paper` on this device, one run (8,192,000 images) each: {hours} (one seed; "
                  "training alone, evaluation not counted)."]  # fmt: skip
    return "\n".join([*lines, "", f"geometric mean speed-up {result['geometric_mean']:.2f}", ""])


def case(text):
    """The key in CASES of SIZE:ARCHITECTURE."""
    named = {f"{size}:{architecture}": (size, architecture) for size, architecture in CASES}
    if text not in named:
        raise argparse.ArgumentTypeError(f"{text!r}: give one of {', '.join(named)}")
    return named[text]


def before(path):
    """What path.json holds of this device and this torch, or the beginning of it."""
    found = files.read_json(path.with_suffix(".json")) or {}
    if found.get("torch") == torch.__version__:
        return found
    return {"torch": torch.__version__, "peaks": {}, "activations_gib": {}, "startup": {}, "cases": []}


def write(path, result):
    """path.json and path.md, with what follows from the cases."""
    cases = result["cases"]
    cases.sort(key=lambda c: [*CASES].index((c["size"], c["architecture"])))
    result["paper_hours"] = paper_cost(cases)
    result["geometric_mean"] = statistics.geometric_mean(c["speedup"] for c in cases)
    files.write_json(path.with_suffix(".json"), result)
    with files.replacing(path.with_suffix(".md")) as temporary:
        temporary.write_text(as_markdown(result))


def main(argv):
    parser = Parser(prog="run_all.sh bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short rounds, no levers off; 64 px only, if no case is named")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", type=case, action="append", metavar="SIZE:ARCHITECTURE",
                        help="measure this case alone, e.g. 128:custom; may be given again (default: all six)")  # fmt: skip
    parser.add_argument("--startup", action="store_true", help="also how long imports and an empty notebook take")
    try:
        args = parser.parse_args(argv)
        devices.choose_device(args.device)
    except ValueError as error:
        return fail(2, error)
    begun, device, failed = time.monotonic(), name_of(args.device), []
    name = "training_" + re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_") + ("_quick" if args.quick else "")
    path = REPORTS / name
    result = before(path) | {"device": device, "quick": args.quick}
    for size, architecture in args.case or [key for key in CASES if not args.quick or key[0] == 64]:
        peaks = measured_peaks(args.device)
        try:
            found = measure(size, architecture, args.device, 3, 2 if args.quick or size == 128 else 3, not args.quick)
        except Ended:
            failed.append(f"{size}:{architecture}")
            continue
        result["peaks"] = {key: max(value, result["peaks"].get(key, value)) for key, value in peaks.items()}
        result["activations_gib"].setdefault(architecture, activations(architecture))
        others = [c for c in result["cases"] if (c["size"], c["architecture"]) != (size, architecture)]
        result["cases"] = [*others, found]
        write(path, result)
        say(f"{size} px {architecture}: textbook {found['textbook']['images_per_second']:.3g}, ours "
            f"{found['ours']['images_per_second']:.3g} images/s, ratio {found['speedup']:.2f}")  # fmt: skip
    if args.startup and result["cases"]:
        result["startup"] = startup(1 if args.quick else 2)
        write(path, result)
    if failed:
        return fail(1, f"{', '.join(failed)}: a process failed; what the other cases gave is in {path}.md")
    say(*as_markdown(result).splitlines(), "", f"{time.monotonic() - begun:.0f} s; {path}.md",
        f"geometric mean speed-up {result['geometric_mean']:.2f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    ended(main, sys.argv[1:])
