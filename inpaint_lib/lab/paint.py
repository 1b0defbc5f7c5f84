"""Answer the explorer's painter: fill a painted hole, read a user's image, write both as Python.

PAINT has the form of answers.ANSWERS. A hole comes as bits, row by row, 1 = hole, most significant
bit first; a user's image as (size, size, 3) uint8. Raises ValueError with the line to show.
"""

import base64
import io
import zlib

import numpy as np

from .. import masks, metrics, models, rng
from ..data import images
from ..study import config, grid, provenance
from . import answers

LARGEST = 64 * 2**20  # bytes of a user's file


def paint(state, buffers, dataset, runs, image, stage, width=None):
    """Fill a painted hole with some runs, as they were at the end of a stage (0: before training).

    buffers: the hole, then a user's image unless test image number `image` is painted. Batch norm
    has the statistics of holes of a width: `width` if the study has it, or the nearest by area.
    Returns {"truth", "filled" (the hole that is filled), "hole" (its px), "left_out" (why some px
    are not filled), "width" (None without batch norm), "runs": [answers.fill_hole, or None for a
    run that is published without its network; empty without a hole]}.
    """
    size, widths = state.about["size"], state.about["widths"]
    if len(buffers) > 1:
        truth = np.frombuffer(buffers[1], np.uint8).reshape(size, size, 3)
    else:
        truth = state.image(dataset, image)[0]
    chosen = _with_networks(state, runs)
    hole, left_out = confine(_hole(buffers, size), [run.architecture for run in chosen.values()])
    filling = chosen if hole.any() else {}
    width = width if width in widths else choose_width(widths, hole)
    normed = any(
        metrics.find_batch_norms(state.networks(run, stage)[0]) for run in filling.values()
    )
    answered = {
        name: answers.fill_hole(state, run, stage, width, truth, hole)
        for name, run in filling.items()
    }
    return {
        "truth": truth,
        "filled": hole,
        "hole": int(hole.sum()),
        "left_out": left_out,
        "width": width if normed else None,
        "runs": [answered.get(name) for name in runs if filling],
    }


def _with_networks(state, names):
    """Return {name: run} of the runs with networks. Raises ValueError if none has any."""
    found = {name: state.runs[name] for name in names if state.runs.get(name)}
    return found or {name: answers.find_run(state, name) for name in names}


def _hole(buffers, size):
    bits = np.frombuffer(buffers[0], np.uint8)
    return np.unpackbits(bits, count=size**2).reshape(size, size)


def confine(hole, architectures):
    """Return (the part of a hole that all architectures can fill, why the rest is not or "")."""
    if not any(map(models.is_central, architectures)):
        return hole, ""
    quarter = hole.shape[0] // 4
    inside = np.pad(hole[quarter:-quarter, quarter:-quarter], quarter)
    left = int(hole.sum() - inside.sum())
    reason = f"{left} painted px are left out: context_encoder fills the central half only."
    return inside, reason if left else ""


def choose_width(widths, hole):
    """Return the width whose square is nearest to the area of a hole."""
    return min(widths, key=lambda width: abs(width**2 - int(hole.sum())))


def preset(state, _, family, width, draw):
    """Return a hole of a family and any width: {"hole"}. At the study's widths it is the frozen one
    of test image number `draw`. Raises ValueError as masks.find_extent does.
    """
    data = state.study.config.data
    stream = rng.open_stream(
        data.mask_seed, "test masks", family, draw
    )  # as in masks.draw_test_masks
    hole = masks.generate(family, 1, width, data.image_size, stream)
    return {"hole": hole[0, 0].numpy().astype(np.uint8)}


