"""Write a pack: files under temporary names, which are replaced together, then manifest.json."""

import contextlib
import hashlib
import io
import json
import shutil
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import masks
from ..study import files, processes
from . import sources
from .images import Unusable
from .sources import SourceError

FILES = "train.npy", "test.npy", "masks.npz", "skipped.csv"
SHARD_IMAGES = 32  # one task of a worker
IMAGES_PER_WORKER = 1000  # another process is worth its start for each so many images
DEPTH = 3  # shards read ahead for each worker
BAD = 0.1  # with a larger share of unusable files something is wrong with the source


def write_pack(folder, config, dataset, plan, settings):
    """Write a pack's files and its manifest into `folder`. Raises SourceError."""
    source = sources.find(dataset)
    with contextlib.ExitStack() as stack:
        paths = {name: stack.enter_context(files.replacing(folder / name)) for name in FILES}
        _check_space(folder, plan, config)
        found = stack.enter_context(contextlib.closing(_read(config, dataset, plan)))
        kept, hashes, skipped = _write_images(paths, config, source, found)
        rows = sorted(skipped) + [("", *passed) for passed in plan.passed_over]
        listed = pd.DataFrame(rows, columns=["split", "file", "reason", "detail"])
        _check_usable(folder, dataset, plan, kept, listed)
        drawn = _write_masks(paths["masks.npz"], config, len(kept["test"]), dataset)
        paths["skipped.csv"].write_bytes(files.as_csv(listed))
        hashes["masks.npz"] = files.text_sha256(json.dumps(drawn))  # equal on all machines
        hashes["skipped.csv"] = files.file_sha256(paths["skipped.csv"])
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        (folder / "manifest.json").unlink(missing_ok=True)  # from here on there is no pack
    (folder / "unusable.csv").unlink(missing_ok=True)
    manifest = {
        "settings": settings,
        "about": source.about,
        "stands_in_for": source.stands_in_for,
        "images": {split: len(items) for split, items in kept.items()},
        "skipped": dict(Counter(listed.reason)),
        "files": {name: {"sha256": hashes[name], "bytes": sizes[name]} for name in FILES},
        "test_groups": [source.name(item) for item in kept["test"]],
        "masks": drawn,
    }
    files.write_json(folder / "manifest.json", manifest)


def npy_header(shape):
    """Return the start of a uint8 .npy file; it is equally long for any number of rows."""
    file = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


def _check_space(folder, plan, config):
    """Raise SourceError if the disk has no room for the pack."""
    needed = 3.3 * config.data.image_size**2 * (len(plan.train) + len(plan.test))  # with masks
    if (free := shutil.disk_usage(folder).free) < needed:
        room = f"the pack needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free"
        raise SourceError(f"{folder}: {room}; set INPAINT_OUTPUT to a folder on a larger one")


def _check_usable(folder, dataset, plan, kept, listed):
    """Raise SourceError if too many files are unusable, or a split has no image left."""
    bad = listed[(listed.split != "") & (listed.reason != "duplicate")]
    if len(bad) > BAD * (len(plan.train) + len(plan.test)):
        files.write_csv(folder / "unusable.csv", listed)
        what = f"{dataset}: more than {BAD:.0%} of the files cannot be used ({_count(bad)})"
        raise SourceError(f"{what}: repair or remove those listed in {folder / 'unusable.csv'}")
    for split, items in kept.items():
        if not items:
            why = f"no usable image is left for {split}ing ({_count(listed)})"
            raise SourceError(f"{dataset}: {why}")


def _count(listed):
    return ", ".join(f"{n} {reason}" for reason, n in Counter(listed.reason).items())


def _read(config, dataset, plan):
    """Yield (split, item, pixels or Unusable) of all images, read on all cores of this process."""
    # those for testing come first: of two equal images the one for testing is kept
    items = [("test", item) for item in plan.test] + [("train", item) for item in plan.train]
    shards = [items[k : k + SHARD_IMAGES] for k in range(0, len(items), SHARD_IMAGES)]
    options = config.data.image_size, config.data.seed
    tasks = [(dataset, [item for _, item in shard], *options) for shard in shards]
    workers = processes.pool(len(items), IMAGES_PER_WORKER, config.extensions)
    workers = workers or ThreadPoolExecutor(1)  # few images: not worth a process
    depth = DEPTH * processes.workers(len(items), IMAGES_PER_WORKER)
    try:
        results = processes.in_order(workers, sources.read_images, tasks, depth)
        with tqdm(total=len(items), desc=dataset, unit="image", leave=False) as bar:
            for shard, found in zip(shards, results, strict=True):
                for (split, item), pixels in zip(shard, found, strict=True):
                    yield split, item, pixels
                bar.update(len(shard))
    except BrokenProcessPool:
        what = f"{dataset}: a worker was killed (too little memory?); start the command again"
        raise SourceError(what) from None
    finally:
        workers.shutdown(cancel_futures=True)


def _write_images(paths, config, source, images):
    """Write the images -> {split: items}, {file: SHA-256}, [(split, name, reason, detail)]."""
    size, named, skipped = config.data.image_size, {}, []
    kept = {"train": [], "test": []}
    hashes = {f"{split}.npy": hashlib.sha256() for split in kept}
    with contextlib.ExitStack() as stack:
        opened = {name: stack.enter_context(open(paths[name], "wb")) for name in hashes}
        for file in opened.values():
            file.write(npy_header((0, size, size, 3)))
        for split, item, pixels in images:
            if source.distinct and not isinstance(pixels, Unusable):
                digest = hashlib.sha256(pixels).digest()
                if digest in named:
                    pixels = Unusable("duplicate", f"same pixels as {named[digest]}")
                else:
                    named[digest] = source.name(item)
            if isinstance(pixels, Unusable):
                skipped.append((split, source.name(item), pixels.reason, pixels.detail))
                continue
            opened[f"{split}.npy"].write(pixels)
            hashes[f"{split}.npy"].update(pixels)
            kept[split].append(item)
        for split, items in kept.items():
            opened[f"{split}.npy"].seek(0)
            opened[f"{split}.npy"].write(npy_header((len(items), size, size, 3)))
    return kept, {name: found.hexdigest() for name, found in hashes.items()}, skipped


def _write_masks(path, config, count, dataset):
    """Write the frozen masks of `count` test images as bits -> what the manifest says of them."""
    data, widths, described = config.data, config.curriculum.mask_widths, {}
    sets = [(family, width) for family in masks.FAMILIES for width in widths]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for family, width in tqdm(sets, f"{dataset} masks", unit="set", leave=False):
            drawn = masks.frozen(family, count, width, data.image_size, data.mask_seed)
            with archive.open(f"{family}_{width}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.packbits(drawn.reshape(count, -1), axis=1))
            described[f"{family}_{width}"] = {
                "sha256": hashlib.sha256(drawn).hexdigest(),
                "hole_fraction": round(float(drawn.mean()), 6),
            }
    return described
