"""Data sets packed once into memory-mapped uint8 arrays, and the frozen test masks beside them.

    runs/<profile>/<dataset>/data/   train.npy  test.npy  masks.npz  skipped.csv  manifest.json

Images are read shard by shard by worker processes. A finished shard goes into a journal, so that after a kill only the shards
in work are read again. manifest.json is written last: it says what the pack was made from, and without it there is no pack.
"""

import concurrent.futures as futures
import functools
import hashlib
import json
import os
import shutil
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .. import masks
from ..study import files, grid, processes, provenance
from . import sources
from .sources import DATASETS, SourceError

KEYS = ("image_size", "train_images", "test_images", "data_seed", "mask_seed", "mask_widths")  # of the configuration
SHARD_IMAGES = 64  # what a kill costs a worker
IMAGES_PER_WORKER = 1000  # another process pays off for each so many
HEADER = 128  # bytes before the pixels in a .npy file
BAD = 0.1  # with a larger share of unusable files something is wrong with the source


@dataclass(frozen=True)
class Pack:
    """A prepared data set: `train` and `test` are (N, H, W, 3) uint8, memory-mapped; `manifest` says what they are."""

    folder: Path
    manifest: dict
    train: np.ndarray
    test: np.ndarray

    def test_masks(self, family, width, images=slice(None)):
        """The frozen masks of the test images, or of those that `images` picks: (N, H, W) uint8, 1 = hole. Raises KeyError
        for a set that was not drawn."""
        with np.load(self.folder / "masks.npz") as stored:
            bits = stored[f"{family}_{width}"][images]
        height, breadth = self.test.shape[1:3]
        return np.unpackbits(bits, axis=1, count=height * breadth).reshape(-1, height, breadth)

    def skipped(self):
        """The files that were left out: a DataFrame of split, file, reason, detail."""
        return pd.read_csv(self.folder / "skipped.csv", keep_default_na=False)


def prepare(study, dataset):
    """Return the data set's Pack, making it first unless one of the same settings and the same source lies there.

    Raises sources.SourceError if the images are not there, cannot be used or do not fit on the disk, and
    provenance.SettingsChanged as `check` does.
    """
    folder, config = study.data_folder(dataset), study.config
    wanted = settings_of(config, dataset)
    with files.locked(folder):
        if pack := _current(folder, wanted):
            return pack
        check(study, dataset)
        with files.writing(folder / "manifest.json"):
            manifest = _pack(config, dataset, folder, wanted)
        files.write_json(folder / "manifest.json", manifest)
    return _open(folder)


def current(study, dataset):
    """The data set's Pack if it is whole and of today's settings and source, else None."""
    return _current(study.data_folder(dataset), settings_of(study.config, dataset))


def _current(folder, wanted):
    pack = _open(folder)
    return pack if pack and pack.manifest["settings"] == wanted else None


def check(study, dataset):
    """Raise provenance.SettingsChanged if runs were trained on a pack of another configuration: theirs would be overwritten."""
    manifest = files.read_json(study.data_folder(dataset) / "manifest.json")
    settings = manifest.get("settings") if isinstance(manifest, dict) else None  # whatever damage made of it
    if isinstance(settings, dict) and trained_on(study, dataset):
        made, what = {key: settings.get(key) for key in KEYS}, f"data set {dataset} of profile {study.profile}"
        provenance.refuse_other(f"{what}, on which runs were trained,", made, _configured(study.config))


def trained_on(study, dataset):
    """The folders of the runs, of this grid or another, that were trained on the data set."""
    return [folder for folder in sorted((study.folder / dataset).glob("*/*/seed*")) if grid.holds_work(folder)]


def existing(study, dataset):
    """The data set's Pack as it lies on disk, whatever has become of its source. Raises FileNotFoundError."""
    if pack := _open(study.data_folder(dataset)):
        return pack
    raise FileNotFoundError(f"data set {dataset} of profile {study.profile} is not prepared: ./run_all.sh {study.profile}")


