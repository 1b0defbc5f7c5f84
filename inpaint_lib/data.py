"""The embedded data sets, packed once into memory-mapped uint8 arrays, and the frozen test masks beside them.

`faces` are drawn (faces.py), a stand-in for CelebA. `scenes` are crops of the photographs that the scikit-image and
scikit-learn wheels carry, a stand-in for COCO: the right third of every photograph is kept for testing. Neither needs a
download. Eight photographs do not teach a network to generalise to a ninth; test crops show unseen parts of seen places.
"""

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from . import faces, masks, runs

TEST_FACES_FROM = 1_000_000_000  # test faces have numbers no training face reaches


@dataclass(frozen=True)
class Pack:
    """A prepared data set: `train` and `test` are (N, H, W, 3) uint8, memory-mapped; `manifest` says what they are."""

    folder: Path
    manifest: dict
    train: np.ndarray
    test: np.ndarray

    def test_masks(self, family, width):
        """The frozen masks of the test images: (N, H, W) uint8, 1 = hole. Raises KeyError for a set that was not drawn."""
        with np.load(self.folder / "masks.npz") as stored:
            bits = stored[f"{family}_{width}"]
        n, height, breadth, _ = self.test.shape
        return np.unpackbits(bits, axis=1, count=height * breadth).reshape(n, height, breadth)


# --- sources: (config, split) -> iterator over chunks (n, H, W, 3) uint8, and a description for the manifest


def _faces(config, split):
    first, count = (0, config.train_images) if split == "train" else (TEST_FACES_FROM, config.test_images)
    for start in range(first, first + count, 64):
        yield faces.draw(range(start, min(start + 64, first + count)), config.image_size, config.data_seed)


def photographs():
    """The colour photographs inside the wheels, as {name: path}; one view of the stereo pair only."""
    skimage_data, sklearn_data = (
        Path(importlib.util.find_spec(package).origin).parent / folder  # located, not imported: that takes seconds
        for package, folder in (("skimage", "data"), ("sklearn", "datasets/images"))
    )
    names = ["astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "motorcycle_left.png", "rocket.jpg"]
    paths = [skimage_data / name for name in names] + [sklearn_data / "china.jpg", sklearn_data / "flower.jpg"]
    return {path.stem: path for path in paths}


def crop_boxes(height, width, split, count, rng, size):
    """`count` square crops of one photograph, (count, 3) as top, left, side: several scales, wholly inside the split's part.

    The right third is for testing, the rest for training. Sides are 100, 80 and 64 % of the largest square that fits the
    test part, but not below `size` where the part allows it, so both splits show things at the same scales.
    """
    border = width - width // 3
    left, right = (0, border) if split == "train" else (border, width)
    largest = min(height, width // 3)
    sides = np.minimum(largest, np.maximum(size, (largest * rng.choice([1.0, 0.8, 0.64], count)).astype(int)))
    top = rng.integers(0, height - sides, endpoint=True)
    return np.stack([top, rng.integers(left, right - sides, endpoint=True), sides], axis=1)


def crop(photograph, box, size):
    """One crop, resampled with antialiasing. It is cut out first, so the filter reads no pixel outside the box."""
    from PIL import Image

    top, left, side = (int(v) for v in box)
    cut = Image.fromarray(photograph[top : top + side, left : left + side])
    return np.asarray(cut.resize((size, size), Image.Resampling.LANCZOS))


def _scenes(config, split):
    from PIL import Image

    photos = [np.asarray(Image.open(path).convert("RGB")) for path in photographs().values()]
    count = config.train_images if split == "train" else config.test_images
    boxes = [
        crop_boxes(
            *photo.shape[:2],
            split,
            -(-count // len(photos)),
            np.random.default_rng([config.data_seed, i, split == "test"]),
            config.image_size,
        )
        for i, photo in enumerate(photos)
    ]
    for start in range(0, count, 64):
        chunk = range(start, min(start + 64, count))
        yield np.stack(
            [crop(photos[i % len(photos)], boxes[i % len(photos)][i // len(photos)], config.image_size) for i in chunk]
        )


@dataclass(frozen=True)
class Dataset:
    """A source of images. `groups(n)` names what each test image was cut from, for resampling by photograph."""

    chunks: object
    about: str
    stands_in_for: str | None
    groups: object


DATASETS = {
    "faces": Dataset(_faces, "procedurally drawn faces", "CelebA", lambda n: [f"face {i}" for i in range(n)]),
    "scenes": Dataset(
        _scenes,
        "crops of eight photographs; the right third of each is held out for testing",
        "MSCOCO",
        lambda n: [list(photographs())[i % len(photographs())] for i in range(n)],
    ),
}


# --- packing


def prepare(study, dataset):
    """Return the data set's Pack, drawing it first unless one with the same settings lies there."""
    folder, config = study.data_folder(dataset), study.config
    wanted = settings_of(config, dataset)
    with runs.locked(folder):
        manifest = runs.read_json(folder / "manifest.json")
        if not manifest or manifest["settings"] != wanted or not _whole(folder, manifest):
            (folder / "manifest.json").unlink(missing_ok=True)  # from here to its rewriting there is no pack
            manifest = _pack(config, dataset, folder, wanted)
            runs.write_json(folder / "manifest.json", manifest)
    return Pack(folder, manifest, *(np.load(folder / f"{split}.npy", mmap_mode="r") for split in ("train", "test")))


def settings_of(config, dataset):
    keys = ("image_size", "train_images", "test_images", "data_seed", "mask_seed", "mask_widths")
    settings = {"dataset": dataset} | {key: getattr(config, key) for key in keys}
    settings["code"] = runs.code_digest(
        "inpaint_lib/data.py", "inpaint_lib/faces.py", "inpaint_lib/masks.py", "inpaint_lib/rng.py"
    )
    if dataset == "scenes":
        settings["photographs"] = {name: runs.file_sha256(path) for name, path in photographs().items()}
    return json.loads(json.dumps(settings))


def _whole(folder, manifest):
    return all(
        (folder / name).is_file() and os.path.getsize(folder / name) == entry["bytes"]
        for name, entry in manifest["files"].items()
    )


def _pack(config, dataset, folder, settings):
    source, size = DATASETS[dataset], config.image_size
    for split, count in (("train", config.train_images), ("test", config.test_images)):
        with (
            runs.replacing(folder / f"{split}.npy") as temporary,
            tqdm(total=count, desc=f"{dataset} {split}", unit="image", leave=False) as bar,
        ):
            array = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, size, size, 3))
            for chunk in source.chunks(config, split):
                array[bar.n : bar.n + len(chunk)] = chunk
                bar.update(len(chunk))
            array.flush()
    drawn = {
        f"{family}_{width}": masks.frozen(family, config.test_images, width, size, config.mask_seed)
        for family in masks.FAMILIES
        for width in config.mask_widths
    }
    with runs.replacing(folder / "masks.npz") as temporary:
        np.savez_compressed(temporary, **{k: np.packbits(m.reshape(len(m), -1), axis=1) for k, m in drawn.items()})
    files = {
        name: {"sha256": runs.file_sha256(folder / name), "bytes": os.path.getsize(folder / name)}
        for name in ("train.npy", "test.npy", "masks.npz")
    }
    return {
        "settings": settings,
        "about": source.about,
        "stands_in_for": source.stands_in_for,
        "files": files,
        "test_groups": source.groups(config.test_images),
        "masks": {
            k: {"sha256": hashlib.sha256(m.tobytes()).hexdigest(), "hole_fraction": round(float(m.mean()), 6)}
            for k, m in drawn.items()
        },
    }
