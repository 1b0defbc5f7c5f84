"""Measure on one NVIDIA card speed, FID and estimates in eight minutes, saving after each part.

    PYTHONPATH=. python benchmarks/gpu.py                        # writes gpu_<card>.md and .json
    PYTHONPATH=. python benchmarks/gpu.py --device cpu --tiny    # tries the command; no figures

Neither git nor papermill, Snakemake or Jupyter are needed, but torch, torchvision, filelock, numpy,
opencv-python-headless, pandas, pillow, psutil, pydantic, pytorch-fid, pytorch-msssim, PyYAML,
safetensors, scikit-image, scipy, torchmetrics, tqdm; pytest and hypothesis for the part `tests`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import torch
import training as bench
from safetensors.torch import load_file

from inpaint_lib.evaluation import evaluate, fid
from inpaint_lib.results import collect, tables
from inpaint_lib.study import files, grid
from inpaint_lib.study.command import Parser, exit_with, say
from inpaint_lib.training import loop
from workflow import estimate

DENSE = {"H100": 989, "H200": 989, "A100": 312, "B200": 2250, "L40S": 362}  # bfloat16, TFLOP/s
PARTS = {  # seconds at most; speed: pixels, architecture, the option that is changed
    "speed 128 custom ours": 100,
    "speed 128 free_form ours": 100,
    "speed 128 context_encoder ours": 60,
    "smoke": 100,
    "speed 64 custom ours": 60,
    "fid": 30,
    "tests": 120,
    "speed 128 custom compile_pieces": 150,
    "estimate": 100,
    "speed 128 custom compile": 40,
    "speed 128 custom cuda_graph": 60,
    "speed 128 free_form channels_last": 90,
}
TINY = dict.fromkeys(("speed 64 context_encoder ours", "smoke", "fid", "estimate"), 300)
SMALL = {"grid.architectures": ["context_encoder"], "data.train_images": 24, "data.test_images": 8}
SMALL |= {"curriculum.total_images": 48}


def smoke(device, tiny):
    """Return the seconds from data to tables, float32, and whether two runs have equal weights."""
    found, weights = {}, {}
    for name in ("off", "off again", "on", "on again"):
        with tempfile.TemporaryDirectory() as os.environ["INPAINT_OUTPUT"]:
            settings = {"machine.device": device, "machine.deterministic": name.split()[0]}
            settings |= {"grid.datasets": ["faces"], "grid.setups": ["progressive"]}
            settings |= SMALL if tiny else {}
            study, begun = grid.open_study("smoke", settings), time.perf_counter()
            for run in study.runs():
                loop.fit(run, watch=lambda *_: None, after_stage=evaluate.evaluate)
            evaluate.measure_baselines(study, "faces")
            tables.write(collect.collect(study), study.report / "tables")
            found[f"s, deterministic {name}"] = time.perf_counter() - begun
            models = [run.folder / "model" / "model.safetensors" for run in study.runs()]
            weights[name] = [value for path in models for value in load_file(path).values()]
    same = {n: all(map(torch.equal, weights[n], weights[f"{n} again"])) for n in ("off", "on")}
    return found | {f"equal weights, deterministic {name}": equal for name, equal in same.items()}


def measure_fid(device, tiny):
    """Return how many images/s the network of FID takes."""
    extractor = fid.wrap(fid.create_inception(), "", device)
    images = torch.zeros(2 if tiny else 2560, 128, 128, 3, dtype=torch.uint8).numpy()
    fid.compute_features(extractor, images[:128], 128)
    begun = time.perf_counter()
    fid.compute_features(extractor, images, 128)
    return {"images/s, random weights": len(images) / (time.perf_counter() - begun)}


def test(device, tiny):
    """Return what pytest says of the tests marked `gpu`."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/training/test_gpu.py"]
    return {"said": subprocess.run(command, stdout=-1, text=True, check=False).stdout[-400:]}


def hours(device, tiny):
    """Return what --estimate says of a run of `paper`: hours, and the images/s that these are."""
    settings = {"grid.datasets": ["faces"], "machine.device": device}
    run = grid.open_study("smoke" if tiny else "paper", settings).runs()[0]
    found = estimate.time_run(run)
    rate = run.config.curriculum.total_images / found.training / 3600
    return {f"images/s, {run.architecture}": rate, **vars(found)}


KINDS = dict(speed=bench.examine, smoke=smoke, fid=measure_fid, tests=test, estimate=hours)


def run_part(part, limit, options):
    """Return what a part found, or {"failed": why}; its processes are killed at the limit."""
    command, begun = [sys.executable, __file__, "--part", part, *options], time.monotonic()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen(command, cwd=bench.ROOT, start_new_session=True, **pipes)
    try:
        out, said = (text.splitlines() for text in child.communicate(timeout=limit))
        found = json.loads(out[-1]) if child.returncode == 0 else {"failed": said[-3:]}
    except subprocess.TimeoutExpired:
        found = {"failed": f"not done after {limit:.1f} s"}
        os.killpg(child.pid, signal.SIGKILL)
    return found | {"s in all": time.monotonic() - begun}


def write(report, path):
    """Write path.json and path.md."""
    files.write_json(path.with_suffix(".json"), report)
    lines = [f"# One sitting on {report['device']}", "", f"`benchmarks/gpu.py`, {report['made']}"]
    for part, found in report["parts"].items():
        if report["peak"] and "TFLOP/s" in found:
            found = found | {"share of the dense bfloat16 peak": found["TFLOP/s"] / report["peak"]}
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in found.items()}
        lines += ["", f"## {part}", "", *(f"- {key}: {value}" for key, value in shown.items())]
    files.write_text(path.with_suffix(".md"), "\n".join(lines) + "\n")


def main(argv):
    """Measure the parts, the most valuable first; the report is written after each of them."""
    parser = Parser(prog="benchmarks/gpu.py", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="try the command; no figures")
    parser.add_argument("--part", help="measure this one alone, and print what it found")
    args = parser.parse_args(argv)
    if args.part:
        kind, *case = args.part.split()
        return print("\n" + json.dumps(KINDS[kind](args.device, args.tiny, *case)))
    ends, name = time.monotonic() + 60 * args.minutes, bench.name_of(args.device)
    smi, cuda = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv"], args.device == "cuda"
    driver = subprocess.check_output(smi, text=True).split()[-1] if cuda else "none"
    made = f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, driver {driver}"
    peak = next((peak for card, peak in DENSE.items() if card in name), None)
    report = {"device": name, "made": made, "peak": peak, "parts": {}}
    path = bench.REPORTS / re.sub("[^a-z0-9]+", "_", f"gpu_{name.lower()}").strip("_")
    for part, limit in (TINY if args.tiny else PARTS).items():
        left, options = ends - time.monotonic(), ["--device", args.device, *["--tiny"] * args.tiny]
        report["parts"][part] = run_part(part, min(limit, max(left, 1)), options)
        write(report, path)
        say(f"{part}: {report['parts'][part]}")


if __name__ == "__main__":
    exit_with(main, sys.argv[1:])
