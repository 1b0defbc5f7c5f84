"""Fill holes in photographs of any size with a trained generator.

    ./run_all.sh inpaint PHOTO --box 40,60,120,90 --weights runs/tiny/scenes/custom/progressive/seed0 -o OUT.png
    ./run_all.sh inpaint FOLDER --mask MASKS --weights model.safetensors -o OUT --compare PAIRS

Every hole is filled from a square window around it: as large as the model's images, or twice the hole's longer side if that is
more, because the networks were trained on holes up to half of the image. No pixel of any hole reaches the network, and no
pixel outside the holes is changed. No post-processing.
"""

import argparse
import json
import re
import stat
import textwrap
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from scipy import ndimage
from tqdm import tqdm

from .. import metrics, models
from ..data import images
from ..losses import composite
from ..study import command, devices, files
from . import image_file, windows

BATCH = 16  # windows at a time
OTHERS = ("discriminator.", "snapshot.")  # networks that lie beside the generator in stages/<n>.safetensors
TOLD = 100  # holes that get a line each


@dataclass(frozen=True)
class Model:
    """A generator in eval mode, and what is known of it; `image_size` in pixels, `description` as in model.json."""

    generator: torch.nn.Module
    architecture: str
    image_size: int
    mask_family: str
    description: dict
    device: str = "cpu"

    @property
    def central(self):
        """Whether it fills the central half of a square alone."""
        return models.central(self.architecture)


def load(weights, device="cpu"):
    """The Model in a finished run's folder, its model/ folder, model.safetensors or stages/<n>.safetensors.

    Nothing is unpickled. Raises ValueError for anything else.
    """
    path = Path(weights)
    try:
        path = _weights_file(path)
        if stat.S_ISREG(path.stat().st_mode):
            path.open("rb").close()
    except PermissionError as error:
        raise ValueError(f"--weights {error.filename or path}: may not be read; ask its owner for the right to") from None
    except FileNotFoundError:
        pass
    if not path.is_file():
        raise ValueError(f"--weights {path}: no such file; name a finished run's folder, its model/ or a .safetensors file")
    try:
        with safe_open(path, "pt", device="cpu") as file:
            header = file.metadata() or {}
            state = {k: file.get_tensor(k).float() for k in file.keys() if not k.startswith(OTHERS)}  # noqa: SIM118
    except PermissionError:
        raise ValueError(f"--weights {path}: may not be read; ask its owner for the right to") from None
    except (SafetensorError, OSError) as error:
        raise ValueError(f"--weights {path}: no safetensors file ({error}); pickles (.pt, .pth) are not opened") from None
    try:
        settings = json.loads(header["settings"])
        description = json.loads(header.get("description") or json.dumps({"run": header.get("run"), "settings": settings}))
        architecture, size, family = settings["architecture"], int(settings["image_size"]), settings["mask_family"]
        with torch.device("meta"):  # a foreign header may ask for networks of any size
            generator, _ = models.create(architecture, size, **settings["widths"])
        generator.load_state_dict(state, assign=True)
    except Exception as error:  # a foreign header can fail anywhere
        why = f"no {error} in it" if isinstance(error, KeyError) else textwrap.shorten(f"{error}", 200)
        raise ValueError(f"--weights {path}: its header does not fit its weights ({why}); name another file") from None
    if not all(torch.isfinite(v).all() for v in state.values()):
        raise ValueError(f"--weights {path}: holds weights that are not finite; use another stage or run")
    return Model(generator.to(device).eval(), architecture, size, family, description, str(device))


def _weights_file(path):
    if not path.is_dir():
        return path
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    if not (path / "config.json").is_file():
        raise ValueError(f"--weights {path}: no run's folder; name one, its model/ or a file stages/<n>.safetensors in it")
    if (files.read_json(path / "result.json") or {}).get("outcome") == "diverged":
        raise ValueError(f"--weights {path}: this run diverged; name another, or a file stages/<n>.safetensors in it")
    if not (path / "result.json").is_file() or not (path / "model" / "model.safetensors").is_file():
        raise ValueError(f"--weights {path}: training is not finished; finish it, or name a file stages/<n>.safetensors in it")
    return path / "model" / "model.safetensors"