def _open(folder):
    """The Pack that lies there, or None where there is none or one of its files is not what the manifest says."""
    manifest = files.read_json(folder / "manifest.json")
    try:
        side = manifest["settings"]["image_size"]
        whole = all(os.path.getsize(folder / name) == entry["bytes"] for name, entry in manifest["files"].items())
        splits = {name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="r") for name in ("train", "test")}
        for name, split in splits.items():
            whole &= split.dtype == np.uint8 and split.shape == (manifest["images"][name], side, side, 3)
        return Pack(folder, manifest, **splits) if whole else None
    except Exception:  # a damaged file can fail in any layer of its reader
        return None


def settings_of(config, dataset):
    """What a pack depends on: sizes, seeds, the code that makes it, and a fingerprint of the source (not where it lies)."""
    if dataset not in DATASETS:
        raise SourceError(f"dataset: no {dataset!r}; there are: {', '.join(DATASETS)}")
    settings = {"dataset": dataset} | _configured(config)
    common = ("inpaint_lib/data/packs.py", "inpaint_lib/data/sources.py", "inpaint_lib/masks.py", "inpaint_lib/rng.py")
    settings["code"] = provenance.code_digest(*common, *DATASETS[dataset].code)
    settings["source"] = DATASETS[dataset].fingerprint(config)
    return json.loads(json.dumps(settings))


def _configured(config):
    return json.loads(json.dumps({key: getattr(config, key) for key in KEYS}))


def _pack(config, dataset, folder, settings):
    source, size = DATASETS[dataset], config.image_size
    plan = source.plan(config)
    key = files.text_sha256(json.dumps([settings, plan.train, plan.test]))[:12]
    for left in folder.glob(".t*.partial*"):  # of other settings
        if key not in left.name:
            left.unlink()
    splits = {split: _Split(folder / f".{split}.{key}.partial", getattr(plan, split), size) for split in ("test", "train")}
    _check_space(folder, splits, config)

    with tqdm(total=len(plan.test) + len(plan.train), desc=dataset, unit="image", leave=False) as bar:
        try:
            _fill(splits, dataset, config, bar)
        except _TooManyBad:
            skipped = _skipped(splits, source, plan)
            files.write_csv(folder / "unusable.csv", skipped)  # what there was before stays as it is
            for split in splits.values():
                split.remove()
            raise SourceError(
                f"{dataset}: more than {BAD:.0%} of the files cannot be used "
                f"({_reasons(skipped[skipped.split != ''])}; for example {skipped.file.iloc[0]}). "
                f"Mend or remove them; they are listed in {folder / 'unusable.csv'}"
            ) from None

    # what was read before is left out; images of the test set come first, so none of them is trained on
    seen = {}
    for split in splits.values():
        if source.distinct:
            split.leave_out_duplicates(seen, source.name)
    skipped = _skipped(splits, source, plan)
    rows = {name: split.compact() for name, split in splits.items()}
    for name, kept in rows.items():
        if not kept:
            raise SourceError(f"{dataset}: no usable image is left for the {name} split ({_reasons(skipped)})")
    (folder / "manifest.json").unlink(missing_ok=True)  # from here to its rewriting there is no pack
    with futures.ThreadPoolExecutor() as pool:  # hashing leaves the interpreter free
        digests = {f"{name}.npy": pool.submit(split.finish) for name, split in splits.items()}
        drawn = _write_masks(folder / "masks.npz", config, len(rows["test"]), dataset)
        digests = {name: digest.result() for name, digest in digests.items()}
    files.write_csv(folder / "skipped.csv", skipped)
    for name, split in splits.items():
        os.replace(split.path, folder / f"{name}.npy")
        split.remove()
    digests["skipped.csv"] = files.file_sha256(folder / "skipped.csv")
    digests["masks.npz"] = files.text_sha256(json.dumps(drawn))  # of the masks: compressed, equal ones differ between machines
    return {
        "settings": settings,
        "about": source.about,
        "stands_in_for": source.stands_in_for,
        "images": {name: len(kept) for name, kept in rows.items()},
        "skipped": dict(Counter(skipped.reason)),
        "files": {name: {"sha256": d, "bytes": os.path.getsize(folder / name)} for name, d in digests.items()},
        "test_groups": [source.name(plan.test[k]) for k in rows["test"]],
        "masks": drawn,
    }


