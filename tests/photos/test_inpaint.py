"""./run_all.sh inpaint: holes of any photograph are filled, and all else stays as it was."""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from safetensors.torch import load_file, save_file
from scipy import ndimage

from inpaint_lib import metrics, models
from inpaint_lib.photos import inpaint, windows
from tests.conftest import repository, smooth

SIZE = 32
NARROW = {
    "custom": {"generator_width": 4, "discriminator_width": 4},
    "free_form": {"generator_width": 2, "discriminator_width": 4},
    "context_encoder": {"generator_width": 4, "discriminator_width": 4, "bottleneck": 8},
}


def described(architecture="custom", size=SIZE, widths=None):
    """Return a description as in model.json."""
    model = {"widths": widths or NARROW[architecture], "mask_family": "square"}
    settings = {"architecture": architecture, "data": {"image_size": size}, "model": model}
    return {"run": "a/b", "settings": settings}


def saved_weights(path, architecture="custom", header=None, **changes):
    generator, _ = models.create(architecture, SIZE, **NARROW[architecture])
    if header is None:
        header = {"description": json.dumps(described(architecture, **changes))}
    save_file({k: v.contiguous() for k, v in generator.state_dict().items()}, path, metadata=header)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {
        name: saved_weights(folder / f"{name}.safetensors", name) for name in models.ARCHITECTURES
    }


@pytest.fixture(scope="module")
def loaded(weights):
    return {name: inpaint.load(path) for name, path in weights.items()}


@pytest.fixture(scope="module")
def custom(loaded):
    return loaded["custom"]


