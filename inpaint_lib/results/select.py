"""Select rows of a study's Results."""

from ..setups import SETUPS
from .frames import CELL, RUN


def is_control(setup):
    """Return whether a setup is known here as a control, which the paper does not have."""
    return setup in SETUPS and SETUPS[setup].control


def cells(runs):
    """Return the (dataset, architecture) pairs of a frame, in its order."""
    return list(dict.fromkeys(zip(runs.dataset, runs.architecture, strict=True)))


def of_cell(frame, dataset, architecture):
    """Return a frame's rows of one data set and architecture."""
    return frame[(frame.dataset == dataset) & (frame.architecture == architecture)]


def finished(results):
    """Return the rows of the runs that finished."""
    return results.runs[results.runs.outcome == "finished"]


def trained(results):
    """Return the values after the last stage on holes of the family trained with."""
    values = results.values
    own = {name: results.family(name) for name in values.architecture.unique()}
    last = values.stage == len(results.widths)
    return values[last & (values.mask_family == values.architecture.map(own))]


def final(results):
    """Return the values that answer the question: as `trained`, with the largest hole."""
    return trained(results)[lambda t: t.mask_width == results.widths[-1]]


def hole_l1(results):
    """Return the value that answers the question, hole L1: a row per run that finished."""
    return final(results).query("region == 'hole' and metric == 'l1'")


def effects(results):
    """Return hole L1, largest hole, of every run over that of its twin in fixed, less one."""
    rows = hole_l1(results)
    fixed = rows[rows.setup == "fixed"].rename(columns={"value": "of_fixed"})
    keys = [*CELL, "seed"]
    both = rows[rows.setup != "fixed"].merge(fixed[[*keys, "of_fixed"]], on=keys)
    return both.assign(effect=both.value / both.of_fixed - 1)[[*RUN, "effect"]]
