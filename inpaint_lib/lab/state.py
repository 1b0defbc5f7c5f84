"""Read what the explorer shows: a profile's finished runs, or a published study (saved.py).

Both have `about` (JSON), `runs` {name: grid.Run, or None without networks} and the same methods.
Arrays are as in recording.npz and frames.Results; images (H,W,3) uint8, holes (H,W) uint8, 1 =
hole.
"""

from itertools import cycle

import numpy as np
import pandas as pd
import torch

from ..data import packs
from ..evaluation import evaluate
from ..results import explored, frames, published
from ..study import config as configuration
from ..study import grid
from ..training import artifacts, identity, probe, recording
from . import live, what_if
from .saved import Kept, Published

WHAT_IF = ("#8C564B", "#9A9A00", "#0E8C9E", "#C2489B")  # colours of what-if runs


# --- which studies there are


def list_studies():
    """Return the studies that can be opened, newest first, published ones last: [(name, label)]."""
    found = []
    for folder in (grid.get_output_root() / "runs").glob("*"):
        if ended := [path.stat().st_mtime for path in folder.glob("*/*/*/seed*/result.json")]:
            found.append((max(ended), folder.name))
    trained = [(name, name) for _, name in sorted(found, reverse=True)]
    return trained + [
        (f"published/{p.name}", f"{p.name} (published)") for p in published.list_studies()
    ]


def load_study(name="", overrides=None):
    """Return the Trained or Published study of a profile's name or YAML file, or published/NAME.

    Without a name: the newest with a finished run that can be read, else a published one. Raises
    FileNotFoundError, with the command that trains, if no run is finished.
    """
    if name:
        found = _opened(name, overrides)
        if not found.runs:
            how = f"to train: ./run_all.sh {name}"
            raise FileNotFoundError(f"no finished run in {found.study.folder}: {how}")
        return found
    for entry, _ in list_studies():
        try:
            found = _opened(entry, overrides)
        except (ValueError, OSError):  # of a profile that is no longer there
            continue
        if found.runs:
            return found
    what = f"no finished run in {grid.get_output_root() / 'runs'} and no published study"
    raise FileNotFoundError(f"{what}: to train a small one: ./run_all.sh smoke")


def _opened(name, overrides=None):
    if name.startswith("published/"):
        base, results = published.open_published(name.removeprefix("published/"))
        return Published(results, base, list_studies())
    return Trained(
        grid.reopen_study(name) if overrides is None else grid.open_study(name, overrides)
    )


