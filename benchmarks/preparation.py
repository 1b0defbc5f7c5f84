"""How fast images are prepared: ours against bare loops on the same cores, and against decoding alone, interleaved in one run.

    python benchmarks/preparation.py [--images 20000] [--rounds 5] [--kills 10] [--photos DIR]

Builds a synthetic CelebA tree (drawn faces as 178 x 218 JPEGs in the official layout) in a temporary folder. The bare loop
opens, converts, crops and resizes with Pillow and keeps nothing; its rate excludes starting its processes. Ours includes
listing, starting workers, duplicates, writing; drawing the test masks, while which the files are flushed and digested, is timed
apart. Then preparation is killed at random moments, and the result compared.

Writes reports/benchmarks/preparation.md and .json.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, __version__

from inpaint_lib.data import images, scenes
from inpaint_lib.study import config, files, grid

SIZE = 128
PREPARE = """
import json, sys, time
if __name__ == "__main__":  # workers import this file too
    from inpaint_lib.data import packs
    from inpaint_lib.study import grid
    draw, seconds = packs._write_masks, [0.0]
    def timed(*arguments):
        begun = time.perf_counter()
        drawn = draw(*arguments)
        seconds[0] = time.perf_counter() - begun
        return drawn
    packs._write_masks = timed
    study = grid.open_study("paper", json.loads(sys.argv[1]))
    begun = time.perf_counter()
    pack = packs.prepare(study, "celeba")
    whole = time.perf_counter() - begun
    files = {name: entry["sha256"] for name, entry in pack.manifest["files"].items()}
    print(json.dumps({"seconds": whole - seconds[0], "masks": seconds[0], "files": files}))
