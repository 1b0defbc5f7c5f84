"""Read a photograph and its mask, and write the photograph with only the hole changed.

Images are turned as their EXIF orientation says, as viewers show them, and written that way. All
functions raise ValueError with one line that names the file and what to do.
"""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..data import images
from ..study import files

MODES = ("L", "LA", "RGB", "RGBA")
# EXIF tags that say how the old file stored its pixels, or hold them again: a thumbnail, layers
STRUCTURAL = {*range(254, 267), 273, 274, *range(277, 285), *range(288, 294), 296, 317}
STRUCTURAL |= {*range(320, 348), *range(512, 533), 700, 33723, 34377, 34675, 37724}
MAKER_NOTE = 37500  # a camera's own data, often with a preview
WRITERS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
WRITERS |= {".jpg": "JPEG", ".jpeg": "JPEG"}
OPTIONS = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 95, "subsampling": 0}}


@contextlib.contextmanager
def _decoding(path, what):
    """Yield the image in a file. Raises ValueError if it cannot be read."""
    try:
        with images.open_image(path) as image, images.translate_errors():
            yield image
    except images.Unusable as why:
        reason = "format not read" if why.reason == "not an image" else why.reason
        remedy = "give a complete image, an 8-bit PNG for example"
        detail = f" ({why.detail})" if why.detail else ""
        raise ValueError(f"{what} {path}: {reason}{detail}: {remedy}") from None


def read_photo(path):
    """Return the first frame of a photograph, {"exif", "icc_profile"}, and messages.

    A palette becomes RGB or RGBA. Raises ValueError also for pixels that could not be written
    unchanged: more than 8 bits a channel, CMYK and the like.
    """
    messages = []
    with _decoding(path, "photo") as image:
        deep, icc_profile = any(map(_is_deep, image.tile)), image.info.get("icc_profile")
        if (frames := getattr(image, "n_frames", 1)) > 1:
            messages.append(f"{frames} frames: only the first is filled")
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        plain, exif = _plain(image), image.getexif()
    if deep or plain.mode not in MODES:
        what = f"{'16-bit ' * deep}{plain.mode} pixels"
        raise ValueError(f"photo {path}: {what} would not be kept: convert it to 8-bit RGB(A)")
    return plain, {"exif": _exif(exif, messages), "icc_profile": icc_profile}, messages


def _is_deep(tile):
    """Return whether a part of an image has more than 8 bits per colour, which Pillow cuts off."""
    codec, _, _, arguments = tile
    if codec.startswith("ppm"):
        return not isinstance(arguments, str) and arguments[1] > 255
    return ";16" in str(arguments) and "BGR;16" not in str(arguments)  # that one has 16 in all


def _plain(image):
    """Return a decoded image in one of MODES, its colours unchanged, if its mode allows that."""
    clear = image.has_transparency_data  # one transparent colour, too
    if image.mode in ("P", "PA") or (image.mode == "RGB" and clear):
        return image.convert("RGBA" if clear else "RGB")
    return image.convert("LA" if clear else "L") if image.mode in ("1", "L") else image.copy()


def _exif(exif, messages):
    """Return the EXIF to write, without what may show what the hole hides."""
    for tag in STRUCTURAL & set(exif):
        del exif[tag]
    try:
        with images.translate_errors():  # foreign tags can fail anywhere in the writer
            exif.get_ifd(ExifTags.IFD.Exif).pop(MAKER_NOTE, None)
            return exif.tobytes() if len(exif) else b""
    except images.Unusable:
        messages.append("EXIF is damaged and not kept")
        return b""


def encode(photo, kept, filled, hole, path):
    """Return a photograph as the bytes of a file, its hole filled, lossless except for JPEG.

    filled: (H, W, 3) uint8, converted to grey for a grey photograph; hole: (H, W) bool; kept: what
    `read_photo` returned. Alpha stays as it is.
    """
    kind, mode = WRITERS[Path(path).suffix.lower()], photo.mode
    if kind == "JPEG" and mode.endswith("A"):
        raise ValueError(f"-o {path}: JPEG cannot hold transparency: name it .png or .tif")
    pixels, file = np.array(photo), io.BytesIO()
    new = np.asarray(Image.fromarray(filled).convert(mode.removesuffix("A")))
    visible = pixels[..., :-1] if mode.endswith("A") else pixels
    visible[hole] = new.reshape(visible.shape)[hole]
    try:
        # foreign EXIF can fail here, and a photo that is too large for the format
        with images.translate_errors():
            Image.fromarray(pixels).save(file, kind, **OPTIONS.get(kind, {}), **kept)
    except images.Unusable as why:
        raise ValueError(f"-o {path}: {kind} cannot hold it ({why.detail}): try .png") from None
    return file.getvalue()


def check_target(path, overwrite, *sources):
    """Raise ValueError if a file must not or cannot be written at `path`."""
    path, reason = Path(path), None
    if path.suffix.lower() not in WRITERS:
        reason = f"unknown suffix: give one of {', '.join(WRITERS)}"
    elif path.exists() and any(Path(s).exists() and path.samefile(s) for s in sources):
        reason = "is an input of this command: name another output file"
    elif os.path.lexists(path) and not overwrite:
        reason = "exists: name another file, or add --overwrite"
    if reason := reason or files.find_obstacle(path):
        raise ValueError(f"-o {path}: {reason}")


def read_hole(path, shape, invert=False):
    """Return the hole in a mask file, (H, W) bool as `shape`, and messages.

    White is hole, or black with `invert`. Raises ValueError.
    """
    with _decoding(path, "mask") as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        grey, reason = images.to_mask_levels(upright, image.format)
    if upright.size[::-1] != shape:
        sizes = [f"{width} x {height}" for height, width in (upright.size[::-1], shape)]
        reason = f"is {sizes[0]} pixels, the photo as shown {sizes[1]}: give the photo's size"
    if reason:
        raise ValueError(f"mask {path}: {reason}")
    hole = grey < images.WHITE if invert else grey >= images.WHITE
    if not hole.any():
        than, colour = ("darker", "black") if invert else ("brighter", "white")
        reason = f"empty, no pixel is {than} than half ({grey.min()} to {grey.max()} of 255)"
        raise ValueError(f"mask {path}: {reason}: {colour} must mark the hole")
    if hole.mean() <= 0.9:
        return hole, []
    share, advice = f"warning: {hole.mean():.0%} of the photo is hole", "drop" if invert else "add"
    return hole, [f"{share}: the mask looks inverted; if it is, {advice} --invert"]
