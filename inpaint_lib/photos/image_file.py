"""One photograph as a file, and its mask: read, and written with all outside the hole as it was.

Images are turned as their EXIF orientation says while they are read: so viewers show them, and so
they are written. All functions raise ValueError with one line: the file and the remedy.
"""

import contextlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..data import images
from ..study import files

MODES = ("L", "LA", "RGB", "RGBA")
# EXIF tags that describe how the old file stored its pixels, turned or not, or a thumbnail
STRUCTURAL = {*range(254, 267), 273, 274, *range(277, 285), *range(288, 294), 296, 317}
STRUCTURAL |= {*range(320, 348), *range(512, 533), 700, 33723, 34377, 34675}
WRITERS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
WRITERS |= {".jpg": "JPEG", ".jpeg": "JPEG"}
OPTIONS = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 95, "subsampling": 0}}


@dataclass(frozen=True)
class Photo:
    """A photograph in one of MODES, what is kept beside its pixels, and messages."""

    image: Image.Image
    kept: dict = field(default_factory=dict)  # exif, icc_profile
    messages: tuple = ()

    def shown(self):
        """Return (H, W, 3) uint8; transparent parts lie on white."""
        return np.asarray(images.to_rgb(self.image))


@contextlib.contextmanager
def _opened(path, what):
    """Yield the image in a file; a refusal becomes a ValueError."""
    try:
        with images.opened(path) as image:
            yield image
    except images.Unusable as why:
        reason = "format not read" if why.reason == "not an image" else why.reason
        remedy = "give a complete image, an 8-bit PNG for example"
        detail = f" ({why.detail})" if why.detail else ""
        raise ValueError(f"{what} {path}: {reason}{detail}; {remedy}") from None


def read(path):
    """Return the Photo in a file. A palette becomes RGB or RGBA; only the first frame is taken.

    Raises ValueError also for pixels that would not be kept: more than 8 bits a colour, CMYK, ...
    """
    messages = []
    with _opened(path, "photo") as image:
        kinds, info = str(image.tile), dict(image.info)
        deep = ";16" in kinds or "'ppm" in kinds  # Pillow would cut their colours to 8 bits
        with images.decoding():
            if (frames := getattr(image, "n_frames", 1)) > 1:
                messages.append(f"{frames} frames: only the first is filled")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            plain, exif = _plain(image), image.getexif()
    if deep or plain.mode not in MODES:
        what = f"{'16-bit ' * deep}{plain.mode} pixels"
        raise ValueError(f"photo {path}: {what} would not be kept; convert it to 8-bit RGB(A)")
    kept = {"exif": _exif(exif, messages), "icc_profile": info.get("icc_profile")}
    kept = {name: value for name, value in kept.items() if value}
    if "gamma" in info and "icc_profile" not in kept:
        messages.append("the photo's gamma is not kept: its colours may look different")
    return Photo(plain, kept, tuple(messages))


def _plain(image):
    """Return a decoded image in one of MODES with equal colours, or as it is."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("1", "L", "RGB") and image.has_transparency_data:  # one transparent colour
        return image.convert("RGBA" if image.mode == "RGB" else "LA")
    return image.convert("L") if image.mode == "1" else image.copy()


def _exif(exif, messages):
    """Return the EXIF to write, without a thumbnail: it would show what the hole hid."""
    for tag in STRUCTURAL & set(exif):
        del exif[tag]
    try:
        with images.decoding():  # foreign tags can fail anywhere in the writer
            return exif.tobytes() if len(exif) else b""
    except images.Unusable:
        messages.append("EXIF is damaged and not kept")
        return b""


def with_hole_filled(photo, filled, hole):
    """Return the Photo with the hole's pixels of `filled` (H, W, 3) uint8, grey in a grey one.

    Alpha stays as it is.
    """
    mode, pixels = photo.image.mode, np.array(photo.image)
    new = np.asarray(Image.fromarray(filled).convert(mode.removesuffix("A")))
    visible = pixels[..., :-1] if mode.endswith("A") else pixels
    visible[hole] = new.reshape(visible.shape)[hole]
    return Photo(Image.fromarray(pixels), photo.kept)


def encoded(photo, path):
    """Return the bytes of a photograph's file, lossless except for JPEG, and messages."""
    kind = WRITERS[Path(path).suffix.lower()]
    if kind == "JPEG" and photo.image.mode.endswith("A"):
        raise ValueError(f"-o {path}: JPEG cannot hold transparency; name it .png or .tif")
    file = io.BytesIO()
    try:
        with images.decoding():  # foreign EXIF can fail here, and a photo too large for the format
            photo.image.save(file, kind, **OPTIONS.get(kind, {}), **photo.kept)
    except images.Unusable as why:
        raise ValueError(f"-o {path}: {kind} cannot hold it ({why.detail}); try .png") from None
    lossy = "JPEG changes every pixel, also outside the hole; .png, .tif and .webp keep them"
    return file.getvalue(), [lossy] if kind == "JPEG" else []


def check_target(path, overwrite, *sources):
    """Raise ValueError if a file must not or cannot be written at `path`."""
    path, reason = Path(path), None
    if path.suffix.lower() not in WRITERS:
        reason = f"the suffix says the format; give one of {', '.join(WRITERS)}"
    elif path.exists() and any(Path(s).exists() and path.samefile(s) for s in sources):
        reason = "is another file of this command; name another"
    elif os.path.lexists(path) and not overwrite:
        reason = "exists; name another file, or add --overwrite"
    if reason := reason or files.obstacle(path):
        raise ValueError(f"-o {path}: {reason}")


def read_mask(path, shape, invert=False):
    """Return the hole in a mask file as shown, bool of `shape` (H, W), and messages.

    White is hole, or black with `invert`.
    """
    with _opened(path, "mask") as image, images.decoding():
        image.load()
        clear = image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255
        kind = image.format  # lost in turning
        colours = images.to_rgb(ImageOps.exif_transpose(image), kind)
    grey, colours = np.asarray(colours.convert("L")), np.asarray(colours)
    neither = float((((grey > 63) & (grey < 192)) | (np.ptp(colours, axis=2) > 63)).mean())
    hole, reason, colour = grey >= 128, None, "black" if invert else "white"
    hole = ~hole if invert else hole
    if clear:
        reason = "has transparent pixels; save it without transparency"
    elif grey.shape != shape:
        sizes = [f"{width} x {height}" for height, width in (grey.shape, shape)]
        reason = f"is {sizes[0]} pixels, the photo as shown {sizes[1]}; give the photo's size"
    elif neither > 0.5:
        reason = f"{neither:.0%} of it is grey or coloured; make the mask black and white"
    elif not hole.any():
        reason = f"empty, no pixel is {'darker' if invert else 'brighter'} than half"
        reason += f" ({grey.min()} to {grey.max()} of 255); {colour} must mark the hole"
    if reason:
        raise ValueError(f"mask {path}: {reason}")
    between = int(((grey > 0) & (grey < 255)).sum())
    messages = [f"mask: {between:,} grey pixels thresholded at half"] if between else []
    if hole.mean() > 0.9:
        advice = f"{'drop' if invert else 'add'} --invert"
        share = f"warning: {hole.mean():.0%} of the photo is hole"
        messages.append(f"{share}: the mask looks inverted; if it is, {advice}")
    return hole, messages
