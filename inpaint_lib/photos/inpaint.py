"""Fill holes in photographs of any size with a trained generator.

    ./run_all.sh inpaint PHOTO --box 40,60,120,90 --weights RUN_FOLDER -o OUT.png
    ./run_all.sh inpaint FOLDER --mask MASKS --weights model.safetensors -o OUT

Every hole is filled from a square window around it. The window is as large as the model's images,
or twice the hole's longer side if that is more: networks are trained on holes up to half as wide as
the image. No pixel of any hole reaches the network; no pixel outside the holes changes.
"""

import argparse
import json
import re
import textwrap
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from .. import metrics, models
from ..data import containers, images
from ..losses import composite
from ..study import command, devices, files
from ..training.weights import GENERATOR, find, open_weights, read_tensors
from . import image_file, windows

LISTED = 100  # holes that get a line each
FOREIGN = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError)
LOSSY = "JPEG changes every pixel, also outside the hole: use .png, .tif or .webp to keep them"


@dataclass(frozen=True)
class Model:
    """A generator in eval mode, and its image size in pixels."""

    generator: torch.nn.Module
    architecture: str
    image_size: int
    device: str = "cpu"


def load(weights, device="cpu"):
    """Return the Model of a run, a published name or a .safetensors file. Raises ValueError."""
    label = f"--weights {weights}"
    path = find(weights, "--weights", with_d=False)
    with open_weights(path, label) as file:
        header, state = file.metadata() or {}, read_tensors(file, GENERATOR)
    try:
        run = path.parent.parent / "run.json"  # describes the stages beside it
        text = header.get("description")
        settings = (json.loads(text) if text else files.read_json(run))["settings"]
        architecture, size = settings["architecture"], settings["data"]["image_size"]
        with torch.device("meta"):  # a foreign header may name networks of any size
            generator, _ = models.create(architecture, size, **settings["model"]["widths"])
        generator.load_state_dict(state, assign=True)
    except FOREIGN as error:
        why = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        why = f"its header does not fit its weights ({why}): name another file"
        raise ValueError(f"{label}: {why}") from None
    if not all(torch.isfinite(v).all() for v in state.values()):
        raise ValueError(f"{label}: holds weights that are not finite: use another run")
    return Model(generator.to(device).eval(), architecture, size, str(device))


def fill(model, image, hole):
    """Return a copy of `image` (H, W, 3) uint8 with `hole` (H, W) bool filled, and messages.

    Raises ValueError for other arrays, and for a hole that the architecture cannot fill.
    """
    if image.dtype != np.uint8 or image.shape != (*hole.shape, 3) or hole.dtype != bool:
        raise ValueError("fill needs an image (H, W, 3) uint8 and a hole (H, W) bool")
    size, (number, boxes) = model.image_size, windows.number_holes(hole, model.image_size)
    central = models.is_central(model.architecture)
    place = windows.place_central if central else windows.place_square
    pairs = [(box, place(box, hole.shape, size)) for box in boxes]
    filled = image.copy()
    # hidden here, too: the rounding of an output would depend on what was in the hole
    known = np.where(hole[..., None], np.uint8(0), image)
    for k, (box, square) in enumerate(tqdm(pairs, unit="hole", delay=2, leave=False, disable=None)):
        (y, x, y2, x2), (top, left, side) = box, square
        window, mask = windows.shrink(*windows.cut(known, hole, square), size)
        (tensors,) = metrics.inpaint(model.generator, window[None], mask[None], model.device, 1)
        output = Image.fromarray(metrics.to_uint8(composite(*tensors))[0])
        if side != size:
            output = output.resize((side, side), Image.Resampling.LANCZOS)
        own = number[y:y2, x:x2] == k + 1
        filled[y:y2, x:x2][own] = np.asarray(output)[y - top : y2 - top, x - left : x2 - left][own]
    messages = [_message(*pair, hole.shape, size) for pair in pairs[:LISTED]]
    if len(pairs) > LISTED:
        messages.append(f"{len(pairs) - LISTED:,} more, smaller holes")
    return filled, messages


def _message(box, square, shape, size):
    """Return a line about one hole: its box, its window, and what may reduce the quality."""
    (y, x, y2, x2), (top, left, side) = box, square
    scale = "native resolution" if side == size else f"scaled by {size / side:.3g}"
    text = f"hole {x},{y},{x2 - x},{y2 - y}: window {left},{top},{side},{side}, {scale}"
    text += "; the photo is smaller and was padded with its edge pixels" * (side > min(shape))
    wide = 2 * max(y2 - y, x2 - x) > side
    return text + "; the hole is wider than half the window, wider than in training" * wide


def fill_file(model, photo, output, mask=None, boxes=(), invert=False, overwrite=False):
    """Fill the holes of a photograph, write it to another file and return messages.

    photo, output, mask: paths; boxes: (x, y, width, height). Mask and boxes refer to the photograph
    as viewers show it. Raises ValueError; then nothing is written.
    """
    image_file.check_target(output, overwrite, *[path for path in (photo, mask) if path])
    original, kept, messages = image_file.read_photo(photo)
    shown = np.asarray(images.to_rgb(original))
    hole = np.zeros(shown.shape[:2], bool)
    if mask:
        hole, more = image_file.read_hole(mask, hole.shape, invert)
        messages += more
    height, width = hole.shape
    for x, y, w, h in boxes:
        if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
            why = f"reaches outside photo {photo}: stay inside 0,0,{width},{height}"
            raise ValueError(f"--box {x},{y},{w},{h}: {why}")
        hole[y : y + h, x : x + w] = True
    try:
        filled, done = fill(model, shown, hole)
    except Exception as error:
        if devices.is_out_of_memory(error):
            error = f"{width} x {height} pixels are too many for the free memory: fill parts of it"
        elif not isinstance(error, ValueError):
            raise
        raise ValueError(f"photo {photo}: {error}") from None
    data = image_file.encode(original, kept, filled, hole, output)
    with files.replace(output) as temporary:
        temporary.write_bytes(data)
    lossy = [LOSSY] * (image_file.WRITERS[Path(output).suffix.lower()] == "JPEG")
    return messages + done + lossy


