"""Every kind of image file: read as an independent decoder would, or refused with a reason."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from inpaint_lib.data import images
from tests.conftest import distance, lanczos, smooth


def saved(path, array, mode=None, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@settings(max_examples=40, deadline=None)
@given(st.integers(16, 90), st.integers(16, 90), st.integers(8, 40), st.integers(0, 1000))
def test_packed_pixels_match_an_independent_decode_and_resize(height, width, size, seed):
    """PNG, decoded by libpng through torchvision and resampled by a matrix product."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    encoded = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    decoded = torchvision.io.decode_png(encoded).permute(1, 2, 0).numpy()
    found = images.read_image(io.BytesIO(file.getvalue()), size)
    assert distance(found, lanczos(decoded, size)).max() <= 1.5  # Pillow rounds between its passes


def test_a_jpeg_is_decoded_as_another_decoder_does(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.jpg", smooth(436, 356), quality=90)
    encoded = torchvision.io.read_file(str(path))
    decoded = torchvision.io.decode_jpeg(encoded).permute(1, 2, 0).numpy()
    reduced = images.read_image(path, 32)  # at half scale
    assert distance(reduced, lanczos(decoded, 32)).mean() < 2
    monkeypatch.setattr(images, "DRAFT", 1000)
    full = images.read_image(path, 32)
    assert distance(full, lanczos(decoded, 32)).max() <= 2 and not np.array_equal(reduced, full)


GREY = smooth(40, 40)[..., 0]
COLOUR = smooth(40, 40)
KINDS = [  # name, pixels, mode, options of the writer, tolerance
    ("grey.png", GREY, None, {}, 0),
    ("sixteen.png", GREY.astype(np.uint16) * 257, None, {}, 0),
    ("sixteen.tif", GREY.astype(np.uint16) * 257, None, {}, 0),
    ("grey-alpha.png", np.dstack([GREY, np.full_like(GREY, 255)]), "LA", {}, 0),
    ("palette-of-greys.png", GREY, "P", {}, 0),
    ("grey.jpg", GREY, None, {"quality": 100}, 3),
    ("grey.webp", GREY, None, {"lossless": True}, 3),
    ("a.png", COLOUR, None, {}, 0),
    ("a.bmp", COLOUR, None, {}, 0),
    ("a.tiff", COLOUR, None, {}, 0),
    ("a.ppm", COLOUR, None, {}, 0),
    ("a.webp", COLOUR, None, {"lossless": True}, 0),
    ("a.jpg", COLOUR, None, {"quality": 95, "subsampling": 0}, 12),
    ("cmyk.jpg", COLOUR, "CMYK", {"quality": 95}, 60),
]


@pytest.mark.parametrize(("name", "pixels", "mode", "options", "tolerance"), KINDS)
def test_every_kind_becomes_rgb(tmp_path, name, pixels, mode, options, tolerance):
    found = images.read_image(saved(tmp_path / name, pixels, mode, **options), 40)
    expected = COLOUR if pixels is COLOUR else np.dstack([GREY] * 3)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= tolerance


def test_transparent_images_lie_on_white(tmp_path):
    rgba = np.dstack([np.zeros_like(COLOUR), np.full(COLOUR.shape[:2], 255, np.uint8)])
    rgba[:, 20:, 3] = 0
    pixels = images.read_image(saved(tmp_path / "a.png", rgba), 40)
    assert (pixels[:, :20] == 0).all() and (pixels[:, 20:] == 255).all()
    palette = Image.fromarray(GREY).convert("P")
    hidden = int(np.array(palette)[0, 0])
    path = saved(tmp_path / "b.gif", palette, transparency=hidden)
    assert (images.read_image(path, 40)[0, 0] == 255).all()


TURNS = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 6: np.rot90}


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TURNS[orientation](COLOUR))
    path = saved(tmp_path / "a.png", stored, exif=exif)
    assert np.array_equal(images.read_image(path, 40), COLOUR)


