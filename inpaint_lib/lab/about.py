"""What the explorer's page is told of a study, trained or published, and what is kept in memory."""

from collections import OrderedDict

import numpy as np

from .. import models, setups
from ..results import plots, stats

KEPT = 1 << 30  # bytes, at most
BANDS = 40  # seeds, at most, for which the page knows the t interval
PARTS = ("dataset", "architecture", "setup", "seed")


def about(name, config, entries, datasets, **more):
    """Return the page's JSON of a study. `entries`: (name, dataset, architecture, setup, seed)."""
    widths = config["curriculum"]["mask_widths"]
    steps = config["curriculum"]["total_images"] // config["curriculum"]["batch_size"]
    named = {entry[3] for entry in entries} | {lost.split("/")[-2] for lost in more["lacks"]}
    known = {k: v for k, v in setups.SETUPS.items() if k in named}
    used = list(dict.fromkeys(entry[2] for entry in entries))
    boundaries = {a: models.ARCHITECTURES[a].objective.adversarial[2] for a in used}
    return {
        "study": name,
        "widths": list(widths),
        "stages": len(widths),
        "size": config["data"]["image_size"],
        "steps": steps // len(widths) * len(widths),
        "families": {a: config["models"][a]["mask_family"] for a in used},
        "central": [a for a in used if models.central(a)],
        "boundaries": boundaries,
        "setups": {
            k: {"colour": v.colour, "about": v.about, "control": v.control}
            for k, v in known.items()
        },
        "terms": plots.TERM_LABELS,
        "runs": [dict(zip(("name", *PARTS), entry, strict=True)) for entry in entries],
        "datasets": datasets,
        "bands": {n: stats.half_width(1.0, n) for n in range(stats.MIN_SEEDS, BANDS)},
    } | more


def by_stage(values, images, config, n):
    """Return hole L1 (stages, widths) on the images measured after every stage; NaN: no value.

    values: rows of one run, of the family trained with; images: errors per image of its last stage.
    """
    widths, stages = config["curriculum"]["mask_widths"], len(config["curriculum"]["mask_widths"])
    rows = values[(values.region == "hole") & (values.metric == "l1")]
    table = rows.pivot_table("value", "stage", "mask_width")
    table = table.reindex(index=range(1, stages + 1), columns=widths)
    few = images[images.image < n].groupby("mask_width").l1.mean()
    table.loc[stages] = few.reindex(widths)
    return table.to_numpy(np.float32)


def per_image(images, widths):
    """Return hole L1 (widths, images) of the last stage."""
    table = images.pivot_table("l1", "mask_width", "image").reindex(widths)
    return table.to_numpy(np.float32)


class Kept:
    """The things last read: tuples of networks and dicts of arrays, up to KEPT bytes."""

    def __init__(self):
        self.found, self.bytes = OrderedDict(), 0

    def get(self, key, make):
        """Return what `make` returns, or what it returned before."""
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
