"""The data sets, one entry of `DATASETS` each; extensions may add entries.

`faces` and `clutter` need no download and replace `celeba` and `coco`, which are read from
`machine.data_root` in their publishers' layout, unpacked or zipped.
"""

import hashlib
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import clutter, containers, faces, images
from .containers import SourceError
from .drawing import TEST_FROM
from .images import Unusable

MISSING = 0.1  # with a larger share of its files missing, CelebA was not fully unpacked
FOREIGN = ".heic .heif .avif .jxl .jp2 .psd .dng .cr2 .cr3 .nef .arw .raf .orf .rw2".split()
PLACES = "", "celeba", "CelebA", "coco", "COCO", "images", "coco/images", "COCO/images"
LISTS = "list_eval_partition.txt", "list_eval_partition.csv"
PARTS = {
    "celeba": (LISTS, ("img_align_celeba.zip", "img_align_celeba")),
    "coco": (("train2014.zip", "train2014"), ("val2014.zip", "val2014")),
}  # a complete archive first: its folder may be partly unpacked
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= dict.fromkeys(("val", "valid", "validation"), "val")
CELEBA = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


@dataclass(frozen=True)
class Dataset:
    """A source of images."""

    about: str
    plan: Callable  # (config) -> Plan
    pixels: Callable  # (items, size, seed) yields (size, size, 3) uint8 or Unusable for each item
    fingerprint: Callable = lambda config: None  # -> JSON that changes if the images may have
    stands_in_for: str | None = None  # the paper's data set that this one replaces
    wanted: str = ""  # how to get and lay out the images
    licence: str = ""


@dataclass(frozen=True)
class Plan:
    """The items of each split in order, and skipped files as (name, reason, detail).

    An item is a number, or an image file as (container, name inside). missing: the share of all
    images that are not there or have a format that is not read.
    """

    train: list
    test: list
    passed_over: list | tuple = ()
    missing: float = 0.0


def find_dataset(name):
    """Return a data set's entry. Raises SourceError."""
    if name not in DATASETS:
        raise SourceError(f"no data set {name!r}: there are {', '.join(DATASETS)}")
    return DATASETS[name]


def read_pixels(dataset, items, size, seed):
    """Return a list: for every item its pixels, (size, size, 3) uint8, or Unusable."""
    found = list(find_dataset(dataset).pixels(items, size, seed))
    wanted = "uint8", (size, size, 3)
    for pixels in found:
        if not isinstance(pixels, Unusable) and (got := (pixels.dtype, pixels.shape)) != wanted:
            raise SourceError(f"{dataset}: pixels() must yield {wanted}, not {got}")
    return found


def _drawn_plan(config):
    train, test = config.data.train_images, config.data.test_images
    return Plan(list(range(train)), list(range(TEST_FROM, TEST_FROM + test)))


def read_files(items, size, seed, read=images.read_image):
    """Yield `read(path or file, size)` of each image file, or Unusable."""
    for container, name in items:
        try:
            yield read(containers.locate(container, name), size)
        except Unusable as reason:
            yield reason


def _choose(found, count, key):
    """Return `count` keys of `found`, sorted, chosen by a hash: one more file changes few."""

    def digest(name):
        return hashlib.sha256(f"{key}/{name}".encode(errors="surrogateescape")).digest()

    return sorted(sorted(found, key=digest)[:count])


def _items(container, found, count, seed):
    """Return `count` items of a container; `found` is {file name: name inside}."""
    return [(str(container), found[name]) for name in _choose(found, count, seed)]


def _root(config, dataset):
    """Return the folder data_root. Raises SourceError."""
    root = os.path.expanduser(config.machine.data_root)
    if os.path.isdir(root):
        return Path(root)
    missing = f"data set {dataset}: name its folder with --data-root DIR"
    if root:
        missing = f"data_root: there is no folder {root:.300}"
    other = "Or use the drawn data sets, which need no files: --datasets faces,clutter"
    raise SourceError(f"{missing}. {find_dataset(dataset).wanted} {other}")


def _find(config, dataset):
    """Return the paths of a data set's parts: the first complete ones below data_root."""
    root, found = _root(config, dataset), []
    for names in PARTS[dataset]:
        for path in (root / place / name for place in PLACES for name in names):
            if path.exists() and (path.suffix != ".zip" or path.is_dir() or _is_whole(path)):
                found.append(path)
                break
        else:
            missing = f"{root} has no complete {' or '.join(names)} for {dataset}"
            raise SourceError(f"data_root: {missing}. {find_dataset(dataset).wanted}")
    return found


def _is_whole(path):
    with path.open("rb") as archive:  # by a path, one that may not be read would be no archive
        return zipfile.is_zipfile(archive)


