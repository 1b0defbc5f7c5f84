"""Whatever comes in from outside, readers give a result or their own error of one line.

Under --hypothesis-profile=thorough the same tests take far more examples.
"""

import functools
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from inpaint_lib import models
from inpaint_lib.data import packs
from inpaint_lib.photos import image_file, inpaint
from inpaint_lib.results import stats
from inpaint_lib.study import config, grid
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
def mutated(draw, whole, most=8):
    """Bytes of `whole` with some replaced, cut out, doubled or cut off."""
    found = bytearray(whole)
    for _ in range(draw(st.integers(0, most))):
        at, length = draw(st.integers(0, max(0, len(found) - 1))), draw(st.integers(0, 9))
        kind = draw(st.sampled_from(["set", "insert", "delete", "double", "cut"]))
        if kind == "set" and found:
            found[at] = draw(st.integers(0, 255))
        elif kind == "insert":
            found[at:at] = draw(st.binary(max_size=9))
        elif kind == "delete":
            del found[at : at + length]
        elif kind == "double":
            found[at:at] = found[at : at + length]
        elif kind == "cut":
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


# --- configuration

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.dates(),
    st.binary(max_size=9),
    st.sampled_from(
        [
            "random",
            "torchvision",
            "auto",
            "1e-4",
            "cuda:²",
            "a\nb",
            2**31,
            2**80,
            -1,
            "\0",
            "x" * 5000,
        ]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=6,
)
SMOKE = config.to_dict(config.load("smoke"))


def dotted(node, prefix=""):
    for key, value in node.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")


KEYS = st.sampled_from(sorted(dotted(SMOKE))) | st.text(max_size=9)


def loaded(text, overrides=None):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "own.yaml")
        path.write_bytes(text)
        found = one_line(lambda: config.load(path, overrides), config.ConfigError)
    assert found is None or isinstance(found, config.Config)


HUGE = 16**5000  # longer than Python writes out


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
@example({"machine.jobs": HUGE})
@example({"models.custom.widths.generator_width": [HUGE]})
@example({"models.custom.widths.scales": 10**9})  # would be built, one by one
@example({"models.custom.lr_g": HUGE})
def test_any_override_gives_a_configuration_or_an_error_of_one_line(overrides):
    one_line(lambda: config.load("smoke", overrides), config.ConfigError)


@given(mutated((config.FOLDER / "base.yaml").read_bytes()))
def test_a_damaged_profile_gives_a_configuration_or_an_error_of_one_line(text):
    loaded(text)


@given(
    st.binary(max_size=99)
    | st.text("[]{}&*!?|>-:'\"#%@,~ \n\tabc019.", max_size=40).map(str.encode)
)
@example(b"[" * 3000)
@example(b"grid: 2001-02-30")
@example(b"a: " + b"9" * 5000)
@example(b"extends: smoke\nmachine: {jobs: 0x" + b"f" * 5000 + b"}")
@example(b"extends: [smoke]")
def test_any_bytes_as_a_profile_are_an_error_of_one_line(text):
    loaded(text)


@given(st.one_of(st.text(max_size=30), VALUES))
def test_any_name_of_a_profile_is_one_or_an_error_of_one_line(name):
    one_line(lambda: config.load(name), config.ConfigError)


HYPOTHESES = yaml.safe_load(stats.HYPOTHESES.read_text())


