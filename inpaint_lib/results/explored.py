"""Prepare a study for the explorer's page, and answer its questions from a saved study.

Images are (H,W,3) uint8, holes (H,W) uint8 with 1 = hole, other arrays as in recording.npz and
frames.Results.
"""

import numpy as np

from .. import models, setups
from . import frames, glossary, health, plots, select, stats

BANDS = 40  # seeds, at most, for which the page knows the t interval
WIRE = {"float16": "float32", "float64": "float32", "int64": "int32", "bool": "uint8"}


def pack_arrays(value, buffers):
    """Return a value whose arrays are replaced by references; append their bytes to `buffers`."""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value, WIRE.get(value.dtype.name, value.dtype))
        buffers.append(array.tobytes())
        shape, name = list(array.shape), array.dtype.name
        return {"buffer": len(buffers) - 1, "shape": shape, "dtype": name}
    if isinstance(value, dict):
        return {key: pack_arrays(part, buffers) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [pack_arrays(part, buffers) for part in value]
    return value


def describe_study(name, config, entries, lacks, datasets, **more):
    """Return the JSON that describes a study to the page.

    entries: (name, dataset, architecture, setup, seed) per run; lacks: {run or folder: why it
    cannot be shown}; datasets: {name: {"images", "recorded"}}; more: further keys."""
    widths = config["curriculum"]["mask_widths"]
    named = {entry[3] for entry in entries} | {part for lost in lacks for part in lost.split("/")}
    known = {k: v for k, v in setups.SETUPS.items() if k in named}
    used = list(dict.fromkeys(entry[2] for entry in entries))
    known_here = [a for a in used if a in models.ARCHITECTURES]
    boundaries = {a: models.ARCHITECTURES[a].objective.adversarial[2] for a in known_here}
    return {
        "study": name,
        "widths": list(widths),
        "stages": len(widths),
        "size": config["data"]["image_size"],
        "steps": config["curriculum"]["total_images"] // config["curriculum"]["batch_size"],
        "families": {a: config["models"][a]["mask_family"] for a in used},
        "central": [a for a in known_here if models.is_central(a)],
        "boundaries": boundaries,
        "setups": {
            k: {"colour": v.colour, "about": v.about, "control": v.control}
            for k, v in known.items()
        },
        "terms": plots.TERM_LABELS,
        "columns": glossary.COLUMNS,
        "runs": [dict(zip(("name", *frames.RUN), entry, strict=True)) for entry in entries],
        "lacks": lacks,
        "datasets": datasets,
        "bands": {n: stats.compute_half_width(1.0, n) for n in range(stats.MIN_SEEDS, BANDS)},
    } | more


def tabulate_stages(values, by_image, config, n):
    """Return hole L1 (stages, widths) on the first n images, or NaN; n are measured every stage.

    values: one run's rows, training family; by_image: hole L1 (widths, images), last stage.
    """
    widths, stages = config["curriculum"]["mask_widths"], len(config["curriculum"]["mask_widths"])
    rows = values[(values.region == "hole") & (values.metric == "l1")]
    table = rows.pivot_table("value", "stage", "mask_width")
    table = table.reindex(index=range(1, stages + 1), columns=widths)
    table.loc[stages] = by_image[:, :n].mean(axis=1)
    return table.to_numpy(np.float32)


class Saved:
    """A saved study: histories, errors and recorded fills, but no weights."""

    def __init__(self, results, studies=()):
        self.results, self.parts = results, {}
        config, runs = results.about["config"], select.get_finished(results)
        names = frames.name_runs(runs)
        self.runs = dict.fromkeys(names)
        parts = runs[frames.RUN].itertuples(index=False)
        entries = [(name, *part) for name, part in zip(names, parts, strict=True)]
        lacks = dict(results.about["left_out"])
        ended = results.runs[results.runs.outcome != "finished"]
        lacks |= dict(zip(frames.name_runs(ended), "diverged: " + ended.why, strict=True))
        datasets = {
            name: {"images": data["images"]["test"], "recorded": results.about["recorded"][name]}
            for name, data in results.about["data"].items()
        }
        name = results.about["name"]
        more = {"points": [], "live": False, "opened": f"published/{name}", "studies": studies}
        self.about = describe_study(name, config, entries, lacks, datasets, **more)

    def _of(self, frame, run):
        """Return a run's rows in a frame of `results`, or in "health"."""
        if frame not in self.parts:
            of_health = frame == "health"
            rows = health.examine_runs(self.results) if of_health else getattr(self.results, frame)
            groups = rows.groupby(frames.RUN, sort=False)
            found = {"{}/{}/{}/seed{}".format(*key): part for key, part in groups}
            self.parts[frame] = found | {"": rows.iloc[:0]}
        return self.parts[frame].get(run, self.parts[frame][""])

    def _place(self, dataset, image):
        recorded = self.about["datasets"][dataset]["recorded"]
        if image not in recorded:
            shown = ", ".join(map(str, recorded))
            raise ValueError(f"A published study only has fills of the test images {shown}.")
        return recorded.index(image)

    def image(self, dataset, image):
        """Return (test image, {family_width: its frozen hole})."""
        place, begin = self._place(dataset, image), f"{dataset}/mask/"
        fills = self.results.fills
        holes = {k.removeprefix(begin): fills[k][place] for k in fills if k.startswith(begin)}
        return fills[f"{dataset}/truth"][place], holes

    def history(self, name):
        """Return the run's history."""
        return self._of("history", name).drop(columns=list(frames.RUN))

    def recorded(self, name, image):
        """Return {"end_fills_<width>": fills of a recorded test image after the last stages}."""
        dataset, architecture = name.split("/")[:2]
        place, found = self._place(dataset, image), {}
        for width in self.about["widths"]:
            key = f"{self.results.family(architecture)}_{width}"
            keys = [f"{name}/stage{k + 1}/{key}" for k in range(self.about["stages"])]
            there = [self.results.fills[k][place] for k in keys if k in self.results.fills]
            if there:
                found[f"end_fills_{width}"] = np.stack(there)
        return found

    def errors(self, name):
        """Return (hole L1 by stage and width, hole L1 by width and test image)."""
        run = dict(zip(frames.RUN, frames.split_name(name), strict=True))
        config, values = self.results.about["config"], self._of("values", name)
        by_image = select.get_image_errors(self.results, "l1", **run).to_numpy()
        n = min(config["evaluation"]["images_elsewhere"], by_image.shape[1])
        own = values[values.mask_family == self.results.family(run["architecture"])]
        return tabulate_stages(own, by_image, config, n), by_image

    def health(self, name):
        """Return a run's findings, as health.examine_runs."""
        return self._of("health", name)
