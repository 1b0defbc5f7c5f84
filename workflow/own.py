"""Advise a user with images of their own, the data set `folder`.

Before a study: whether the images are enough. At its end: which networks to use, how, and which
test images are near-duplicates of training images.
"""

import os
import shlex
from itertools import islice
from pathlib import Path

from inpaint_lib.data import near, packs, sources
from inpaint_lib.photos import image_file
from inpaint_lib.results import advice, frames
from inpaint_lib.study.command import make_printable, say, warn

from .arguments import ROOT

FEW = 200  # images
NAMED = 10  # pairs of near-duplicates, at most


def report_images(plan):
    """Print how many images a plan uses, and a warning if they are few."""
    train, test = len(plan.train), len(plan.test)
    what = f"{advice.OWN}: {train + test:,} images, {train:,} to train on and {test:,} to test on"
    if train + test >= FEW:
        say(what)
    else:
        expect = "networks may memorise so few images (then training - test is far below 0 in the "
        expect += f"table), and {test} test images tell only large differences between setups"
        how = "add images, or start from a trained network with --from"
        warn(f"{what}: {expect}; {how}")


def conclude(study):
    """Return lines: the best setup, how sure that is, its weights, a command to fill a photo, and
    near-duplicates. Other data sets than `folder` get no line.
    """
    if advice.OWN not in study.config.grid.datasets:
        return []
    found = advice.advise(frames.load(study.report / "results"), advice.OWN)
    lines, plan = ["", *(one["text"] for one in found)], _find_plan(study)
    if found:
        weights = os.path.relpath(study.folder / found[0]["run"])
        if weights.startswith(".."):  # then an absolute path is clearer
            weights = str(study.folder / found[0]["run"])
        lines += [f"Weights: {weights}/model/model.safetensors. To fill a photo with them:"]
        lines += ["", f"    {_write_command(weights, plan)}"]
    return lines + _list_duplicates(study, plan)


def _find_plan(study):
    """Return the data set's plan, or None if its images are missing or have changed since."""
    try:
        entry = sources.find_dataset(advice.OWN)
        return packs.find_current(study, advice.OWN) and entry.plan(study.config)
    except (sources.SourceError, OSError):
        return None


def _write_command(weights, plan):
    """Return the command that fills a hole in the middle of a test image with some weights."""
    photo, box = "PHOTO", "X,Y,WIDTH,HEIGHT"
    for container, name in islice(plan.test, 50) if plan else ():
        path = str(Path(container, name))
        try:
            width, height = image_file.read_photo(path)[0].size
        except (ValueError, OSError):
            continue
        if path == make_printable(path):  # it can be copied from a terminal
            side = max(1, min(width, height) // 4)
            photo, box = path, f"{(width - side) // 2},{(height - side) // 2},{side},{side}"
            break
    script = ROOT / "run_all.sh"
    script = "./run_all.sh" if Path.cwd() == ROOT else shlex.quote(str(script))
    photo, weights = (shlex.quote(path) for path in (photo, weights))
    return f"{script} inpaint {photo} --box {box} --weights {weights} -o filled.png"


def _list_duplicates(study, plan):
    """Return lines that name test images which nearly equal a training image."""
    pack = packs.open_pack(study, advice.OWN)
    if not (found := near.find_pairs(pack)):
        return []
    named = near.name_files(pack, plan) if plan else None
    more = len(found) - NAMED
    pairs = [
        f"{named['test'][a]} and {named['train'][b]}" if named else f"test {a} and training {b}"
        for a, b in found[:NAMED]
    ]
    listed = "; ".join(pairs) + f"; {more} more" * (more > 0)
    what = f"{len(found)} of {len(pack.test)} test images nearly equal a training image, so that"
    return ["", f"{what} errors are too low: separate them in train/ and test/: {listed}"]
