"""Every kind of file an image folder may hold: read as an independent decoder would, or refused with a reason."""

import io
import os

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inpaint_lib.data import images, scenes
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
    decoded = torchvision.io.decode_png(torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8))
    expected = lanczos(decoded.permute(1, 2, 0).numpy(), size)
    file.seek(0)
    assert distance(images.read(file, size), expected).max() <= 1.5  # the library rounds between its passes


def test_a_jpeg_is_decoded_as_another_decoder_does(tmp_path):
    path = saved(tmp_path / "a.jpg", smooth(218, 178), quality=90)
    decoded = torchvision.io.decode_jpeg(torchvision.io.read_file(str(path))).permute(1, 2, 0).numpy()
    assert distance(images.read(path, 128), lanczos(decoded, 128)).max() <= 2


def test_a_large_jpeg_is_decoded_at_reduced_scale_with_nearly_the_same_pixels(tmp_path, monkeypatch):
    photo = scenes.photographs()["china"]  # 427 x 640
    reduced = images.read(photo, 32).astype(float)
    monkeypatch.setattr(images, "DRAFT", 1000)
    full = images.read(photo, 32).astype(float)
    assert 0 < np.abs(reduced - full).mean() < 2


GREY = smooth(40, 40)[..., 0]
COLOUR = smooth(40, 40)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("grey.png", lambda p: saved(p, GREY)),
        ("sixteen.png", lambda p: saved(p, GREY.astype(np.uint16) * 257)),
        ("sixteen.tif", lambda p: saved(p, GREY.astype(np.uint16) * 257)),
        ("grey-alpha.png", lambda p: saved(p, np.dstack([GREY, np.full_like(GREY, 255)]), "LA")),
        ("palette-of-greys.png", lambda p: saved(p, GREY, "P")),
        ("grey.jpg", lambda p: saved(p, GREY, quality=100)),
        ("grey.webp", lambda p: saved(p, GREY, lossless=True)),
    ],
)  # fmt: skip
def test_grey_kinds_become_the_same_rgb(tmp_path, name, make):
    pixels = images.read(make(tmp_path / name), 40).astype(int)
    assert pixels.shape == (40, 40, 3) and np.abs(pixels - GREY[..., None]).max() <= 3


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [("a.png", {}, 0), ("a.bmp", {}, 0), ("a.tiff", {}, 0), ("a.ppm", {}, 0), ("a.jpg", {"quality": 95, "subsampling": 0}, 12),
     ("a.webp", {"lossless": True}, 0), ("rgb.gif", {}, 255)],
)  # fmt: skip
def test_colour_kinds(tmp_path, name, options, tolerance):
    pixels = images.read(saved(tmp_path / name, COLOUR, **options), 40)
    assert np.abs(pixels.astype(int) - COLOUR).max() <= tolerance


def test_cmyk_is_converted(tmp_path):
    pixels = images.read(saved(tmp_path / "a.jpg", COLOUR, "CMYK", quality=95), 40)
    assert np.abs(pixels.astype(int) - COLOUR).mean() < 12


def test_transparent_images_lie_on_white(tmp_path):
    rgba = np.dstack([np.zeros_like(COLOUR), np.full(COLOUR.shape[:2], 255, np.uint8)])
    rgba[:, 20:, 3] = 0
    pixels = images.read(saved(tmp_path / "a.png", rgba), 40)
    assert (pixels[:, :20] == 0).all() and (pixels[:, 20:] == 255).all()
    palette = Image.fromarray(GREY).convert("P")
    assert (images.read(saved(tmp_path / "b.gif", palette, transparency=int(np.array(palette)[0, 0])), 40)[0, 0] == 255).all()


def test_orientation_is_applied(tmp_path):
    straight = images.read(saved(tmp_path / "a.png", COLOUR), 40)
    for orientation, turn in {3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a), 2: lambda a: a[:, ::-1]}.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = np.ascontiguousarray(turn(COLOUR))
        assert np.array_equal(images.read(saved(tmp_path / f"{orientation}.png", stored, exif=exif), 40), straight)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.fromarray(np.full((40, 40, 3), v, np.uint8)) for v in (10, 200)]
    for name in ("a.gif", "a.webp", "a.png"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert np.abs(images.read(tmp_path / name, 40).astype(int) - 10).max() <= 1


def test_a_very_wide_image_gives_its_central_square(tmp_path):
    pixels = np.zeros((30, 20_000, 3), np.uint8)
    pixels[:, 9_980:10_020] = 255
    assert (images.read(saved(tmp_path / "a.png", pixels), 16) == 255).all()


def bomb(path):
    """A PNG whose header promises 20,000 x 20,000 pixels."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)))
    return path


def written(path, data):
    path.write_bytes(data)
    return path


def cut(path, kind, share):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file, kind)
    return written(path, file.getvalue()[: int(len(file.getvalue()) * share)])


def fifo(path):
    os.mkfifo(path)
    return path


def loop(path):
    path.symlink_to(path)
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda d: written(d / "a.jpg", b""), "empty"),
        (lambda d: written(d / "a.jpg", b"<html>not found</html>"), "not an image"),
        (lambda d: written(d / "a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "not an image"),
        (lambda d: cut(d / "a.jpg", "JPEG", 0.7), "truncated"),
        (lambda d: cut(d / "a.jpg", "JPEG", 0.98), "truncated"),
        (lambda d: cut(d / "a.png", "PNG", 0.7), "truncated"),
        (lambda d: cut(d / "a.tif", "TIFF", 0.5), "truncated"),
        (lambda d: written(d / "a.png", cut(d / "b.png", "PNG", 1).read_bytes().replace(b"IDAT", b"IDAX")), "not an image"),
        (lambda d: saved(d / "a.png", np.zeros((1, 1, 3), np.uint8)), "too small"),
        (lambda d: saved(d / "a.png", np.zeros((7, 500, 3), np.uint8)), "too small"),
        (lambda d: bomb(d / "a.png"), "decompression bomb"),
        (lambda d: saved(d / "a.tif", np.zeros((64, 64), np.float32)), "unsupported pixels"),
        (lambda d: d / "missing.png", "unreadable"),
        (lambda d: loop(d / "a.png"), "unreadable"),
        (lambda d: fifo(d / "a.png"), "not a regular file"),
        (lambda d: d, "not a regular file"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path, make, reason):
    with pytest.raises(images.Unusable) as caught:
        images.read(make(tmp_path), 32)
    assert caught.value.reason == reason


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", COLOUR)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(images.Image, "open", refuse)
    with pytest.raises(images.Unusable) as caught:
        images.read(path, 32)
    assert (caught.value.reason, caught.value.detail) == ("unreadable", "Permission denied")


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]))
def test_damaged_bytes_give_pixels_or_a_reason_and_nothing_else(data, kind):
    file = io.BytesIO()
    Image.fromarray(COLOUR).save(file, kind)
    damaged = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert images.read(io.BytesIO(damaged), 16).shape == (16, 16, 3)
    except images.Unusable as why:
        assert why.reason