def fill(model, image, hole):
    """Fill `hole` (H, W) bool in `image` (H, W, 3) uint8 -> (a filled copy, one line per hole on what was done).

    Holes are the connected parts of `hole`; near ones count as one where that needs no larger window. Raises ValueError for
    other arrays, an empty hole, and a hole outside what context_encoder can fill.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: must be (H, W, 3) uint8, not {image.shape} {image.dtype}")
    if hole.dtype != bool or hole.shape != image.shape[:2]:
        raise ValueError(f"hole: must be {image.shape[:2]} bool, as the image is, not {hole.shape} {hole.dtype}")
    if not hole.any():
        raise ValueError("hole: is empty; mark at least one pixel")
    size, filled = model.image_size, image.copy()
    known = np.where(hole[..., None], np.uint8(0), image)  # masked later, too; but roundings could tell what was there
    number, boxes = (windows.as_one if model.central else windows.number)(hole, size)
    squares = [(windows.central_square if model.central else windows.square)(box, hole.shape, size) for box in boxes]
    bar = tqdm(total=len(boxes), unit="hole", delay=2, leave=False, disable=None)
    for start in range(0, len(boxes), BATCH):
        part = range(start, min(start + BATCH, len(boxes)))
        inputs = [windows.shrunk(*windows.cut(known, hole, squares[k]), size) for k in part]
        batch = metrics.inpaint(model.generator, *map(np.stack, zip(*inputs, strict=True)), model.device, BATCH)
        outputs = np.concatenate([metrics.to_uint8(composite(*tensors)) for tensors in batch])
        for k, output in zip(part, outputs, strict=True):
            (y, x, y2, x2), (top, left, side) = boxes[k], squares[k]
            if side != size:
                output = np.asarray(Image.fromarray(output).resize((side, side), Image.Resampling.LANCZOS))
            own = number[y:y2, x:x2] == k + 1
            filled[y:y2, x:x2][own] = output[y - top : y2 - top, x - left : x2 - left][own]
        bar.update(len(part))
    bar.close()
    messages = [_message(box, square, hole.shape, size) for box, square in zip(boxes[:TOLD], squares[:TOLD], strict=True)]
    return filled, messages + [f"{len(boxes) - TOLD:,} smaller holes more"] * (len(boxes) > TOLD)


def _message(box, square, shape, size):
    (y, x, y2, x2), (top, left, side) = box, square
    scale = "native resolution" if side == size else f"scaled by {size / side:.3g}"
    text = f"hole {x},{y},{x2 - x},{y2 - y}: window {left},{top},{side},{side}, {scale}"
    if side > min(shape):
        text += "; the photo is too small for it and was padded with its edge pixels"
    if 2 * max(y2 - y, x2 - x) > side:
        text += "; the hole is more than half as wide as the window, more than the networks were trained for"
    return text


def fill_file(model, photo, output, mask=None, boxes=(), invert=False, compare=None, overwrite=False):
    """Fill the holes of one photograph's file into another -> what there is to say, as lines.

    photo, output, mask, compare: paths; boxes: (x, y, width, height) in pixels. Mask and boxes are those of the photograph as
    viewers show it. `compare` gets a PNG with the hole outlined beside the result. Raises ValueError; then nothing is written.
    """
    read = [path for path in (photo, mask) if path]
    image_file.check_target(output, "-o", overwrite, *read)
    if compare:
        image_file.check_target(compare, "--compare", overwrite, *read, output)
        if Path(compare).suffix.lower() != ".png":
            raise ValueError(f"--compare {compare}: is written as PNG; name it .png")
    original = image_file.read(photo)
    shown = original.shown()
    hole, said = image_file.read_mask(mask, shown.shape[:2], invert) if mask else (np.zeros(shown.shape[:2], bool), [])
    height, width = hole.shape
    for x, y, w, h in boxes:
        if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
            raise ValueError(f"--box {x},{y},{w},{h}: reaches outside photo {photo}; stay inside 0,0,{width},{height}")
        hole[y : y + h, x : x + w] = True
    if not hole.any():
        raise ValueError(f"photo {photo}: no hole; give --mask, --box or both")
    filled, done = fill(model, shown, hole)
    result = image_file.with_hole_filled(original, filled, hole)
    data, lossy = image_file.encoded(result, output)
    pair = image_file.Photo(Image.fromarray(comparison(shown, hole, result.shown()))) if compare else None
    image_file.write(({compare: image_file.encoded(pair, compare)[0]} if compare else {}) | {output: data})
    return [*original.messages, *said, *done, *lossy]


def comparison(shown, hole, filled):
    """The photograph with its hole outlined in red, and the filled one beside it: (H, 2 W + gap, 3) uint8."""
    thickness = max(1, round(max(hole.shape) / 400))
    outlined = shown.copy()
    outlined[ndimage.binary_dilation(hole, np.ones((3, 3)), thickness) & ~hole] = 255, 0, 0
    return np.hstack([outlined, np.full((len(hole), 4 * thickness, 3), 255, np.uint8), filled])


def _files(folder):
    """(the images in a folder, its other files), each by name; hidden ones and folders are in neither."""
    there = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and not path.is_dir()]
    return tuple([path for path in there if (path.suffix.lower() in images.SUFFIXES) == wanted] for wanted in (True, False))


def _name(path):
    """A file's stem, composed: one system writes an accented letter as one character, another as two."""
    return unicodedata.normalize("NFC", path.stem)


