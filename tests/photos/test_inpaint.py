"""./run_all.sh inpaint: holes of any photograph are filled, and all else stays as it was."""

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
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
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
    return inpaint.Model(Answers(answer), architecture, SIZE, {})


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
def test_windows_hold_their_holes_and_lie_inside_the_photo_if_possible(height, width, n, seed):
    rng = np.random.default_rng(seed)
    hole = np.zeros((height, width), bool)
    for _ in range(n):
        y, x = rng.integers(height), rng.integers(width)
        hole[y : y + rng.integers(1, 40), x : x + rng.integers(1, 40)] = True
    number, boxes = windows.number(hole, SIZE)
    assert ((number > 0) == hole).all()
    assert set(np.unique(number)) - {0} == set(range(1, len(boxes) + 1))
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


def test_near_holes_share_a_window_at_their_resolution_and_far_ones_do_not():
    hole = box_hole((90, 200), (10, 10, 4, 4), (18, 12, 4, 4), (120, 40, 4, 4))
    assert sorted(windows.number(hole, SIZE)[1]) == [[10, 10, 16, 22], [40, 120, 44, 124]]
    hole = box_hole((60, 60), (2, 2, 50, 4), (30, 40, 3, 3))  # a small hole near a large one
    assert windows.number(hole, SIZE)[1] == [[2, 2, 6, 52], [40, 30, 43, 33]]


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
        assert (rows.min(), rows.max() + 1) == (top, bottom)
        assert (columns.min(), columns.max() + 1) == (left, right)
        members = [part for part, found in enumerate(of, 1) if found[0] == k]
        sides = [max(np.ptp(axis) + 1 for axis in np.nonzero(parts == part)) for part in members]
        assert max(bottom - top, right - left) <= max(size // 2, min(sides))


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


# --- fill


@settings(max_examples=40, deadline=None)
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
    image = smooth(SIZE, SIZE)
    truth = metrics.to_float(image[None])
    hole = box_hole((SIZE, SIZE), (3, 5, 9, 8), (24, 24, 4, 4))
    damaged = np.where(hole[..., None], 0, image).astype(np.uint8)
    assert (inpaint.fill(answering(lambda m, k: truth), damaged, hole)[0] == image).all()


def test_a_perfect_generator_gives_a_wide_hole_back_up_to_the_resizing():
    ramp = np.linspace(20, 230, 160).round().astype(np.uint8)
    image = np.broadcast_to(ramp[None, :, None], (160, 160, 3))
    small = image.reshape(32, 5, 32, 5, 3).mean((1, 3))[None]
    model, hole = (
        answering(lambda *_: metrics.to_float(small)),
        box_hole((160, 160), (50, 40, 80, 70)),
    )
    filled, messages = inpaint.fill(
        model, np.where(hole[..., None], 0, image).astype(np.uint8), hole
    )
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


def test_known_pixels_inside_the_box_of_a_wide_hole_stay(custom):
    image = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    hole = box_hole((120, 120), (20, 20, 60, 60))
    hole[25:75, 25:75] = False  # a frame, and a hole of its own in it
    hole[45:50, 45:50] = True
    filled, messages = inpaint.fill(custom, image, hole)
    assert "scaled by 0.267" in messages[0] and "native" in messages[1]
    assert (filled[~hole] == image[~hole]).all()
    assert (filled[hole] != image[hole]).any(-1).mean() > 0.9


def test_a_photo_smaller_than_the_model_is_padded_by_its_edges():
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


def test_a_hole_wider_than_half_the_window_is_reported():
    (message,) = inpaint.fill(answering(zeros), smooth(60, 60), box_hole((60, 60), (5, 5, 40, 9)))[
        1
    ]
    assert "window 0,0,60,60" in message and "wider than half the window" in message


def test_specks_are_far_fewer_windows_and_few_lines(custom):
    hole = np.random.default_rng(0).random((160, 160)) < 0.02
    filled, said = inpaint.fill(custom, smooth(160, 160), hole)
    parts = ndimage.label(hole, np.ones((3, 3)))[1]
    assert len(said) <= inpaint.TOLD + 1 and len(windows.number(hole, SIZE)[1]) < parts / 3
    assert (filled[~hole] == smooth(160, 160)[~hole]).all()


@pytest.mark.parametrize("shape", [(64, 64), (64, 150), (151, 67), (20, 90), (33, 33)])
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
    wrong = [(image / 2, hole), (image[..., 0], hole), (image, hole[1:]), (image, hole * 1)]
    for arrays in (*wrong, (image, ~hole)):
        with pytest.raises(ValueError, match="takes .* uint8 and a hole .* bool, not all False"):
            inpaint.fill(custom, *arrays)


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
}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("mode", KINDS)
def test_known_pixels_and_alpha_stay_to_the_byte(custom, tmp_path, mode, suffix):
    photo, output = save(tmp_path / "a.png", KINDS[mode]), tmp_path / f"out{suffix}"
    inpaint.fill_file(custom, photo, output, boxes=[BOX])
    mode = "L" if mode == "1" else mode  # the filling is grey
    before, after = np.array(Image.open(photo).convert(mode)), Image.open(output)
    after = after.convert(mode) if suffix == ".webp" else after  # WebP holds RGB and RGBA alone
    assert after.mode == mode
    after, hole = np.array(after), box_hole(before.shape[:2], BOX)
    assert (after[~hole] == before[~hole]).all() and (after[hole] != before[hole]).any()
    if mode.endswith("A"):
        assert (after[..., -1] == before[..., -1]).all()


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_becomes_full_colours_that_are_the_same(custom, tmp_path, transparent):
    palette = Image.fromarray(smooth(45, 70)).quantize(16)
    photo = save(tmp_path / "a.png", palette, **({"transparency": 3} if transparent else {}))
    inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    after, mode = Image.open(tmp_path / "out.png"), "RGBA" if transparent else "RGB"
    before, hole = np.array(Image.open(photo).convert(mode)), box_hole((45, 70), BOX)
    assert after.mode == mode and (np.array(after)[~hole] == before[~hole]).all()


