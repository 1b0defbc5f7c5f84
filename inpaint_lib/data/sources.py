"""The data sets: one entry of `DATASETS` is all there is of each; extensions may add entries.

`faces` and `scenes` need no download and replace `celeba` and `coco`, which are read from
`machine.data_root` in their publishers' layout, unpacked or zipped.
"""

import hashlib
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..study.command import printable
from . import containers, faces, images, scenes
from .containers import SourceError
from .images import Unusable

TEST_FACES_FROM = 1_000_000_000  # test faces have numbers that no training face reaches
MISSING = 0.1  # with a larger share of its files missing, CelebA was not unpacked completely
PLACES = "", "celeba", "CelebA", "coco", "COCO", "images", "coco/images", "COCO/images"
LISTS = "list_eval_partition.txt", "list_eval_partition.csv"
PARTS = {
    "celeba": (LISTS, ("img_align_celeba", "img_align_celeba.zip")),
    "coco": (("train2014", "train2014.zip"), ("val2014", "val2014.zip")),
}
SPLITS = ("train", "training"), ("test", "testing", "val", "valid", "validation")
CELEBA = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


@dataclass(frozen=True)
class Dataset:
    """A source of images."""

    about: str
    plan: Callable  # (config) -> Plan
    pixels: Callable  # (items, size, seed) yields (size, size, 3) uint8 or Unusable for each item
    fingerprint: Callable  # (config) -> JSON that changes whenever the images might have
    name: Callable  # (item) -> the file or photograph that it comes from
    stands_in_for: str | None = None  # the paper's data set that this one replaces
    distinct: bool = True  # leave out images whose pixels occurred before
    wanted: str = ""  # how to get and lay out the images
    licence: str = ""


@dataclass(frozen=True)
class Plan:
    """The items of each split in order, and files passed over as (name, reason, detail)."""

    train: list
    test: list
    passed_over: list | tuple = ()


def find(name):
    """Return a data set's entry. Raises SourceError."""
    if name not in DATASETS:
        raise SourceError(f"no data set {name!r}; there are: {', '.join(DATASETS)}")
    return DATASETS[name]


def read_images(dataset, items, size, seed):
    """Return for every item its pixels, (size, size, 3) uint8, or Unusable."""
    found, wanted = list(find(dataset).pixels(items, size, seed)), ("uint8", (size, size, 3))
    for pixels in found:
        if not isinstance(pixels, Unusable) and (got := (pixels.dtype, pixels.shape)) != wanted:
            raise SourceError(f"{dataset}: pixels() must yield {wanted}, not {got}")
    return [p if isinstance(p, Unusable) else np.ascontiguousarray(p) for p in found]


def _face_plan(config):
    train, test = range(config.data.train_images), range(config.data.test_images)
    return Plan(list(train), [TEST_FACES_FROM + number for number in test])


def _scene_plan(config):
    data = config.data
    counts = ("train", data.train_images), ("test", data.test_images)
    return Plan(*(scenes.items(*count, data.seed, data.image_size) for count in counts))


def _file_pixels(items, size, seed):
    """Yield the pixels of image files; an item is (container, name inside)."""
    for container, name in items:
        try:
            yield images.read(containers.locate(container, name), size)
        except Unusable as reason:
            yield reason


def choose(names, count, key):
    """Return `count` names, sorted, chosen by a hash with `key`: one file more changes few."""
    found = {}
    for name in names:
        text = f"{key}/{name}".encode(errors="surrogateescape")
        found[hashlib.sha256(text).digest()] = name
    return sorted(found[digest] for digest in sorted(found)[:count])


def _items(container, found, count, seed):
    """Return `count` items of a container; `found` is {file name: name inside}."""
    return [(str(container), found[name]) for name in choose(found, count, seed)]


def _root(config, dataset):
    """Return the folder data_root. Raises SourceError."""
    what, root = f"data set {dataset}: name its folder with --data-root DIR", None
    if config.machine.data_root:
        root = Path(os.path.expanduser(config.machine.data_root))
        what = f"data_root: there is no folder {root}"
    if root and root.is_dir():
        return root
    remedy = f"{find(dataset).wanted} Or use the embedded data: --datasets faces,scenes"
    raise SourceError(f"{what}. {remedy}")


def _find(config, dataset):
    """Return the places of a data set's parts: the first complete ones below data_root."""
    root, found = _root(config, dataset), []
    checks = {".zip": zipfile.is_zipfile, "": os.path.isdir}
    for names in PARTS[dataset]:
        paths = [root / place / name for place in PLACES for name in names]
        there = [path for path in paths if checks.get(path.suffix, os.path.isfile)(path)]
        if not there:
            missing = f"{root} has no complete {' or '.join(names)} for {dataset}"
            raise SourceError(f"data_root: {missing}. {find(dataset).wanted}")
        found.append(there[0])
    return found


