"""One image file, of whatever kind, as one square of RGB pixels, or the reason why it cannot be used."""

import contextlib
import math
import os
import stat
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # JPEG includes MPO
DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, struct.error, zlib.error)
DRAFT = 4  # JPEGs are decoded at 1/2, 1/4 or 1/8 scale where that leaves at least 4 times the wanted size to the filter


class Unusable(Exception):
    """Why an image is left out: `reason` is one of a few, `detail` says more."""

    def __init__(self, reason, detail=""):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def read(source, size):
    """The central square of an image, as (size, size, 3) uint8, resampled with an antialiasing (Lanczos) filter.

    `source` is a path or a binary file. EXIF orientation is applied; grey, palette, CMYK and 16-bit images become 8-bit RGB;
    transparent ones lie on white; animated ones give their first frame. As usual the short side is resized and the square cut
    out then: at its edges the filter has read pixels outside it.

    Raises Unusable for everything else, images under a quarter of `size` and decompression bombs (179 megapixels) included.
    """
    with opened(source) as image:
        return _square(image, size)


@contextlib.contextmanager
def opened(source):
    """The image in a path or a binary file, not yet decoded. What decoding raises in the `with` block becomes Unusable."""
    try:
        if not hasattr(source, "read"):
            status = os.stat(source)
            if not stat.S_ISREG(status.st_mode):
                raise Unusable("not a regular file")
            if not status.st_size:
                raise Unusable("empty")
        with warnings.catch_warnings(action="ignore"), _long_texts(), Image.open(source, formats=FORMATS) as image:
            inverted = image.format == "TIFF" and image.tag_v2.get(262) == 0
            if image.mode.startswith("I;16") and (inverted or image.has_transparency_data):  # Pillow heeds neither
                raise Unusable("unsupported pixels", f"16-bit grey {'with white as 0' if inverted else 'and transparent'}")
            yield image
    except Unusable:
        raise
    except UnidentifiedImageError:
        raise Unusable("not an image", "its content is none of " + ", ".join(FORMATS)) from None
    except Image.DecompressionBombError:
        raise Unusable("decompression bomb", "more than 179 megapixels") from None
    except DECODER_ERRORS as error:
        known = isinstance(error, OSError) and error.errno is not None
        reason = "unreadable" if known else "truncated" if "truncat" in str(error).lower() else "damaged"
        raise Unusable(reason, error.strerror if known else f"{type(error).__name__}: {error}") from None


@contextlib.contextmanager
def _long_texts():
    """Let PNGs hold a text of 64 MB, as photo editors write their history; Pillow's 1 MB would call such a file damaged."""
    usual, PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    try:
        yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK = usual


def _square(image, size):
    (width, height), kind = image.size, image.format
    if min(width, height) < max(size // 4, 2):
        raise Unusable("too small", f"{width} x {height} pixels")
    factor = DRAFT * size / min(width, height)
    image.draft(None, (math.ceil(width * factor), math.ceil(height * factor)))  # JPEG alone heeds it
    if image.getexif().get(0x0112, 1) != 1:  # orientation
        image = ImageOps.exif_transpose(image)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = left, top, left + side, top + side
    return np.asarray(to_rgb(image, kind).resize((size, size), Image.Resampling.LANCZOS, square))


def to_rgb(image, kind=None):
    """Any Pillow image as 8-bit RGB. `kind` is the file's format. Raises Unusable for pixels whose range is not known."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):  # 16 bits a pixel
        grey = np.asarray(image).astype(np.float32) / 257
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Unusable("unsupported pixels", f"mode {image.mode} has no fixed range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
