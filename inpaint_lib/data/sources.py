"""The data sets: where each one's images are, which of them train and which test, and how their pixels are read.

`faces` (drawn, faces.py) and `scenes` (crops of photographs in the wheels) need no download and stand in for `celeba` and
`coco`, which are read from `data_root` in their publishers' layout, unpacked or zipped; `folder` is any tree of images there.
Worker processes import this module: it stays free of torch.
"""

import hashlib
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..study.command import printable
from . import containers, images, scenes
from .containers import SourceError
from .images import Unusable

TEST_FACES_FROM = 1_000_000_000  # test faces have numbers no training face reaches


@dataclass(frozen=True)
class Dataset:
    """A source of images.

    `plan(config)` -> Plan. `pixels(items, size, seed)` yields, for every item, (size, size, 3) uint8 or Unusable.
    `fingerprint(config)` changes whenever the images might have. `name(item)` is the file or photograph an image comes from.
    `distinct`: an image whose pixels occurred before is left out. `code` are the files that decide the pixels; `wanted` says
    how to get and lay out the images.
    """

    about: str
    plan: object
    pixels: object
    fingerprint: object
    name: object
    stands_in_for: str | None = None
    distinct: bool = True
    code: tuple = ("inpaint_lib/data/images.py", "inpaint_lib/data/containers.py")
    wanted: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Plan:
    """What a pack is to hold: the items of each split in order, and files passed over as (name, reason, detail)."""

    train: list
    test: list
    passed_over: tuple = ()


def write_shard(dataset, items, size, seed, path, offset):
    """Read images and write their pixels into a file at `offset` -> (CRC-32 of every image or None, [(row, reason, detail)]).

    Rows that could not be read are black.
    """
    sums, unusable = [], []
    with open(path, "r+b") as file:
        file.seek(offset)
        for k, pixels in enumerate(DATASETS[dataset].pixels(items, size, seed)):
            if isinstance(pixels, Unusable):
                unusable.append((k, pixels.reason, pixels.detail))
                sums.append(None)
                pixels = np.zeros((size, size, 3), np.uint8)
            else:
                pixels = np.ascontiguousarray(pixels)
                sums.append(zlib.crc32(pixels))
            file.write(pixels)
    return sums, unusable


# --- faces and scenes


def _face_plan(config):
    return Plan(list(range(config.train_images)), list(range(TEST_FACES_FROM, TEST_FACES_FROM + config.test_images)))


def _face_pixels(items, size, seed):
    from . import faces  # needs torch

    return iter(faces.draw(items, size, seed))


def _scene_plan(config):
    return Plan(*(scenes.items(split, getattr(config, f"{split}_images"), config.data_seed, config.image_size)
                  for split in ("train", "test")))  # fmt: skip


# --- image files; an item is (container, name)


def _file_pixels(items, size, seed):
    for container, name in items:
        try:
            zipped = containers.zipfile_at(container)
            yield images.read(containers.member(container, name) if zipped else Path(container, name), size)
        except Unusable as reason:
            yield reason


def choose(names, count, key):
    """`count` of the names, chosen by hashing each with `key`, in sorted order; adding a file changes little."""
    if count < len(names):
        names = sorted(names, key=lambda n: hashlib.sha256(f"{key}/{n}".encode(errors="surrogateescape")).digest())[:count]
    return sorted(names)


def _places(config, dataset, *inside):
    """Folders below data_root that may hold the data set. Raises SourceError if there is no data_root."""
    cure = f"{DATASETS[dataset].wanted} Or take the embedded data: --datasets faces,scenes"
    if not config.data_root:
        raise SourceError(f"data set {dataset}: say where its images are with --data-root DIR. {cure}")
    root = Path(os.path.expanduser(config.data_root))
    if not os.path.isdir(root):
        raise SourceError(f"data_root: there is no folder {root}. {cure}")
    return [place for place in (root, *(root / name for name in inside)) if place.is_dir()]