"""


def make_tree(root, count, distinct=200):
    """Faces in the layout of CelebA: one in ten validation. Every file has pixels of its own: shifted and relit."""
    from inpaint_lib.data import faces

    drawn = faces.draw(range(min(distinct, count)), 218, 0)[:, :, 20:198]
    folder = root / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for k in range(1, count + 1):
        face = np.roll(drawn[k % len(drawn)], (int(rng.integers(-4, 5)), int(rng.integers(-9, 10))), (0, 1))
        relit = (face * rng.uniform(0.7, 1.0, 3)).astype(np.uint8)
        relit[:4, :12] = rng.integers(0, 256, 3)
        Image.fromarray(relit).save(folder / f"{k:06d}.jpg", quality=90)
        lines.append(f"{k:06d}.jpg {int(k % 10 == 0)}")
    (root / "celeba" / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return sorted(folder.glob("*.jpg"))


def bare(paths, resize, queue):
    begun = time.perf_counter()
    for path in paths:
        image = Image.open(path).convert("RGB")
        if resize:
            width, height = image.size
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            cut = image.crop((left, top, left + side, top + side))
            np.asarray(cut.resize((SIZE, SIZE), Image.Resampling.LANCZOS))
    queue.put(time.perf_counter() - begun)


def bare_rate(paths, cores, resize):
    queue = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=bare, args=(paths[k::cores], resize, queue)) for k in range(cores)]
    for process in processes:
        process.start()
    slowest = max(queue.get() for _ in processes)
    for process in processes:
        process.join()
    return len(paths) / slowest


def start(root, output, count):
    overrides = {"data_root": str(root), "datasets": ["celeba"], "train_images": count, "test_images": count}
    overrides["mask_widths"] = [64]  # one set of masks a family
    environment = os.environ | {"INPAINT_OUTPUT": str(output), "PYTHONPATH": str(config.ROOT)}
    command = [sys.executable, root / "prepare.py", json.dumps(overrides)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def prepare(root, output, count):
    out, _ = start(root, output, count).communicate()
    return json.loads(out.splitlines()[-1])


def killed(root, output, count, kills, seconds):
    """SIGKILL at random moments until `kills` hit a process at work, then to the end -> (kills, files)."""
    rng, hit = random.Random(0), 0
    while hit < kills:
        process = start(root, output, count)
        time.sleep(4 + rng.random() * seconds / kills * 2)  # it takes about 4 s to come to work
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hit += 1
    return hit, prepare(root, output, count)["files"]


def reduced(paths, size=64):
    """JPEG decoding at reduced scale against full scale: mean absolute difference in grey levels, times faster."""
    found, draft = [], images.DRAFT
    for path in paths:
        seconds = {}
        pixels = {}
        for images.DRAFT in (draft, 10**6):
            begun = time.perf_counter()
            pixels[images.DRAFT] = images.read(path, size).astype(float)
            seconds[images.DRAFT] = time.perf_counter() - begun
        images.DRAFT = draft
        found.append((np.abs(pixels[draft] - pixels[10**6]).mean(), seconds[10**6] / seconds[draft]))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--photos", help="folder of JPEGs for the reduced-scale measurement (default: those in the wheels)")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    root = Path(tempfile.mkdtemp(prefix="preparation-"))
    try:
        (root / "prepare.py").write_text(PREPARE)
        print(f"drawing {arguments.images} images ...", flush=True)
        paths = make_tree(root, arguments.images)
        rates = {"decode + crop + resize": [], "decode alone": [], "ours": []}
        for k in range(arguments.rounds):
            rates["decode + crop + resize"].append(bare_rate(paths, cores, True))
            ours = prepare(root, root / f"out{k}", arguments.images)
            rates["ours"].append(arguments.images / ours["seconds"])
            rates["decode alone"].append(bare_rate(paths, cores, False))
            shutil.rmtree(root / f"out{k}")
            os.sync()
            print({name: round(values[-1]) for name, values in rates.items()}, f"masks {ours['masks']:.0f} s", flush=True)
        hit, files = killed(root, root / "killed", arguments.images, arguments.kills, arguments.images / rates["ours"][-1])
        photos = sorted(Path(arguments.photos).glob("*.jpg")) if arguments.photos else [
            p for p in scenes.photographs().values() if p.suffix == ".jpg"
        ]  # fmt: skip
        differences = {size: reduced(photos, size) for size in (32, 64, 128)}
        report(arguments, cores, paths, rates, ours, (hit, files == ours["files"]), differences)
    finally:
        shutil.rmtree(root)


def report(arguments, cores, paths, rates, ours, kills, differences):
    median = {name: statistics.median(values) for name, values in rates.items()}
    ratio = [a / b for a, b in zip(rates["ours"], rates["decode + crop + resize"], strict=True)]
    lines = [
        "# Preparation of images",
        "",
        f"{len(paths):,} JPEGs of 178 x 218 (mean {statistics.mean(p.stat().st_size for p in paths[:500]) / 1000:.1f} kB) to "
        f"{SIZE} px on {cores} cores, Pillow {__version__}, Python {sys.version.split()[0]}; median of {arguments.rounds} "
        "interleaved rounds. `python benchmarks/preparation.py` makes this page.",
        "",
        "| | images/s | lowest - highest |",
        "| --- | --- | --- |",
        *(f"| {name} | {median[name]:,.0f} | {min(v):,.0f} - {max(v):,.0f} |" for name, v in rates.items()),
        "",
        f"Ours over the bare loops, round by round: {', '.join(f'{r:.2f}' for r in ratio)}; median "
        f"{statistics.median(ratio):.2f}. The frozen test masks of one width took {ours['masks']:.0f} s more.",
        "",
        f"Killed {kills[0]} times with SIGKILL at random moments, it then finished with "
        f"{'the same files byte for byte' if kills[1] else 'OTHER files'}.",
        "",
        "JPEGs decoded at reduced scale (where four times the wanted size is left), against full scale:",
        "",
        "| size | images | reduced | mean difference (grey levels of 255) | largest of an image | times faster, median |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for size, found in differences.items():
        changed = [(d, speed) for d, speed in found if d > 0]
        if changed:
            d, speed = zip(*changed, strict=True)
            lines.append(f"| {size} px | {len(found)} | {len(changed)} | {statistics.mean(d):.2f} | {max(d):.2f} | "
                         f"{statistics.median(speed):.1f} |")  # fmt: skip
        else:
            lines.append(f"| {size} px | {len(found)} | 0 | | | |")
    folder = grid.output_root() / "reports" / "benchmarks"
    files.write_json(folder / "preparation.json", {
        "images": len(paths), "cores": cores, "rates": rates, "masks_seconds": ours["masks"], "kills": kills[0],
        "same_after_kills": kills[1], "reduced": {size: [d for d, _ in found] for size, found in differences.items()},
    })  # fmt: skip
    with files.replacing(folder / "preparation.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