class _TooManyBad(Exception):
    pass


class _Split:
    """One split on its way into a .npy file: pixels at their final place, and a journal of what was done.

    A journal line holds its own CRC-32, a shard's number, the CRC-32 of each of its images (None if unusable) and what was
    unusable. On opening, a line counts only if it and the pixels have those sums, so whatever a kill or a power cut left is
    done again.
    """

    def __init__(self, path, items, size):
        self.path, self.items, self.shape = path, items, (size, size, 3)
        self.journal = path.with_suffix(".journal")
        self.row = size * size * 3  # bytes
        self.sums, self.unusable = [None] * len(items), {}
        self.done, self.bad = set(), 0
        path.touch()
        self._header(len(items))
        for line in self.journal.read_bytes().splitlines() if self.journal.exists() else []:
            sum_, _, entry = line.partition(b" ")
            if sum_ == b"%08x" % zlib.crc32(entry):  # else a torn line
                self._recover(*json.loads(entry))

    def missing(self):
        return [k for k in range(-(-len(self.items) // SHARD_IMAGES)) if k not in self.done]

    def items_of(self, shard):
        return self.items[shard * SHARD_IMAGES :][:SHARD_IMAGES]

    def offset_of(self, shard):
        return self._offset(shard * SHARD_IMAGES)

    def _offset(self, row):
        return HEADER + row * self.row

    def _header(self, rows):
        described = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self.shape)}
        with open(self.path, "r+b") as file:
            np.lib.format.write_array_header_1_0(file, described)  # padded to HEADER bytes
            file.truncate(self._offset(rows))

    def _recover(self, shard, sums, unusable):
        rows = range(shard * SHARD_IMAGES, shard * SHARD_IMAGES + len(sums))
        if len(sums) == len(self.items_of(shard)) and all(
            found is None or found == zlib.crc32(self.pixels(row)) for found, row in zip(sums, rows, strict=True)
        ):
            self._count(shard, sums, unusable)

    def pixels(self, row):
        with open(self.path, "rb") as file:
            file.seek(self._offset(row))
            return file.read(self.row)

    def _count(self, shard, sums, unusable):
        first = shard * SHARD_IMAGES
        self.sums[first : first + len(sums)] = sums
        self.unusable |= {first + row: (reason, detail) for row, reason, detail in unusable}
        self.bad += len(unusable)
        self.done.add(shard)

    def add(self, shard, sums, unusable):
        entry = json.dumps([shard, sums, unusable]).encode()
        with open(self.journal, "ab") as file:
            file.write(b"%08x %s\n" % (zlib.crc32(entry), entry))
        self._count(shard, sums, unusable)

    def leave_out_duplicates(self, seen, name):
        """`seen` is {CRC-32: [(name, pixels())]} of the images kept so far, to which this split's are added."""
        for row, found in enumerate(self.sums):
            if found is None:
                continue
            alike = seen.setdefault(found, [])
            first = next((name for name, pixels in alike if pixels() == self.pixels(row)), None)
            if first:
                self.unusable[row] = ("duplicate", f"same pixels as {first}")
            else:
                alike.append((name(self.items[row]), functools.partial(self.pixels, row)))

    def compact(self):
        """Close the gaps of left-out rows with the last rows -> the item of every row. May be done again after a kill:
        what it overwrites is not in use, and what it cuts off is read again."""
        kept = [row for row in range(len(self.items)) if row not in self.unusable]
        gaps = [row for row in range(len(kept)) if row in self.unusable]
        moved = dict(zip(gaps, kept[len(kept) - len(gaps) :], strict=True))
        with open(self.path, "r+b") as file:
            for gap, row in moved.items():
                file.seek(self._offset(row))
                pixels = file.read(self.row)
                file.seek(self._offset(gap))
                file.write(pixels)
        self._header(len(kept))
        return [moved.get(row, row) for row in range(len(kept))]

    def finish(self):
        """Flush the file to disk, and meanwhile digest it -> its SHA-256."""
        with open(self.path, "rb") as file, futures.ThreadPoolExecutor(1) as pool:
            flushed = pool.submit(os.fsync, file.fileno())
            digest = files.file_sha256(self.path)
            flushed.result()
        return digest

    def remove(self):
        self.path.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)