def _first(config, dataset, places, *names):
    """The first of `names` that exists in one of `places`."""
    for place in places:
        for name in names:
            path, kind = place / name, Path(name).suffix
            if zipfile.is_zipfile(path) if kind == ".zip" else path.is_file() if kind else path.is_dir():
                return path
    raise SourceError(
        f"data_root: {config.data_root} has no whole {' or '.join(names)} for {dataset}. {DATASETS[dataset].wanted}"
    )


# --- CelebA (Liu et al. 2015)


def _celeba(config):
    places = _places(config, "celeba", "celeba", "CelebA")
    partition = _first(config, "celeba", places, "list_eval_partition.txt", "list_eval_partition.csv")
    return partition, _first(config, "celeba", places, "img_align_celeba", "img_align_celeba.zip")


def _celeba_plan(config):
    partition, container = _celeba(config)
    rows = re.findall(r"^(\d+\.\w+)[ ,\t]+([012])\s*$", partition.read_text(encoding="utf-8-sig", errors="replace"), re.M)
    if not rows:
        raise SourceError(f"{partition}: no line like '000001.jpg 0'; get the file from CelebA's site again")
    there = containers.by_file_name(container, (".jpg", ".png"))  # some copies have a folder more
    train, test = ({name: there[name] for name, p in rows if p in parts and name in there} for parts in ("02", "1"))
    if not (train and test):
        found = f"holds {len(train) + len(test):,} of the {len(rows):,} files in {partition.name}"
        raise SourceError(f"{container}: {found}. {DATASETS['celeba'].wanted}")
    plan = _file_plan(config, container, train, container, test, 10_000)
    return Plan(plan.train, plan.test, tuple((name, "not there", partition.name) for name, _ in rows if name not in there))


def _file_plan(config, train_container, train, test_container, test, at_most):
    """At most as many files as the configuration allows; `train` and `test` are {name: path in its container}."""
    return Plan(
        [(str(train_container), train[n]) for n in choose(train, config.train_images, config.data_seed)],
        [(str(test_container), test[n]) for n in choose(test, min(config.test_images, at_most), config.data_seed)],
    )


# --- COCO (Lin et al. 2014)


def _coco(config):
    places = _places(config, "coco", "coco", "COCO", "coco/images", "COCO/images", "images")
    return [_first(config, "coco", places, part, f"{part}.zip") for part in ("train2014", "val2014")]


def _coco_plan(config):
    train, test = _coco(config)
    names = [containers.by_file_name(container, ".jpg") for container in (train, test)]
    for container, found in zip((train, test), names, strict=True):
        if not found:
            raise SourceError(f"{container}: no .jpg file in it. {DATASETS['coco'].wanted}")
    return _file_plan(config, train, names[0], test, names[1], 5_000)


# --- any folder

TRAINING, TESTING = ("train", "training"), ("test", "testing", "val", "valid", "validation")  # the first that is there


def _folder(config):
    return _places(config, "folder")[0]


def _split_folders(root, names, above=""):
    """What the names of training and of test images begin with, where two folders so named lie beside each other: in the root,
    or in a folder that all images lie in. Else None."""
    with os.scandir(root / above) as entries:
        there = sorted(e.name for e in entries if e.is_dir() and not containers.system(e.name))
    if len(there) == 1 and all(name.startswith(f"{above}{there[0]}/") for name in names):
        return _split_folders(root, names, f"{above}{there[0]}/")
    found = [next((f"{above}{t}/" for k in kinds for t in there if t.lower() == k), None) for kinds in (TRAINING, TESTING)]
    return found if all(found) else None