def _celeba_plan(config):
    data, (partition, container) = config.data, _find(config, "celeba")
    text = partition.read_text(encoding="utf-8-sig", errors="replace")
    rows = re.findall(r"^(\d+\.\w+)[ ,\t]+([012])\s*$", text, re.M)
    if not rows:
        raise SourceError(f"{partition}: no line like '000001.jpg 0': download the file again")
    there = containers.map_file_names(container, (".jpg", ".png"))
    missing = [(name, "not there", partition.name) for name, _ in rows if name not in there]
    test = {name: there[name] for name, part in rows if part == "1" and name in there}
    train = {name: there[name] for name, part in rows if part != "1" and name in there}
    if len(missing) > MISSING * len(rows) or not (train and test):
        found = f"holds {len(rows) - len(missing):,} of the {len(rows):,} files in {partition.name}"
        remedy = f"unpack the zip again, or keep the zip only. {find_dataset('celeba').wanted}"
        raise SourceError(f"{container}: {found}: {remedy}")
    train = _items(container, train, data.train_images, data.seed)
    test = _items(container, test, min(data.test_images, 10_000), data.seed)
    return Plan(train, test, missing, len(missing) / len(rows))


def _coco_plan(config):
    data, splits = config.data, []
    counts = data.train_images, min(data.test_images, 5_000)
    for container, count in zip(_find(config, "coco"), counts, strict=True):
        found = containers.map_file_names(container, (".jpg",))
        if not found:
            raise SourceError(f"{container}: no .jpg file in it. {find_dataset('coco').wanted}")
        splits.append(_items(container, found, count, data.seed))
    return Plan(*splits)


def _part(name):
    """Return "train", "test" or "val" for an image in a folder of such a name, else ""."""
    found = [SPLITS[folder] for folder in name.lower().split("/")[:-1] if folder in SPLITS]
    return found[0] if found else ""


def _folder_plan(config):
    root, data = _root(config, "folder"), config.data
    return plan_folder(root, "data_root", data.seed, data.train_images, data.test_images)


def plan_folder(root, key, seed, most_train=None, most_test=None):
    """Return the Plan of a folder of images, split by seed, or by folders train/ and test/ in it.

    With test/ alone, all other images train. key: the setting that names the folder, for messages.
    Raises SourceError.
    """
    there = containers.list_names(root)
    names = [name for name in there if name.lower().endswith(images.SUFFIXES)]
    passed_over = [
        (name, "format not read", os.path.splitext(name)[1].lower())
        for name in sorted({*there} - {*names})
    ]
    foreign = sum(suffix in FOREIGN for _, _, suffix in passed_over)
    if len(names) < 2:
        found = f"{root} holds {len(names)} images ({', '.join(images.SUFFIXES)})"
        raise SourceError(f"{key}: {found}: at least two are needed")
    parts = {part: [n for n in names if _part(n) == part] for part in ("train", "test", "val", "")}
    test = parts["test"] or parts["val"]
    train = parts["train"] or (parts[""] if test else [])
    if train and test:
        left_out = sorted({*names} - {*train, *test})
        passed_over += [(name, "in no folder for training or testing", "") for name in left_out]
    elif parts[""]:
        count = min(most_test or len(names), max(1, len(names) // 5))
        test = _choose(names, count, f"test {seed}")
        train = {*names} - {*test}
    else:
        alone = f"all images of {root} are in a folder for training, or all in one for testing"
        how = "add a folder for the other part, or rename this one, and images are split by seed"
        raise SourceError(f"{key}: {alone}: {how}")
    items = []
    for split, of, most in (("train", train, most_train), ("test", test, most_test)):
        chosen = _choose(of, most, seed)
        passed_over += [
            (name, f"more than data.{split}_images", "") for name in sorted({*of} - {*chosen})
        ]
        items.append([(str(root), name) for name in chosen])
    return Plan(*items, passed_over, foreign / (foreign + len(names)))


def download(dataset, root):
    """Print a data set's licence, then download it into `root`. Raises SourceError."""
    source = find_dataset(dataset)
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
    "faces": Dataset("procedurally drawn faces", _drawn_plan, faces.draw, stands_in_for="CelebA"),
    "clutter": Dataset(
        "procedurally drawn piles of shapes with the textures of photographs; the right third of "
        "each photograph is held out for testing",
        _drawn_plan,
        clutter.draw,
        stands_in_for="MSCOCO",
    ),
    "celeba": Dataset(
        "aligned CelebA (Liu et al. 2015): testing on its validation part, training on the others",
        _celeba_plan,
        read_files,
        lambda config: containers.fingerprint(*_find(config, "celeba")),
        wanted="DIR or DIR/celeba must hold list_eval_partition.txt and img_align_celeba/ or "
        f"img_align_celeba.zip, from {CELEBA}, or by --download.",
        licence=f"CelebA is for non-commercial research only; its agreement: {CELEBA}",
    ),
    "coco": Dataset(
        "MSCOCO 2014 (Lin et al. 2014): training on train2014, testing on 5,000 of val2014",
        _coco_plan,
        read_files,
        lambda config: containers.fingerprint(*_find(config, "coco")),
        wanted="DIR or DIR/coco must hold train2014/ and val2014/, or train2014.zip and "
        "val2014.zip, from https://cocodataset.org/#download (13 GB and 6 GB).",
        licence="COCO's images have Flickr licences: https://cocodataset.org/#termsofuse",
    ),
    "folder": Dataset(
        "a folder of images",
        _folder_plan,
        read_files,
        lambda config: containers.fingerprint(_root(config, "folder")),
        wanted="DIR must hold images, at any depth; they are split by seed, one in five for "
        "testing, or by folders train/ and test/ (or val/).",
    ),
}
