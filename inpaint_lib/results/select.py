"""Select rows of a study's Results."""

import functools

import numpy as np
import pandas as pd

from ..setups import SETUPS
from .frames import CELL, RUN


def once(function):
    """Return a function of Results that computes a frame once for each and returns copies of it."""

    @functools.wraps(function)
    def kept(results):
        name = f"_{function.__module__}.{function.__name__}"
        if name not in vars(results):
            vars(results)[name] = function(results)
        return vars(results)[name].copy()

    return kept


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
    """Return hole L1 with the largest hole: a row per run that finished."""
    return final(results).query("region == 'hole' and metric == 'l1'")


def all_widths(results):
    """Return the geometric mean over the curriculum's widths of mean hole L1: a row per run that
    finished; 0 where a value is 0 or below."""
    rows = trained(results).query("region == 'hole' and metric == 'l1'")
    with np.errstate(divide="ignore"):
        logs = rows.assign(value=np.log(rows.value.clip(lower=0)))
    keys = [*RUN, "region", "metric"]
    found = logs.groupby(keys, sort=False).agg({"value": "mean", "n_images": "max"})
    return found.assign(value=np.exp(found.value)).reset_index()


def width_names(results):
    """Return {hole width: "smallest", "largest", or the number of pixels}."""
    names = {width: str(width) for width in results.widths}
    return names | {results.widths[0]: "smallest"} | {results.widths[-1]: "largest"}


def measured(results):
    """Return what setups are compared in: `trained` but for bins of hole area, and `all_widths`.
    `width` is a name of width_names, "all", or "none" for measures of a run."""
    rows = trained(results)
    width = rows.mask_width.map(width_names(results)).where(rows.region != "training", "none")
    own = rows.assign(width=width).dropna(subset="width")
    return pd.concat([own, all_widths(results).assign(width="all")], ignore_index=True)


def effects(results):
    """Return hole L1, largest hole, of every run over that of its twin in fixed, less one."""
    rows = hole_l1(results)
    fixed = rows[rows.setup == "fixed"].rename(columns={"value": "of_fixed"})
    keys = [*CELL, "seed"]
    both = rows[rows.setup != "fixed"].merge(fixed[[*keys, "of_fixed"]], on=keys)
    return both.assign(effect=both.value / both.of_fixed - 1)[[*RUN, "effect"]]
