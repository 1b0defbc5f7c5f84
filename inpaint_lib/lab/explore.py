"""What notebook 40 looks at in trained runs: weights of any stage, any hole filled, D's scores, curves. Its widgets: panels.py.

An image is (H,W,3) uint8, a hole (H,W) uint8, 1 = hole. Images are filled one at a time, on the CPU.
"""

import functools
import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from .. import losses, masks, metrics, models
from ..data import packs
from ..results import collect, pictures, plots
from ..study import config as configuration
from ..study import files, grid
from ..training import probe
from ..training.artifacts import load_networks

WORST = 0.5  # upper end of the one colour scale of all error maps, of 1
LOGGED = {name: plots.TERM_LABELS[name] for name in ("adversarial_g", "adversarial_d", "d_accuracy")} | {
    "mask_width": "training hole (px)"
}  # shown beside the metrics
HOLE = metrics.REGIONS.index("hole")


class Fill(NamedTuple):
    """What a network made of a hole: the composite (H,W,3) uint8, the error (H,W) in [0, 1], the metrics in the hole."""

    composite: np.ndarray
    error: np.ndarray
    l1: float
    l2: float
    psnr: float


# --- what there is


def finished(study):
    """The finished runs under runs/<profile>, each with the configuration it was made with, in the order of the registries.

    Left out are those that do not fit `study`'s image size and hole widths, or whose data or weights are no longer there; and,
    so that iterations compare, all but those of its budget or, if it has none, of the first's.
    """
    found = []
    for path in sorted(study.folder.glob("*/*/*/seed*/result.json")):
        dataset, architecture, setup, seed = path.parts[-5:-1]
        result = files.read_json(path)
        try:
            own = grid.Study(study.profile, _config(json.dumps(result["config"])))
            pack = packs.existing(own, dataset)
        except (configuration.ConfigError, FileNotFoundError, TypeError, KeyError):
            continue
        run, stages = grid.Run(own, dataset, architecture, setup, int(seed.removeprefix("seed"))), len(own.config.mask_widths)
        fits = all(getattr(own.config, k) == getattr(study.config, k) for k in ("image_size", "mask_widths"))
        same = result["settings"]["data"] == {name: entry["sha256"] for name, entry in pack.manifest["files"].items()}
        if fits and same and all((run.folder / f"stages/{k}.safetensors").is_file() for k in range(1, stages + 1)):
            found.append(run)
    order = [*models.ARCHITECTURES, *plots.SETUP_COLOURS]
    found.sort(key=lambda r: (r.dataset, order.index(r.architecture), order.index(r.setup), r.seed))
    budgets = [(r.study.config.total_images, r.study.config.batch_size) for r in found]
    own = study.config.total_images, study.config.batch_size
    return [r for r, budget in zip(found, budgets, strict=True) if budget == (own if own in budgets else budgets[0])]


@functools.lru_cache(maxsize=8)
def _config(text):
    """A configuration from its JSON; checking one takes half a second, and most runs share theirs."""
    return configuration.load("smoke", json.loads(text))  # every key of the preset is overridden