class Trained:
    """The finished runs in a profile's folder, of this grid or another."""

    def __init__(self, study):
        self.study, self.config = study, configuration.to_dict(study.config)
        self.runs, lacks = {}, {}
        for run, why in self._list_runs():
            if why:
                lacks[run.name] = why
            else:
                self.runs[run.name] = run
        self.kept = Kept()
        torch.set_num_threads(study.config.machine.threads)  # more make small networks slower
        entries = [(n, *(getattr(r, p) for p in frames.RUN)) for n, r in self.runs.items()]
        others, lacking = what_if.list_runs(study) if self.runs else ([], {})  # beside the study's
        labels = [f"what_if/{run.study.what_if}: {run.setup}" for run in others]
        self.runs |= {run.name: run for run in others}
        for run, label in zip(others, labels, strict=True):
            entries.append((run.name, run.dataset, run.architecture, label, run.seed))
        datasets = {name: self._describe(name) for name in dict.fromkeys(e[1] for e in entries)}
        more = {"points": sorted(recording.choose_points(study.config)), "live": True}
        more |= {"opened": study.profile, "studies": list_studies()}
        lacks |= lacking
        told = study.profile, self.config, entries, lacks, datasets
        self.about = explored.describe_study(*told, **more)
        for run, label, colour in zip(others, labels, cycle(WHAT_IF), strict=False):
            look = {"about": what_if.describe_changes(run), "control": False, "colour": colour}
            self.about["setups"].setdefault(label, look)

    def _list_runs(self):
        """Yield (run, why it is not shown or "") in the order of the registries."""
        runs = {run.name: run for run in self.study.runs()}
        for folder in self.study.ended_elsewhere():
            dataset, architecture, setup, seed = folder.relative_to(self.study.folder).parts
            try:
                run = grid.Run(self.study, dataset, architecture, setup, int(seed[4:]))
                runs[run.name] = run
            except ValueError:  # of an extension that this profile does not name
                continue
        for run in sorted(runs.values(), key=self._order):
            yield run, identity.find_fault(run)

    def _order(self, run):
        known = [list(frames.REGISTRIES[kind]) for kind in frames.RUN[:3]]
        places = [k.index(getattr(run, p)) for k, p in zip(known, frames.RUN[:3], strict=True)]
        return *places, run.seed

    def _describe(self, dataset):
        pack = self.pack(dataset)
        chosen = recording.choose_images(self.study.config, len(pack.test))
        return {"images": len(pack.test), "recorded": [int(k) for k in chosen]}

    def pack(self, dataset):
        """Return the data set's Pack."""
        return packs.open_pack(self.study, dataset)

    def image(self, dataset, image):
        """Return (test image, {family_width: its frozen hole})."""
        pack, holes = self.pack(dataset), {}
        for family in set(self.about["families"].values()):
            for width in self.about["widths"]:
                holes[f"{family}_{width}"] = pack.test_masks(family, width, [image])[0]
        return np.array(pack.test[image]), holes

    def history(self, name):
        """Return history.csv as a frame; a what-if run's steps are stretched over the study's."""
        run = self.runs[name]
        history = pd.read_csv(run.folder / "history.csv")
        return history.assign(step=self._stretched(run, history.step))

    def recorded(self, name, image):
        """Return {array's name in recording.npz: its part of a recorded test image}.

        `end_fills_<width>` are evaluation's, with batch norm's statistics of that width. Raises
        ValueError for an image that this run did not record.
        """
        run = self.runs[name]
        images = self.about["datasets"][run.dataset]["recorded"]
        found = self.kept.get((name, "record"), lambda: _record(run, images))
        if not (found := recording.take_image(found, image, images)):
            why = "evaluation.images_elsewhere or recorded_images was changed since its training"
            raise ValueError(f"{name} did not record test image {image}: {why}")
        return found | {"steps": self._stretched(run, found["steps"])}

    def _stretched(self, run, steps):
        """Return steps of a run as those of the study with the same progress."""
        steps_of_study = self.study.config.curriculum.steps
        return (steps * steps_of_study / run.config.curriculum.steps).round().astype(int)

    def errors(self, name):
        """Return (hole L1 by stage and width, hole L1 by width and test image)."""
        run, widths = self.runs[name], self.about["widths"]
        if not all(evaluate.is_evaluated(run, stage) for stage in run.evaluated_stages):
            how = f"./run_all.sh {self.study.profile} evaluates it"
            if run.study.what_if:
                how = "run its cell of notebook 10_train again"
            raise ValueError(f"{name} is not evaluated: {how}")
        values = evaluate.read_values(run)
        own = values[values.mask_family == run.model.mask_family]
        l1 = frames.spread_images(evaluate.read_image_errors(run), "mask_width")["l1"]
        by_image = l1.reindex(widths).to_numpy()
        n = min(run.config.evaluation.images_elsewhere, by_image.shape[1])
        return explored.tabulate_stages(own, by_image, self.config, n), by_image

    def health(self, name):
        """Return the findings of results/health.py on a run."""
        return live.check_health(self.runs[name])

    # --- networks

    def holed(self, run, width, image):
        """Return (test image, the frozen hole of the run's own family)."""
        pack = self.pack(run.dataset)
        hole = pack.test_masks(run.model.mask_family, width, [image])[0]
        return np.array(pack.test[image]), hole

    def networks(self, run, stage):
        """Return (G, D) of the end of a stage; 0: before training."""
        key = (run.name, stage)
        return self.kept.get(key, lambda: artifacts.load_networks(run, stage))

    def generator(self, run, stage, width):
        """Return G of the end of a stage, batch norm's statistics those of a width's holes."""

        def make():
            pack, G = self.pack(run.dataset), self.networks(run, stage)[0]
            return (probe.calibrate_for(run, pack, G, width, "cpu"),)

        return self.kept.get((run.name, stage, width), make)[0]


def _record(run, images):
    """Return a run's recording, with evaluation's fills, of `images`, at the ends of stages."""
    family = run.model.mask_family
    with np.load(run.folder / "recording.npz") as stored:
        found = {key: stored[key] for key in stored.files}
    same = recording.list_images(found, images) == images
    for stage in run.evaluated_stages if same else ():
        path = run.folder / "evaluation" / f"stage{stage}_fills.npz"
        if path.is_file():
            with np.load(path) as stored:
                for width in run.config.curriculum.mask_widths:
                    ends, fills = found.get(f"end_fills_{width}"), f"{family}_{width}"
                    if ends is not None and fills in stored:
                        ends[stage - 1] = stored[fills]
    return found
