"""./run_all.sh inpaint: holes in photographs of any size and kind are filled, and all else stays as it was."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file, save_file
from scipy import ndimage

from inpaint_lib import models
from inpaint_lib.photos import image_file, inpaint, windows
from tests.conftest import repository, smooth

SIZE = 32
NARROW = {
    "custom": {"generator_width": 4, "discriminator_width": 4},
    "free_form": {"generator_width": 2, "discriminator_width": 4},
    "context_encoder": {"generator_width": 4, "discriminator_width": 4, "bottleneck": 8},
}


def described(architecture="custom", **changes):
    return {"architecture": architecture, "image_size": SIZE, "widths": NARROW[architecture], "mask_family": "square"} | changes


def saved_weights(path, architecture="custom", header=None, **changes):
    generator, _ = models.create(architecture, SIZE, **NARROW[architecture])
    header = {"settings": json.dumps(described(architecture, **changes))} if header is None else header
    save_file({k: v.contiguous() for k, v in generator.state_dict().items()}, path, metadata=header)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return {name: saved_weights(folder / f"{name}.safetensors", name) for name in models.ARCHITECTURES}


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
    return inpaint.Model(Answers(answer), architecture, SIZE, "square", {})


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


# --- windows


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(1, 6), st.integers(0, 10_000))
def test_windows_hold_their_holes_and_lie_inside_the_photo_where_that_is_possible(height, width, n, seed):
    rng = np.random.default_rng(seed)
    hole = np.zeros((height, width), bool)
    for _ in range(n):
        y, x = rng.integers(height), rng.integers(width)
        hole[y : y + rng.integers(1, 40), x : x + rng.integers(1, 40)] = True
    number, boxes = windows.number(hole, SIZE)
    assert ((number > 0) == hole).all() and set(np.unique(number)) - {0} == set(range(1, len(boxes) + 1))
    for k, box in enumerate(boxes):
        rows, columns = np.nonzero(number == k + 1)
        y, x, y2, x2 = box
        assert (y, x, y2, x2) == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        top, left, side = windows.square(box, hole.shape, SIZE)
        assert top <= y and left <= x and y2 <= top + side and x2 <= left + side and side >= SIZE
        longer = max(y2 - y, x2 - x)
        if max(SIZE, 2 * longer) <= min(height, width):
            assert side == max(SIZE, 2 * longer)
            assert 0 <= top <= height - side and 0 <= left <= width - side
        else:
            assert side == max(SIZE, min(height, width), longer)


def test_near_holes_share_a_window_and_far_ones_do_not():
    hole = box_hole((90, 200), (10, 10, 4, 4), (18, 12, 4, 4), (120, 40, 4, 4))
    assert sorted(windows.number(hole, SIZE)[1]) == [[10, 10, 16, 22], [40, 120, 44, 124]]


def test_a_small_hole_near_a_large_one_keeps_a_window_at_native_resolution():
    hole = box_hole((60, 60), (2, 2, 50, 4), (30, 40, 3, 3))
    assert windows.number(hole, SIZE)[1] == [[2, 2, 6, 52], [40, 30, 43, 33]]


@settings(max_examples=40, deadline=None)
@given(st.integers(33, 130), st.integers(0, 10_000))
def test_shrinking_marks_every_touched_pixel_and_keeps_what_hides_in_the_hole_out(side, seed):
    rng = np.random.default_rng(seed)
    image, hole = rng.integers(0, 256, (side, side, 3), np.uint8), rng.random((side, side)) < 0.02
    small, mask = windows.shrunk(image, hole, SIZE)
    covered = [slice(i * side // SIZE, -(-(i + 1) * side // SIZE)) for i in range(SIZE)]
    reference = np.array([[hole[rows, columns].any() for columns in covered] for rows in covered])
    assert (mask == reference).all()
    other = np.where(hole[..., None], 255 - image, image)
    known = mask == 0
    assert (windows.shrunk(other, hole, SIZE)[0][known] == small[known]).all()


def test_shrinking_is_the_mean_over_area():
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    blocks = image.reshape(32, 3, 32, 3, 3).mean((1, 3))
    assert np.abs(windows.shrunk(image, np.zeros((96, 96), bool), SIZE)[0] - blocks).max() <= 0.51
    flat = np.full((77, 77, 3), 93, np.uint8)
    assert (windows.shrunk(flat, np.zeros((77, 77), bool), SIZE)[0] == 93).all()


# --- fill


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(0, 10_000), st.sampled_from(["custom", "free_form"]))
def test_known_pixels_stay_and_the_same_call_gives_the_same_bytes(loaded, height, width, seed, architecture):
    rng = np.random.default_rng(seed)
    image, hole = rng.integers(0, 256, (height, width, 3), np.uint8), np.zeros((height, width), bool)
    for _ in range(3):
        y, x = rng.integers(height), rng.integers(width)
        hole[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = True
    before = image.copy()
    filled, messages = inpaint.fill(loaded[architecture], image, hole)
    assert (image == before).all() and (filled[~hole] == image[~hole]).all()
    assert filled.dtype == np.uint8 and messages and all("\n" not in m for m in messages)
    again = inpaint.fill(loaded[architecture], np.where(hole[..., None], 255 - image, image), hole)
    assert (again[0] == filled).all() and again[1] == messages  # what was in the hole plays no part


def test_not_even_a_rounding_tells_what_was_in_the_hole():
    """Answers about half-way between two grey levels: whatever is added to them and taken away again tips some."""
    rng, hole = np.random.default_rng(0), box_hole((SIZE, SIZE), (3, 5, 16, 16))
    levels = torch.arange(SIZE).add(100.5).div(127.5).sub(1) + torch.arange(-16, SIZE - 16)[:, None] * 2**-26
    model, fills = answering(lambda *_: levels.expand(1, 3, -1, -1)), []
    for content in rng.integers(0, 256, (8, SIZE, SIZE, 3), np.uint8):
        fills.append(inpaint.fill(model, np.where(hole[..., None], content, np.uint8(90)), hole)[0])
    assert all((one == fills[0]).all() for one in fills)


def test_a_perfect_generator_gives_the_photograph_back():
    image = smooth(SIZE, SIZE)
    truth = torch.from_numpy(image).permute(2, 0, 1).float().div(127.5).sub(1)[None]
    hole = box_hole((SIZE, SIZE), (3, 5, 9, 8), (24, 24, 4, 4))
    damaged = np.where(hole[..., None], 0, image).astype(np.uint8)
    assert (inpaint.fill(answering(lambda m, k: truth.expand_as(m)), damaged, hole)[0] == image).all()


def test_a_perfect_generator_gives_a_wide_hole_back_up_to_the_resizing():
    image = np.repeat(np.linspace(20, 230, 160).round().astype(np.uint8)[None], 160, 0)[..., None].repeat(3, 2)

    def ramp(masked, mask):
        columns = torch.from_numpy(image.reshape(160, 32, 5, 3).mean(2)[:32]).permute(2, 0, 1).float().div(127.5).sub(1)
        return columns[None].expand_as(masked)

    hole = box_hole((160, 160), (50, 40, 80, 70))
    filled, messages = inpaint.fill(answering(ramp), np.where(hole[..., None], 0, image).astype(np.uint8), hole)
    assert messages == ["hole 50,40,80,70: window 0,0,160,160, scaled by 0.2"]
    assert np.abs(filled.astype(int) - image).max() <= 3


def test_other_holes_in_a_window_are_hole_too_and_all_windows_go_in_batches():
    model = answering(zeros)
    hole = box_hole((40, 900), *((20 * k, 10, 12, 12) for k in range(45)))
    filled, messages = inpaint.fill(model, np.full((40, 900, 3), 200, np.uint8), hole)
    assert len(messages) == 45 and [len(mask) for _, mask in model.generator.asked] == [16, 16, 13]
    masked, mask = model.generator.asked[0]
    assert (mask[1, 0].sum() > 12 * 12) and (masked[mask.expand_as(masked) > 0] == 0).all()
    assert (filled[hole] == 128).all() and (filled[~hole] == 200).all()


def test_known_pixels_inside_the_box_of_a_wide_hole_stay(custom):
    image, hole = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8), box_hole((120, 120), (20, 20, 60, 60))
    hole[25:75, 25:75] = False  # a frame, and a hole of its own in it
    hole[45:50, 45:50] = True
    filled, messages = inpaint.fill(custom, image, hole)
    assert "scaled by 0.267" in messages[0] and "native" in messages[1]
    assert (filled[~hole] == image[~hole]).all() and (filled[hole] != image[hole]).any(-1).mean() > 0.9


def test_a_photo_smaller_than_the_model_is_padded_by_its_edges_and_said_so():
    model = answering(zeros)
    image = np.random.default_rng(0).integers(0, 256, (20, 50, 3), np.uint8)
    hole = box_hole((20, 50), (0, 0, 4, 5))
    messages = inpaint.fill(model, image, hole)[1]
    assert messages == ["hole 0,0,4,5: window 0,-6,32,32, native resolution; the photo is too small for it and was padded with "
                        "its edge pixels"]  # fmt: skip
    masked, mask = model.generator.asked[0]
    shown = ((masked[0].permute(1, 2, 0) + 1) * 127.5).round().numpy()
    padded, where = np.pad(image, ((6, 6), (0, 0), (0, 0)), "edge")[:, :32], np.pad(hole, ((6, 6), (0, 0)), "edge")[:, :32]
    assert (mask[0, 0].numpy() == where).all() and (shown[~where] == padded[~where]).all()


def test_a_hole_of_more_than_half_the_window_is_said():
    messages = inpaint.fill(answering(zeros), smooth(60, 60), box_hole((60, 60), (5, 5, 40, 10)))[1]
    assert "window 0,0,60,60" in messages[0] and "more than half as wide as the window" in messages[0]


@pytest.mark.parametrize("shape", [(64, 64), (64, 150), (151, 67), (20, 90), (33, 33)])
def test_context_encoder_fills_the_allowed_box_and_names_it_otherwise(loaded, shape):
    model, image = loaded["context_encoder"], smooth(*shape)
    with pytest.raises(ValueError, match="context_encoder predicts the central half .* stay inside --box") as caught:
        inpaint.fill(model, image, box_hole(shape, (0, 0, shape[1], shape[0])))
    allowed = [int(v) for v in str(caught.value).split("--box ")[1].split(" ")[0].strip(",").split(",")]
    hole = box_hole(shape, allowed)
    filled, messages = inpaint.fill(model, image, hole)
    assert len(messages) == 1 and (filled[~hole] == image[~hole]).all() and (filled[hole] != image[hole]).any()
    x, y, w, h = allowed
    assert abs(2 * x + w - shape[1]) <= 1 and abs(2 * y + h - shape[0]) <= 1
    for wider in ((x - 1, y, w, h), (x, y, w + 1, h)):
        with pytest.raises(ValueError, match="central half"):
            inpaint.fill(model, image, box_hole(shape, wider))


@pytest.mark.parametrize(
    ("image", "hole", "words"),
    [
        (np.zeros((9, 9, 3), np.float32), np.ones((9, 9), bool), "must be .* uint8"),
        (np.zeros((9, 9), np.uint8), np.ones((9, 9), bool), "must be .* uint8"),
        (np.zeros((9, 9, 3), np.uint8), np.ones((9, 8), bool), "as the image is"),
        (np.zeros((9, 9, 3), np.uint8), np.ones((9, 9), np.uint8), "bool"),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), bool), "empty"),
    ],
)
def test_arrays_that_are_no_photo_or_no_hole_are_refused(custom, image, hole, words):
    with pytest.raises(ValueError, match=words):
        inpaint.fill(custom, image, hole)


# --- files

NOISE = np.random.default_rng(1).integers(0, 256, (45, 70, 4), np.uint8)
GREY16 = np.random.default_rng(2).integers(0, 65536, (45, 70)).astype(np.uint16)
BOX = (20, 12, 15, 9)
KINDS = {
    "1": Image.fromarray(NOISE[..., 0] > 127),
    "L": Image.fromarray(NOISE[..., 0]),
    "LA": Image.fromarray(NOISE[..., :2]),
    "RGB": Image.fromarray(NOISE[..., :3]),
    "RGBA": Image.fromarray(NOISE),
    "I;16": Image.fromarray(GREY16),
}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("mode", KINDS)
def test_known_pixels_and_alpha_stay_to_the_byte_in_the_photos_own_mode(custom, tmp_path, mode, suffix):
    photo = save(tmp_path / "a.png", KINDS[mode])
    if (mode, suffix) == ("I;16", ".webp"):
        with pytest.raises(ValueError, match="cannot hold 16-bit grey"):
            inpaint.fill_file(custom, photo, tmp_path / "out.webp", boxes=[BOX])
        return
    inpaint.fill_file(custom, photo, tmp_path / f"out{suffix}", boxes=[BOX])
    before, after = np.array(Image.open(photo)), Image.open(tmp_path / f"out{suffix}")
    if suffix == ".webp":  # holds RGB and RGBA alone
        after = after.convert("L" if mode == "1" else mode)
        after = after.point(lambda v: v > 127, "1") if mode == "1" else after
    assert after.mode == mode
    after, hole = np.array(after), box_hole(before.shape[:2], BOX)
    assert (after[~hole] == before[~hole]).all() and (after[hole] != before[hole]).any()
    if mode.endswith("A"):
        assert (after[..., -1] == before[..., -1]).all()


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_becomes_full_colours_that_are_the_same(custom, tmp_path, transparent):
    palette = Image.fromarray(smooth(45, 70)).quantize(16)
    photo = save(tmp_path / "a.png", palette, **({"transparency": 3} if transparent else {}))
    said = inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    after, mode = Image.open(tmp_path / "out.png"), "RGBA" if transparent else "RGB"
    before = np.array(Image.open(photo).convert(mode))
    assert after.mode == mode and "palette: written as full colours" in said
    hole = box_hole((45, 70), BOX)
    assert (np.array(after)[~hole] == before[~hole]).all()


def test_a_transparent_colour_becomes_alpha(custom, tmp_path):
    image = smooth(45, 70)
    image[0, 0] = 1, 2, 3
    photo = save(tmp_path / "a.png", image, transparency=(1, 2, 3))
    inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    after = np.array(Image.open(tmp_path / "out.png"))
    assert after.shape[2] == 4 and after[0, 0].tolist() == [1, 2, 3, 0] and (after[1:, 1:, 3] == 255).all()


def test_grey_photographs_get_the_grey_of_the_filling(tmp_path):
    model = answering(lambda m, k: torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand_as(m))  # red
    for mode, value in (("L", 76), ("I;16", 76 * 257), ("1", False), ("LA", 76)):
        photo = save(tmp_path / "a.png", KINDS[mode])
        inpaint.fill_file(model, photo, tmp_path / "out.png", boxes=[BOX], overwrite=True)
        hole = np.array(Image.open(tmp_path / "out.png"))[12:21, 20:35]
        assert (hole[..., :1] == value).all() if mode == "LA" else (hole == value).all()


def shown(path):
    """As a viewer shows it, by Pillow alone."""
    from PIL import ImageOps

    return np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_filled_as_the_upright_one(custom, tmp_path, orientation, suffix):
    upright = smooth(45, 70)
    save(tmp_path / "upright.png", upright)
    save(tmp_path / "mask.png", box_hole((45, 70), (8, 20, 11, 6)))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a maker"
    stored = image_file.turned(upright, orientation, image_file.STORED)
    options = {"lossless": True} if suffix == ".webp" else {}
    save(tmp_path / f"turned{suffix}", stored, exif=exif, **options)
    assert (shown(tmp_path / f"turned{suffix}") == upright).all()
    for name in ("upright.png", f"turned{suffix}"):
        inpaint.fill_file(custom, tmp_path / name, tmp_path / f"out_{name}", tmp_path / "mask.png", [BOX])
    assert (shown(tmp_path / f"out_turned{suffix}") == shown(tmp_path / "out_upright.png")).all()
    with Image.open(tmp_path / f"out_turned{suffix}") as out:
        assert out.getexif().get(0x0112, 1) == orientation and out.getexif()[0x010F] == "a maker"


@pytest.mark.parametrize("output", ["out.png", "out.tif", "out.webp", "out.jpg"])
@pytest.mark.parametrize("photo", ["a.jpg", "a.tif", "a.png"])
def test_exif_and_colour_profile_are_kept(custom, tmp_path, photo, output):
    from PIL import ImageCms

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
    first = struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 3, 0, 26)  # orientation 3; the next directory at byte 26
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0)
    photo = save(tmp_path / "a.jpg", smooth(45, 70), exif=b"Exif\0\0II*\0\x08\0\0\0" + first + second + thumbnail)
    inpaint.fill_file(custom, photo, tmp_path / "out.jpg", boxes=[BOX])
    assert thumbnail in photo.read_bytes() and thumbnail not in (tmp_path / "out.jpg").read_bytes()
    assert Image.open(photo).getexif()[0x0112] == Image.open(tmp_path / "out.jpg").getexif()[0x0112] == 3


def test_damaged_exif_is_said_and_its_orientation_kept(custom, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    photo, whole = save(tmp_path / "a.png", smooth(45, 70), exif=exif), Image.Exif.tobytes

    def refuse(self, offset=8):
        if 0x010F in self:
            raise struct.error("damaged")
        return whole(self, offset)

    monkeypatch.setattr(Image.Exif, "tobytes", refuse)
    assert "EXIF is damaged: the orientation alone is kept" in inpaint.fill_file(
        custom, photo, tmp_path / "out.png", boxes=[BOX]
    )
    assert dict(Image.open(tmp_path / "out.png").getexif()) == {0x0112: 6}


def test_a_jpeg_keeps_its_decoded_pixels_and_a_jpeg_output_is_said_to_be_lossy(custom, tmp_path):
    photo = save(tmp_path / "a.jpg", smooth(45, 70), quality=60)
    assert not [m for m in inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX]) if "JPEG" in m]
    hole = box_hole((45, 70), BOX)
    assert (np.array(Image.open(tmp_path / "out.png"))[~hole] == np.array(Image.open(photo))[~hole]).all()
    assert "re-encodes every pixel" in inpaint.fill_file(custom, photo, tmp_path / "out.jpg", boxes=[BOX])[-1]
    assert Image.open(tmp_path / "out.jpg").format == "JPEG"


def test_the_first_frame_of_an_animation_is_filled_and_said(custom, tmp_path):
    frames = [Image.fromarray(np.full((45, 70, 3), v, np.uint8)) for v in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    said = inpaint.fill_file(custom, tmp_path / "a.gif", tmp_path / "out.png", boxes=[BOX])
    assert said[0] == "2 frames: the first alone is filled"
    assert (np.array(Image.open(tmp_path / "out.png"))[0, 0] == 10).all()


@pytest.mark.parametrize("kind", ["white", "bits", "grey", "jpeg", "inverted", "colour", "sixteen", "boxes"])
def test_masks_of_every_kind_give_the_same_filling(custom, tmp_path, kind):
    photo, hole = save(tmp_path / "a.png", smooth(64, 96)), box_hole((64, 96), (16, 16, 16, 24), (64, 32, 8, 8))
    inpaint.fill_file(custom, photo, tmp_path / "wanted.png", save(tmp_path / "m.png", hole * np.uint8(255)))
    options = {"overwrite": True, "invert": kind == "inverted"}
    made = {
        "bits": hole,
        "grey": np.where(hole, 200, 40).astype(np.uint8),
        "inverted": ~hole * np.uint8(255),
        "colour": np.dstack([hole * np.uint8(255)] * 3),
        "sixteen": hole * np.uint16(65535),
    }.get(kind, hole * np.uint8(255))
    mask = save(tmp_path / ("mask.jpg" if kind == "jpeg" else "mask.png"), made)
    if kind == "boxes":  # a mask and a box: both
        mask = save(tmp_path / "part.png", box_hole((64, 96), (16, 16, 16, 24)))
        options["boxes"] = [(64, 32, 8, 8)]
    said = inpaint.fill_file(custom, photo, tmp_path / "out.png", mask, **options)
    assert (np.array(Image.open(tmp_path / "out.png")) == np.array(Image.open(tmp_path / "wanted.png"))).all()
    assert any("thresholded at half" in line for line in said) == (kind == "grey" or (kind == "jpeg" and has_grey(mask)))


def has_grey(path):
    return bool(set(np.unique(np.array(Image.open(path)))) - {0, 255})


def test_a_mask_that_looks_inverted_warns_with_the_way_out(custom, tmp_path):
    photo, hole = save(tmp_path / "a.png", smooth(64, 64)), box_hole((64, 64), (9, 9, 9, 9))
    for mask, invert, advice in ((~hole, False, "add --invert"), (hole, True, "drop --invert")):
        path = save(tmp_path / "mask.png", mask)
        said = inpaint.fill_file(custom, photo, tmp_path / "out.png", path, invert=invert, overwrite=True)
        assert said[0].startswith("warning: 98% of the photo is hole") and said[0].endswith(advice)


def test_the_comparison_shows_the_outlined_hole_beside_the_result(custom, tmp_path):
    photo = save(tmp_path / "a.png", smooth(45, 70))
    inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX], compare=tmp_path / "pair.png")
    pair, out = (np.array(Image.open(tmp_path / name)) for name in ("pair.png", "out.png"))
    assert pair.shape[0] == 45 and (pair[:, -70:] == out).all() and (pair[:, :19] == smooth(45, 70)[:, :19]).all()
    assert (pair[11, 19:36] == [255, 0, 0]).all() and (pair[12, 20:35] == smooth(45, 70)[12, 20:35]).all()


# --- the command

GOOD = ["PHOTO", "--box", "20,12,15,9", "--weights", "WEIGHTS", "-o", "out.png"]


def replaced(old, new):
    return [new if a == old else a for a in GOOD]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return spread(tmp_path)


def spread(folder):
    """Put a good photograph and everything bad into the working folder."""
    save("photo.png", smooth(45, 70))
    save("masked.png", box_hole((45, 70), BOX))
    save("empty.png", np.zeros((45, 70), np.uint8))
    save("ones.png", box_hole((45, 70), BOX).astype(np.uint8))
    save("small.png", np.full((44, 70), 255, np.uint8))
    save("clear.png", np.dstack([box_hole((45, 70), BOX) * np.uint8(255)] * 2))
    save("exists.png", smooth(9, 9))
    save("cmyk.tif", Image.fromarray(smooth(45, 70)).convert("CMYK"))
    save("alpha.png", np.dstack([smooth(45, 70), NOISE[..., 0]]))
    save("float.tif", np.zeros((45, 70), np.float32))
    open("text.png", "w").write("<html>")
    open("nothing.png", "w").close()
    open("cut.png", "wb").write(open("photo.png", "rb").read()[:900])
    torch.save({"a": torch.zeros(1)}, "pickle.safetensors")
    pickle.dump(Bomb(), open("bomb.safetensors", "wb"))
    open("text.safetensors", "w").write("hello")
    open("long.safetensors", "wb").write(struct.pack("<Q", 2**62) + b"{}")
    saved_weights("bare.safetensors", header={})
    saved_weights("json.safetensors", header={"settings": "{"})
    saved_weights("list.safetensors", header={"settings": "[1]"})
    saved_weights("key.safetensors", header={"settings": json.dumps({"architecture": "custom"})})
    saved_weights(
        "unknown.safetensors", architecture="custom", header={"settings": json.dumps(described() | {"architecture": "x"})}
    )
    saved_weights("wider.safetensors", widths={"generator_width": 8})
    saved_weights("size.safetensors", image_size=7)
    state = load_file("wider.safetensors")
    save_file(
        {k: v * float("nan") for k, v in state.items()}, "nan.safetensors", metadata={"settings": json.dumps(described())}
    )
    for name in ("unfinished", "other", "masks"):
        Path(name).mkdir()
    Path("unfinished/config.json").write_text("{}")
    import cv2

    cv2.imwrite("deep.png", np.zeros((45, 70, 3), np.uint16))
    return folder


class Bomb:
    def __reduce__(self):
        return exec, ("open('unpickled', 'w').close()",)


def test_the_command_fills_and_says_what_it_did(bench, weights, capfd):
    assert run("photo.png", *GOOD[1:4], weights["custom"], "-o", "new/out.png", "--box", "50,30,4,4") == 0
    out, _ = capfd.readouterr()
    assert sorted(out.splitlines()) == ["hole 20,12,15,9: window 11,0,32,32, native resolution",
                                        "hole 50,30,4,4: window 36,13,32,32, native resolution"]  # fmt: skip
    assert run("photo.png", *GOOD[1:4], weights["custom"], "-o", "new/out.png", "--overwrite") == 0
    assert [p.name for p in (bench / "new").iterdir()] == ["out.png"]


def test_run_all_hands_the_command_on(bench, weights):
    arguments = ["photo.png", "--box", "90,0,9,9", "--weights", weights["custom"], "-o", "out.png"]
    command = ["bash", os.path.join(repository(), "run_all.sh"), "inpaint", *map(str, arguments)]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = os.environ | {"INPAINT_ENV": "current", "PATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "inpaint: --box 90,0,9,9: reaches outside photo photo.png; stay inside 0,0,70,45\n"


def test_a_folder_is_done_to_its_end_and_its_bad_photo_is_told_in_one_line(tmp_path, weights, capfd):
    sources, masks, out, pairs = (tmp_path / name for name in ("in", "masks", "out", "pairs"))
    sources.mkdir(), masks.mkdir()
    for k, suffix in enumerate((".jpg", ".png", ".webp")):
        save(sources / f"p{k}{suffix}", smooth(45, 60 + k))
        save(masks / f"p{k}.png", box_hole((45, 60 + k), (10 * k, 9, 8, 8)))
    (sources / "p1.png").write_bytes((sources / "p1.png").read_bytes()[:500])
    (sources / "notes.txt").write_text("no photograph")
    save(sources / "p2.bmp", smooth(45, 60))
    arguments = [sources, "--mask", masks, "--weights", weights["custom"], "-o", out, "--compare", pairs]
    assert run(*arguments) == 1
    printed, err = capfd.readouterr()
    told = [line for line in err.splitlines() if "inpaint: " in line]
    assert (
        len(told) == 4 and any("p1.png: " in line for line in told) and any("another of the stem p2" in line for line in told)
    )
    assert any("notes.txt: format not read, convert it" in line for line in told)
    assert any("p2.bmp" in line or "is 62 x 45" in line for line in told) and "p0.jpg: hole 0,9,8,8" in printed
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in pairs.iterdir()) == ["p0.png"]


def test_a_folder_of_good_photos_is_filled_as_each_alone(tmp_path, weights, custom):
    sources = tmp_path / "in"
    sources.mkdir()
    for k in range(3):
        save(sources / f"p{k}.png", smooth(45, 60, seed=k))
    arguments = [sources, "--box", "5,6,9,8", "--weights", weights["custom"], "-o", tmp_path / "out"]
    assert run(*arguments) == 0 and run(*arguments) == 1 and run(*arguments, "--overwrite") == 0
    for k in range(3):
        inpaint.fill_file(custom, sources / f"p{k}.png", tmp_path / "one.png", boxes=[(5, 6, 9, 8)], overwrite=True)
        assert (tmp_path / "out" / f"p{k}.png").read_bytes() == (tmp_path / "one.png").read_bytes()
    assert run(*arguments[:-1], sources) == 2 and run(*arguments[:-1], sources / "p0.png") == 2


def test_a_runs_folder_its_model_and_its_stages_are_all_weights(tmp_path, weights):
    folder = tmp_path / "seed0"
    places = [folder, folder / "model", folder / "model" / "model.safetensors", folder / "stages" / "2.safetensors"]
    for place in places[2:]:
        place.parent.mkdir(parents=True)
        place.write_bytes(weights["custom"].read_bytes())
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="training is not finished"):
        inpaint.load(folder)
    (folder / "result.json").write_text('{"outcome": "diverged"}')
    with pytest.raises(ValueError, match="this run diverged"):
        inpaint.load(folder)
    (folder / "result.json").write_text('{"outcome": "finished"}')
    image, hole = smooth(40, 50), box_hole((40, 50), BOX)
    filled = [inpaint.fill(inpaint.load(place), image, hole)[0] for place in places]
    assert all((other == filled[0]).all() for other in filled[1:])


def test_a_discriminator_and_a_snapshot_among_the_weights_are_left_out(tmp_path, weights):
    state = load_file(weights["custom"]) | {"discriminator.x": torch.zeros(1), "snapshot.x": torch.zeros(1)}
    save_file(state, tmp_path / "1.safetensors", metadata={"run": "a/b", "settings": json.dumps(described())})
    model = inpaint.load(tmp_path / "1.safetensors")
    assert (model.architecture, model.image_size, model.mask_family) == (
        "custom",
        32,
        "square",
    ) and not model.generator.training
    assert model.description == {"run": "a/b", "settings": described()}


# --- other people's files


def test_resolution_and_gamma_are_kept_or_the_loss_is_said(custom, tmp_path):
    photo = tmp_path / "a.png"
    text = PngImagePlugin.PngInfo()
    text.add(b"gAMA", struct.pack(">I", 45455))
    Image.fromarray(smooth(45, 70)).save(photo, dpi=(300, 300), pnginfo=text)
    said = inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    info = Image.open(tmp_path / "out.png").info
    assert round(info["dpi"][0]) == 300 and info["gamma"] == 0.45455 and not [line for line in said if "keep" in line]
    for suffix, lost in ((".webp", ["gamma", "resolution in dpi"]), (".tif", ["gamma"]), (".jpg", ["gamma"])):
        said = inpaint.fill_file(custom, photo, tmp_path / f"out{suffix}", boxes=[BOX])
        assert [line.rpartition("'s ")[2] for line in said if "does not keep" in line] == lost
    assert all(round(Image.open(tmp_path / f"out{suffix}").info["dpi"][0]) == 300 for suffix in (".jpg", ".tif"))


@pytest.mark.parametrize("kind", ["photograph", "grey"])
def test_a_mask_that_is_none_is_refused_with_the_share(custom, tmp_path, kind):
    photo = save(tmp_path / "a.png", smooth(45, 70))
    mask = save(tmp_path / "mask.png", smooth(45, 70, 1) if kind == "photograph" else np.full((45, 70), 130, np.uint8))
    with pytest.raises(ValueError, match=r"mask .*: \d+% of its pixels are grey or coloured; a mask is black and white"):
        inpaint.fill_file(custom, photo, tmp_path / "out.png", mask)
    assert not (tmp_path / "out.png").exists()


def test_formats_that_are_not_read_are_named_one_by_one(tmp_path, weights, capfd):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in/a.png", smooth(45, 70))
    for name in ("b.heic", "c.avif", "d.jp2", "e.cr2"):
        (tmp_path / "in" / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    options = ["--box", "9,9,9,9", "--weights", weights["custom"]]
    assert run(tmp_path / "in", *options, "-o", tmp_path / "out") == 1
    _, err = capfd.readouterr()
    told = [line for line in err.splitlines() if "format not read, convert it" in line]
    assert len(told) == 4 and (tmp_path / "out/a.png").is_file()
    assert run(tmp_path / "in/b.heic", *options, "-o", tmp_path / "b.png") == 2
    assert "b.heic: format not read" in capfd.readouterr().err


def test_a_name_composed_and_decomposed_is_one(tmp_path, weights, capfd):
    (tmp_path / "in").mkdir(), (tmp_path / "masks").mkdir()
    save(tmp_path / "in" / (unicodedata.normalize("NFD", "é") + ".png"), smooth(45, 70))
    save(tmp_path / "masks" / (unicodedata.normalize("NFC", "é") + ".png"), box_hole((45, 70), BOX))
    arguments = [tmp_path / "in", "--mask", tmp_path / "masks", "--weights", weights["custom"], "-o", tmp_path / "out"]
    assert run(*arguments) == 0, capfd.readouterr().err
    assert len([*(tmp_path / "out").iterdir()]) == 1


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_name_that_is_no_utf8_is_filled_and_not_told_as_failed(tmp_path, weights, locale):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in/a.png", smooth(45, 70))
    os.rename(tmp_path / "in/a.png", os.fsencode(tmp_path / "in") + b"/\xe9t\xe9.png")
    command = [sys.executable, "-P", "-m", "inpaint_lib.photos.inpaint", tmp_path / "in", "--box", "9,9,9,9"]
    command += ["--weights", weights["custom"], "-o", tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": repository(), "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and b"inpaint:" not in done.stderr and b"hole 9,9,9,9" in done.stdout, done.stderr
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"\xe9t\xe9.png"]


@pytest.mark.skipif(os.getuid() != 0, reason="root alone can become somebody else")
@pytest.mark.parametrize("shut", ["model/model.safetensors", "model", "."])
def test_weights_that_may_not_be_read_are_told_so(weights, shut):
    code = ("import os, sys; from inpaint_lib.photos import inpaint\n"
            "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
            "try: inpaint.load(sys.argv[1])\nexcept ValueError as error: print(error)")  # fmt: skip
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # pytest's own folders are shut to others
        Path(place, "run/model").mkdir(parents=True)
        for name in ("config.json", "result.json"):
            Path(place, "run", name).write_text("{}")
        shutil.copy(weights["custom"], Path(place, "run/model/model.safetensors"))
        for path in (Path(place), *Path(place).rglob("*")):
            path.chmod(0o755)
        Path(place, "run", shut).chmod(0)
        done = subprocess.run([sys.executable, "-c", code, Path(place, "run")], env=os.environ | {"PYTHONPATH": repository()},
                              capture_output=True, text=True, check=False)  # fmt: skip
    assert "may not be read" in done.stdout, done.stdout + done.stderr


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0005, 0.2), st.sampled_from([16, 32, 64]))
def test_near_holes_share_a_window_no_larger_than_each_asks_for(seed, share, size):
    rng = np.random.default_rng(seed)
    hole = rng.random((70, 90)) < share
    hole[rng.integers(60), rng.integers(20) :] = True  # a long one among specks
    number, boxes = windows.number(hole, size)
    assert ((number > 0) == hole).all() and set(np.unique(number)) == {0, *range(1, len(boxes) + 1)}
    parts, n = ndimage.label(hole, np.ones((3, 3)))
    of = [np.unique(number[parts == k]) for k in range(1, n + 1)]
    assert all(len(found) == 1 for found in of), "a connected part belongs to one hole"
    for k, (top, left, bottom, right) in enumerate(boxes, 1):
        rows, columns = np.nonzero(number == k)
        assert [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1] == [top, left, bottom, right]
        members = [part for part, found in enumerate(of, 1) if found[0] == k]
        sides = [max(np.ptp(axis) + 1 for axis in np.nonzero(parts == part)) for part in members]
        assert max(bottom - top, right - left) <= max(size // 2, min(sides))


def test_specks_are_far_fewer_windows_and_say_so_in_few_lines(custom):
    hole = np.random.default_rng(0).random((160, 160)) < 0.02
    filled, said = inpaint.fill(custom, smooth(160, 160), hole)
    assert len(said) <= inpaint.TOLD + 1 and len(windows.number(hole, SIZE)[1]) < ndimage.label(hole, np.ones((3, 3)))[1] / 3
    assert (filled[~hole] == smooth(160, 160)[~hole]).all()


# --- what cannot be kept, written or said


WHITE_IS_ZERO = {"tiffinfo": {262: 0}}
UNKEPT = {  # what -> (name, array, how to save it, what is said)
    "transparent 16 bits": ("a.png", GREY16, {"transparency": 5}, "16-bit grey and transparent"),
    "white is 0": ("a.tif", GREY16, WHITE_IS_ZERO, "16-bit grey with white as 0"),
    "32 bits": ("a.tif", GREY16.astype(np.int32), {}, "mode I has no fixed range"),
}


@pytest.mark.parametrize(("name", "array", "options", "words"), UNKEPT.values(), ids=UNKEPT)
def test_pixels_that_would_be_lost_or_inverted_are_refused_with_the_cure(custom, tmp_path, name, array, options, words):
    path, good = save(tmp_path / name, array, **options), save(tmp_path / "good.png", smooth(45, 70))
    for photo, mask in ((path, None), (good, path)):
        with pytest.raises(ValueError, match=rf"unsupported pixels \({words}\); convert it to 8 bits a colour"):
            inpaint.fill_file(custom, photo, tmp_path / "out.png", mask, [BOX])
        assert not (tmp_path / "out.png").exists()


def test_an_8_bit_tiff_with_white_as_0_is_filled_as_it_looks(custom, tmp_path):
    photo = save(tmp_path / "a.tif", NOISE[..., 0], **WHITE_IS_ZERO)
    inpaint.fill_file(custom, photo, tmp_path / "out.tif", boxes=[BOX])
    hole = box_hole((45, 70), BOX)
    assert (np.array(Image.open(tmp_path / "out.tif"))[~hole] == np.array(Image.open(photo))[~hole]).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("value", [(0, 0), (1, 0), (4_000_000_000, 1)], ids=["0/0", "1/0", "huge"])
def test_a_resolution_that_cannot_be_is_left_out_and_said(custom, tmp_path, value, suffix):
    photo = save(tmp_path / "a.tif", smooth(45, 70), dpi=(300, 300), exif={271: "a maker"})
    wrong = photo.read_bytes().replace(struct.pack("<II", 300, 1), struct.pack("<II", *value))
    photo.write_bytes(wrong)
    said = inpaint.fill_file(custom, photo, tmp_path / f"out{suffix}", boxes=[BOX])
    (line,) = (line for line in said if "dpi" in line)
    assert line.endswith("cannot be right and is left out")
    with Image.open(tmp_path / f"out{suffix}") as out:
        assert out.getexif()[271] == "a maker" and 282 not in out.getexif()


def test_what_no_file_says_is_not_written(custom, tmp_path):
    inpaint.fill_file(custom, save(tmp_path / "a.tif", smooth(45, 70)), tmp_path / "out.png", boxes=[BOX])
    assert "dpi" not in Image.open(tmp_path / "out.png").info


COLOUR = ["gamma", "chromaticities", "sRGB mark"]


@pytest.mark.parametrize(("suffix", "lost"), [(".png", []), (".tif", COLOUR), (".jpg", [*COLOUR, "resolution in dpi"])])
def test_numbers_are_kept_or_their_loss_is_said(custom, tmp_path, suffix, lost):
    primaries = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    info = PngImagePlugin.PngInfo()
    for name, data in ((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", primaries), (b"sRGB", b"\0")):
        info.add(name, data)
    photo = save(tmp_path / "a.png", smooth(45, 70), pnginfo=info, dpi=(300.5, 300.5))
    said = inpaint.fill_file(custom, photo, tmp_path / f"out{suffix}", boxes=[BOX])
    assert [line.rpartition("'s ")[2] for line in said if "does not keep" in line] == lost
    if suffix == ".png":
        before, after = (Image.open(path).info for path in (photo, tmp_path / "out.png"))
        assert {name: after[name] for name in image_file.NUMBERS} == {name: before[name] for name in image_file.NUMBERS}


def not_written(bench, weights, capfd, output, *more):
    """What is said where -o cannot be written; nothing else has come into being."""
    before = sorted(bench.rglob("*"))
    assert run("photo.png", *GOOD[1:4], weights["custom"], "-o", output, "--compare", "pair.png", *more) == 2
    err = capfd.readouterr().err
    assert sorted(bench.rglob("*")) == before and len(err.splitlines()) == 1 and "Errno" not in err, err
    return err


def test_what_cannot_be_written_is_told_before_anything_is(bench, weights, capfd):
    Path("link.png").symlink_to("nowhere")
    assert "-o link.png: exists; name another file" in not_written(bench, weights, capfd, "link.png")
    assert "text.png is a file where a folder belongs" in not_written(bench, weights, capfd, "text.png/out.png")
    if Path("/proc/self").exists():
        assert "/proc cannot be written to" in not_written(bench, weights, capfd, "/proc/out.png")
    assert Path("link.png").is_symlink()


def test_of_two_files_none_is_there_where_one_cannot_be_written(custom, bench, monkeypatch):
    def full(self, data, whole=Path.write_bytes):
        if ".out" in self.name:
            raise OSError(28, "No space left on device", str(self))
        return whole(self, data)

    save("pair.png", smooth(9, 9))
    before = {path: path.read_bytes() for path in bench.iterdir() if path.is_file()}
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="the disk is full"):
        inpaint.fill_file(custom, "photo.png", "out.png", boxes=[BOX], compare="pair.png", overwrite=True)
    assert {path: path.read_bytes() for path in bench.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_name_as_long_as_the_system_allows_is_written(custom, bench, suffix):
    output, compare = "ä" * 120 + "b" * 10 + suffix, "ä" * 120 + "c" * 11 + ".png"
    inpaint.fill_file(custom, "photo.png", output, boxes=[BOX], compare=compare)
    assert not list(bench.glob(".*")) and Path(output).is_file() and Path(compare).is_file()


def command(*arguments, stdout):
    arguments = [sys.executable, "-P", "-m", "inpaint_lib.photos.inpaint", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": repository()}
    return subprocess.run(arguments, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_what_is_done_is_not_told_as_failed_where_it_cannot_be_printed(bench, weights):
    with open("/dev/full", "w") as full:
        done = command("photo.png", *GOOD[1:4], weights["custom"], "-o", "out.png", stdout=full)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and Path("out.png").is_file()
    assert "cannot be printed (No space left on device); what was asked for is done" in done.stderr


def test_a_name_of_several_lines_is_told_in_one(bench, weights, capfd):
    Path("in").mkdir()
    save("in/a\nb\x1b[31m.png", smooth(45, 70))
    assert run("in", *GOOD[1:4], weights["custom"], "-o", "filled") == 0
    assert capfd.readouterr().out.splitlines() == [r"a\x0ab\x1b[31m.png: hole 20,12,15,9: window 11,0,32,32, native resolution"]


def test_a_photo_whose_name_begins_as_an_option_is_told_how_to_write_it(bench, weights, capfd, monkeypatch):
    for name in ("-photo.png", "--photos"):
        shutil.copy("photo.png", name)
        monkeypatch.setattr(sys, "argv", ["inpaint", name, *GOOD[1:4], str(weights["custom"]), "-o", "out.png"])
        assert inpaint.main() == 2 and f"write the name as ./{name}" in capfd.readouterr().err
