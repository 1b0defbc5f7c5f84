"""Read a published study for the explorer, with the same methods as state.Trained."""

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np

from .. import models
from ..results import explored, frames, networks
from ..study import config as configuration
from ..study import grid
from ..training import artifacts, probe, recording

KEPT = 1 << 30  # bytes, at most
WEIGHTS = ("inception_weights", "lpips_weights")


class Published(explored.Saved):
    """A published study, with recordings and last networks of a few runs (results/networks.py)."""

    def __init__(self, results, base, studies):
        super().__init__(results, studies)
        self.base, self.kept = base, Kept()
        stored = networks.find_files(results, base, "model.safetensors")
        known = (name for name in stored if name.split("/")[1] in models.ARCHITECTURES)
        self.models = {name: stored[name] for name in known}  # the others are of an extension
        self.records = networks.find_files(results, base, "recording.npz")
        self.study = _reopen(results, self.models, base) if self.models else None
        self.runs = {name: self._run(name) for name in self.runs}
        records = [self._record(name) for name, run in self.runs.items() if run]
        points = records[0]["steps"].tolist() if records else []
        self.about |= {
            "points": points,
            "paints": bool(records),
            "opened": f"published/{base.name}",
        }

    def _run(self, name):
        """Return the grid.Run, or None if its networks are not here."""
        if name not in self.models:
            return None
        return grid.Run(self.study, *frames.split_name(name))

    def _record(self, name):
        """Return what was recorded during training, or {}."""

        def read():
            with np.load(self.records[name]) as stored:
                return {key: stored[key] for key in stored.files}

        return self.kept.get((name, "record"), read) if name in self.records else {}

    def recorded(self, name, image):
        """Return {array's name in recording.npz: its part of a recorded test image}, at least
        `end_fills_<width>`.
        """
        images = self.about["datasets"][name.split("/")[0]]["recorded"]
        found = super().recorded(name, image)
        for key, kept in recording.take_image(self._record(name), image, images).items():
            if (last := found.get(key)) is not None:  # evaluation's, with the width's statistics
                kept = np.concatenate([kept[:-1], last[-1:]])
            found[key] = kept
        return found

    # --- networks

    def holed(self, run, width, image):
        """Return (test image, the frozen hole of the run's own family)."""
        truth, holes = self.image(run.dataset, image)
        return truth, holes[f"{run.model.mask_family}_{width}"]

    def networks(self, run, stage):
        """Return (G, D) of the last stage. Raises ValueError for another."""
        if stage != run.n_stages:
            what = "Published networks are those of the last stage: move the cursor to the end."
            raise ValueError(what)

        path = self.models[run.name]
        return self.kept.get(run.name, lambda: artifacts.load_pair(run, path))

    def generator(self, run, stage, width):
        """Return G of the last stage, batch norm's statistics those of a width's holes."""

        def make():
            G = self.networks(run, stage)[0]
            with np.load(self.base / "networks" / run.dataset / "calibration.npz") as stored:
                pack = SimpleNamespace(train=stored["images"])
            return (probe.calibrate_for(run, pack, G, width, "cpu"),)

        return self.kept.get((run.name, width), make)[0]


def _reopen(results, paths, base):
    """Return the grid.Study of networks {run: path}, without what they do not need: weights of
    losses and measures, whose files may not be here, and setups of an extension."""
    config, columns = results.about["config"], zip(*map(frames.split_name, paths), strict=True)
    of = dict(zip(frames.GRID, columns, strict=True))
    config = config | {
        "grid": {key: list(dict.fromkeys(values)) for key, values in of.items()},
        "models": {name: config["models"][name] for name in of["architectures"]},
        "training": config["training"] | {"perceptual_weights": "random"},
        "evaluation": config["evaluation"] | dict.fromkeys(WEIGHTS, "none"),
        "initial_weights": "",
    }
    checked = configuration.validate(configuration.Config, config, str(base))
    return grid.Study(results.about["name"], checked)


class Kept:
    """A cache of what was read last: tuples of networks and dicts of arrays, up to KEPT bytes."""

    def __init__(self):
        self.found, self.bytes = OrderedDict(), 0

    def get(self, key, make):
        """Return what `make` returns, or what it returned the last time."""
        if key not in self.found:
            made = self.found[key] = make()
            self.bytes += _bytes(made)
            while self.bytes > KEPT and len(self.found) > 1:
                self.bytes -= _bytes(self.found.popitem(last=False)[1])
        self.found.move_to_end(key)
        return self.found[key]


def _bytes(kept):
    """Return the size of a tuple of networks, or of a dict of arrays."""
    if isinstance(kept, dict):
        return sum(array.nbytes for array in kept.values())
    tensors = (t for network in kept for t in network.state_dict().values())
    return sum(t.numel() * t.element_size() for t in tensors)
