"""Whatever comes in from outside, readers give a result or their own error of one line.

Under --hypothesis-profile=thorough the same tests take far more examples.
"""

import functools
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from inpaint_lib import models
from inpaint_lib.data import packs
from inpaint_lib.photos import image_file, inpaint
from inpaint_lib.study import config
from inpaint_lib.study.provenance import flatten
from tests.conftest import smooth
from tests.photos.test_inpaint import (
    NARROW,
    SIZE,
    answering,
    box_hole,
    described,
    saved_weights,
    zeros,
)


@st.composite
def mutated(draw, whole):
    """Bytes of `whole` with some replaced, cut out, doubled or cut off."""
    found = bytearray(whole)
    for _ in range(draw(st.integers(0, 8))):
        at, length = draw(st.integers(0, max(0, len(found) - 1))), draw(st.integers(0, 9))
        kind = draw(st.sampled_from(["replace", "double", "cut"]))
        if kind == "replace":
            found[at : at + length] = draw(st.binary(max_size=9))
        elif kind == "double":
            found[at:at] = found[at : at + length]
        else:
            del found[at:]
    return bytes(found)


def one_line(call, *errors):
    """What the call returns, or None if it raised one of `errors` with a message of one line."""
    try:
        return call()
    except errors as error:
        text = str(error)
        assert text and len(text.splitlines()) == 1 and len(text) < 2000, text[:500]
        return None


def read_as(name, content, read, *errors):
    """What `read` makes of a file of these bytes, or None for an error of one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        return one_line(lambda: read(path), *errors)


# --- configuration

HUGE = 16**5000  # longer than Python writes out
UNUSUAL = ["random", "auto", "1e-4", "cuda:²", "a\nb", 2**31, 2**80, -1, "\0", "x" * 5000]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.dates(),
    st.binary(max_size=9),
    st.sampled_from(UNUSUAL),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=6,
)
LEAVES = sorted(flatten(config.to_dict(config.load("smoke"))))
SECTIONS = sorted({leaf.rpartition(".")[0] for leaf in LEAVES} - {""})
KEYS = st.sampled_from(LEAVES) | st.sampled_from(SECTIONS) | st.text(max_size=9)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
@example({"machine.jobs": HUGE})
@example({"extensions": "\x00"})
@example({"models.custom.widths.generator_width": [HUGE]})
@example({"models.custom.widths.scales": 10**9})  # would be built, one by one
@example({"models.custom.lr_g": HUGE})
def test_any_override_gives_a_configuration_or_an_error_of_one_line(overrides):
    one_line(lambda: config.load("smoke", overrides), config.ConfigError)


@given(
    mutated((config.FOLDER / "base.yaml").read_bytes())
    | st.binary(max_size=99)
    | st.text("[]{}&*!?|>-:'\"#%@,~ \n\tabc019.", max_size=40).map(str.encode)
)
@example(b"[" * 3000)
@example(b"grid: 2001-02-30")
@example(b"a: " + b"9" * 5000)
@example(b"extends: smoke\nmachine: {jobs: 0x" + b"f" * 5000 + b"}")
@example(b"extends: [smoke]")
@example(b"extends: a/b")
def test_any_bytes_as_a_profile_are_one_or_an_error_of_one_line(content):
    found = read_as("own.yaml", content, config.load, config.ConfigError)
    assert found is None or isinstance(found, config.Config)


@given(st.one_of(st.text(max_size=30), VALUES))
def test_any_name_of_a_profile_is_one_or_an_error_of_one_line(name):
    one_line(lambda: config.load(name), config.ConfigError)


# --- photographs, masks and boxes of `inpaint`

KINDS = st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "WEBP"])
SUFFIXES = st.sampled_from(sorted(image_file.WRITERS))
BLANK = answering(zeros)


@functools.cache
def file_of(kind, hole=False):
    image = Image.fromarray(box_hole((9, 14), (2, 3, 4, 4)) if hole else smooth(9, 14))
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010F] = 6, "maker"
    image.save(file, kind, exif=exif, **({} if hole else {"icc_profile": b"profile" * 9}))
    return file.getvalue()


def fill(photo, mask=None, suffix=".png", model=BLANK):
    """Fill a photo, or be refused; nothing is written then."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("photo", "mask")]
        for path, content in zip(paths, (photo, mask), strict=True):
            path.write_bytes(content or b"")
        output = Path(folder, f"out{suffix}")
        given = {"boxes": [(1, 1, 2, 2)]} if mask is None else {"mask": paths[1]}
        done = one_line(lambda: inpaint.fill_file(model, paths[0], output, **given), ValueError)
        assert output.exists() == (done is not None)
        assert len(list(Path(folder).iterdir())) == 2 + output.exists()


