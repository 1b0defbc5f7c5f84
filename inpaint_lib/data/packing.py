"""Write a pack: its files under temporary names, then all renamed, then manifest.json."""

import contextlib
import hashlib
import io
import itertools
import json
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import masks
from ..study import files, processes
from ..study.command import make_printable
from . import sources
from .images import Unusable
from .sources import SourceError

FILES = "train.npy", "test.npy", "masks.npz"
SHARD_IMAGES = 32  # of one task of a worker
IMAGES_PER_WORKER = 1000  # fewer are read faster than another process starts
DEPTH = 3  # shards read ahead for each worker
OWN = f"{masks.FOLDER}_train"  # the user's training masks, as bits, by growing area
BAD = 0.1  # with a larger share of unusable files something is wrong with the source


def write_pack(folder, config, dataset, plan, settings, own=None):
    """Write a pack's files and its manifest into `folder`. own: the user's masks, if any.

    Raises SourceError if too many images are unusable; the earlier pack then stays.
    """
    size, counts, hashes, rows, named = config.data.image_size, {}, {}, [], {}
    with contextlib.ExitStack() as stack:
        paths = {name: stack.enter_context(files.replace(folder / name)) for name in FILES}
        images = read_items(config, dataset, [*plan.test, *plan.train])
        stack.enter_context(contextlib.closing(images))
        # test images come first: of two equal images the test image is kept
        for split, items in (("test", plan.test), ("train", plan.train)):
            name, part = f"{split}.npy", itertools.islice(images, len(items))
            counts[split], hashes[name], skipped = _write_split(paths[name], size, part, named)
            rows += [(split, *row) for row in skipped]
        rows += [("", make_printable(name), *why) for name, *why in plan.passed_over]
        listed = pd.DataFrame(rows, columns=["split", "file", "reason", "detail"])
        files.write_csv(folder / "skipped.csv", listed)
        lists = f"{folder / 'skipped.csv'} lists them"
        check_usable(dataset, counts, listed, plan.missing, lists)
        drawn = _write_masks(paths["masks.npz"], config, counts["test"], dataset, own)
        hashes["masks.npz"] = files.hash_text(json.dumps(drawn))  # equal on all machines
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        (folder / "manifest.json").unlink(missing_ok=True)  # from here on there is no pack
    source = sources.find_dataset(dataset)
    manifest = {
        "settings": settings,
        "about": source.about,
        "stands_in_for": source.stands_in_for,
        "images": counts,
        "files": {name: {"sha256": hashes[name], "bytes": sizes[name]} for name in FILES},
        "masks": drawn,
    }
    files.write_json(folder / "manifest.json", manifest)


def make_npy_header(shape):
    """Return the header of a uint8 .npy file; its length does not depend on the number of rows."""
    file = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


def check_usable(name, counts, listed, missing, lists):
    """Raise SourceError if too many files are unusable, or a split has no image left.

    missing: the share of files that no plan has; lists: words that say where the files are listed.
    """
    bad = sum((listed.split != "") & (listed.reason != "duplicate"))
    if bad > (BAD - missing) * (bad + sum(counts.values())) or not all(counts.values()):
        why = ", ".join(f"{n} {reason}" for reason, n in Counter(listed.reason).items())
        left = f"{counts['train']} images for training and {counts['test']} for testing"
        remedy = f"at most {BAD:.0%} may be unusable or missing; {lists}"
        raise SourceError(f"{name}: {left} can be used ({why}): {remedy}")


def read_items(config, dataset, items, function=None):
    """Yield (item, pixels or Unusable) of all items, read on all cores.

    function: reads a shard, by default sources.read_pixels. Raises SourceError if a worker is
    killed.
    """
    shards = [items[k : k + SHARD_IMAGES] for k in range(0, len(items), SHARD_IMAGES)]
    tasks = [(dataset, shard, config.data.image_size, config.data.seed) for shard in shards]
    workers = processes.create_pool(len(items), IMAGES_PER_WORKER, config.extensions)
    workers = workers or ThreadPoolExecutor(1)  # few images: not worth a process
    depth = DEPTH * processes.count_workers(len(items), IMAGES_PER_WORKER)
    try:
        results = processes.run_in_order(workers, function or sources.read_pixels, tasks, depth)
        with tqdm(total=len(items), desc=dataset, unit="image", leave=False, delay=1) as bar:
            for shard, found in zip(shards, results, strict=True):
                yield from zip(shard, found, strict=True)
                bar.update(len(shard))
    except BrokenProcessPool:
        what = f"{dataset}: a worker was killed (too little memory?): start the command again"
        raise SourceError(what) from None
    finally:
        workers.shutdown(cancel_futures=True)


def _write_split(path, size, images, named):
    """Write the usable images; return their number and SHA-256, and the others.

    named: {digest of an image's pixels: name}; others: a list of (name, reason, detail).
    """
    count, pixels_hash, skipped = 0, hashlib.sha256(), []
    with open(path, "wb") as file:
        file.write(make_npy_header((0, size, size, 3)))
        for item, pixels in images:
            name = make_printable(item[1]) if isinstance(item, tuple) else str(item)
            if isinstance(pixels, Unusable):
                skipped.append((name, pixels.reason, pixels.detail))
                continue
            raw = pixels.tobytes()
            digest = hashlib.sha256(raw).digest()
            if digest in named:
                skipped.append((name, "duplicate", f"same pixels as {named[digest]}"))
                continue
            named[digest] = name
            file.write(raw)
            pixels_hash.update(raw)
            count += 1
        file.seek(0)
        file.write(make_npy_header((count, size, size, 3)))
    return count, pixels_hash.hexdigest(), skipped


def _write_masks(path, config, count, dataset, own):
    """Write the frozen masks of `count` test images as bits, and the user's training masks.

    Return their entries of the manifest.
    """
    data, widths, described = config.data, config.curriculum.mask_widths, {}
    sets = [(family, width) for family in masks.FAMILIES for width in widths]
    test = own.test if own else None
    if own:
        near = [width for width in (0, *widths) if test.number(width)]  # 0: of any area
        sets += [(masks.FOLDER, width) for width in near]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for family, width in tqdm(sets, f"{dataset} masks", unit="set", leave=False):
            drawn = masks.draw_test_masks(
                family, count, width, data.image_size, data.mask_seed, test
            )
            name, bits = f"{family}_{width}", np.packbits(drawn.reshape(count, -1), axis=1)
            described[name] = _store(archive, name, bits, drawn, float(drawn.mean()))
        if own:
            bits, share = own.train.bits.numpy(), float(own.train.areas.mean()) / data.image_size**2
            numbers = {"train": len(bits), "test": len(test.areas), "turned": own.train.turned}
            described[OWN] = _store(archive, OWN, bits, bits, share) | numbers | {"widths": near}
    return described


def _store(archive, name, bits, hashed, hole_fraction):
    """Write an array into an archive; return its entry of the manifest."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, bits)
    digest = hashlib.sha256(hashed).hexdigest()
    return {"sha256": digest, "hole_fraction": round(hole_fraction, 6)}