def test_a_transparent_colour_becomes_alpha(custom, tmp_path):
    image = smooth(45, 70)
    image[0, 0] = 1, 2, 3
    photo = save(tmp_path / "a.png", image, transparency=(1, 2, 3))
    inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    after = np.array(Image.open(tmp_path / "out.png"))
    assert after[0, 0].tolist() == [1, 2, 3, 0] and (after[1:, 1:, 3] == 255).all()


def test_grey_photographs_get_the_grey_of_the_filling(tmp_path):
    model = answering(lambda m, k: torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).expand_as(m))  # red
    for mode in ("L", "LA"):
        photo = save(tmp_path / "a.png", KINDS[mode])
        inpaint.fill_file(model, photo, tmp_path / "out.png", boxes=[BOX], overwrite=True)
        hole = np.array(Image.open(tmp_path / "out.png")).reshape(45, 70, -1)[12:21, 20:35]
        assert (hole[..., 0] == 76).all()


def shown(path):
    """Return the picture as a viewer shows it, by Pillow alone."""
    return np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_filled_as_the_upright_one(custom, tmp_path, orientation, suffix):
    exif, turned = Image.Exif(), tmp_path / f"turned{suffix}"
    exif[0x0112], exif[0x010F] = orientation, "a maker"
    save(turned, smooth(45, 70), exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    upright = save(tmp_path / "upright.png", shown(turned))
    mask = save(tmp_path / "mask.png", box_hole(shown(turned).shape[:2], (8, 20, 11, 6)))
    for photo in (upright, turned):
        inpaint.fill_file(custom, photo, tmp_path / f"{photo.stem}_out.png", mask, [(30, 30, 9, 9)])
    out = [tmp_path / name for name in ("upright_out.png", "turned_out.png")]
    assert (shown(out[0]) == shown(out[1])).all()
    assert Image.open(out[1]).getexif()[0x010F] == "a maker"


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


def test_damaged_exif_is_reported(custom, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    photo = save(tmp_path / "a.png", smooth(45, 70), exif=exif)

    def refuse(self, offset=8):
        raise struct.error("damaged")

    monkeypatch.setattr(Image.Exif, "tobytes", refuse)
    said = inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    assert "EXIF is damaged and not kept" in said
    assert not dict(Image.open(tmp_path / "out.png").getexif())


def test_a_jpeg_keeps_its_decoded_pixels_and_a_jpeg_output_is_reported_as_lossy(custom, tmp_path):
    photo = save(tmp_path / "a.jpg", smooth(45, 70), quality=60)
    said = inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    assert not [line for line in said if "JPEG" in line]
    before, after = (np.array(Image.open(path)) for path in (photo, tmp_path / "out.png"))
    hole = box_hole((45, 70), BOX)
    assert (before[~hole] == after[~hole]).all()
    said = inpaint.fill_file(custom, photo, tmp_path / "out.jpg", boxes=[BOX])
    assert "JPEG changes every pixel" in said[-1]
    assert Image.open(tmp_path / "out.jpg").format == "JPEG"
    clear = save(tmp_path / "clear.png", KINDS["RGBA"])
    with pytest.raises(ValueError, match="JPEG cannot hold transparency; name it .png"):
        inpaint.fill_file(custom, clear, tmp_path / "out2.jpg", boxes=[BOX])


def test_what_is_lost_of_a_photo_is_reported(custom, tmp_path):
    frames = [Image.fromarray(np.full((45, 70, 3), v, np.uint8)) for v in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    said = inpaint.fill_file(custom, tmp_path / "a.gif", tmp_path / "out.png", boxes=[BOX])
    assert said[0] == "2 frames: only the first is filled"
    assert (np.array(Image.open(tmp_path / "out.png"))[0, 0] == 10).all()
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", struct.pack(">I", 45455))
    photo = save(tmp_path / "g.png", smooth(45, 70), pnginfo=gamma)
    said = inpaint.fill_file(custom, photo, tmp_path / "out2.png", boxes=[BOX])
    assert "gamma is not kept" in said[0]


UNKEPT = {  # what -> (name, image, how to save it)
    "16-bit grey": ("a.png", GREY16, {}),
    "transparent 16 bits": ("a.png", GREY16, {"transparency": 5}),
    "white is 0": ("a.tif", GREY16, {"tiffinfo": {262: 0}}),
    "32 bits": ("a.tif", GREY16.astype(np.int32), {}),
}


@pytest.mark.parametrize(("name", "image", "options"), UNKEPT.values(), ids=UNKEPT)
def test_pixels_that_would_be_lost_are_refused_with_the_remedy(
    custom, tmp_path, name, image, options
):
    photo = save(tmp_path / name, image, **options)
    with pytest.raises(ValueError, match="photo .*/a.* pixels.*8-bit"):
        inpaint.fill_file(custom, photo, tmp_path / "out.png", boxes=[BOX])
    assert not (tmp_path / "out.png").exists()


def test_a_ppm_of_16_bits_is_refused(custom, tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 70 45 65535\n" + bytes(45 * 70 * 6))
    with pytest.raises(ValueError, match="16-bit RGB pixels would not be kept"):
        inpaint.fill_file(custom, tmp_path / "a.ppm", tmp_path / "out.png", boxes=[BOX])


# --- masks


@pytest.mark.parametrize(
    "kind", ["white", "bits", "grey", "jpeg", "inverted", "colour", "sixteen", "boxes"]
)
def test_masks_of_every_kind_give_the_same_filling(custom, tmp_path, kind):
    photo, parts = save(tmp_path / "a.png", smooth(64, 96)), [(16, 16, 16, 24), (64, 32, 8, 8)]
    hole, options = box_hole((64, 96), *parts), {"invert": kind == "inverted"}
    white = hole * np.uint8(255)
    inpaint.fill_file(custom, photo, tmp_path / "wanted.png", save(tmp_path / "m.png", white))
    made = {
        "bits": hole,
        "grey": np.where(hole, 200, 40).astype(np.uint8),
        "inverted": 255 - white,
        "colour": np.dstack([white] * 3),
        "sixteen": hole * np.uint16(65535),
        "boxes": box_hole((64, 96), parts[0]),
    }.get(kind, white)
    mask = save(tmp_path / ("mask.jpg" if kind == "jpeg" else "mask.png"), made)
    if kind == "boxes":  # a mask and a box: both
        options["boxes"] = parts[1:]
    said = inpaint.fill_file(custom, photo, tmp_path / "out.png", mask, **options)
    wanted, found = (np.array(Image.open(tmp_path / n)) for n in ("wanted.png", "out.png"))
    assert (wanted == found).all()
    grey = set(np.unique(np.array(Image.open(mask)))) - {0, 1, 255, 65535}
    assert any("thresholded at half" in line for line in said) == bool(grey)


def test_a_mask_that_looks_inverted_warns_with_the_remedy(custom, tmp_path):
    photo, hole = save(tmp_path / "a.png", smooth(64, 64)), box_hole((64, 64), (9, 9, 9, 9))
    for mask, invert, advice in ((~hole, False, "add --invert"), (hole, True, "drop --invert")):
        path, out = save(tmp_path / "mask.png", mask), tmp_path / "out.png"
        said = inpaint.fill_file(custom, photo, out, path, invert=invert, overwrite=True)
        assert said[0].startswith("warning: 98% of the photo is hole") and said[0].endswith(advice)


WRONG = {
    "coloured": (smooth(45, 70, 1), r"\d+% of it is grey or coloured"),
    "grey": (np.full((45, 70), 130, np.uint8), "100% of it is grey"),
}


@pytest.mark.parametrize(("mask", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_mask_is_refused(custom, tmp_path, mask, words):
    photo, mask = save(tmp_path / "a.png", smooth(45, 70)), save(tmp_path / "mask.png", mask)
    with pytest.raises(ValueError, match=f"mask .*: {words}"):
        inpaint.fill_file(custom, photo, tmp_path / "out.png", mask)
    assert not (tmp_path / "out.png").exists()


# --- the command

GOOD = ["PHOTO", "--box", "20,12,15,9", "--weights", "WEIGHTS", "-o", "out.png"]


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
    saved_weights("json.safetensors", header={"description": "{"})
    saved_weights("list.safetensors", header={"description": "[1]"})
    saved_weights("key.safetensors", header={"description": '{"settings": {}}'})
    unknown = json.dumps(described()).replace('"custom"', '"x"')
    saved_weights("unknown.safetensors", header={"description": unknown})
    saved_weights("wider.safetensors", widths={"generator_width": 8})
    saved_weights("size.safetensors", size=7)
    state = load_file("wider.safetensors")
    save_file(
        {k: v * float("nan") for k, v in state.items()},
        "nan.safetensors",
        metadata={"description": json.dumps(described())},
    )
    for name in ("unfinished", "other", "masks"):
        Path(name).mkdir()
    Path("unfinished/run.json").write_text("{}")
    import cv2

    cv2.imwrite("deep.png", np.zeros((45, 70, 3), np.uint16))
    return folder


class Bomb:
    def __reduce__(self):
        return exec, ("open('unpickled', 'w').close()",)


def test_the_command_fills_and_reports_what_it_did(bench, weights, capfd):
    more = ["-o", "new/out.png", "--box", "50,30,4,4"]
    assert run("photo.png", *GOOD[1:4], weights["custom"], *more) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == [
        "hole 20,12,15,9: window 11,0,32,32, native resolution",
        "hole 50,30,4,4: window 36,13,32,32, native resolution",
    ]
    assert run("photo.png", *GOOD[1:4], weights["custom"], *more) == 2
    assert "exists; name another file, or add --overwrite" in capfd.readouterr().err
    assert run("photo.png", *GOOD[1:4], weights["custom"], *more, "--overwrite") == 0
    assert [p.name for p in (bench / "new").iterdir()] == ["out.png"]


@pytest.mark.slow
def test_run_all_hands_the_command_on(bench, weights):
    arguments = ["photo.png", "--box", "90,0,9,9", "--weights", weights["custom"], "-o", "out.png"]
    command = ["bash", os.path.join(repository(), "run_all.sh"), "inpaint", *map(str, arguments)]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = os.environ | {"INPAINT_ENV": "current", "PATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    why = "reaches outside photo photo.png; stay inside 0,0,70,45"
    assert done.stderr == f"inpaint: --box 90,0,9,9: {why}\n"


def test_a_folder_is_done_to_its_end_and_a_bad_photo_gets_one_line(bench, weights, capfd):
    sources, masks, out = bench / "in", bench / "masks", bench / "out"
    sources.mkdir()
    for k, suffix in enumerate((".jpg", ".png", ".webp")):
        save(sources / f"p{k}{suffix}", smooth(45, 60 + k))
        save(masks / f"p{k}.png", box_hole((45, 60 + k), (10 * k, 9, 8, 8)))
    (sources / "p1.png").write_bytes((sources / "p1.png").read_bytes()[:500])
    save(sources / "p2.bmp", smooth(45, 60))
    for name in ("notes.txt", "b.heic", "c.avif"):
        (sources / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (sources / ".hidden.png").write_text("no photograph")
    options = ["--weights", weights["custom"], "-o", out]
    assert run(sources, "--mask", masks, *options) == 1
    printed, err = capfd.readouterr()
    told = [line for line in err.splitlines() if "inpaint: " in line]
    assert len(told) == 6 and sum("format not read; convert it" in line for line in told) == 3
    for words in ("p1.png: ", "is 62 x 45 pixels", "p2.webp: another has this name"):
        assert any(words in line for line in told)
    assert "p0.jpg: hole 0,9,8,8" in printed and [p.name for p in out.iterdir()] == ["p0.png"]
    assert run(sources / "b.heic", "--box", "9,9,9,9", *options[:3], out / "b.png") == 2
    assert "b.heic: format not read" in capfd.readouterr().err


def test_a_folder_of_good_photos_is_filled_as_each_alone(tmp_path, weights, custom):
    sources, out = tmp_path / "in", tmp_path / "out"
    sources.mkdir()
    for k in range(3):
        save(sources / f"p{k}.png", smooth(45, 60, seed=k))
    arguments = [sources, "--box", "5,6,9,8", "--weights", weights["custom"], "-o", out]
    assert run(*arguments) == 0 and run(*arguments) == 1 and run(*arguments, "--overwrite") == 0
    for k in range(3):
        one = tmp_path / f"one{k}.png"
        inpaint.fill_file(custom, sources / f"p{k}.png", one, boxes=[(5, 6, 9, 8)])
        assert (out / f"p{k}.png").read_bytes() == one.read_bytes()
    assert run(*arguments[:-1], sources, "--overwrite") == 2


def test_a_name_composed_and_decomposed_is_one(bench, weights, capfd):
    sources, masks, tmp_path = bench / "in", bench / "masks", bench
    sources.mkdir()
    save(sources / (unicodedata.normalize("NFD", "é") + ".png"), smooth(45, 70))
    save(masks / (unicodedata.normalize("NFC", "é") + ".png"), box_hole((45, 70), BOX))
    options = ["--mask", masks, "--weights", weights["custom"], "-o", tmp_path / "out"]
    assert run(sources, *options) == 0, capfd.readouterr().err
    assert len([*(tmp_path / "out").iterdir()]) == 1


def command(*arguments, stdout=subprocess.PIPE, **environment):
    arguments = [sys.executable, "-P", "-m", "inpaint_lib.photos.inpaint", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": repository()} | environment
    return subprocess.run(
        arguments, env=environment, stdout=stdout, stderr=subprocess.PIPE, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_name_that_is_no_utf8_is_filled(tmp_path, weights, locale):
    (tmp_path / "in").mkdir()
    os.rename(
        save(tmp_path / "in" / "a.png", smooth(45, 70)), os.fsencode(tmp_path) + b"/in/\xe9.png"
    )
    options = ["--box", "9,9,9,9", "--weights", weights["custom"], "-o", tmp_path / "out"]
    plain = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command(tmp_path / "in", *options, **plain)
    assert done.returncode == 0 and b"inpaint:" not in done.stderr, done.stderr
    assert b"hole 9,9,9,9" in done.stdout
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"\xe9.png"]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_filled_photo_is_not_reported_as_failed_where_nothing_can_be_printed(bench, weights):
    with open("/dev/full", "w") as full:
        done = command("photo.png", *GOOD[1:4], weights["custom"], "-o", "out.png", stdout=full)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and Path("out.png").is_file()
    assert b"cannot be printed (No space left on device); the work itself is done" in done.stderr


def test_a_name_of_several_lines_is_printed_as_one(bench, weights, capfd):
    Path("in").mkdir()
    save("in/a\nb\x1b[31m.png", smooth(45, 70))
    assert run("in", *GOOD[1:4], weights["custom"], "-o", "filled") == 0
    assert capfd.readouterr().out.splitlines() == [
        r"a\x0ab\x1b[31m.png: hole 20,12,15,9: window 11,0,32,32, native resolution"
    ]


# --- the output file


def not_written(bench, weights, capfd, output, *more):
    """Return the error where -o cannot be written; nothing else has come into being."""
    before = sorted(bench.rglob("*"))
    assert run("photo.png", *GOOD[1:4], weights["custom"], "-o", output, *more) == 2
    err = capfd.readouterr().err
    assert sorted(bench.rglob("*")) == before and len(err.splitlines()) == 1 and "Errno" not in err
    return err


def test_what_cannot_be_written_is_reported_before_anything_is(bench, weights, capfd):
    Path("link.png").symlink_to("nowhere")
    Path("masks.png").mkdir()
    os.link("photo.png", "same.png")
    for output, more, words in (
        ("link.png", [], "-o link.png: exists; name another file"),
        ("text.png/out.png", [], "text.png is a file where a folder is needed"),
        ("masks.png", ["--overwrite"], "masks.png is a folder where a file is needed"),
        ("out.gif", [], "-o out.gif: the suffix says the format"),
        ("photo.png", ["--overwrite"], "-o photo.png: is another file of this command"),
        ("same.png", ["--overwrite"], "-o same.png: is another file of this command"),
    ):
        assert words in not_written(bench, weights, capfd, output, *more)
    if Path("/proc/self").exists():
        assert "/proc cannot be written to" in not_written(bench, weights, capfd, "/proc/out.png")
    assert Path("link.png").is_symlink()


def test_the_old_file_stays_where_the_new_one_cannot_be_written(custom, bench, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device", str(self))

    before = {path: path.read_bytes() for path in bench.iterdir() if path.is_file()}
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="the disk is full"):
        inpaint.fill_file(custom, "photo.png", "exists.png", boxes=[BOX], overwrite=True)
    assert {path: path.read_bytes() for path in bench.iterdir() if path.is_file()} == before


# --- weights


def test_a_runs_folder_its_model_and_its_stages_are_all_weights(tmp_path, weights):
    run, stage = tmp_path / "seed0", tmp_path / "seed0" / "stages" / "2.safetensors"
    stage.parent.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(described()))
    state = load_file(weights["custom"])
    others = {"discriminator.x": torch.zeros(1), "snapshot.x": torch.zeros(1)}
    save_file(state | others, stage, metadata={"run": "a/b", "stage": "2", "step": "9"})
    with pytest.raises(ValueError, match=r"no finished run; .* name a file stages/<n>.safetensors"):
        inpaint.load(run)
    (run / "model").mkdir()
    shutil.copy(weights["custom"], run / "model" / "model.safetensors")
    image, hole = smooth(40, 50), box_hole((40, 50), BOX)
    models = [inpaint.load(p) for p in (run, run / "model", run / "model/model.safetensors", stage)]
    filled = [inpaint.fill(model, image, hole)[0] for model in models]
    assert all((other == filled[0]).all() for other in filled[1:])
    for model in models:
        assert (model.architecture, model.image_size) == ("custom", SIZE)
        assert model.description == described() and not model.generator.training
    shutil.copy(stage, tmp_path / "alone.safetensors")
    with pytest.raises(ValueError, match="its header does not fit its weights"):
        inpaint.load(tmp_path / "alone.safetensors")


def test_an_architecture_of_an_extension_fills(bench, weights, monkeypatch):
    added = (
        "from inpaint_lib.models import ARCHITECTURES\nARCHITECTURES['x'] = ARCHITECTURES['custom']"
    )
    Path("mine.py").write_text(added)
    monkeypatch.setattr(models, "ARCHITECTURES", models.ARCHITECTURES)
    try:
        assert run("photo.png", *GOOD[1:4], "unknown.safetensors", "-o", "out.png") == 2
        more = ["-o", "out.png", "--extension", "mine.py"]
        assert run("photo.png", *GOOD[1:4], "unknown.safetensors", *more) == 0
    finally:
        models.ARCHITECTURES.pop("x", None)


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="root alone can become somebody else")
@pytest.mark.parametrize("shut", ["model/model.safetensors", "model", "."])
def test_weights_that_may_not_be_read_are_reported_as_such(weights, shut):
    code = (
        "import os, sys; from inpaint_lib.photos import inpaint\n"
        "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "try: inpaint.load(sys.argv[1])\nexcept ValueError as error: print(error)"
    )
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # pytest's own folders are shut
        Path(place, "run/model").mkdir(parents=True)
        shutil.copy(weights["custom"], Path(place, "run/model/model.safetensors"))
        for path in (Path(place), *Path(place).rglob("*")):
            path.chmod(0o755)
        Path(place, "run", shut).chmod(0)
        arguments = [sys.executable, "-c", code, str(Path(place, "run"))]
        environment = os.environ | {"PYTHONPATH": repository()}
        done = subprocess.run(
            arguments, env=environment, capture_output=True, text=True, check=False
        )
    assert "may not be read" in done.stdout, done.stdout + done.stderr
