"""What the explorer knows of a published study; the same methods as state.Trained."""

from types import SimpleNamespace

import numpy as np
from safetensors import safe_open

from ..results import frames, health, select
from ..study import config as configuration
from ..study import grid
from ..training import artifacts, probe
from . import about
from .about import PARTS, Kept


class Published:
    """A saved study in a folder: histories, errors, recorded fills, and networks of the last stage
    of a few runs (results/networks.py).
    """

    def __init__(self, results, base, studies):
        self.results, self.base, self.kept = results, base, Kept()
        config, runs = results.about["config"], select.finished(results)
        names = frames.names_of(runs)
        checked = configuration.checked(configuration.Config, config, str(base))
        self.study = grid.Study(results.about["name"], checked)
        self.runs = {name: self._run(name) for name in names}
        parts = runs[list(PARTS)].itertuples(index=False)
        entries = [(name, *part) for name, part in zip(names, parts, strict=True)]
        entries = [(*entry[:4], int(entry[4])) for entry in entries]
        lacks = dict(results.about["left_out"])
        ended = results.runs[results.runs.outcome != "finished"]
        lacks |= dict(zip(frames.names_of(ended), "diverged: " + ended.why, strict=True))
        datasets = {
            name: {"images": data["images"]["test"], "recorded": results.about["recorded"][name]}
            for name, data in results.about["data"].items()
        }
        records = [self._record(name) for name, run in self.runs.items() if run]
        more = {"points": records[0]["steps"].tolist() if records else [], "lacks": lacks}
        more |= {"live": False, "paints": bool(records), "studies": studies}
        more["opened"] = f"published/{base.name}"
        self.about = about.about(base.name, config, entries, datasets, **more)

    def _place_of(self, name, file):
        """Return where a file of a run's networks lies; only those of the first seed are kept."""
        first = name.endswith(f"/seed{self.study.config.grid.seeds[0]}")
        return self.base / "networks" / (name.rsplit("/", 1)[0] if first else "none") / file

    def _run(self, name):
        """Return the grid.Run, or None if its networks are not here."""
        if not self._place_of(name, "model.safetensors").is_file():
            return None
        dataset, architecture, setup, seed = name.split("/")
        return grid.Run(self.study, dataset, architecture, setup, int(seed[4:]))

    def _record(self, name):
        """Return what was recorded during training, or {}."""
        path = self._place_of(name, "recording.npz")
        if not path.is_file():
            return {}

        def read():
            with np.load(path) as stored:
                return {key: stored[key] for key in stored.files}

        return self.kept.get((name, "record"), read)

    def _of(self, frame, name):
        """Return a frame's rows of a run."""
        *texts, seed = name.split("/")
        chosen = frame.seed == int(seed[4:])
        for part, text in zip(PARTS[:3], texts, strict=True):
            chosen &= frame[part] == text
        return frame[chosen]

    def _place(self, dataset, image):
        recorded = self.about["datasets"][dataset]["recorded"]
        if image not in recorded:
            shown = ", ".join(map(str, recorded))
            raise ValueError(f"A published study has images {shown} alone; its weights are absent.")
        return recorded.index(image)

    def image(self, dataset, image):
        """Return (test image, {family_width: its frozen hole})."""
        place, begin = self._place(dataset, image), f"{dataset}/mask/"
        fills = self.results.fills
        holes = {k.removeprefix(begin): fills[k][place] for k in fills if k.startswith(begin)}
        return fills[f"{dataset}/truth"][place], holes

    def history(self, name):
        """Return the run's history."""
        return self._of(self.results.history, name).drop(columns=list(PARTS))

    def recorded(self, name, image):
        """Return {array's name in recording.npz: its part of a recorded test image}, at least
        `end_fills_<width>`.
        """
        dataset, architecture = name.split("/")[:2]
        place, found = self._place(dataset, image), {}
        for key, value in self._record(name).items():
            found[key] = value if key in ("steps", "stages") else value[:, place]
        for width in self.about["widths"]:
            key = f"{self.results.family(architecture)}_{width}"
            keys = [f"{name}/stage{k + 1}/{key}" for k in range(self.about["stages"])]
            there = [self.results.fills.get(k) for k in keys]
            if any(fills is not None for fills in there):
                one = next(fills[place] for fills in there if fills is not None)
                empty = np.zeros_like(one)
                ends = [empty if fills is None else fills[place] for fills in there]
                found[f"end_fills_{width}"] = np.stack(ends)
        return found

    def errors(self, name):
        """Return (hole L1 by stage and width, hole L1 by width and test image)."""
        config, family = self.results.about["config"], self.results.family(name.split("/")[1])
        values, images = self._of(self.results.values, name), self._of(self.results.per_image, name)
        n = min(config["evaluation"]["images_elsewhere"], int(images.image.max()) + 1)
        own = values[values.mask_family == family]
        return about.by_stage(own, images, config, n), about.per_image(images, self.about["widths"])

    def health(self, name):
        """Return the findings of results/health.py on a run."""
        return self._of(health.of_results(self.results), name)

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

        def read():
            found = artifacts.created(run)
            with safe_open(self._place_of(run.name, "model.safetensors"), "pt") as stored:
                for network, prefix in zip(found, ("", artifacts.DISCRIMINATOR), strict=True):
                    own = network.state_dict()
                    network.load_state_dict({key: stored.get_tensor(prefix + key) for key in own})
            return tuple(network.eval() for network in found)

        return self.kept.get(run.name, read)

    def generator(self, run, stage, width):
        """Return G of the last stage, batch norm's statistics those of a width's holes."""

        def make():
            G = self.networks(run, stage)[0]
            with np.load(self.base / "networks" / run.dataset / "calibration.npz") as stored:
                pack = SimpleNamespace(train=stored["images"])
            return (probe.calibrated(run, pack, G, width, "cpu"),)

        return self.kept.get((run.name, width), make)[0]
