"""Read an image file of any common format as a square of RGB pixels, or say why it is unusable."""

import contextlib
import errno
import math
import os
import stat
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

SUFFIXES = tuple(".bmp .gif .jfif .jpe .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # JPEG includes MPO
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError)
PILLOW_ERRORS += (EOFError, struct.error, zlib.error)  # all found by changing bytes of valid files
# errors of the file itself; all others (a full disk, say) are the machine's and are raised
OF_THE_FILE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EIO)
OF_THE_FILE += (errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO)
ORIENTATION = 0x0112  # in EXIF
WHITE = 128  # from this grey level on a mask's pixel is hole
DRAFT = 4  # JPEGs are decoded at 1/2, 1/4 or 1/8 scale where that leaves 4 times the wanted size


class Unusable(Exception):
    """Why an image is left out: `reason` is one of a few, `detail` says more."""

    def __init__(self, reason, detail=""):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def read_image(source, size):
    """Return the central square of an image (a path or a binary file) as (size, size, 3) uint8.

    EXIF orientation is applied, transparent images are put on white, of an animation the first
    frame is read. Raises Unusable, also below a quarter of `size` and above 179 megapixels.
    """
    with open_image(source) as image:
        (width, height), kind = image.size, image.format
        if min(width, height) < max(size // 4, 2):
            raise Unusable("too small", f"{width} x {height} pixels")
        factor = DRAFT * size / min(width, height)
        with translate_errors():
            image.draft(None, (math.ceil(width * factor), math.ceil(height * factor)))  # JPEG only
            image.load()
            if image.getexif().get(ORIENTATION, 1) != 1:
                image = ImageOps.exif_transpose(image)
        rgb = to_rgb(image, kind)
    side = min(rgb.size)
    left, top = ((length - side) // 2 for length in rgb.size)
    square = left, top, left + side, top + side
    return np.asarray(rgb.resize((size, size), Image.Resampling.LANCZOS, square))


def read_mask(source, size):
    """Return the central square of a mask, white = hole, as (size, size) uint8, 1 = hole.

    It is resized to the nearest pixels. Raises Unusable as `read_image`, for an image that is not
    black and white, and for a mask without a hole or without known pixels.
    """
    with open_image(source) as image:
        with translate_errors():
            upright = ImageOps.exif_transpose(image)
        levels, why = to_mask_levels(upright, image.format)
    if why:
        raise Unusable("not a mask", why)
    if (side := min(levels.shape)) < max(size // 4, 2):
        raise Unusable("too small", f"{upright.width} x {upright.height} pixels")
    nearest = ((np.arange(size) + 0.5) * side / size).astype(int)
    top, left = ((length - side) // 2 for length in levels.shape)
    hole = (levels[top + nearest][:, left + nearest] >= WHITE).astype(np.uint8)
    if hole.all() or not hole.any():
        raise Unusable("all hole" if hole.all() else "no hole", f"at {size} px")
    return hole


def to_mask_levels(image, kind):
    """Return a decoded mask's grey levels (H, W) uint8, and why it is no mask, or None.

    kind: the format of its file.
    """
    if image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255:
        return None, "has transparent pixels: save it without transparency"
    if image.mode in ("1", "L"):
        grey, saturation = np.asarray(image.convert("L")), 0
    else:
        colours = to_rgb(image, kind)
        channels = [np.asarray(channel) for channel in colours.split()]
        saturation = np.maximum.reduce(channels) - np.minimum.reduce(channels)
        grey = np.asarray(colours.convert("L"))
    neither = float((((grey > 63) & (grey < 192)) | (saturation > 63)).mean())
    why = f"{neither:.0%} of it is grey or coloured: make it black and white"
    return grey, why if neither > 0.5 else None


@contextlib.contextmanager
def open_image(source):
    """Yield the Pillow image of a path or a binary file, to decode inside `translate_errors()`.

    Raises Unusable.
    """
    with translate_errors():
        if not hasattr(source, "read"):
            status = os.stat(source)
            if not stat.S_ISREG(status.st_mode):
                raise Unusable("not a regular file")
            if not status.st_size:
                raise Unusable("empty")
        image = Image.open(source, formats=FORMATS)
        inverted = image.format == "TIFF" and image.tag_v2.get(262) == 0
        if image.mode.startswith("I;16") and (inverted or image.has_transparency_data):
            what = "with white as 0" if inverted else "and transparent"  # Pillow ignores both
            raise Unusable("unsupported pixels", f"16-bit grey {what}")
        if image.format == "TIFF" and max(image.tag_v2.get(258, (8,))) > 8:
            if any(codec == "raw" and args[0] in "RGBA" for codec, _, _, args in image.tile):
                # Pillow would take every byte for a pixel
                raise Unusable("unsupported pixels", "16-bit colours in separate planes")
    with image:
        yield image


@contextlib.contextmanager
def translate_errors():
    """Turn what Pillow raises for a damaged file into Unusable; errors of the machine stay."""
    usual = PngImagePlugin.MAX_TEXT_CHUNK  # too little for the history that photo editors write
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except UnidentifiedImageError:
        raise Unusable("not an image", "its content is none of " + ", ".join(FORMATS)) from None
    except Image.DecompressionBombError:
        raise Unusable("decompression bomb", "more than 179 megapixels") from None
    except PILLOW_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            if error.errno not in OF_THE_FILE:
                raise
            raise Unusable("unreadable", error.strerror) from None
        reason = "truncated" if "truncat" in str(error).lower() else "damaged"
        raise Unusable(reason, f"{type(error).__name__}: {error}") from None
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK = usual


def to_rgb(image, kind=None):
    """Return a decoded Pillow image as 8-bit RGB. kind: its file's format. Raises Unusable."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        grey = np.asarray(image).astype(np.float32) / 257
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Unusable("unsupported pixels", f"mode {image.mode} has no fixed range")
    with translate_errors():
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image).convert("RGB")
        return image.convert("RGB")
