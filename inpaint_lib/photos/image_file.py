"""One photograph as a file, and the mask that goes with it: read, and written again with all outside the hole as it was.

`Photo.image` holds the stored pixels; `shown` turns them as the EXIF orientation asks: so viewers, masks and boxes see it. All
functions raise ValueError, in one line that names the file and how to mend it.
"""

import contextlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from ..data import images
from ..study import files

ORIENTATION = 0x0112
SHOWN = {  # stored -> shown, by orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
STORED = SHOWN | {6: SHOWN[8], 8: SHOWN[6]}  # shown -> stored
MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")
CURES = {"not an image": "convert it, to PNG for example", "unsupported pixels": "convert it to 8 bits a colour",
         "decompression bomb": "give a smaller image"}  # fmt: skip
CHUNKS = {"gamma": b"gAMA", "chromaticity": b"cHRM", "srgb": b"sRGB"}  # of a PNG, as Pillow names what it reads from them
NUMBERS = {"gamma": "gamma", "chromaticity": "chromaticities", "srgb": "sRGB mark", "dpi": "resolution in dpi"}
STRUCTURAL = {*range(254, 267), 273, *range(277, 282), 284, *range(288, 294), 317, *range(320, 348), *range(512, 533),
              700, 33723, 34377, 34675}  # fmt: skip  # TIFF tags that describe how the pixels were stored
WRITERS = {
    ".png": ("PNG", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}


@dataclass(frozen=True)
class Photo:
    """A photograph as stored, in one of MODES, what is kept beside its pixels, and what there is to say about it."""

    image: Image.Image
    orientation: int = 1
    kept: dict = field(default_factory=dict)  # exif, icc_profile (bytes), NUMBERS
    messages: tuple = ()

    def shown(self):
        """As a viewer shows it: (H, W, 3) uint8; transparent parts lie on white."""
        return turned(np.asarray(images.to_rgb(self.image, "PNG")), self.orientation, SHOWN)


def turned(array, orientation, table):
    """(H, W[, 3]) uint8 or bool, turned by one of the tables SHOWN and STORED."""
    return np.asarray(Image.fromarray(array).transpose(table[orientation])) if orientation in table else array


@contextlib.contextmanager
def _opened(path, what):
    """images.opened, whose refusal becomes a ValueError."""
    try:
        with images.opened(path) as image:
            yield image
    except images.Unusable as why:
        detail = f" ({why.detail})" if why.detail else ""
        reason = "format not read" if why.reason == "not an image" else why.reason
        raise ValueError(f"{what} {path}: {reason}{detail}; {CURES.get(why.reason, 'give a whole image file')}") from None


def read(path):
    """The Photo in a file. A palette becomes RGB or RGBA; of several frames the first is taken.

    Raises ValueError also for pixels that could not be kept as they are: more than 8 bits a colour, CMYK and the like.
    """
    messages = []
    with _opened(path, "photo") as image:
        kind, deep = image.format, _deep(image)
        if (frames := getattr(image, "n_frames", 1)) > 1:
            messages.append(f"{frames} frames: the first alone is filled")
        exif, info = image.getexif(), dict(image.info)
        orientation, dpi = exif.get(ORIENTATION, 1), info.get("dpi")
        if dpi and not all(0 < float(d) < 65536 for d in dpi):
            messages.append(f"resolution of {' x '.join(f'{float(d):g}' for d in dpi)} dpi: cannot be right and is left out")
            del info["dpi"]
            for tag in {282, 283, 296} & set(exif):
                del exif[tag]
        image.load()
        upright = exif.get(ORIENTATION, 1) != orientation  # Pillow itself turns TIFFs while loading
        if image.mode in ("P", "PA"):
            messages.append("palette: written as full colours")
        image = image.copy() if deep else _plain(image, kind)
        orientation = orientation if orientation in SHOWN else 1
        exif, lost = _exif_bytes(exif, orientation)
    if deep or image.mode not in MODES:
        raise ValueError(f"photo {path}: {deep or image.mode} pixels would not be kept as they are; convert it to 8-bit RGB(A)")
    if upright and orientation in STORED:
        image = image.transpose(STORED[orientation])
    kept = {"exif": exif} | {name: info.get(name) for name in ("icc_profile", *NUMBERS)}
    kept = {name: value for name, value in kept.items() if value not in (None, b"", (1, 1))}  # (1, 1): a TIFF's that has no dpi
    return Photo(image, orientation, kept, (*messages, *lost))


def _deep(image):
    """What a file not yet decoded holds if Pillow would cut its colours to 8 bits, else ""."""
    arguments = [a for tile in image.tile for a in (tile.args if isinstance(tile.args, tuple) else (tile.args,))]
    sixteen = image.format in ("PNG", "TIFF") and any(";16" in str(a) for a in arguments)
    sixteen |= image.format == "PPM" and any(isinstance(a, int) and a > 255 for a in arguments)
    return f"16-bit {image.mode}" if sixteen and not image.mode.startswith("I") else ""


def _plain(image, kind):
    """A decoded image in one of MODES with equal colours, or as it is."""
    if image.mode.startswith("I"):
        images.to_rgb(image, kind)  # refuses pixels whose range is not known
        return Image.fromarray(np.asarray(image).astype(np.uint16))
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("1", "L", "RGB") and image.has_transparency_data:  # one colour is transparent
        return image.convert("RGBA" if image.mode == "RGB" else "LA")
    return image.copy()


def _exif_bytes(exif, orientation):
    """EXIF to write again, and what was lost of it. A thumbnail is left out: it would show what the hole hid."""
    for tag in STRUCTURAL & set(exif):
        del exif[tag]
    if orientation != 1:
        exif[ORIENTATION] = orientation
    try:
        return (exif.tobytes() if len(exif) else b""), ()
    except Exception:  # foreign tags can fail anywhere in the writer
        only = Image.Exif()
        only[ORIENTATION] = orientation
        return only.tobytes(), ("EXIF is damaged: the orientation alone is kept",)


def with_hole_filled(photo, filled, hole):
    """The Photo with the hole's pixels of `filled` (H, W, 3) uint8; both and `hole` as shown. Alpha stays as it is.

    Grey photographs get the filling's grey, 16-bit ones times 257; black-and-white ones its grey thresholded at half.
    """
    mode, pixels = photo.image.mode, np.array(photo.image)
    filled, hole = (turned(a, photo.orientation, STORED) for a in (filled, hole))
    colours = Image.fromarray(filled).convert({"LA": "L", "RGBA": "RGB", "I;16": "L"}.get(mode, mode), dither=Image.Dither.NONE)
    new = np.asarray(colours).astype(np.uint16) * 257 if mode == "I;16" else np.asarray(colours)
    visible = pixels[..., :-1] if mode.endswith("A") else pixels
    visible[hole] = new.reshape(visible.shape)[hole]
    return Photo(Image.fromarray(pixels), photo.orientation, photo.kept, photo.messages)


def encoded(photo, path):
    """The bytes of a photograph's file, lossless except for JPEG -> (bytes, messages)."""
    kind, options = WRITERS[Path(path).suffix.lower()]
    image = photo.image
    if (kind == "JPEG" and image.mode.endswith("A")) or (kind in ("JPEG", "WEBP") and image.mode == "I;16"):
        what = "transparency" if image.mode.endswith("A") else "16-bit grey"
        raise ValueError(f"-o {path}: {kind} cannot hold {what}; name it .png or .tif")
    kept, file = photo.kept | {"pnginfo": PngImagePlugin.PngInfo()}, io.BytesIO()
    for name, chunk in CHUNKS.items():
        if (value := kept.pop(name, None)) is not None:
            unit, number = (1, "u1") if name == "srgb" else (1e-5, ">u4")
            kept["pnginfo"].add(chunk, np.round(np.divide([value], unit)).astype(number).tobytes())
    try:
        image.save(file, kind, **options, **kept)
    except (OSError, ValueError, OverflowError) as error:
        raise ValueError(f"-o {path}: {kind} cannot hold this photograph ({error}); name it .png or .tif") from None
    with images.opened(file) as again:  # what was written tells what is kept
        found = {name: again.info.get(name, np.nan) for name in NUMBERS.keys() & photo.kept}
    lost = [f"{kind} does not keep the photograph's {words}" for name, words in NUMBERS.items()
            if name in found and not np.allclose(found[name], np.float64(photo.kept[name]), rtol=5e-4, atol=0)]  # fmt: skip
    lossy = ["JPEG re-encodes every pixel, known ones too (quality 95); .png, .tif and .webp keep them"]
    return file.getvalue(), lost + (lossy if kind == "JPEG" else [])


def write(contents):
    """Write {path: bytes}: nothing is in its place before all is written; the last comes first."""
    with contextlib.ExitStack() as stack:
        for path, data in contents.items():
            stack.enter_context(files.replacing(path)).write_bytes(data)


def check_target(path, option, overwrite, *sources):
    """Raise ValueError if a file must not or cannot be written at `path`."""
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"{option} {path}: the suffix says the format; give one of {', '.join(WRITERS)}")
    if any(path.resolve() == Path(source).resolve() or (path.exists() and Path(source).exists() and path.samefile(source))
           for source in sources):  # fmt: skip
        raise ValueError(f"{option} {path}: is another file of this command; name one of its own")
    if path.is_dir():
        raise ValueError(f"{option} {path}: is a folder; name a file")
    if os.path.lexists(path) and not overwrite:
        raise ValueError(f"{option} {path}: exists; name another file, or add --overwrite")
    if reason := files.obstacle(path):
        raise ValueError(f"{option} {path}: {reason}")


def read_mask(path, shape, invert=False):
    """The hole in a mask file as shown, bool of `shape` (H, W), and messages. White is hole, or black with `invert`."""
    with _opened(path, "mask") as image:
        kind = image.format
        image.load()
        alpha = image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255
        orientation = image.getexif().get(ORIENTATION, 1)
        colours = images.to_rgb(image, kind)
        grey, spread = np.asarray(colours.convert("L")), np.ptp(np.asarray(colours), axis=2)
        grey, neither = turned(grey, orientation, SHOWN), float((((grey > 63) & (grey < 192)) | (spread > 63)).mean())
    if alpha:
        raise ValueError(f"mask {path}: has transparent pixels, which are neither hole nor known; save it without transparency")
    if grey.shape != shape:
        sizes = [f"{width} x {height}" for height, width in (grey.shape, shape)]
        raise ValueError(f"mask {path}: is {sizes[0]} pixels, the photo as shown {sizes[1]}; give one of the photo's size")
    if neither > 0.5:
        raise ValueError(f"mask {path}: {neither:.0%} of its pixels are grey or coloured; a mask is black and white")
    hole, between = (grey < 128 if invert else grey >= 128), int(((grey > 0) & (grey < 255)).sum())
    if not hole.any():
        reason = f"no pixel is {'darker' if invert else 'brighter'} than half ({grey.min()} to {grey.max()} of 255)"
        raise ValueError(f"mask {path}: empty, {reason}; {'black' if invert else 'white'} must mark the hole")
    messages = [f"mask: {between:,} grey pixels thresholded at half"] if between else []
    if (share := hole.mean()) > 0.9:
        advice = "drop --invert" if invert else "add --invert"
        messages.append(f"warning: {share:.0%} of the photo is hole: the mask looks inverted; if it is, {advice}")
    return hole, messages