class Answers(torch.nn.Module):
    """A generator that answers with `answer(masked, mask)` and keeps what it was asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked = answer, []

    def forward(self, masked, mask):
        self.asked.append((masked.clone(), mask.clone()))
        return [self.answer(masked, mask)]


def answering(answer, architecture="custom"):
    return inpaint.Model(Answers(answer), architecture, SIZE)


def zeros(masked, mask):
    return torch.zeros_like(masked)


def box_hole(shape, *boxes):
    hole = np.zeros(shape, bool)
    for x, y, w, h in boxes:
        hole[y : y + h, x : x + w] = True
    return hole


def save(path, array, **options):
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **options)
    return path


def run(*arguments):
    return inpaint.main([str(a) for a in arguments])


# --- fill


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 10_000))
def test_known_pixels_stay_and_the_same_call_gives_the_same_bytes(loaded, height, width, seed):
    rng, model = np.random.default_rng(seed), loaded[("custom", "free_form")[seed % 2]]
    image, hole = rng.integers(0, 256, (height, width, 3), np.uint8), box_hole((height, width))
    for _ in range(3):
        y, x = rng.integers(height), rng.integers(width)
        hole[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = True
    before = image.copy()
    filled, messages = inpaint.fill(model, image, hole)
    assert (image == before).all() and (filled[~hole] == image[~hole]).all()
    assert filled.dtype == np.uint8 and messages and all("\n" not in m for m in messages)
    again = inpaint.fill(model, np.where(hole[..., None], 255 - image, image), hole)
    assert (again[0] == filled).all() and again[1] == messages  # what was in the hole plays no part


def test_not_even_a_rounding_tells_what_was_in_the_hole():
    """The answers lie half-way between two grey levels: any rounding would tip some."""
    rng, hole = np.random.default_rng(0), box_hole((SIZE, SIZE), (3, 5, 16, 16))
    levels = torch.arange(SIZE).add(100.5).div(127.5).sub(1)
    levels = levels + torch.arange(-16, SIZE - 16)[:, None] * 2**-26
    model, fills = answering(lambda *_: levels.expand(1, 3, -1, -1)), []
    for content in rng.integers(0, 256, (8, SIZE, SIZE, 3), np.uint8):
        fills.append(inpaint.fill(model, np.where(hole[..., None], content, np.uint8(90)), hole)[0])
    assert all((one == fills[0]).all() for one in fills)


def test_a_perfect_generator_gives_the_photograph_back():
    image, hole = smooth(SIZE, SIZE), box_hole((SIZE, SIZE), (3, 5, 9, 8), (24, 24, 4, 4))
    model = answering(lambda *_: metrics.to_float(image[None]))
    damaged = np.where(hole[..., None], np.uint8(0), image)
    assert (inpaint.fill(model, damaged, hole)[0] == image).all()


def test_a_perfect_generator_gives_a_wide_hole_back_up_to_the_resizing():
    ramp = np.linspace(20, 230, 160).round().astype(np.uint8)
    image = np.broadcast_to(ramp[None, :, None], (160, 160, 3))
    small = image.reshape(32, 5, 32, 5, 3).mean((1, 3))[None]
    model, hole = (
        answering(lambda *_: metrics.to_float(small)),
        box_hole((160, 160), (50, 40, 80, 70)),
    )
    filled, messages = inpaint.fill(model, np.where(hole[..., None], np.uint8(0), image), hole)
    assert messages == ["hole 50,40,80,70: window 0,0,160,160, scaled by 0.2"]
    assert np.abs(filled.astype(int) - image).max() <= 3


def test_other_holes_in_a_window_are_hidden_from_the_network_too():
    model = answering(zeros)
    hole = box_hole((40, 900), *((20 * k, 10, 12, 12) for k in range(45)))
    filled, messages = inpaint.fill(model, np.full((40, 900, 3), 200, np.uint8), hole)
    assert len(messages) == len(model.generator.asked) == 45
    masked, mask = model.generator.asked[1]
    assert mask.sum() > 12 * 12 and (masked[mask.expand_as(masked) > 0] == 0).all()
    assert (filled[hole] == 128).all() and (filled[~hole] == 200).all()


def test_each_hole_is_filled_from_its_own_window_though_boxes_overlap():
    model = answering(lambda masked, _: torch.full_like(masked, 0.1 * len(model.generator.asked)))
    image, (y, x) = smooth(60, 60), np.mgrid[:60, :60]
    scratches = [(y >= 20) & (y < 34) & (x == y + shift) for shift in (0, 6)]
    hole = scratches[0] | scratches[1]
    filled, messages = inpaint.fill(model, image, hole)
    assert len(messages) == 2 and (filled[~hole] == image[~hole]).all()
    assert [len(np.unique(filled[scratch])) for scratch in scratches] == [1, 1]


def test_a_photo_smaller_than_the_model_is_padded_by_its_edges_and_a_wide_hole_reported():
    model = answering(zeros)
    image = np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)
    hole = box_hole((20, 50), (0, 0, 4, 5))
    (message,) = inpaint.fill(model, image, hole)[1]
    assert message.startswith("hole 0,0,4,5: window 0,-6,32,32, native resolution; the photo is")
    masked, mask = model.generator.asked[0]
    shown = ((masked[0].permute(1, 2, 0) + 1) * 127.5).round().numpy()
    padded = np.pad(image, ((6, 6), (0, 0), (0, 0)), "edge")[:, :32]
    where = np.pad(hole, ((6, 6), (0, 0)), "edge")[:, :32]
    assert (mask[0, 0].numpy() == where).all() and (shown[~where] == padded[~where]).all()
    (message,) = inpaint.fill(model, smooth(60, 60), box_hole((60, 60), (5, 5, 40, 9)))[1]
    assert "window 0,0,60,60" in message and "wider than half the window" in message


def test_specks_are_far_fewer_windows_and_few_lines():
    hole = np.random.default_rng(0).random((160, 160)) < 0.02
    messages = inpaint.fill(answering(zeros), smooth(160, 160), hole)[1]
    parts = ndimage.label(hole, np.ones((3, 3)))[1]
    assert len(messages) <= inpaint.LISTED + 1
    assert len(windows.number_holes(hole, SIZE)[1]) < parts / 3


@pytest.mark.parametrize("shape", [(64, 64), (151, 67), (20, 90)])
def test_context_encoder_fills_the_allowed_box_and_names_it_otherwise(loaded, shape):
    model, image = loaded["context_encoder"], smooth(*shape)
    with pytest.raises(ValueError, match="outside the central half.* stay inside --box") as caught:
        inpaint.fill(model, image, box_hole(shape, (0, 0, shape[1], shape[0])))
    text = str(caught.value).split("--box ")[1].split(" ")[0].strip(",")
    x, y, w, h = allowed = [int(v) for v in text.split(",")]
    hole = box_hole(shape, allowed)
    filled, messages = inpaint.fill(model, image, hole)
    assert len(messages) == 1 and (filled[~hole] == image[~hole]).all()
    assert (filled[hole] != image[hole]).any()
    assert abs(2 * x + w - shape[1]) <= 1 and abs(2 * y + h - shape[0]) <= 1
    for wider in ((x - 1, y, w, h), (x, y, w + 1, h)):
        with pytest.raises(ValueError, match="central half"):
            inpaint.fill(model, image, box_hole(shape, wider))


def test_arrays_that_are_no_photo_or_no_hole_are_refused(custom):
    image, hole = np.zeros((9, 9, 3), np.uint8), np.ones((9, 9), bool)
    for arrays in ((image / 2, hole), (image[..., 0], hole), (image, hole[1:]), (image, hole * 1)):
        with pytest.raises(ValueError, match="needs .* uint8 and a hole .* bool"):
            inpaint.fill(custom, *arrays)


# --- files

BOX = (20, 12, 15, 9)
NOISE = np.random.default_rng(1).integers(0, 256, (45, 70, 4), np.uint8)
GREY16 = np.random.default_rng(2).integers(0, 65536, (45, 70)).astype(np.uint16)
PALETTE = Image.fromarray(smooth(45, 70)).quantize(16)
KINDS = {  # what -> (pixels, how to save them, mode in which they stay)
    "bits": (Image.fromarray(NOISE[..., 0] > 127), {}, "L"),  # the fill is grey
    "grey": (NOISE[..., 0], {}, "L"),
    "grey, alpha": (NOISE[..., :2], {}, "LA"),
    "grey, one clear": (NOISE[..., 0], {"transparency": 7}, "LA"),
    "colour": (NOISE[..., :3], {}, "RGB"),
    "colour, alpha": (NOISE, {}, "RGBA"),
    "colour, one clear": (NOISE[..., :3], {"transparency": (255, 228, 34)}, "RGBA"),  # pixel 0, 0
    "palette": (PALETTE, {}, "RGB"),
    "palette, one clear": (PALETTE, {"transparency": 3}, "RGBA"),
}


def pixels_of(path, mode=None):
    """Return a file's pixels, in another mode if given."""
    with Image.open(path) as image:
        return np.array(image.convert(mode) if mode else image)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize(("pixels", "options", "mode"), KINDS.values(), ids=KINDS)