def own_image(state, buffers, name, size, offset):
    """Take one part of a file of `size` bytes, from `offset` on, and return {"received": bytes}.

    Parts come in order, each small enough for the limits of websockets. The answer to the last one
    has {"image"}, too, cut and resized as in data preparation.
    """
    if size > LARGEST:
        most = f"at most {LARGEST >> 20} MB are read: save it smaller"
        raise ValueError(f"{name} has {size / 2**20:.0f} MB; {most}")
    state.upload = getattr(state, "upload", bytearray()) if offset else bytearray()
    if offset != len(state.upload):
        raise ValueError(f"{name}: the upload was interrupted: choose the file again")
    state.upload += buffers[0]
    if len(state.upload) < size:
        return {"received": len(state.upload)}
    file, state.upload = io.BytesIO(state.upload), bytearray()
    try:
        return {"received": size, "image": images.read_image(file, state.about["size"])}
    except images.Unusable as error:
        why = f"{error.reason} ({error.detail})" if error.detail else error.reason
        raise ValueError(f"{name} cannot be used: {why}") from None


CODE = """\
# Fills a painted hole again; run it in the repository's folder.
import base64
import zlib

import numpy as np

from inpaint_lib import losses, metrics
from inpaint_lib.data import images, packs
from inpaint_lib.lab import what_if
from inpaint_lib.study import grid
from inpaint_lib.training import artifacts, probe

study = grid.open_study({profile!r}, {overrides!r})
image = {image}
bits = zlib.decompress(base64.b64decode({bits!r}))
hole = np.unpackbits(np.frombuffer(bits, np.uint8), count={size}**2).reshape({size}, {size})
fills, hole_l1 = {{}}, {{}}
for run in [
{runs}
]:
    G = artifacts.load_generator(run, stage={stage})
    # batch norm's statistics: of holes of {width} px, as in evaluation
    G = probe.calibrate_for(run, packs.open_pack(study, run.dataset), G, {width}, "cpu")
    [batch] = metrics.inpaint(G, image[None], hole[None], "cpu", 1)
    fills[run.name] = metrics.to_uint8(losses.composite(*batch))[0]
    hole_l1[run.name] = float(metrics.measure_images(*batch)[0, 0, 0])
print(hole_l1)
"""


def code(state, buffers, dataset, runs, image, stage, width=None, own=None):
    """Return {"code"}: Python that makes the fills of `paint`; own: the name of a user's image."""
    size, widths = state.about["size"], state.about["widths"]
    chosen = [*_with_networks(state, runs).values()]
    hole, _ = confine(_hole(buffers, size), [run.architecture for run in chosen])
    if not hole.any() or not chosen:
        raise ValueError("Nothing to copy: choose runs and paint a hole first.")
    if not state.about["live"]:
        raise ValueError(
            "Fills by published networks cannot be written as Python: train the profile."
        )
    test = f"np.array(packs.open_pack(study, {dataset!r}).test[{image}])"
    study = state.study
    text = CODE.format(
        profile=study.source,
        overrides=_list_changes(grid.open_study(study.source), study),
        image=f"images.read_image({own!r}, {size})  # give the path of your file" if own else test,
        bits=base64.b64encode(zlib.compress(np.packbits(hole).tobytes(), 9)).decode(),
        size=size,
        runs="\n".join(f"    {_as_code(study, run)}," for run in chosen),
        stage=stage,
        width=width if width in widths else choose_width(widths, hole),
    )
    return {"code": text}


def _list_changes(before, after):
    """Return {"dotted.key": value} of what differs in the settings of the second of two studies.

    Those of the grid are left out: the code names its runs."""
    differences = provenance.find_differences(*(config.to_dict(s.config) for s in (before, after)))
    return {key: value for key, _, value in differences if not key.startswith("grid.")}


def _as_code(study, run):
    parts = f"{run.dataset!r}, {run.architecture!r}, {run.setup!r}, {run.seed}"
    if name := run.study.what_if:
        return f"what_if.make_run(study, {name!r}, {parts}, {_list_changes(study, run.study)!r})"
    return f"grid.Run(study, {parts})"


PAINT = {f.__name__: f for f in (paint, preset, own_image, code)}
