"""Measure the outputs of other methods like those of the study's networks.

`export` writes the test images and their holes as PNG, `score` measures a folder of outputs:

    DIR/manifest.json       what the images are (hashes of decoded pixels), how outputs are named
    DIR/images/00000.png    a test image
    DIR/masks/<family>_<width>/00000.png, DIR/inputs/<family>_<width>/00000.png
                            its hole, white; the image with mid-grey in the hole
    OUTPUTS/<family>_<width>/00000.png
                            the input, filled
    runs/<profile>/<dataset>/data/external/<name>.csv
                            the measures, in the format of a baseline's

A family of holes is measured if all its outputs are there. Measures are of the composite; only the
region `visible` measures the outputs' known pixels.
"""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from .. import PROTOCOL
from ..data import images
from ..study import devices, files, provenance
from . import evaluate

GREY = 128  # of 255: the 0 in [-1, 1] that networks get in a hole
MANIFEST = "manifest.json"
BEGUN = "unfinished.json"  # the manifest of an incomplete export
PARTS = ("images", "masks", "inputs")  # of an export; outputs may lie beside them
NAMED = 3  # files that a message names


def describe_export(pack, profile, dataset):
    """Return the contents of manifest.json for a data set's test images and holes."""
    hashes = {key: pack.manifest["masks"][key]["sha256"] for key, _, _ in _sets(pack)}
    return {
        "what": "Test images with frozen holes. Fill the holes of inputs/, save each image as "
        "`output` says, then measure the folder: ./run_all.sh score FOLDER --name NAME",
        "profile": profile,
        "dataset": dataset,
        "protocol": PROTOCOL,
        "size": pack.test.shape[1],
        "families and widths": pack.widths,
        "files": {
            "image": "images/IMAGE.png",
            "mask": "masks/FAMILY_WIDTH/IMAGE.png: white is hole",
            "input": f"inputs/FAMILY_WIDTH/IMAGE.png: {GREY}, {GREY}, {GREY} in the hole, the "
            "mid-grey that the networks see",
            "output": "FAMILY_WIDTH/IMAGE.png: 8-bit RGB, as large as the input",
            "IMAGE": f"00000 to {len(pack.test) - 1:05d}",
        },
        "sha256 of decoded pixels": {"images": pack.identity["test"], "masks": hashes},
    }


def _sets(pack, families=None):
    """Return (folder, family, width) of each set of a pack's holes."""
    widths = {family: pack.widths[family] for family in families or pack.widths}
    return [(f"{family}_{w}", family, w) for family, of in widths.items() for w in of]


def _names(pack, folder):
    """Return the paths in a folder, one for each test image."""
    return [f"{folder}/{k:05d}.png" for k in range(len(pack.test))]


# --- export


def export(pack, profile, dataset, folder):
    """Write test images, holes and inputs to a folder.

    Raises ValueError unless the folder is new, empty or holds an export of the same data, and
    OutputError.
    """
    folder, told = Path(folder), describe_export(pack, profile, dataset)
    head, begun = folder / MANIFEST, folder / BEGUN
    if reason := files.find_obstacle(head):
        raise ValueError(reason)
    if folder.is_dir() and any(folder.iterdir()):
        if told not in (files.read_json(head), files.read_json(begun)):
            raise ValueError(f"{folder} holds something else: name an empty or a new folder")
    files.write_json(begun, told)
    head.unlink(missing_ok=True)
    with files.explain_errors(head):
        _save(pack, folder, "images", pack.test)
        for key, *of in tqdm(_sets(pack), "holes", delay=2, leave=False, disable=None):
            holes = pack.test_masks(*of)
            pairs = zip(pack.test, holes[..., None], strict=True)
            seen = (np.where(hole, np.uint8(GREY), image) for image, hole in pairs)
            _save(pack, folder, f"masks/{key}", 255 * holes)
            _save(pack, folder, f"inputs/{key}", seen)
        os.replace(begun, head)


def _save(pack, folder, part, pictures):
    (folder / part).mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(_names(pack, part), pictures, strict=True):
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name)


# --- score