def _celeba_plan(config):
    data, (partition, container) = config.data, _find(config, "celeba")
    text = partition.read_text(encoding="utf-8-sig", errors="replace")
    rows = re.findall(r"^(\d+\.\w+)[ ,\t]+([012])\s*$", text, re.M)
    if not rows:
        raise SourceError(f"{partition}: no line like '000001.jpg 0'; download the file again")
    there = containers.by_file_name(container, (".jpg", ".png"))
    test = {name: there[name] for name, part in rows if part == "1" and name in there}
    train = {name: there[name] for name, part in rows if part != "1" and name in there}
    missing = [(name, "not there", partition.name) for name, _ in rows if name not in there]
    if len(missing) > MISSING * len(rows) or not (train and test):
        found = f"holds {len(rows) - len(missing):,} of the {len(rows):,} files in {partition.name}"
        remedy = f"unpack the zip again, or leave it alone there. {find('celeba').wanted}"
        raise SourceError(f"{container}: {found}: {remedy}")
    train = _items(container, train, data.train_images, data.seed)
    return Plan(train, _items(container, test, min(data.test_images, 10_000), data.seed), missing)


def _coco_plan(config):
    data, plan = config.data, []
    counts = data.train_images, min(data.test_images, 5_000)
    for container, count in zip(_find(config, "coco"), counts, strict=True):
        found = containers.by_file_name(container, (".jpg",))
        if not found:
            raise SourceError(f"{container}: no .jpg file in it. {find('coco').wanted}")
        plan.append(_items(container, found, count, data.seed))
    return Plan(*plan)


def _split_folders(root, names):
    """Return the folders for training and testing in the root, or in one that holds all images."""
    common = Path(os.path.commonpath([os.path.dirname(name) for name in names]))
    for above in (*reversed(common.parents), common):
        there = sorted(path.name for path in (root / above).iterdir() if path.is_dir())
        train, test = ([n for k in kinds for n in there if n.lower() == k] for kinds in SPLITS)
        if train and test:
            return [f"{(above / part[0]).as_posix()}/" for part in (train, test)]
    return None


def _folder_plan(config):
    root, data = _root(config, "folder"), config.data
    there = containers.list_names(root)
    names = [name for name in there if name.lower().endswith(images.SUFFIXES)]
    if len(names) < 2:
        found = f"{root} holds {len(names)} images ({', '.join(images.SUFFIXES)})"
        raise SourceError(f"data_root: {found}; at least two are needed")
    passed_over = [(n, "not an image by its name", "") for n in sorted({*there} - {*names})]
    if parts := _split_folders(root, names):
        train, test = ([n for n in names if n.startswith(part)] for part in parts)
        if not (train and test):
            empty = f"{root / parts[1 if train else 0]} holds no image"
            raise SourceError(f"data_root: {empty}; fill it, or rename it for a split by seed")
        outside = f"outside {parts[0]} and {parts[1]}"
        passed_over += [(n, outside, "") for n in names if not n.startswith(tuple(parts))]
    else:
        test = choose(names, min(data.test_images, max(1, len(names) // 5)), f"test {data.seed}")
        train = sorted({*names} - {*test})
    train = _items(root, {n: n for n in train}, data.train_images, data.seed)
    return Plan(train, _items(root, {n: n for n in test}, data.test_images, data.seed), passed_over)


def download(dataset, root):
    """Print a data set's licence, then download it into `root`. Raises SourceError."""
    source = find(dataset)
    if dataset != "celeba":
        raise SourceError(f"--download: no library offers {dataset}. {source.wanted}")
    print(f"{source.licence}\ndownloading CelebA (1.4 GB) to {Path(root, 'celeba')}", flush=True)
    from torchvision.datasets import CelebA  # downloads with gdown

    try:
        CelebA(root, split="all", download=True)
    except Exception as error:  # network, quota, checksum: the library has no common class
        why = " ".join(str(error).split())[:300]
        raise SourceError(f"--download: {why}. {source.wanted}") from None


DATASETS = {
    "faces": Dataset(
        "procedurally drawn faces",
        _face_plan,
        faces.draw,
        lambda config: None,
        lambda item: f"face {item}",
        stands_in_for="CelebA",
    ),
    "scenes": Dataset(
        "crops of eight photographs; the right third of each is held out for testing",
        _scene_plan,
        scenes.pixels,
        lambda config: scenes.fingerprint(),
        lambda item: item[0],
        stands_in_for="MSCOCO",
        distinct=False,
    ),
    "celeba": Dataset(
        "aligned CelebA (Liu et al. 2015): testing on its validation part, training on the others",
        _celeba_plan,
        _file_pixels,
        lambda config: containers.fingerprint(*_find(config, "celeba")),
        lambda item: printable(item[1]),
        wanted="DIR or DIR/celeba must hold list_eval_partition.txt and img_align_celeba/ or "
        f"img_align_celeba.zip, from {CELEBA}, or by --download.",
        licence=f"CelebA is for non-commercial research only; its agreement: {CELEBA}",
    ),
    "coco": Dataset(
        "MSCOCO 2014 (Lin et al. 2014): training on train2014, testing on 5,000 of val2014",
        _coco_plan,
        _file_pixels,
        lambda config: containers.fingerprint(*_find(config, "coco")),
        lambda item: printable(item[1]),
        wanted="DIR or DIR/coco must hold train2014/ and val2014/, or train2014.zip and "
        "val2014.zip, from https://cocodataset.org/#download (13 GB and 6 GB).",
        licence="COCO's images have Flickr licences: https://cocodataset.org/#termsofuse",
    ),
    "folder": Dataset(
        "a folder of images",
        _folder_plan,
        _file_pixels,
        lambda config: containers.fingerprint(_root(config, "folder")),
        lambda item: printable(item[1]),
        wanted="DIR must hold images, at any depth; they are split by seed, one in five for "
        "testing, or by their sub-folders train/ and test/ (or val/) if it has both.",
    ),
}
