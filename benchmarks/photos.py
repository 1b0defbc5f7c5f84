"""How long a speckled photograph waits before its filling begins, and how many windows its holes share.

    PYTHONPATH=. python benchmarks/photos.py             # a minute; writes reports/benchmarks/photos.md

Specks are pixels drawn independently, 2 % of the photograph. The plain way, beside it in the same run: one window per
connected part (scipy.ndimage), which is also what near holes would cost without sharing. Filling: an untrained network of the
smoke profile.
"""

import platform
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import ndimage

from inpaint_lib import metrics, models
from inpaint_lib.photos import inpaint, windows
from inpaint_lib.study import config, files, provenance

REPORT = Path(__file__).resolve().parent.parent / "reports" / "benchmarks" / "photos.md"
SIZES = {0.25: (500, 500), 4: (2000, 2000), 12: (3000, 4000)}  # megapixels: height, width
SHARE, ROUNDS, BATCHES = 0.02, 3, 40


def seconds(work):
    """Median seconds of ROUNDS calls, and the last result."""
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        result = work()
        found.append(time.perf_counter() - begun)
    return statistics.median(found), result


def parts(hole):
    return ndimage.find_objects(ndimage.label(hole, np.ones((3, 3)))[0])


def rate(generator, size):
    """Windows per second that the network fills."""
    images = np.zeros((inpaint.BATCH * BATCHES, size, size, 3), np.uint8)
    holes = np.ones(images.shape[:3], np.uint8)
    took, _ = seconds(lambda: [batch for batch in metrics.inpaint(generator, images, holes, "cpu", inpaint.BATCH)])
    return len(images) / took


def main():
    settings = config.load("smoke")
    size = settings.image_size
    generator = models.create("custom", size, **settings.models["custom"].widths)[0]
    speed, rows = rate(generator, size), []
    for megapixels, shape in SIZES.items():
        hole = np.random.default_rng(0).random(shape) < SHARE
        plain, found = seconds(lambda hole=hole: parts(hole))
        ours, (_, boxes) = seconds(lambda hole=hole: windows.number(hole, size))
        rows.append(f"| {megapixels} | {ours:.2f} | {plain:.2f} | {len(boxes):,} | {len(found):,} | {len(boxes) / speed:.0f} | "
                    f"{len(found) / speed:.0f} |")  # fmt: skip
    made = provenance.current()
    text = f"""# Photographs with specks

`PYTHONPATH=. python benchmarks/photos.py`, {platform.machine()}, torch {torch.__version__}, OpenCV {cv2.__version__},
commit {made["commit"]}. {SHARE:.0%} of the pixels are holes of their own; windows of {size} px; custom of the smoke profile
fills {speed:,.0f} windows/s on {torch.get_num_threads()} CPU threads. Medians of {ROUNDS}. *Begins after*: windows are found,
and filling shows its progress from there. *Filling*: reckoned from windows and windows/s; cutting out and pasting come on top.

| megapixels | begins after (s) | connected parts alone (s) | windows | without sharing | filling (s) | without sharing (s) |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}
"""
    with files.replacing(REPORT) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