def find_manifest(folder):
    """Return (path, contents) of the manifest in a folder of outputs or its parent, or (None, {}).

    Raises ValueError for a damaged manifest or a missing folder.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is not a folder: name the one with the outputs")
    for path in (Path(folder, MANIFEST), Path(folder).resolve().parent / MANIFEST):
        if os.path.lexists(path):
            told = files.read_json(path)
            if not isinstance(told, dict) or not {"profile", "dataset"} <= told.keys():
                raise ValueError(f"{path} has been changed since ./run_all.sh export: export again")
            return path, told
    return None, {}


def score(study, dataset, pack, folder, name, overwrite=False):
    """Measure the outputs in a folder; return the frame (evaluate.COLUMNS) and lines to print.

    Raises ValueError, and writes nothing, for missing or unusable outputs, a manifest of other
    data, and a name that other outputs have.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", name):
        what = f"--name {name} is not allowed"
        raise ValueError(f"{what}: use up to 40 letters, digits, '.', '_' and '-'")
    folder, head = Path(folder), pack.folder / "external" / f"{name}.json"
    path, told = find_manifest(folder)
    wanted = describe_export(pack, study.profile, dataset)
    if path and (differ := provenance.find_differences(told, wanted)):
        what = f"differs from {dataset} of profile {study.profile} in {differ[0][0]}"
        raise ValueError(f"{path} {what}: export the data again and fill those")
    there = [family for key, family, _ in _sets(pack) if os.path.lexists(folder / key)]
    families = list(dict.fromkeys(there))
    if not families:
        some = " or ".join(f"{key}/" for key, _, _ in _sets(pack)[:2])
        raise ValueError(f"{folder} holds no folder of outputs: {some} and so on are needed")
    digest, lines = _checked(folder, pack, families)
    made = (files.read_json(head) or {}).get("settings", {})
    if made.get("outputs", digest) != digest and not overwrite:
        raise ValueError(f"--name {name} has other outputs: choose another, or use --overwrite")
    settings = evaluate.get_untrained_settings(study.config, pack, len(pack.test))
    settings |= {"outputs": digest}

    def fill_of(family, width):
        paths = [folder / name for name in _names(pack, f"{family}_{width}")]
        return lambda *_: _batches(study.config, paths, pack.test.shape[1])

    with files.lock(head.parent), devices.explain_out_of_memory(study.config):
        torch.set_num_threads(study.config.machine.threads)
        found = evaluate.measure_untrained(
            head, settings, fill_of, study.config, pack, families, elsewhere=True
        )
    l1 = found[(found.region == "hole") & (found.metric == "l1")].groupby("mask_family").tail(1)
    shown = [f"{of.mask_family}_{of.mask_width}: hole L1 {of.value:.4f}" for of in l1.itertuples()]
    return found, lines + shown


def _checked(folder, pack, families):
    """Return the SHA-256 of the decoded outputs, and lines on what is unusual.

    Raises ValueError, which names outputs that cannot be used.
    """
    digest, names, unusable, changed = hashlib.sha256(), set(), [], {}
    for key, *of in tqdm(_sets(pack, families), "outputs", delay=2, leave=False, disable=None):
        holes = pack.test_masks(*of)
        for name, real, hole in zip(_names(pack, key), pack.test, holes, strict=True):
            names.add(name)
            try:
                pixels = _read(folder / name, len(real))
            except images.Unusable as why:
                unusable.append(f"{name} is {why.reason} {why.detail}".strip())
                continue
            digest.update(name.encode() + pixels.tobytes())
            if difference := np.abs(pixels.astype(int) - real)[hole == 0].max(initial=0):
                changed[name] = difference
    if unusable:
        what = f"{len(unusable)} of {len(names)} outputs in {folder} cannot be used"
        how = "give 8-bit RGB PNGs of the inputs' size, all of a family or none"
        raise ValueError(f"{what} ({_some(unusable)}): {how}")
    inside = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    others = {str(path) for path in inside if path.parts[0] not in (*PARTS, MANIFEST)} - names
    lines = [f"{len(names)} outputs, of the families {', '.join(families)}"]
    if changed:
        most = f"{len(changed)} of them, by up to {max(changed.values())} of 255"
        what = f"known pixels differ in {most} ({_some([*changed])})"
        lines.append(f"{what}: composites with the true known pixels are measured")
    if others:
        lines.append(f"{len(others)} other files are not measured: {_some(sorted(others))}")
    return digest.hexdigest(), lines


def _some(names):
    return ", ".join(names[:NAMED]) + ", ..." * (len(names) > NAMED)


def _read(path, size):
    """Return an output, (size, size, 3) uint8. Raises Unusable."""
    if not path.exists():
        raise images.Unusable("missing")
    with images.open_image(path) as image, images.translate_errors():
        if image.format != "PNG":
            raise images.Unusable(f"no PNG but {image.format}")
        if image.size != (size, size):
            there = "{} x {}".format(*image.size)
            raise images.Unusable(f"{there}, not {size} x {size}")
        if image.mode != "RGB" or ";16" in str(image.tile):
            raise images.Unusable(f"no 8-bit RGB but {image.mode}")
        return np.asarray(image)


def _batches(config, paths, size):
    """Yield outputs in batches (B,H,W,3) uint8."""
    batch = config.machine.evaluation_batch
    for k in range(0, len(paths), batch):
        yield np.stack([_read(path, size) for path in paths[k : k + batch]])


# --- results


def read_scores(config, pack):
    """Return ({name: frame}, [names of outputs that were measured with other settings])."""
    wanted = evaluate.get_untrained_settings(config, pack, len(pack.test))
    found, stale = {}, []
    for head in sorted((pack.folder / "external").glob("*.json")):
        made = (files.read_json(head) or {}).get("settings", {})
        # scores without the network of a metric stay valid: only that metric is missing
        if all(made.get(k) == wanted[k] for k in wanted.keys() - set(evaluate.NETWORKS)):
            found[head.stem] = pd.read_csv(head.with_suffix(".csv"))
        else:
            stale.append(head.stem)
    return found, stale
