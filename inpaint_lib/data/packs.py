"""Prepare data sets once, as memory-mapped uint8 arrays and frozen test masks.

    runs/<profile>/<dataset>/data/  train.npy  test.npy  masks.npz  manifest.json  skipped.csv

manifest.json has the settings of the pack; without it the pack is incomplete. packing.py writes it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import PROTOCOL, masks
from ..study import files, grid, provenance
from . import own_masks, packing, sources


@dataclass(frozen=True)
class Pack:
    """A prepared data set; `train` and `test` are (N, H, W, 3) uint8, memory-mapped."""

    folder: Path
    manifest: dict
    train: np.ndarray
    test: np.ndarray

    @property
    def identity(self):
        """The SHA-256 of the pixels of both splits and of the test masks."""
        found = self.manifest["files"].items()
        return {name.partition(".")[0]: entry["sha256"] for name, entry in found}

    def test_masks(self, family, width, images=slice(None)):
        """Return the frozen masks of some test images, (N, H, W) uint8, 1 = hole.

        Raises KeyError for a family and width without masks.
        """
        with np.load(self.folder / "masks.npz") as stored:
            bits = stored[f"{family}_{width}"][images]
        height, breadth = self.test.shape[1:3]
        return np.unpackbits(bits, axis=1, count=height * breadth).reshape(-1, height, breadth)

    @property
    def widths(self):
        """The widths of each family's frozen masks, {family: [width, ...]}; 0: of any area."""
        found = {}
        for name in self.manifest["masks"]:
            family, _, width = name.rpartition("_")
            found.setdefault(family, []).extend([int(width)] if width.isdecimal() else [])
        return found

    def skipped(self):
        """Return the skipped files: a DataFrame of split, file, reason, detail."""
        return pd.read_csv(self.folder / "skipped.csv", keep_default_na=False)


def prepare(study, dataset):
    """Return the data set's current Pack, built if needed. Raises SourceError, SettingsChanged."""
    folder, wanted = study.data_folder(dataset), _settings(study, dataset)
    own_masks.check_widths(study, own := own_masks.prepare(study))
    if pack := _open(folder, wanted):
        return pack
    refuse_changed(study, dataset)
    plan = sources.find_dataset(dataset).plan(study.config)
    with files.lock(folder), files.explain_errors(folder / "manifest.json"):
        if not _open(folder, wanted):  # another process may have built it meanwhile
            packing.write_pack(folder, study.config, dataset, plan, wanted, own)
    return _open(folder)


def open_pack(study, dataset):
    """Return the data set's Pack on disk, whatever its settings. Raises FileNotFoundError."""
    if pack := _open(study.data_folder(dataset)):
        return pack
    what = f"data set {dataset} of profile {study.profile} is not prepared"
    raise FileNotFoundError(f"{what}: run ./run_all.sh {study.profile}")


def find_current(study, dataset):
    """Return the data set's Pack if it has the configuration's settings and source, else None."""
    return _open(study.data_folder(dataset), _settings(study, dataset))


def load_bank(run, family, device="cpu"):
    """Return the masks.Bank that a family draws training masks from; None if it needs none."""
    if family != masks.FOLDER:
        return None
    pack = open_pack(run.study, run.dataset)
    with np.load(pack.folder / "masks.npz") as stored:
        found = masks.Bank.of(stored[packing.OWN], pack.manifest["masks"][packing.OWN]["turned"])
    return found._replace(bits=found.bits.to(device), areas=found.areas.to(device))


def refuse_changed(study, dataset):
    """Raise provenance.SettingsChanged if runs were trained on a pack of other settings."""
    pack = _open(study.data_folder(dataset))
    if pack and find_trained(study, dataset):
        what = f"data set {dataset} of profile {study.profile}, on which runs were trained,"
        made = dict(pack.manifest["settings"], dataset=dataset, source=None)
        wanted = {"dataset": dataset, "source": None} | _configured(study.config)
        provenance.refuse_changes(what, made, wanted)


def find_trained(study, dataset):
    """Return the folders of all runs, of any grid, that were trained on the data set."""
    folders = sorted((study.folder / dataset).glob("*/*/seed*"))
    return [folder for folder in folders if grid.holds_work(folder)]


def _settings(study, dataset):
    """Return what a pack depends on; of its source a fingerprint, not its path."""
    source = sources.find_dataset(dataset).fingerprint(study.config)
    if own := own_masks.fingerprint(study.config):
        source = [source, own]
    return {"dataset": dataset, "source": source} | _configured(study.config)


def _configured(config):
    widths = list(config.curriculum.mask_widths)
    found = {"protocol": PROTOCOL, "data": config.data.model_dump(), "mask_widths": widths}
    if config.machine.masks:  # without masks no key, so that earlier packs stay valid
        found |= {"masks": "given", "turn_masks": config.machine.turn_masks}
    return found


def _open(folder, settings=None):
    """Return the Pack in a folder, or None if it is incomplete or has other settings."""
    manifest, mapped = files.read_json(folder / "manifest.json"), {}
    try:
        made, size = manifest["settings"], manifest["settings"]["data"]["image_size"]
        shapes = {split: (rows, size, size, 3) for split, rows in manifest["images"].items()}
        sizes = {folder / name: entry["bytes"] for name, entry in manifest["files"].items()}
    except (KeyError, TypeError, AttributeError):  # damaged, or of another version
        return None
    complete = all(path.is_file() and path.stat().st_size == n for path, n in sizes.items())
    if not complete or made != (settings or made):
        return None
    for split, shape in shapes.items():
        header, path = packing.make_npy_header(shape), folder / f"{split}.npy"
        with open(path, "rb") as file:
            if file.read(len(header)) != header:
                return None
        mapped[split] = np.memmap(path, np.uint8, "r", len(header), shape)
    return Pack(folder, manifest, **mapped)