@given(KINDS.flatmap(lambda kind: mutated(file_of(kind))), SUFFIXES)
def test_a_damaged_photo_is_filled_or_refused_in_one_line(photo, suffix):
    fill(photo, suffix=suffix)


@given(KINDS.flatmap(lambda kind: mutated(file_of(kind, hole=True))) | st.binary(max_size=40))
def test_a_damaged_mask_is_read_or_refused_in_one_line(mask):
    fill(file_of("PNG"), mask)


@given(
    st.sampled_from("1 L LA P PA RGB RGBA I I;16 F CMYK YCbCr LAB HSV".split()),
    st.sampled_from(["PNG", "TIFF"]),
    st.permutations([5000, 7]) | st.tuples(st.integers(1, 40), st.integers(1, 40)),
    SUFFIXES,
    st.sampled_from(["custom", "context_encoder"]),
)
def test_any_shape_and_mode_is_filled_or_refused_in_one_line(mode, kind, shape, suffix, name):
    file = io.BytesIO()
    try:
        Image.fromarray(smooth(*shape)).convert(mode).save(file, kind)
    except (OSError, ValueError):  # there is no such file
        return
    content = file.getvalue()
    fill(content, suffix=suffix, model=answering(zeros, name))
    fill(content, content)


@given(
    st.text("0123456789,-+._ ²٣e\nx", max_size=20)
    | st.lists(st.integers(), min_size=4, max_size=4).map(str)
    | st.lists(st.integers(-3, 20), min_size=4, max_size=4).map(lambda v: ",".join(map(str, v)))
)
@example("--1,0,1,1")
@example("9" * 5000 + ",0,1,1")
def test_any_text_as_a_box_is_refused_or_lies_inside_the_photo(text):
    options = [f"--box={text}", "--weights", "w", "-o", "o.png"]
    if args := one_line(lambda: inpaint.parse_arguments(["photo", *options]), ValueError):

        def boxed(photo):
            return inpaint.fill_file(BLANK, photo, photo.with_name("o.png"), boxes=args.boxes)

        read_as("photo", file_of("PNG"), boxed, ValueError)


# --- weights


@functools.cache
def weights_of(architecture):
    with tempfile.TemporaryDirectory() as folder:
        return saved_weights(Path(folder, "w.safetensors"), architecture).read_bytes()


def load(content):
    found = read_as("w.safetensors", content, inpaint.load, ValueError)
    if found:
        assert all(torch.isfinite(v).all() for v in found.generator.state_dict().values())


@given(st.sampled_from(sorted(models.ARCHITECTURES)).flatmap(lambda a: mutated(weights_of(a))))
def test_damaged_weights_load_or_are_refused_in_one_line(content):
    load(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(10**9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.data(), st.sampled_from(sorted(described())), st.sampled_from(sorted(NARROW["custom"])))
def test_any_header_of_weights_loads_or_is_refused_in_one_line(data, key, width):
    value, wide = data.draw(JSON), data.draw(JSON)
    for settings in (
        described() | {key: value},
        described(widths=NARROW["custom"] | {width: wide, "scales": wide}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            header = {"settings": json.dumps(settings)}
            load(saved_weights(Path(folder, "w.safetensors"), header=header).read_bytes())
    whole = weights_of("custom")
    length = int.from_bytes(whole[:8], "little")
    header = data.draw(mutated(whole[8 : 8 + length]))
    load(len(header).to_bytes(8, "little") + header + whole[8 + length :])


# --- the pack


def test_a_damaged_manifest_or_array_is_a_complete_pack_or_none(micro):
    study = micro({"data.train_images": 8, "data.test_images": 4})
    pack = packs.prepare(study, "faces")
    names = ("manifest.json", "test.npy", "train.npy")
    whole = {name: (pack.folder / name).read_bytes() for name in names}

    @given(st.data(), st.sampled_from(names))
    def damaged(data, name):
        content = data.draw(mutated(whole[name][:200])) + whole[name][200:]
        try:
            (pack.folder / name).write_bytes(content)
            found = one_line(lambda: packs.open_pack(study, "faces"), FileNotFoundError)
            for split in (found.test, found.train) if found else ():
                assert split.dtype == np.uint8 and split.shape[1:] == (SIZE, SIZE, 3)
        finally:
            (pack.folder / name).write_bytes(whole[name])

    damaged()