def _folder_plan(config):
    root = _folder(config)
    names, other = [], []
    for name in containers.every_name(root):
        usable, own = Path(name).suffix.lower() in images.SUFFIXES, not containers.system(name)
        if usable and own:
            names.append(name)
        elif own or usable:
            why = "not an image by its name" if own else "hidden, or the system's: a thumbnail or a copy"
            other.append((name, why, Path(name).suffix))
    if parts := _split_folders(root, names):
        split = {k: [n for n in names if n.startswith(part)] for k, part in zip(("train", "test"), parts, strict=True)}
        other += [(n, f"outside {parts[0]} and {parts[1]}", "") for n in names if not n.startswith(tuple(parts))]
        if empty := [part for part, found in zip(parts, split.values(), strict=True) if not found]:
            raise SourceError(f"data_root: {root / empty[0]} holds no image; fill it, or rename it for a split by seed")
    else:
        test = choose(names, min(config.test_images, max(1, len(names) // 5)), f"test {config.data_seed}")
        split = {"train": sorted(set(names) - set(test)), "test": test}
    if not split["train"]:
        hidden = sum(why != "not an image by its name" for _, why, _ in other)
        raise SourceError(
            f"data_root: {root} holds {len(names)} images ({', '.join(sorted(images.SUFFIXES))}): two or more are needed"
            + f"; {hidden} hidden or the system's were passed over" * (hidden > 0)
        )
    plan = _file_plan(config, root, {n: n for n in split["train"]}, root, {n: n for n in split["test"]}, len(names))
    return Plan(plan.train, plan.test, tuple(other))


def _file_name(item):
    """A file's name, printable whatever bytes it is made of."""
    return printable(item[1])


DATASETS = {
    "faces": Dataset(
        "procedurally drawn faces", _face_plan, _face_pixels, lambda config: None, lambda item: f"face {item}", "CelebA",
        code=("inpaint_lib/data/faces.py",),
    ),
    "scenes": Dataset(
        "crops of eight photographs; the right third of each is held out for testing",
        _scene_plan, lambda items, size, seed: scenes.pixels(items, size), lambda config: scenes.fingerprint(),
        lambda item: item[0], "MSCOCO", distinct=False, code=("inpaint_lib/data/scenes.py",),
    ),
    "celeba": Dataset(
        "CelebA, aligned and cropped (Liu et al. 2015): training on its training and test partitions, testing on up to 10,000 "
        "images drawn from its validation partition; no person is in both",
        _celeba_plan, _file_pixels, lambda config: containers.stamp(*_celeba(config)), _file_name,
        wanted="DIR or DIR/celeba must hold list_eval_partition.txt and img_align_celeba/ or img_align_celeba.zip, from "
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, or by --download.",
        licence="CelebA is for non-commercial research only; its agreement: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    ),
    "coco": Dataset(
        "MSCOCO 2014 (Lin et al. 2014): training on train2014, testing on up to 5,000 images drawn from val2014",
        _coco_plan, _file_pixels, lambda config: containers.stamp(*_coco(config)), _file_name,
        wanted="DIR or DIR/coco must hold train2014/ and val2014/, or train2014.zip and val2014.zip, from "
        "https://cocodataset.org/#download (13 GB and 6 GB; annotations are not needed).",
        licence="COCO's images are under their photographers' Flickr licences: https://cocodataset.org/#termsofuse",
    ),
    "folder": Dataset(
        "a folder of images", _folder_plan, _file_pixels, lambda config: containers.stamp(_folder(config)), _file_name,
        wanted="DIR must hold images, at any depth; they are split by seed, one in five for testing, or by their sub-folders "
        "train/ and test/ (or val/) if it has both.",
    ),
}  # fmt: skip


def download(dataset, root):
    """Fetch a data set into `root`, by the library that offers it; its licence is printed first. Raises SourceError."""
    source = DATASETS[dataset]
    if dataset != "celeba":
        raise SourceError(f"--download: no library offers {dataset}. {source.wanted or 'It needs none.'}")
    print(f"{source.licence}\ndownloading CelebA (1.4 GB) to {Path(root, 'celeba')}", flush=True)
    from torchvision.datasets import CelebA  # downloads with gdown

    try:
        CelebA(root, split="all", download=True)
    except Exception as error:  # network, quota, checksum: the library has no common class for them
        reason = " ".join(str(error).split())[:300]
        raise SourceError(f"--download: CelebA could not be fetched ({reason}). {source.wanted}") from None