def _check_space(folder, splits, config):
    pixels = config.image_size**2
    wanted = sum(len(split.items) * split.row - split.path.stat().st_blocks * 512 for split in splits.values())
    wanted += len(splits["test"].items) * pixels // 8 * len(masks.FAMILIES) * len(config.mask_widths)
    if (free := shutil.disk_usage(folder).free) < wanted * 1.02:
        raise SourceError(
            f"{folder}: the pack needs {wanted / 1e9:.1f} GB more, the disk has {free / 1e9:.1f} GB free; set "
            "INPAINT_OUTPUT to a folder on a larger one"
        )


def _fill(splits, dataset, config, bar):
    """Read all shards that are not done yet, on all cores this process may use."""
    total = sum(len(split.items) for split in splits.values())
    tasks = {
        (split, k): (dataset, split.items_of(k), config.image_size, config.data_seed, split.path, split.offset_of(k))
        for split in splits.values()
        for k in split.missing()
    }
    todo = sum(len(items) for _, items, *_ in tasks.values())
    bar.update(total - todo)

    def take(split, shard, result):
        split.add(shard, *result)
        bar.update(len(result[0]))
        if sum(s.bad for s in splits.values()) > BAD * total:
            raise _TooManyBad

    pool = processes.pool(todo, IMAGES_PER_WORKER)
    if pool is None:
        for task, arguments in tasks.items():
            take(*task, sources.write_shard(*arguments))
        return
    try:
        waiting = {pool.submit(sources.write_shard, *arguments): task for task, arguments in tasks.items()}
        for done in futures.as_completed(waiting):
            take(*waiting.pop(done), done.result())
    except futures.process.BrokenProcessPool:
        raise SourceError(f"{dataset}: a worker was killed (too little memory?); the same command goes on from here") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _skipped(splits, source, plan):
    rows = [
        (name, source.name(split.items[row]), *why) for name, split in splits.items() for row, why in split.unusable.items()
    ]
    rows = sorted(rows) + [("", *passed) for passed in plan.passed_over]
    return pd.DataFrame(rows, columns=["split", "file", "reason", "detail"])


def _reasons(skipped):
    return ", ".join(f"{n} {reason}" for reason, n in Counter(skipped.reason).items())


def _write_masks(path, config, count, dataset):
    """Draw the frozen masks of `count` test images, one set at a time, as bits in an .npz -> what the manifest says of them."""
    described = {}
    sets = [(family, width) for family in masks.FAMILIES for width in config.mask_widths]
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for family, width in tqdm(sets, desc=f"{dataset} masks", unit="set", leave=False):
            drawn = masks.frozen(family, count, width, config.image_size, config.mask_seed)
            member = zipfile.ZipInfo(f"{family}_{width}.npy", date_time=(1980, 1, 1, 0, 0, 0))  # equal masks, equal bytes
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.packbits(drawn.reshape(count, -1), axis=1))
            fraction = round(float(drawn.mean()), 6)
            described[member.filename[:-4]] = {"sha256": hashlib.sha256(drawn).hexdigest(), "hole_fraction": fraction}
    return described
