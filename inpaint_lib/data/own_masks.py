"""A user's own masks, `machine.masks`: a folder of images, white = hole, read once for a profile.

    runs/<profile>/masks.npz  skipped_masks.csv

They are split into training and test masks as a folder of photographs is. Packs hold copies.
"""

import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import PROTOCOL, masks, models
from ..study import files, grid
from ..study.command import make_printable
from . import containers, images, packing, sources
from .images import Unusable
from .sources import SourceError

LEAST = 20  # masks that a stage draws from
NO_FILE = OSError, ValueError, EOFError, zipfile.BadZipFile  # missing or damaged


class Own(NamedTuple):
    """The masks for training and for testing."""

    train: masks.Bank
    test: masks.Bank


def fingerprint(config):
    """Return a digest that changes when the masks may have changed, or None without masks."""
    if not config.machine.masks:
        return None
    root = os.path.expanduser(config.machine.masks)
    if not os.path.isdir(root):
        what = f"--masks: there is no folder {root}"
        raise SourceError(f"{what}: name a folder of black and white images, white = hole")
    return containers.fingerprint(root)


def prepare(study):
    """Return the configuration's Own masks, read if needed, or None without masks.

    Raises SourceError if there are too few or too many are unusable; then nothing is written.
    """
    config, source = study.config, fingerprint(study.config)
    if not source:
        return None
    depends = json.dumps([PROTOCOL, source, config.data.image_size, config.data.seed])
    path, found = study.folder / "masks.npz", {}
    with suppress(*NO_FILE), np.load(path) as stored:
        found = dict(stored)
    if str(found.get("made_from")) != depends:
        found, skipped = _read(config)
        files.write_csv(study.folder / "skipped_masks.csv", skipped)
        with files.replace(path) as temporary:
            np.savez_compressed(temporary, **found, made_from=depends)
    turned = config.machine.turn_masks == "on"
    return Own(masks.Bank.of(found["train"], turned), masks.Bank.of(found["test"]))


def _read_masks(_, items, size, seed):
    """Return for every item its mask, (size, size) uint8, 1 = hole, or Unusable."""
    return list(sources.read_files(items, size, seed, images.read_mask))


def _read(config):
    """Return {"train", "test": masks (N, n) uint8, as bits, by growing area} and the skipped files.

    Skipped files are a DataFrame of split, file, reason, detail.
    """
    root = Path(os.path.expanduser(config.machine.masks))
    plan, rows, names = sources.plan_folder(root, "--masks", config.data.seed), [], {}
    items, kept = [*plan.test, *plan.train], {"train": [], "test": []}
    for k, (item, mask) in enumerate(packing.read_items(config, "masks", items, _read_masks)):
        split, name = "test" if k < len(plan.test) else "train", make_printable(item[1])
        if isinstance(mask, Unusable):
            rows.append((split, name, mask.reason, mask.detail))
            continue
        turns = [np.packbits(np.rot90(m, k)) for m in (mask, mask[:, ::-1]) for k in range(4)]
        own, least = turns[0].tobytes(), min(turn.tobytes() for turn in turns)
        # a training mask is also a duplicate if it is a test mask turned or mirrored
        if twin := names.get(own) or (split == "train" and names.get(("test", least))):
            rows.append((split, name, "duplicate", f"same pixels as {twin}, or turned"))
        else:
            names[own] = names[split, least] = name
            kept[split].append(turns[0])
    rows += [("", make_printable(name), *why) for name, *why in plan.passed_over]
    listed = pd.DataFrame(rows, columns=["split", "file", "reason", "detail"])
    few = "; ".join(f"{row.file}: {row.reason}, {row.detail}" for row in listed[:3].itertuples())
    counts = {split: len(of) for split, of in kept.items()}
    packing.check_usable("--masks", counts, listed, plan.missing, f"the first: {few}")
    return {split: np.stack(sorted(of, key=_area)) for split, of in kept.items()}, listed


