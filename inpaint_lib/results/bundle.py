"""Write a study's data for its pages: scripts for the explorer, and sheets of fills.

They are scripts because a page that is opened as a file can load no other data.

    data/meta.js                                runs, setups, widths
    data/curves_<dataset>_<architecture>.js     histories, errors and health of its runs
    data/fills_<dataset>_<architecture>.js      recorded fills (their holes alone), D's scores
    data/images_<dataset>.js                    truth and holes
    sheets/<dataset>.png                        truth, a row per recorded image
    sheets/<dataset>_<family>.png               holes, a column per width
    sheets/<run>.png                            fills, a column per stage and width, transparent
                                                outside the hole
A script calls `inpaintData(name, {sizes, bytes})`: bytes are JSON and its arrays, deflated.
"""

import base64
import json
import re
import zlib

import numpy as np
from PIL import Image

from ..study import files
from ..training import recording
from . import explored, health, pictures, select


def write(saved, folder, recordings):
    """Write data/ and sheets/ of an explored.Saved; return {run: [(stage, width)]}: sheet columns.

    recordings: {run: its recording.npz}, for any runs."""
    _script(folder, "meta", saved.about)
    columns = {}
    for dataset, about in saved.about["datasets"].items():
        if f"{dataset}/truth" in saved.results.fills:
            images = {
                str(k): dict(zip(("truth", "holes"), saved.image(dataset, k), strict=True))
                for k in about["recorded"]
            }
            _script(folder, f"images_{dataset}", images)
            _sheet(folder, dataset, [saved.results.fills[f"{dataset}/truth"]])
            for family in set(saved.about["families"].values()):
                _sheet(folder, f"{dataset}/{family}", _painted(saved.results, dataset, family))
    for dataset, architecture in select.list_cells(select.get_finished(saved.results)):
        about = saved.about["datasets"][dataset]
        names = [name for name in saved.runs if name.startswith(f"{dataset}/{architecture}/")]
        curves = {name: _curves(saved, name) for name in names}
        _script(folder, f"curves_{dataset}_{architecture}", curves)
        fills = {}
        for name in names:
            if found := _fills(saved.results, name):
                pixels = {f"{s}_{w}": _in_hole(*pair) for (s, w), pair in found.items()}
                fills[name], columns[name] = {"pixels": pixels}, list(found)
                if name in recordings:
                    fills[name]["scores"] = compress_scores(recordings[name], about["recorded"])
                _sheet(folder, name, _see_through(found.values()))
        _script(folder, f"fills_{dataset}_{architecture}", fills)
    return columns


def name_sheet(name):
    """Return the path of a run's sheet in the report's folder."""
    return f"sheets/{name.replace('/', '_')}.png"


def _curves(saved, name):
    """Return a run's history, errors and health for the explorer."""
    history = saved.history(name)
    history = history.loc[:, history.notna().any()]
    stages, images = saved.errors(name)
    return {
        "histories": {"columns": list(history), "values": history.to_numpy(np.float32).T},
        "errors": {"stages": stages, "images": images},
        "health": health.describe_health(saved.health(name)),
    }


def _fills(results, name):
    """Return {(stage, width): (fills (R,H,W,3), holes (R,H,W))} of a run, training family."""
    dataset, architecture, *_ = name.split("/")
    family, found = results.family(architecture), {}
    for stage in range(1, len(results.widths) + 1):
        for width in results.widths:
            fills = results.fills.get(f"{name}/stage{stage}/{family}_{width}")
            if fills is not None:
                found[stage, width] = fills, results.fills[f"{dataset}/mask/{family}_{width}"]
    return found


def compress_scores(path, images):
    """Return D's scores of the fills of test images in 8 bits; {} if others were recorded.

    The value is {width: [{"levels": (S,R,h,w) int8, "scale"}, one per scale of D]}; a score is
    level x scale."""
    found = {}
    with np.load(path) as stored:
        same = recording.list_images(stored, images) == images
        for name in stored.files if same else ():
            if of := re.fullmatch(r"end_scores_(\d+)_\d+", name):
                maps = stored[name].astype(np.float32)
                scale = float(abs(maps).max() / 127) or 1.0
                levels = np.rint(maps / scale).astype(np.int8)
                found.setdefault(of[1], []).append({"levels": levels, "scale": scale})
    return found


def _in_hole(fills, holes):
    """Return the pixels in the holes, image by image, each minus the one before: (N,3) uint8."""
    pixels = np.concatenate([fill[hole > 0] for fill, hole in zip(fills, holes, strict=True)])
    return np.diff(pixels, axis=0, prepend=np.zeros((1, 3), np.uint8))  # a fifth smaller


def _see_through(pairs):
    """Return fills as (R,H,W,4), an array per column."""
    return [
        np.concatenate([fills, 255 * (holes[..., None] > 0).astype(np.uint8)], 3)
        for fills, holes in pairs
    ]


def _painted(results, dataset, family):
    """Return the holes of every width, painted, as `_see_through` does."""
    truth = results.fills[f"{dataset}/truth"]
    holes = [results.fills.get(f"{dataset}/mask/{family}_{width}") for width in results.widths]
    holes = [np.zeros(truth.shape[:3]) if hole is None else hole for hole in holes]
    return _see_through([(pictures.show_hole(truth, hole), hole) for hole in holes])


def _sheet(folder, name, columns):
    """Write columns of images, each (R,H,W,C) uint8, side by side as PNG."""
    pixels = np.concatenate([np.concatenate(list(images)) for images in columns], 1)
    if pixels.shape[2] == 4:
        pixels = pixels * (pixels[..., 3:] > 0)  # what is not seen compresses to nothing
    with files.replace(folder / name_sheet(name)) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG", optimize=True)


def _script(folder, name, value):
    """Write a script that passes a value to the page, arrays included."""
    buffers = []
    answer = explored.pack_arrays(value, buffers)
    said = json.dumps(answer, separators=(",", ":"), allow_nan=False, default=float)
    buffers.insert(0, said.encode())
    deflated = base64.b64encode(zlib.compress(b"".join(buffers), 9)).decode()
    text = json.dumps([name, {"sizes": [len(b) for b in buffers], "bytes": deflated}])
    files.write_text(folder / "data" / f"{name}.js", f"inpaintData(...{text});\n")