def _stem(name):
    """Return a relative name without its suffix, in one Unicode form for accented letters."""
    return unicodedata.normalize("NFC", str(PurePath(name).with_suffix("")))


def _masks(mask):
    """Return {stem: relative names} of the masks in a folder, or None for a file or no mask."""
    if mask is None or not mask.is_dir():
        return None
    found = defaultdict(list)
    for name in containers.walk(mask):
        found[_stem(name)].append(name)
    return found


def _mask_of(name, mask, masks):
    """Return a photograph's mask file: `mask`, or the one of `masks` with the same stem."""
    if masks is None:
        return mask
    found = masks.get(_stem(name), [])
    if len(found) != 1:
        raise ValueError(f"--mask {mask}: holds {len(found)} masks named {_stem(name)}: give one")
    return mask / found[0]


def _folder(model, args, options):
    """Fill every photograph of a folder and its sub-folders as PNG; return the exit code.

    Existing files are kept without --overwrite; each failure gets a line.
    """
    if args.output.resolve() in {path.resolve() for path in (args.photo, args.mask) if path}:
        raise ValueError(f"-o {args.output}: holds the photos or masks: name another folder")
    others = [path.resolve() for path in (args.output, args.mask) if path]
    inside = [path for path in others if args.photo.resolve() in path.parents]
    names = [
        name
        for name in containers.walk(args.photo)
        if not any((args.photo / name).resolve().is_relative_to(folder) for folder in inside)
    ]
    if not names:
        raise ValueError(f"{args.photo}: holds no image: name another folder")
    counts, made, masks = Counter(), set(), _masks(args.mask)
    alike = Counter(map(_stem, names))
    for name in names:
        output = args.output / f"{PurePath(name).with_suffix('')}.png"
        try:
            there = output.exists() and not options["overwrite"]
            if _stem(name) in made or (there and alike[_stem(name)] > 1):
                why = "another differs only in its suffix, so both get one output"
                raise ValueError(f"photo {name}: {why}: rename one")
            if there:
                counts["already there (--overwrite fills them again)"] += 1
                continue
            mask = _mask_of(name, args.mask, masks)
            lines = fill_file(model, args.photo / name, output, mask, **options)
            made.add(_stem(name))
            command.say(*(f"{name}: {line}" for line in lines))
            counts["filled"] += 1
        except (ValueError, OSError) as error:
            counts["failed"] += 1
            command.fail(1, error, "inpaint")
    if unused := sorted((masks or {}).keys() - map(_stem, names)):
        counts["masks without a photo"] = len(unused)
        command.fail(0, f"no photo is named like these masks: {', '.join(unused[:20])}", "inpaint")
    command.say(", ".join(f"{n} {what}" for what, n in counts.items()))
    return 1 if counts["failed"] else 0


def _box(text):
    if not re.fullmatch(r"-?\d{1,9}(,-?\d{1,9}){3}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text[:60]!r}: give x,y,w,h in whole pixels")
    return tuple(map(int, text.split(",")))


def parse_arguments(argv=None):
    """Return the parsed command line. Raises ValueError."""
    about = "Fill holes in photographs with a trained network."
    parser = command.Parser(prog="run_all.sh inpaint", description=about)
    add, yes = parser.add_argument, {"action": "store_true"}
    add("photo", type=Path, metavar="PHOTO", help="a photograph, or a folder of them")
    add("--mask", type=Path, help="image of the same size, white = hole; or a folder of them")
    add("--box", type=_box, action="append", default=[], dest="boxes", help="x,y,w,h")
    add(
        "--weights",
        type=Path,
        required=True,
        help="a run's folder or name, a .safetensors file, or a published "
        "STUDY/DATASET/ARCHITECTURE/SETUP",
    )
    add("-o", "--output", type=Path, required=True, help=".png, .tif, .webp, .jpg; or a folder")
    add("--invert", **yes, help="black = hole in the mask")
    add("--overwrite", **yes, help="replace files that exist")
    add("--device", default="cpu", choices=("cpu", "cuda", "mps", "auto"))
    args = parser.parse_args(argv)
    if not args.mask and not args.boxes:
        raise ValueError("no hole is given: add --mask, --box or both")
    if args.invert and not args.mask:
        raise ValueError("--invert: there is no mask to invert: give --mask")
    return args


def main(argv=None):
    """Run the command line and return its exit code."""
    try:
        args = parse_arguments(argv)
        options = {"boxes": args.boxes, "invert": args.invert, "overwrite": args.overwrite}
        model = load(args.weights, devices.choose_device(args.device))
        if args.photo.is_dir():
            return _folder(model, args, options)
        mask = _mask_of(args.photo.name, args.mask, _masks(args.mask))
        command.say(*fill_file(model, args.photo, args.output, mask, **options))
    except (ValueError, OSError) as error:
        return command.fail(2, error, "inpaint")
    return 0


if __name__ == "__main__":
    command.exit_with(main)