def _mask_of(photo, mask):
    """The mask file of a photograph: `mask` itself, or the one of the same stem in that folder."""
    if mask is None or not Path(mask).is_dir():
        return mask
    there = _files(Path(mask))[0]
    found = [path for path in there if path.stem == photo.stem] or [path for path in there if _name(path) == _name(photo)]
    if len(found) != 1:
        raise ValueError(f"--mask {mask}: holds {len(found)} masks of the stem {photo.stem}; one is needed")
    return found[0]


def _folder(model, args, options):
    """Fill every photograph of a folder as PNG -> how many could not be filled. Each of these is told in one line."""
    (sources, others), taken = _files(args.photo), set()
    failed = len(others)
    named = [path for path in (args.photo, args.mask, args.output, args.compare) if path]
    if len({path.resolve() for path in named}) < len(named):
        raise ValueError("PHOTO, --mask, -o and --compare: must be folders apart; name another")
    for target in filter(None, (args.output, args.compare)):
        if target.exists() and not target.is_dir():
            raise ValueError(f"{target}: is a file; PHOTO is a folder, so name a folder")
    if not sources:
        raise ValueError(f"{args.photo}: holds no image ({', '.join(sorted(images.SUFFIXES))}); name another folder")
    for other in others:
        command.fail(1, f"{other}: format not read, convert it, to PNG for example", "inpaint")
    for photo in tqdm(sources, unit="image", disable=None):
        lines = []
        try:
            if photo.stem in taken:
                raise ValueError(f"photo {photo}: another of the stem {photo.stem} is written to the same file; rename one")
            taken.add(photo.stem)
            target, compare = (folder and folder / f"{photo.stem}.png" for folder in (args.output, args.compare))
            lines = fill_file(model, photo, target, _mask_of(photo, args.mask), compare=compare, **options)
        except (ValueError, OSError) as error:
            failed += 1
            with tqdm.external_write_mode():
                command.fail(1, error, "inpaint")
        with tqdm.external_write_mode():
            command.say(*(f"{photo.name}: {line}" for line in lines))
    return failed


def _box(text):
    if not re.fullmatch(r"(\s*-?\d{1,9}\s*(,|$)){4}", text, re.ASCII) or text.endswith(","):
        raise argparse.ArgumentTypeError(f"{textwrap.shorten(text, 60)!r}: give x,y,w,h in whole pixels, e.g. 40,60,120,90")
    return tuple(map(int, text.split(",")))


def arguments(argv=None):
    """The command line. Raises ValueError."""
    parser = command.Parser(prog="run_all.sh inpaint", description="Fill holes in photographs with a trained network.")
    parser.add_argument("photo", type=Path, metavar="PHOTO", help="a photograph, or a folder of them")
    parser.add_argument("--mask", type=Path, help="image of the same size, white = hole; for a folder: a folder, same stems")
    parser.add_argument("--box", type=_box, action="append", default=[], dest="boxes", metavar="x,y,w,h", help="a hole; repeat")
    parser.add_argument("--weights", type=Path, required=True, help="a run's folder, its model/, or a .safetensors file")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT",
                        help=".png, .tif, .webp (lossless) or .jpg; for a folder: a folder, gets .png")  # fmt: skip
    parser.add_argument("--invert", action="store_true", help="black = hole in the mask")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="also a PNG of both side by side; for a folder: a folder")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps", "auto"), help="default: cpu")
    args = parser.parse_args(argv)
    if not args.mask and not args.boxes:
        raise ValueError("no hole is given; add --mask, --box or both")
    if args.invert and not args.mask:
        raise ValueError("--invert: there is no mask to invert; give --mask")
    return args


def main(argv=None):
    try:
        args = arguments(argv)
        options = {name: getattr(args, name) for name in ("boxes", "invert", "overwrite")}
        model = load(args.weights, devices.choose_device(args.device))
        if args.photo.is_dir():
            return 1 if _folder(model, args, options) else 0
        lines = fill_file(model, args.photo, args.output, _mask_of(args.photo, args.mask), compare=args.compare, **options)
        command.say(*lines)
    except (ValueError, OSError) as error:
        return command.fail(2, error, "inpaint")
    return 0


if __name__ == "__main__":
    command.ended(main)