def stage_at(run, step):
    """The last stage that has ended at iteration `step`: weights are kept at the ends of stages alone."""
    config = run.config
    return min(step // (config.steps // len(config.mask_widths)), len(config.mask_widths))


def describe(run, step):
    """One sentence: which stage iteration `step` lies in, and of which iteration the shown weights are."""
    steps, n = run.config.steps, len(run.config.mask_widths)
    stage, now = stage_at(run, step), min(step * n // steps, n - 1)
    of = f"of the end of stage {stage} (iteration {stage * (steps // n)})" if stage else "from before training (stage 0)"
    return (
        f"Iteration {step} of {steps}, in stage {now + 1} of {n}. Pictures and metrics: weights {of}, the nearest kept "
        "before it. Logged: means since the log point before."
    )


def logged(run, step):
    """The last row of history.csv at or before `step`, a Series; None before the first."""
    history = pd.read_csv(run.folder / "history.csv")
    rows = history[history.step <= step]
    return rows.iloc[-1] if len(rows) else None


def smooth(values, weight):
    """Exponential moving average, the bias of its start corrected: sum of weight^(t-i) x_i / sum of weight^(t-i), i <= t.

    `weight` in [0, 1): 0 leaves the values as they are. Returns an array. Raises ValueError for another weight.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"smoothing {weight} is outside [0, 1)")
    return pd.Series(np.asarray(values, float)).ewm(alpha=1 - weight, adjust=True).mean().to_numpy()


# --- holes and fillings


def rasterise(strokes, size):
    """Strokes as a hole, (size, size) uint8: pixels whose centre lies within half the width of a stroke's line.

    A stroke is (points, width): [(x, y), ...] and width in pixels of the hole, the origin at its upper left corner. A single
    point is a dot. Lines are sqrt(2) px wide at least, so that none has gaps and no dot is empty; what lies outside is cut off.
    """
    hole = np.zeros((size, size), bool)
    for points, width in strokes:
        corners = torch.tensor(points, dtype=torch.float64).flip(1)[None]  # (1, n, 2): row, column
        a, b = (corners[:, :-1], corners[:, 1:]) if len(points) > 1 else (corners, corners)
        near = masks.squared_distance_to_segments(a, b, size) <= max(width, 2**0.5) ** 2 / 4 + 1e-9
        hole |= near.any(1)[0].numpy()
    return hole.astype(np.uint8)


def confine(hole, architectures):
    """(the part of a hole that all these architectures can fill, the reason why the rest is left out or "")."""
    if not any(map(models.central, architectures)):
        return hole, ""
    quarter = hole.shape[0] // 4
    inside = np.zeros_like(hole)
    inside[quarter:-quarter, quarter:-quarter] = hole[quarter:-quarter, quarter:-quarter]
    left = int(hole.sum() - inside.sum())
    reason = f"{left} painted px outside the dashed square are left out: context_encoder puts out the central half alone."
    return inside, reason if left else ""


def fill(generators, image, hole):
    """One hole filled by several networks: {name: G} -> {name: Fill}. Raises ValueError for an empty hole."""
    if not hole.any():
        raise ValueError("there is no hole to fill")
    filled = {}
    for name, G in generators.items():
        [(output, real, mask)] = metrics.inpaint(G, image[None], hole[None], "cpu", 1)
        composite = losses.composite(output, real, mask)
        error = (composite - real).abs().mean(1)[0].numpy() / 2
        filled[name] = Fill(metrics.to_uint8(composite)[0], error, *metrics.per_image(output, real, mask)[0, HOLE].tolist())
    return filled


def score_maps(run, pair, image, hole):
    """What D is shown and its scores: {"real" or "filled": (RGB (h,w,3) in [0, 1], [score map (h,w) of each scale])}, and the
    boundary above which a score says "real". `pair` is (G, D)."""
    (G, D), (seen, (*_, boundary), *_) = pair, losses.OBJECTIVES[run.architecture]
    [(output, real, mask)] = metrics.inpaint(G, image[None], hole[None], "cpu", 1)
    found = {}
    for name, shown in {"real": real, "filled": output}.items():
        with torch.inference_mode():
            given = seen(shown, real, mask)
            maps = [scores[0].mean(0).numpy() for scores in losses.scores(D(given))]  # mean: SN-PatchGAN has many channels
        found[name] = metrics.to_uint8(given[:, :3])[0] / 255, maps
    return found, boundary


# --- figures


def side_by_side(rows):
    """Input, composites, truth, and below them the error maps on one colour scale. `rows` is a list, one per architecture, of
    (label, image, hole, {setup: Fill})."""
    columns = 2 + max(len(filled) for *_, filled in rows)
    width, height = 1.5 * columns + 0.8, 3.55 * len(rows)  # inches; placed by hand: a constrained layout takes half a second
    fig, axes = plots.figure(2 * len(rows), columns, figsize=(width, height), squeeze=False)
    fig.subplots_adjust(0.005, 0.01, 1 - 0.8 / width, 1 - 0.36 / height, wspace=0.06, hspace=0.28)
    for axis in axes.flat:
        axis.axis("off")
    for k, (label, image, hole, filled) in enumerate(rows):
        above, below = axes[2 * k], axes[2 * k + 1]
        for axis, title, shown in ((above[0], f"{label}\ninput", pictures.show_hole(image, hole)), (above[-1], "truth", image)):
            axis.imshow(shown, interpolation="nearest")
            axis.set_title(title)
        for j, (setup, one) in enumerate(filled.items(), 1):
            above[j].imshow(one.composite, interpolation="nearest")
            above[j].set_title(f"{setup}\n{one.psnr:.1f} dB", color=plots.SETUP_COLOURS[setup])
            drawn = below[j].imshow(one.error, cmap="magma", vmin=0, vmax=WORST, interpolation="nearest")
            below[j].set_title(f"L1 {one.l1:.3f}")
    scale = fig.add_axes([1 - 0.7 / width, 1 - 1.7 / height, 0.1 / width, 1.3 / height])
    fig.colorbar(drawn, scale, label="error", extend="max")
    return fig


def curves(picked, term, weight):
    """A logged quantity of several runs over the iterations: raw behind, smoothed in front, stages shaded.

    Returns (figure, a frame of the last values). A run that does not log it has no curve.
    """
    ends = {}
    fig, axis = plots.figure(figsize=(8, 3.2), layout="constrained")
    for k, run in enumerate(picked):
        history = pd.read_csv(run.folder / "history.csv")
        if k == 0:
            plots.shade_stages(axis, history)
        if term not in history:
            continue
        smoothed, first = smooth(history[term], weight), run.setup not in {r.setup for r in picked[:k]}
        style = dict(color=plots.SETUP_COLOURS[run.setup], ls="-" if first else "--")
        axis.plot(history.step, history[term], lw=1, alpha=0.3, **style)
        axis.plot(history.step, smoothed, lw=2, label=name_of(run), **style)
        ends[name_of(run)] = {"last, as logged": history[term].iloc[-1], "last, smoothed": smoothed[-1]}
    axis.set(title=f"{plots.TERM_LABELS.get(term, term)}, smoothing {weight:g}", xlabel="iteration")
    if ends:
        axis.legend()
    return fig, pd.DataFrame(ends).T


def score_figure(found, boundary):
    """`score_maps` as heat maps on one colour scale whose middle is the boundary: above it D says "real"."""
    n = len(found["real"][1])
    fig, axes = plots.figure(2, 1 + n, figsize=(2.1 * (1 + n) + 0.8, 4.2), squeeze=False, layout="constrained")
    reach = max(np.abs(m - boundary).max() for _, maps in found.values() for m in maps) or 1
    for row, (name, (shown, maps)) in zip(axes, found.items(), strict=True):
        row[0].imshow(shown, interpolation="nearest")
        row[0].set_title(f"{name}, as D sees it")
        for k, (axis, scores) in enumerate(zip(row[1:], maps, strict=True), 1):
            drawn = axis.imshow(scores, cmap="RdBu", vmin=boundary - reach, vmax=boundary + reach, interpolation="nearest")
            axis.set_title(f"scale {k}: mean {scores.mean():.2f}")
    for axis in axes.flat:
        axis.axis("off")
    fig.colorbar(drawn, ax=axes, label='score (blue: "real")', shrink=0.7, fraction=0.03, pad=0.02)
    return fig


def compare(picked, image, holes, stage_of, load=load_networks):
    """An image filled by several runs -> (figure, a frame of metrics in the hole with a row per run).

    `holes` is {architecture: hole}, `stage_of(run)` the stage whose weights fill. Raises ValueError for an empty hole, or one
    that an architecture cannot fill.
    """
    rows, table = {}, {}
    for run in picked:
        hole = holes[run.architecture]
        [one] = fill({"": load(run, stage_of(run))[0]}, image, hole).values()
        rows.setdefault(run.architecture, (run.architecture, image, hole, {}))[-1][run.setup] = one
        table[name_of(run)] = {"hole L1": one.l1, "hole L2": one.l2, "hole PSNR (dB)": one.psnr}
    return side_by_side(list(rows.values())), pd.DataFrame(table).T


def outputs(picked, step, image, width, load=load_networks):
    """`compare` on test image number `image` with the frozen hole of each architecture's own family, weights as of iteration
    `step` or the nearest kept before; the frame has the logged values, too. Raises ValueError if no run is picked."""
    pack = pack_of(picked)
    image = min(image, len(pack.test) - 1)
    families = {run.architecture: run.model.mask_family for run in picked}
    holes = {architecture: pack.test_masks(family, width)[image] for architecture, family in families.items()}

    def calibrated(run, stage):
        G, D = load(run, stage)
        return probe.calibrated(run, pack, G, width, "cpu"), D

    fig, frame = compare(picked, pack.test[image], holes, lambda run: stage_at(run, step), calibrated)
    for key, name in LOGGED.items():
        frame[name] = [np.nan if (row := logged(run, step)) is None else row[key] for run in picked]
    return fig, frame


def wins(picked):
    """How often each run is the best of its architecture: a frame with, per run, on how many test images its hole L1 is the
    lowest, and its mean (last stage, widest hole). Raises ValueError if no run is picked."""
    pack_of(picked)
    frames = []
    for architecture in dict.fromkeys(run.architecture for run in picked):  # each has holes of its own
        runs_of = [run for run in picked if run.architecture == architecture]
        by_image = pd.DataFrame({name_of(run): collect.last_hole(run, "l1") for run in runs_of})
        best = by_image.idxmin(axis=1).value_counts().reindex(by_image.columns, fill_value=0)
        frames.append(pd.DataFrame({"best on images": best, "mean hole L1": by_image.mean()}))
    return pd.concat(frames)


def name_of(run):
    return f"{run.architecture} {run.setup}"


def pack_of(picked):
    """The data of the picked runs. Raises ValueError if none is picked."""
    if not picked:
        raise ValueError("No finished run is of this choice.")
    return packs.existing(picked[0].study, picked[0].dataset)