def test_a_png_with_megabytes_of_text_is_whole(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x>" + "history " * 200_000 + "</x>", zip=True)
    Image.fromarray(smooth(40, 40)).save(tmp_path / "xmp.png", pnginfo=text)
    before = PngImagePlugin.MAX_TEXT_CHUNK
    assert images.read_image(tmp_path / "xmp.png", 32).shape == (32, 32, 3)
    assert PngImagePlugin.MAX_TEXT_CHUNK == before


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.fromarray(np.full((40, 40, 3), v, np.uint8)) for v in (10, 200)]
    for name in ("a.gif", "a.webp", "a.png"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert np.abs(images.read_image(tmp_path / name, 40).astype(int) - 10).max() <= 1


def written(path, data):
    path.write_bytes(data)
    return path


def cut(path, kind, share):
    """Write the first part of an image file of noise."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, kind)
    return written(path, file.getvalue()[: int(len(file.getvalue()) * share)])


def bomb(path):
    """Write a PNG whose header promises 20,000 x 20,000 pixels."""
    data = saved(path, COLOUR).read_bytes()
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return written(path, data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])


def linked_to_itself(path):
    path.symlink_to(path)
    return path


def planes(path, dtype):
    """Write an uncompressed TIFF with a plane for each colour, which Pillow does not write."""
    pixels = np.arange(3 * 40 * 40, dtype=dtype).reshape(3, 40, 40)
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig="separate")
    return path


def test_a_plane_for_each_colour_is_read_where_it_has_8_bits(tmp_path):
    wanted = np.arange(3 * 40 * 40, dtype=np.uint8).reshape(3, 40, 40).transpose(1, 2, 0)
    assert np.array_equal(images.read_image(planes(tmp_path / "a.tif", np.uint8), 40), wanted)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
UNUSABLE = [
    ("empty", lambda d: written(d / "a.jpg", b"")),
    ("not an image", lambda d: written(d / "a.jpg", b"<html>not found</html>")),
    ("not an image", lambda d: written(d / "a.jpg", EPS)),
    ("truncated", lambda d: cut(d / "a.jpg", "JPEG", 0.7)),
    ("truncated", lambda d: cut(d / "a.jpg", "JPEG", 0.98)),
    ("truncated", lambda d: cut(d / "a.png", "PNG", 0.7)),
    ("truncated", lambda d: cut(d / "a.tif", "TIFF", 0.5)),
    ("too small", lambda d: saved(d / "a.png", np.zeros((7, 500, 3), np.uint8))),
    ("decompression bomb", lambda d: bomb(d / "a.png")),
    ("unsupported pixels", lambda d: saved(d / "a.tif", np.zeros((64, 64), np.float32))),
    ("unsupported pixels", lambda d: planes(d / "a.tif", np.uint16)),
    ("unreadable", lambda d: d / "missing.png"),
    ("unreadable", lambda d: linked_to_itself(d / "a.png")),
    ("not a regular file", lambda d: d),
]


@pytest.mark.parametrize(("reason", "make"), UNUSABLE)
def test_what_cannot_be_used_says_why(tmp_path, reason, make):
    with pytest.raises(images.Unusable) as caught:
        images.read_image(make(tmp_path), 32)
    assert caught.value.reason == reason


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]))
def test_damaged_bytes_give_pixels_or_a_reason_and_nothing_else(data, kind):
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, kind)
    damaged = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert images.read_image(io.BytesIO(damaged), 16).shape == (16, 16, 3)
    except images.Unusable as why:
        assert why.reason


@pytest.mark.parametrize("error", [KeyError, TypeError, ValueError, OSError])
def test_a_callers_error_is_not_a_damaged_file(tmp_path, error):
    with pytest.raises(error, match="ours"), images.open_image(saved(tmp_path / "a.png", COLOUR)):
        raise error("ours")
