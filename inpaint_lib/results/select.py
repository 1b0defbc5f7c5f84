"""Select rows of a study's Results."""

import functools

import numpy as np
import pandas as pd

from ..metrics import METRICS, PSNR_CAP
from ..setups import SETUPS
from .frames import CELL, RUN, spread_images

ASKED = ("fixed", "progressive", "mixed")  # the setups of the registered questions
SHOWN = (*ASKED, "replay")  # those that small pictures and published studies show


def compute_once(function):
    """Return a function of Results that computes its frame once and then returns copies of it."""

    @functools.wraps(function)
    def kept(results):
        name = f"_{function.__module__}.{function.__name__}"
        if name not in vars(results):
            vars(results)[name] = function(results)
        return vars(results)[name].copy()

    return kept


def is_control(setup):
    """Return whether a setup is a control: known here, but not one of the paper's four."""
    return setup in SETUPS and SETUPS[setup].control


def list_cells(runs):
    """Return the (dataset, architecture) pairs of a frame, in its order."""
    return list(dict.fromkeys(zip(runs.dataset, runs.architecture, strict=True)))


def get_cell(frame, dataset, architecture):
    """Return a frame's rows of one data set and architecture."""
    return frame[(frame.dataset == dataset) & (frame.architecture == architecture)]


def get_finished(results):
    """Return the rows of the runs that finished."""
    return results.runs[results.runs.outcome == "finished"]


def is_own_family(results):
    """Return a boolean per row of `values`: whether its holes are of the training family."""
    return results.values.mask_family == results.values.architecture.map(results.family)


def get_baseline_images(results, dataset, architecture):
    """Return the baselines' errors per image on the mask family of an architecture."""
    table = results.baseline_images
    own = table.mask_family == results.family(architecture)
    return table[own & (table.dataset == dataset)]


def get_image_errors(results, metric, **levels):
    """Return hole errors of the last stage, a column per test image.

    Rows are those where levels of the index of per_image have given values; the index is what
    remains of it."""
    levels, index = {"metric": metric} | levels, results.per_image.index
    rows = np.all([index.get_level_values(name) == value for name, value in levels.items()], axis=0)
    return results.per_image[rows].droplevel([*levels]).dropna(axis="columns", how="all")


def name_baselines(names, n_images, enough):
    """Return a series of baselines' names, with "(first n)" where fewer images were measured."""
    return names.where(n_images >= enough, names + " (first " + n_images.astype(str) + ")")


def get_trained(results):
    """Return the values after the last stage on holes of the training family."""
    last = results.values.stage == len(results.widths)
    return results.values[last & is_own_family(results)]


def get_hole_l1(results):
    """Return hole L1 with the largest hole after the last stage: a row per finished run."""
    rows = get_trained(results).query("region == 'hole' and metric == 'l1'")
    return rows[rows.mask_width == results.widths[-1]]


def average_widths(results):
    """Return the geometric mean of hole L1 over the curriculum's widths: a row per finished run.

    It is 0 if a value is 0 or below."""
    rows = get_trained(results).query("region == 'hole' and metric == 'l1'")
    with np.errstate(divide="ignore"):
        logs = rows.assign(value=np.log(rows.value.clip(lower=0)))
    keys = [*RUN, "region", "metric"]
    found = logs.groupby(keys, sort=False).agg({"value": "mean", "n_images": "max"})
    return found.assign(value=np.exp(found.value)).reset_index()


def name_widths(results):
    """Return {hole width: "smallest", "largest", or the number of pixels}."""
    names = {width: str(width) for width in results.widths}
    return names | {results.widths[0]: "smallest"} | {results.widths[-1]: "largest"}


def get_compared(results):
    """Return all values in which setups are compared, after the last stage, with a column `width`.

    These are the measures on the training family, hole L1 over all widths, and the largest holes of
    other families (region "hole, FAMILY"). width: a name of `name_widths`, "all", or "none" for
    measures that have no width."""
    rows = get_trained(results)
    width = rows.mask_width.map(name_widths(results)).where(rows.region != "training", "none")
    own = rows.assign(width=width).dropna(subset="width")
    values, last = results.values, results.values.stage == len(results.widths)
    others = values[last & ~is_own_family(results)]
    others = others[(others.region == "hole") & (others.mask_width == results.widths[-1])]
    others = others.assign(region="hole, " + others.mask_family, width="largest")
    over_all = average_widths(results).assign(width="all")
    return pd.concat([own, others, over_all], ignore_index=True)


@compute_once
def get_by_stage(results):
    """Return hole L1, L2 and PSNR after every stage on the training family, and of the baselines.

    All are means over the images that are measured after every stage. Baselines have stage NaN and
    their name as setup."""
    n = results.about["config"]["evaluation"]["images_elsewhere"]
    values, last = results.values, len(results.widths)
    before = values[is_own_family(results) & (values.stage < last) & (values.region == "hole")]
    parts = [before[before.metric.isin(METRICS)]]
    errors = {metric: get_image_errors(results, metric) for metric in ("l1", "l2")}
    parts.append(_means(errors, n).assign(stage=last))
    for cell in list_cells(results.runs):
        found = get_baseline_images(results, *cell)
        measured = found.groupby("baseline").image.transform("max") + 1
        enough = min(n, results.about["data"][cell[0]]["images"]["test"])
        named = name_baselines(found.baseline, measured, enough)
        found = found.assign(setup=named, architecture=cell[1])
        parts.append(_means(spread_images(found, [*CELL, "setup", "mask_width"]), n))
    return pd.concat(parts, ignore_index=True)


def _means(errors, n):
    """Return the means over the first n images, a row per metric.

    errors: {"l1", "l2": a row per what is measured, a column per image}."""
    few = {metric: frame.loc[:, : n - 1].astype(float) for metric, frame in errors.items()}
    few["psnr"] = (-10 * np.log10(few["l2"])).clip(upper=PSNR_CAP)
    means = pd.DataFrame({metric: few[metric].mean(axis="columns") for metric in METRICS})
    keys = means.index.names
    return means.reset_index().melt(keys, METRICS, "metric", "value").assign(region="hole")