def test_known_pixels_and_alpha_stay_to_the_byte(custom, tmp_path, pixels, options, mode, suffix):
    photo, output = save(tmp_path / "a.png", pixels, **options), tmp_path / f"out{suffix}"
    inpaint.fill_file(custom, photo, output, boxes=[BOX])
    if suffix != ".webp":  # holds RGB and RGBA alone
        assert Image.open(output).mode == mode
    before, after, hole = pixels_of(photo, mode), pixels_of(output, mode), box_hole((45, 70), BOX)
    assert (after[~hole] == before[~hole]).all() and (after[hole] != before[hole]).any()
    if mode.endswith("A"):
        assert (after[..., -1] == before[..., -1]).all()


def test_grey_photographs_get_the_grey_of_the_filling(tmp_path):
    model = answering(lambda m, k: torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand_as(m))  # red
    for kind in ("grey", "grey, alpha"):
        photo = save(tmp_path / "a.png", KINDS[kind][0])
        inpaint.fill_file(model, photo, tmp_path / "out.png", boxes=[BOX], overwrite=True)
        hole = pixels_of(tmp_path / "out.png").reshape(45, 70, -1)[12:21, 20:35]
        assert (hole[..., 0] == 76).all()


def shown(path):
    """Return the picture as a viewer shows it, by Pillow alone."""
    return np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_filled_as_the_upright_one(custom, tmp_path, orientation, suffix):
    exif, turned = Image.Exif(), tmp_path / f"turned{suffix}"
    exif[0x0112] = orientation
    save(turned, smooth(45, 70), exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    upright = save(tmp_path / "upright.png", shown(turned))
    mask = save(tmp_path / "mask.png", box_hole(shown(turned).shape[:2], (8, 20, 11, 6)))
    out = [tmp_path / name for name in ("upright_out.png", "turned_out.png")]
    for photo, output in zip((upright, turned), out, strict=True):
        inpaint.fill_file(custom, photo, output, mask, [(30, 30, 9, 9)])
    assert (shown(out[0]) == shown(out[1])).all()


@pytest.mark.parametrize("output", ["out.png", "out.tif", "out.webp", "out.jpg"])
@pytest.mark.parametrize("photo", ["a.jpg", "a.tif", "a.png"])
def test_exif_and_colour_profile_are_kept(custom, tmp_path, photo, output):
    exif, profile = Image.Exif(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif[0x010E] = "a view"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    if photo != "a.tif":
        exif[0x0100] = 9999  # some cameras write the stored width here: it must not decide a TIFF's
    save(tmp_path / photo, smooth(45, 70), exif=exif.tobytes(), icc_profile=profile)
    inpaint.fill_file(custom, tmp_path / photo, tmp_path / output, boxes=[BOX])
    with Image.open(tmp_path / output) as out:
        out.load()
        found = out.getexif()
        assert out.info["icc_profile"] == profile and out.size == (70, 45)
        assert found[0x010E] == "a view" and found.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"


def test_an_embedded_thumbnail_is_left_out_as_it_shows_what_the_hole_hid(custom, tmp_path):
    thumbnail = b"THUMBNAIL"
    first = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 3, 0, 26)  # the next directory at byte 26
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + first + second + thumbnail
    photo = save(tmp_path / "a.jpg", smooth(45, 70), exif=exif)
    inpaint.fill_file(custom, photo, tmp_path / "out.jpg", boxes=[BOX])
    assert thumbnail in photo.read_bytes() and thumbnail not in (tmp_path / "out.jpg").read_bytes()


def test_a_cameras_preview_and_an_editors_layers_are_left_out_too(custom, tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif.get_ifd(0x8769)[37500] = "a maker", b"PREVIEW"
    photo, image = tmp_path / "a.jpg", Image.fromarray(smooth(45, 70))
    inpaint.fill_file(custom, save(photo, image, exif=exif), tmp_path / "jpg.png", boxes=[BOX])
    save(tmp_path / "a.tif", image, tiffinfo={37724: b"LAYERS", 0x010F: "a maker"})
    inpaint.fill_file(custom, tmp_path / "a.tif", tmp_path / "tif.png", boxes=[BOX])
    assert b"PREVIEW" in photo.read_bytes() and b"LAYERS" in (tmp_path / "a.tif").read_bytes()
    for path in (tmp_path / "jpg.png", tmp_path / "tif.png"):
        data = path.read_bytes()
        assert b"a maker" in data and b"PREVIEW" not in data and b"LAYERS" not in data


def test_damaged_exif_is_reported(custom, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    photo = save(tmp_path / "a.png", smooth(45, 70), exif=exif)
    # what the writer does with some cameras' tags
    monkeypatch.setattr(Image.Exif, "tobytes", lambda *_: struct.pack("B", 256))
    messages = inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    assert "EXIF is damaged and not kept" in messages
    assert not dict(Image.open(tmp_path / "out.png").getexif())


def test_a_jpeg_keeps_its_decoded_pixels_and_a_jpeg_output_is_reported_as_lossy(custom, tmp_path):
    photo, hole = save(tmp_path / "a.jpg", smooth(45, 70), quality=60), box_hole((45, 70), BOX)
    messages = inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    assert inpaint.LOSSY not in messages
    assert (pixels_of(photo)[~hole] == pixels_of(tmp_path / "out.png")[~hole]).all()
    messages = inpaint.fill_file(custom, photo, tmp_path / "out.jpg", boxes=[BOX])
    assert messages[-1] == inpaint.LOSSY and Image.open(tmp_path / "out.jpg").format == "JPEG"


def test_the_first_of_several_frames_is_filled_and_reported(custom, tmp_path):
    frames = [Image.fromarray(np.full((45, 70, 3), v, np.uint8)) for v in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    messages = inpaint.fill_file(custom, tmp_path / "a.gif", tmp_path / "out.png", boxes=[BOX])
    assert messages[0] == "2 frames: only the first is filled"
    assert (pixels_of(tmp_path / "out.png")[0, 0] == 10).all()


UNKEPT = {  # what -> (name, image, how to save it); others are in project/test_bad_input.py
    "16-bit grey": ("a.png", GREY16, {}),
    "transparent 16 bits": ("a.png", GREY16, {"transparency": 5}),
    "white is 0": ("a.tif", GREY16, {"tiffinfo": {262: 0}}),
    "16-bit PPM": ("a.ppm", np.dstack([GREY16] * 3), {}),
}


@pytest.mark.parametrize(("name", "image", "options"), UNKEPT.values(), ids=UNKEPT)
def test_pixels_that_would_be_lost_are_refused(custom, tmp_path, name, image, options):
    photo = tmp_path / name
    if image.ndim == 3:  # Pillow doesn't write it
        cv2.imwrite(str(photo), image)
    else:
        save(photo, image, **options)
    with pytest.raises(ValueError, match="photo .*/a.* pixels.*8-bit"):
        inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    assert not (tmp_path / "out.png").exists()


def test_few_colours_in_few_bits_and_8_bits_as_text_are_kept(custom, tmp_path):
    plain = tmp_path / "a.ppm"
    plain.write_text("P3\n70 45\n255\n" + " ".join(map(str, smooth(45, 70).ravel())))
    inpaint.fill_file(custom, plain, tmp_path / "out.png", boxes=[BOX])
    hole = box_hole((45, 70), BOX)
    assert (pixels_of(tmp_path / "out.png")[~hole] == smooth(45, 70)[~hole]).all()


def test_too_little_memory_names_the_photo_and_other_errors_stay(custom, tmp_path, monkeypatch):
    photo = save(tmp_path / "a.png", smooth(45, 70))
    for error, raised in (
        (cv2.error("(-4:Insufficient memory) Failed to allocate"), ValueError),
        (MemoryError(), ValueError),
        (RuntimeError("no such thing"), RuntimeError),
    ):
        monkeypatch.setattr(windows, "number_holes", lambda *_, error=error: throw(error))
        with pytest.raises(raised) as told:
            inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
        assert raised is RuntimeError or "a.png: 70 x 45 pixels are too many" in str(told.value)


def throw(error):
    raise error


# --- masks


@pytest.mark.parametrize(
    "kind", ["bits", "grey", "jpeg", "inverted", "colour", "sixteen", "a box beside it"]
)
def test_masks_of_every_kind_give_the_same_filling(custom, tmp_path, kind):
    photo, parts = save(tmp_path / "a.png", smooth(64, 96)), [(16, 16, 16, 24), (64, 32, 8, 8)]
    hole = box_hole((64, 96), *parts)
    white = hole * np.uint8(255)
    inpaint.fill_file(custom, photo, tmp_path / "wanted.png", save(tmp_path / "m.png", white))
    made = {
        "bits": hole,
        "grey": np.where(hole, 200, 40).astype(np.uint8),
        "inverted": 255 - white,
        "colour": np.dstack([white] * 3),
        "sixteen": hole * np.uint16(65535),
        "a box beside it": box_hole((64, 96), parts[0]),
    }.get(kind, white)
    mask = save(tmp_path / ("mask.jpg" if kind == "jpeg" else "mask.png"), made)
    boxes = parts[1:] if "box" in kind else ()
    inpaint.fill_file(custom, photo, tmp_path / "out.png", mask, boxes, invert=kind == "inverted")
    assert (pixels_of(tmp_path / "wanted.png") == pixels_of(tmp_path / "out.png")).all()


def test_a_mask_that_looks_inverted_warns_with_the_remedy(custom, tmp_path):
    photo, hole = save(tmp_path / "a.png", smooth(64, 64)), box_hole((64, 64), (9, 9, 9, 9))
    for mask, invert, advice in ((~hole, False, "add --invert"), (hole, True, "drop --invert")):
        path, out = save(tmp_path / "mask.png", mask), tmp_path / "out.png"
        messages = inpaint.fill_file(custom, photo, out, path, invert=invert, overwrite=True)
        assert messages[0].startswith("warning: 98% of the photo is hole")
        assert messages[0].endswith(advice)


def test_a_mask_that_is_neither_black_nor_white_is_refused(custom, tmp_path):
    photo, output = save(tmp_path / "a.png", smooth(45, 70)), tmp_path / "out.png"
    for wrong in (smooth(45, 70, 1), np.full((45, 70), 130, np.uint8)):
        mask = save(tmp_path / "mask.png", wrong)
        with pytest.raises(ValueError, match=r"mask .*: \d+% of it is grey or coloured"):
            inpaint.fill_file(custom, photo, output, mask)
    assert not output.exists()


# --- the command

GOOD = ["photo.png", "--box", "20,12,15,9", "--weights"]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Work in a folder with a good photograph."""
    monkeypatch.chdir(tmp_path)
    save("photo.png", smooth(45, 70))
    return tmp_path


def spread():
    """Put a good photograph and everything bad into the working folder."""
    hole = box_hole((45, 70), BOX)
    save("photo.png", smooth(45, 70))
    save("masked.png", hole)
    save("empty.png", np.zeros((45, 70), np.uint8))
    save("ones.png", hole.astype(np.uint8))
    save("small.png", np.full((44, 70), 255, np.uint8))
    save("clear.png", np.dstack([hole * np.uint8(255)] * 2))
    save("exists.png", smooth(9, 9))
    save("cmyk.tif", Image.fromarray(smooth(45, 70)).convert("CMYK"))
    save("alpha.png", NOISE)
    save("float.tif", np.zeros((45, 70), np.float32))
    cv2.imwrite("deep.png", np.zeros((45, 70, 3), np.uint16))
    Path("text.png").write_text("<html>")
    Path("nothing.png").touch()
    Path("cut.png").write_bytes(Path("photo.png").read_bytes()[:900])
    torch.save({"a": torch.zeros(1)}, "pickle.safetensors")
    Path("text.safetensors").write_text("hello")
    Path("long.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    saved_weights("bare.safetensors", header={})
    for name, description in {
        "json": "{",
        "list": "[1]",
        "key": '{"settings": {}}',
        "unknown": json.dumps(described()).replace('"custom"', '"x"'),
    }.items():
        saved_weights(f"{name}.safetensors", header={"description": description})
    saved_weights("wider.safetensors", widths={"generator_width": 8})
    saved_weights("size.safetensors", size=7)
    state = {name: value * float("nan") for name, value in load_file("wider.safetensors").items()}
    save_file(state, "nan.safetensors", metadata={"description": json.dumps(described())})
    for name in ("unfinished", "other", "masks"):
        Path(name).mkdir()
    Path("unfinished/run.json").write_text("{}")


def test_the_command_fills_and_reports_what_it_did(bench, weights, capfd):
    command = [*GOOD, weights["custom"], "-o", "new/out.png", "--box", "50,30,4,4"]
    assert run(*command) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == [
        "hole 20,12,15,9: window 11,0,32,32, native resolution",
        "hole 50,30,4,4: window 36,13,32,32, native resolution",
    ]
    assert run(*command) == 2
    assert "exists: name another file, or add --overwrite" in capfd.readouterr().err
    assert run(*command, "--overwrite") == 0
    assert [p.name for p in (bench / "new").iterdir()] == ["out.png"]


def test_a_folder_is_done_to_its_end_and_a_bad_photo_gets_one_line(bench, weights, capfd):
    sources, masks, out = bench / "in", bench / "masks", bench / "out"
    sources.mkdir()
    masks.mkdir()
    for k, suffix in enumerate((".jpg", ".png", ".webp")):
        save(sources / f"p{k}{suffix}", smooth(45, 60 + k))
        save(masks / f"p{k}.png", box_hole((45, 60 + k), (10 * k, 9, 8, 8)))
    (sources / "p1.png").write_bytes((sources / "p1.png").read_bytes()[:500])
    save(sources / "p2.bmp", smooth(45, 60))  # the mask fits p2.webp
    save(sources / "p0.tif", smooth(45, 60))  # after p0.jpg
    (sources / "p0.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))  # before p0.jpg
    (sources / "notes.txt").write_text("no photograph")
    (sources / ".hidden.png").write_text("no photograph")
    assert run(sources, "--mask", masks, "--weights", weights["custom"], "-o", out) == 1
    printed, err = capfd.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("inpaint: ")]
    assert len(lines) == 5
    for words in (
        "p1.png: ",
        "is 62 x 45 pixels",
        "p0.heic: format not read",
        "p0.tif: another differs only in its suffix",
        "holds 0 masks named notes",
    ):
        assert any(words in line for line in lines), words
    assert "p0.jpg: hole 0,9,8,8" in printed and "p2.webp: hole 20,9,8,8" in printed
    assert sorted(p.name for p in out.iterdir()) == ["p0.png", "p2.png"]


def test_a_folder_of_good_photos_is_filled_as_each_alone(bench, weights, custom, capfd):
    """Also a name that is composed here and decomposed there, and one of several lines."""
    sources, out, masks = bench / "in", bench / "out", bench / "masks"
    sources.mkdir()
    masks.mkdir()
    names = [unicodedata.normalize("NFD", "é"), "a\nb\x1b[31m", "c"]
    for k, name in enumerate(names):
        save(sources / f"{name}.png", smooth(45, 60, seed=k))
        mask = masks / f"{unicodedata.normalize('NFC', name)}.png"
        save(mask, box_hole((45, 60), (5 + k, 6, 9, 8)))
        inpaint.fill_file(custom, sources / f"{name}.png", bench / f"{name}.png", mask)
    arguments = [sources, "--mask", masks, "--weights", weights["custom"], "-o", out]
    assert run(*arguments) == 0
    printed = capfd.readouterr().out.splitlines()
    assert r"a\x0ab\x1b[31m.png: hole 6,6,9,8: window 0,0,32,32, native resolution" in printed
    assert run(*arguments) == 0 and "3 already there" in capfd.readouterr().out
    assert run(*arguments, "--overwrite") == 0 and "3 filled" in capfd.readouterr().out
    for name in names:
        assert (out / f"{name}.png").read_bytes() == (bench / f"{name}.png").read_bytes()
    for folder in (sources, masks):
        assert run(*arguments[:-1], folder, "--overwrite") == 2
    capfd.readouterr()
    assert run(*arguments[:-1], bench) == 0 and "3 already there" in capfd.readouterr().out


def test_sub_folders_are_filled_too_and_every_entry_is_counted(bench, weights, capfd):
    """Masks and results may lie inside; finished photos stay, unused masks are reported."""
    sources, masks, out = bench / "in", bench / "in/masks", bench / "in/out"
    for name in ("a", "2019/a", "2019/b/c", "@eaDir/x", "2020/late"):
        for folder, pixels in (
            (sources, smooth(45, 60)),
            (masks, box_hole((45, 60), (5, 9, 8, 8))),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            save(folder / f"{name}.png", pixels)
    (sources / "2020/late.png").unlink()
    save(masks / "2019/zzz.png", box_hole((45, 60), (5, 9, 8, 8)))
    arguments = [sources, "--mask", masks, "--weights", weights["custom"], "-o", out]
    assert run(*arguments) == 0
    printed, err = capfd.readouterr()
    assert printed.splitlines()[-1] == "3 filled, 2 masks without a photo"
    assert err.splitlines() == ["inpaint: no photo is named like these masks: 2019/zzz, 2020/late"]
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png")) == [
        "2019/a.png",
        "2019/b/c.png",
        "a.png",
    ]
    (out / "2019/a.png").unlink()
    (sources / "2019/broken.png").write_bytes(b"x")
    assert run(*arguments) == 1
    counted = set(capfd.readouterr().out.splitlines()[-1].split(", "))
    there = "2 already there (--overwrite fills them again)"
    assert counted == {there, "1 filled", "1 failed", "2 masks without a photo"}
    assert {p.name for p in out.rglob("*.png")} == {"a.png", "c.png"}


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_any_name_is_filled_in_any_locale_even_where_nothing_can_be_printed(tmp_path, weights):
    (tmp_path / "in").mkdir()
    os.rename(save(tmp_path / "a.png", smooth(45, 70)), os.fsencode(tmp_path) + b"/in/\xe9.png")
    arguments = ["--box", "9,9,9,9", "--weights", weights["custom"], "-o", tmp_path / "out"]
    command = [
        sys.executable,
        "-P",
        "-m",
        "inpaint_lib.photos.inpaint",
        tmp_path / "in",
        *arguments,
    ]
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = os.environ | {"PYTHONPATH": repository()} | plain
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"\xe9.png"]
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "cannot be printed (No space left on device), but the work is done" in done.stderr


# --- the output file


def test_what_cannot_be_written_is_reported_before_anything_is(bench, weights, capfd):
    Path("link.png").symlink_to("nowhere")
    Path("folder.png").mkdir()
    Path("file").touch()
    os.link("photo.png", "same.png")
    before = sorted(bench.rglob("*"))
    for output, words in {
        "link.png": "-o link.png: exists: name another file",
        "file/out.png": "file is a file where a folder is needed",
        "folder.png": "folder.png is a folder where a file is needed",
        "same.png": "-o same.png: is an input of this command",
        "/proc/out.png": "/proc cannot be written to",
    }.items():
        more = [] if output == "link.png" else ["--overwrite"]
        assert run(*GOOD, weights["custom"], "-o", output, *more) == 2
        err = capfd.readouterr().err
        assert words in err and len(err.splitlines()) == 1 and "Errno" not in err
        assert sorted(bench.rglob("*")) == before


# --- weights


def test_a_runs_folder_its_model_and_its_stages_are_all_weights(tmp_path, weights):
    run, stage = tmp_path / "seed0", tmp_path / "seed0" / "stages" / "2.safetensors"
    stage.parent.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(described()))
    others = {"discriminator.x": torch.zeros(1), "snapshot.x": torch.zeros(1)}
    save_file(load_file(weights["custom"]) | others, stage, metadata={"run": "a/b", "stage": "2"})
    with pytest.raises(ValueError, match=r"no finished run: .* name a file stages/<n>.safetensors"):
        inpaint.load(run)
    (run / "model").mkdir()
    shutil.copy(weights["custom"], run / "model" / "model.safetensors")
    image, hole = smooth(40, 50), box_hole((40, 50), BOX)
    paths = (run, run / "model", run / "model/model.safetensors", stage)
    filled = []
    for model in map(inpaint.load, paths):
        assert (model.architecture, model.image_size) == ("custom", SIZE)
        assert not model.generator.training
        filled.append(inpaint.fill(model, image, hole)[0])
    assert all((other == filled[0]).all() for other in filled[1:])
    shutil.copy(stage, tmp_path / "alone.safetensors")
    with pytest.raises(ValueError, match="its header does not fit its weights"):
        inpaint.load(tmp_path / "alone.safetensors")


@pytest.mark.skipif(os.getuid() != 0, reason="root alone can become somebody else")
@pytest.mark.parametrize("shut", ["model/model.safetensors", "model", "."])
def test_weights_that_may_not_be_read_are_reported_as_such(weights, shut):
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # pytest's own folders are shut
        run = Path(place, "run")
        (run / "model").mkdir(parents=True)
        shutil.copy(weights["custom"], run / "model/model.safetensors")
        for path in (Path(place), *Path(place).rglob("*")):
            path.chmod(0o755)
        (run / shut).chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(ValueError, match="may not be read"):
                inpaint.load(run)
        finally:
            os.seteuid(0)