def registered(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hypotheses.yaml")
        path.write_bytes(text)
        one_line(lambda: stats.registered(path), config.ConfigError)


@given(mutated(stats.HYPOTHESES.read_bytes()))
def test_damaged_hypotheses_are_registered_or_an_error_of_one_line(text):
    registered(text)


@given(st.sampled_from(sorted(stats.Hypothesis.model_fields)), VALUES, st.integers(0, 9) | VALUES)
def test_any_value_in_a_hypothesis_is_registered_or_an_error_of_one_line(key, value, primaries):
    entries = [HYPOTHESES["hypotheses"][0] | {key: value}]
    registered(yaml.dump({"primaries": primaries, "hypotheses": entries}).encode())


# --- photographs, masks and boxes of `inpaint`

KINDS = ("PNG", "JPEG", "TIFF", "GIF", "WEBP")


@functools.cache
def file_of(kind, mode="RGB", height=9, width=14, hole=False):
    image = Image.fromarray(
        box_hole((height, width), (2, 3, 4, 4)) if hole else smooth(height, width)
    ).convert(mode)
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    image.save(
        file,
        kind,
        exif=exif,
        **({} if hole or mode not in ("RGB", "L") else {"icc_profile": b"profile" * 9}),
    )
    return file.getvalue()


BLANK = answering(zeros)


def filled(photo, mask=None, suffix=".png", model=BLANK):
    """Whether it could be filled; nothing is written if not."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("photo", "mask")]
        for path, content in zip(paths, (photo, mask), strict=True):
            path.write_bytes(content or b"")
        output = Path(folder, f"out{suffix}")
        given = {"boxes": [(1, 1, 2, 2)]} if mask is None else {"mask": paths[1]}
        done = one_line(lambda: inpaint.fill_file(model, paths[0], output, **given), ValueError)
        assert (
            output.exists() == (done is not None)
            and len(list(Path(folder).iterdir())) == 2 + output.exists()
        )
    return done is not None


@given(
    st.sampled_from(KINDS).flatmap(lambda kind: mutated(file_of(kind))),
    st.sampled_from(sorted(image_file.WRITERS)),
)
def test_a_damaged_photo_is_filled_or_refused_in_one_line(photo, suffix):
    filled(photo, suffix=suffix)


@given(
    st.sampled_from(KINDS).flatmap(lambda kind: mutated(file_of(kind, hole=True)))
    | st.binary(max_size=40)
)
def test_a_damaged_mask_is_read_or_refused_in_one_line(mask):
    filled(file_of("PNG"), mask)


@given(
    st.sampled_from(
        ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "F", "CMYK", "YCbCr", "LAB", "HSV"]
    ),
    st.sampled_from(["PNG", "TIFF"]),
    st.integers(1, 40) | st.just(5000),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(sorted(image_file.WRITERS)),
    st.sampled_from(["custom", "context_encoder"]),
)
def test_any_shape_and_mode_is_filled_or_refused_in_one_line(
    mode, kind, height, width, turned, suffix, architecture
):
    shape = (width, height) if turned else (height, width)
    file = io.BytesIO()
    try:
        Image.fromarray(smooth(*shape)).convert(mode).save(file, kind)
    except (OSError, ValueError):  # there is no such file
        return
    content = file.getvalue()
    filled(content, suffix=suffix, model=answering(zeros, architecture))
    filled(file_of("PNG", "RGB", *shape), content)
    filled(content, content)


@given(
    st.text("0123456789,-+._ ²٣e\nx", max_size=20)
    | st.lists(st.integers(), min_size=4, max_size=4).map(str)
    | st.lists(st.integers(-3, 20), min_size=4, max_size=4).map(lambda v: ",".join(map(str, v)))
)
@example("--1,0,1,1")
@example("9" * 5000 + ",0,1,1")
def test_any_text_as_a_box_is_refused_or_lies_inside_the_photo(text):
    options = [f"--box={text}", "--weights", "w", "-o", "o.png"]
    args = one_line(lambda: inpaint.arguments(["photo", *options]), ValueError)
    if args:
        photo = file_of("PNG")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "photo").write_bytes(photo)
            paths = Path(folder, "photo"), Path(folder, "o.png")
            one_line(lambda: inpaint.fill_file(BLANK, *paths, boxes=args.boxes), ValueError)


# --- weights


@functools.cache
def weights_of(architecture):
    with tempfile.TemporaryDirectory() as folder:
        return saved_weights(Path(folder, "w.safetensors"), architecture).read_bytes()


def load(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "w.safetensors")
        path.write_bytes(content)
        found = one_line(lambda: inpaint.load(path), ValueError)
    if found:
        assert all(torch.isfinite(v).all() for v in found.generator.state_dict().values())


def headed(header, rest):
    """A safetensors file of a header and what follows it."""
    return len(header).to_bytes(8, "little") + header + rest


@given(st.sampled_from(sorted(models.ARCHITECTURES)).flatmap(lambda a: mutated(weights_of(a))))
def test_damaged_weights_load_or_are_refused_in_one_line(content):
    load(content)


@given(st.data())
def test_a_damaged_header_of_weights_loads_or_is_refused_in_one_line(data):
    whole = weights_of("custom")
    length = int.from_bytes(whole[:8], "little")
    load(headed(data.draw(mutated(whole[8 : 8 + length])), whole[8 + length :]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(10**9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(described())), JSON, st.sampled_from(sorted(NARROW["custom"])), JSON)
def test_any_description_of_weights_loads_or_is_refused_in_one_line(key, value, width, wide):
    for settings in (
        described() | {key: value},
        described(widths=NARROW["custom"] | {width: wide, "scales": wide}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            load(
                saved_weights(
                    Path(folder, "w.safetensors"), header={"settings": json.dumps(settings)}
                ).read_bytes()
            )


# --- the pack


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The study of a prepared folder of images, its manifest's bytes and its whole .npy files."""
    place = tmp_path_factory.mktemp("packed")
    for k in range(12):
        (place / "images").mkdir(exist_ok=True)
        Image.fromarray(smooth(40, 40, k)).save(place / "images" / f"{k}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(place))
        study = grid.open_study(
            "smoke", {"machine.data_root": str(place / "images"), "curriculum.batch_size": 4}
        )
        pack = packs.prepare(study, "folder")
        yield study, {p.name: p.read_bytes() for p in pack.folder.iterdir()}


@given(st.data())
def test_a_damaged_manifest_or_array_is_a_whole_pack_or_none(packed, data_):
    study, whole = packed
    folder, name = (
        study.data_folder("folder"),
        data_.draw(st.sampled_from(["manifest.json", "test.npy", "train.npy"])),
    )
    damaged = data_.draw(mutated(whole[name][:200])) + whole[name][200:]
    try:
        (folder / name).write_bytes(damaged)
        if pack := one_line(lambda: packs.existing(study, "folder"), FileNotFoundError):
            assert pack.test.dtype == pack.train.dtype == np.uint8
            assert pack.test.shape[1:] == pack.train.shape[1:] == (SIZE, SIZE, 3)
    finally:
        (folder / name).write_bytes(whole[name])