def _area(bits):
    """Return a packed mask's area in pixels and, for those of equal area, its bytes."""
    return np.bitwise_count(bits).sum(), bits.tobytes()


def check_widths(study, own):
    """Raise SourceError if a run of the grid lacks masks, or has too few at a width it uses."""
    of, names = study.config.grid, study.config.grid.architectures
    drawing = [name for name in names if study.config.models[name].mask_family == masks.FOLDER]
    if drawing and not own:
        where = f"models.{drawing[0]}.mask_family"
        raise SourceError(f"{where} is {masks.FOLDER}: name the folder of masks with --masks DIR")
    if own and all(map(models.is_central, names)):
        takes = f"{names[0]} takes central squares only"
        raise SourceError(f"--masks: {takes}: add another architecture")
    # not study.runs(), which builds every run of the grid
    one = (of.datasets[0], *drawing[:1])
    trained = [grid.Run(study, *one, setup, of.seeds[-1]) for setup in of.setups if drawing]
    used = {run.phase(k).mask_width for run in trained for k in range(run.schedule.steps)}
    widths = sorted(used.union(*(run.schedule.mask_widths for run in trained)))
    for width in widths:
        n, n_test = (of.number(width) for of in own)
        if n < LEAST or not n_test:
            raise SourceError(_too_few(study, width, n, n_test, own))


def _too_few(study, width, n, n_test, own):
    """Return which masks a stage lacks, the areas of all masks, and widths that would work."""
    size = study.config.data.image_size
    low, high = ((1 + sign * masks.NEAR) * (width / size) ** 2 for sign in (-1, 1))
    areas = np.histogram(own.train.areas / size**2, np.arange(11) / 10)[0]
    there = ", ".join(f"{n} of {10 * k}-{10 * k + 10} %" for k, n in enumerate(areas) if n)
    fits = [w for w in range(1, size + 1) if own.train.number(w) >= LEAST and own.test.number(w)]
    advice = f"widths that work: {', '.join(map(str, fits))}"
    n_stages = len(study.config.curriculum.mask_widths)
    if len(fits) >= n_stages:  # as many, evenly spread
        some = ",".join(str(fits[int(k)]) for k in np.linspace(0, len(fits) - 1, n_stages))
        advice += f"; for example --set 'curriculum.mask_widths=[{some}]'"
    return (
        f"--masks: a stage with {width} px holes uses masks that cover {low:.1%} to {high:.1%} of "
        f"the image; it has {n} for training, {LEAST} are needed, and {n_test} for testing, 1 is "
        f"needed. Those for training: {there}. {advice if fits else 'No width works: add masks'}"
    )


def describe_masks(study, own):
    """Return a line: how many masks there are and what share of them the stages draw from."""
    n, widths = len(own.train.areas), study.config.curriculum.mask_widths
    near = [own.train.near(width**2) for width in widths]
    drawn = sum(any(first <= k < end for first, end in near) for k in range(n))
    use = f"stages of {', '.join(map(str, widths))} px draw from {drawn / n:.0%} of them"
    if all(run.model.mask_family != masks.FOLDER for run in study.runs()):
        use = "no network is trained on them"
    left = pd.read_csv(study.folder / "skipped_masks.csv").reason.value_counts().items()
    why = ", ".join(f"{number:,} {reason}" for reason, number in left) or "none"
    shares = own.test.areas.sort().values / study.config.data.image_size**2
    middle = shares[(len(shares) - 1) // 2]
    covers = f"those for testing cover {shares[0]:.0%} to {shares[-1]:.0%}, half up to {middle:.0%}"
    covers += " (are they inverted? white = hole)" * bool(middle > 0.5)
    few = f" (few: {LEAST} or more measure better)" * (len(shares) < LEAST)
    of = f"masks: {n:,} for training, {len(shares):,} for testing{few}; {covers}"
    return f"{of}; left out: {why}; {use}"
