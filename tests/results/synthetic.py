"""A made-up study with known effects."""

import dataclasses
import itertools
import os

import numpy as np
import pandas as pd

from inpaint_lib import PROTOCOL, masks, metrics
from inpaint_lib.results import frames, stats
from inpaint_lib.setups import SETUPS
from inpaint_lib.study import config as configuration

PAPERS = ("fixed", "progressive", "recon_first", "adv_ramp")
EFFECT = {"fixed": 1.0, "progressive": 0.8, "recon_first": 0.97, "adv_ramp": 1.0, "mixed": 0.9}
BASELINES = {"mean colour": 0.3, "nearest": 0.25, "Telea": 0.2, "biharmonic": 0.18}
LEVEL = {"custom": 0.10, "context_encoder": 0.12, "free_form": 0.09}
MEASURES = {  # (region, metric): function of hole L1
    **{(region, "l1"): lambda l1: l1 for region in metrics.REGIONS},
    **{(region, "l2"): lambda l1: 2 * l1**2 for region in metrics.REGIONS},
    **{(region, "psnr"): lambda l1: -10 * np.log10(2 * l1**2) for region in metrics.REGIONS},
    ("whole_composite", "ssim"): lambda l1: 1 - l1,
    ("hole", "colour"): lambda l1: 70 * l1,
    ("hole", "continuity"): lambda l1: l1 / 2,
}
AT_THE_END = {
    ("hole", "overfitting"): lambda l1: -l1 / 100,
    ("training", "stability"): lambda l1: 20 * l1,
}
NETWORK = "not available: this profile does without"


def study(
    datasets=("faces", "scenes"),
    architectures=("custom", "context_encoder", "free_form"),
    setups=PAPERS,
    seeds=range(4),
    diverged=("scenes/free_form/adv_ramp/seed1",),
    n_images=24,
    noise=0.01,
    effect=EFFECT,
    level=LEVEL,
    name="synthetic",
    overrides=None,
):
    """Return Results of which hole L1 is the level of the architecture, times that of the seed,
    times `effect` of the setup. Pairs differ by `noise` (a ratio's standard deviation), seeds by
    ten times as much."""
    asked = {"data.test_images": n_images, "data.train_images": 100, "curriculum.total_images": 320}
    grid = {"datasets": datasets, "architectures": architectures, "setups": setups, "seeds": seeds}
    asked |= {f"grid.{key}": list(value) for key, value in grid.items()}
    config = configuration.load("smoke", asked | (overrides or {}))
    made, fills, rows = {key: [] for key in frames.COLUMNS}, {}, []
    recorded = np.linspace(0, n_images - 1, 3).round().astype(int)
    for dataset in datasets:
        truth = _pixels(0, (len(recorded), 32, 32, 3))
        fills[f"{dataset}/truth"] = truth
        made["baselines"].append(_baselines(config, n_images).assign(dataset=dataset))
        made["baseline_images"].append(_baseline_images(config, n_images).assign(dataset=dataset))
    for run in itertools.product(datasets, architectures, setups, seeds):
        rows.append(_row(run, "/".join(map(str, run[:3])) + f"/seed{run[3]}" in diverged))
        if rows[-1]["outcome"] == "diverged":
            continue
        rng = np.random.default_rng([run[3], *map(len, run[:3])])
        of_seed = 1 + 10 * noise * np.random.default_rng(run[3]).normal()
        l1 = level[run[1]] * of_seed * effect[run[2]] * np.exp(noise * rng.normal())
        found = {
            "values": _values(config, run[1], l1, n_images),
            "history": _history(config, rng),
            "per_image": _per_image(config, l1, n_images, rng),
        }
        for key, frame in found.items():
            made[key].append(frame.assign(**dict(zip(frames.RUN, run, strict=True))))
        if run[3] == min(seeds):
            fills |= _fills(config, run, len(recorded))
    made["runs"] = [pd.DataFrame(rows)]
    about = {"name": name, "profile": "smoke", "protocol": PROTOCOL, "left_out": {}}
    about |= {"config": configuration.to_dict(config), "hypotheses": stats.digest()}
    about["data"] = {dataset: _data(config, dataset, n_images) for dataset in datasets}
    about["recorded"] = {dataset: recorded.tolist() for dataset in datasets}
    made = {key: _rounded(frames.joined(key, found)) for key, found in made.items()}
    return frames.narrowed(frames.Results(about, **made, fills=fills))


def unknown(setup, **options):
    """Return Results of fixed and of a setup that is not known here."""
    SETUPS[setup] = SETUPS["progressive"]
    try:
        effect = {"fixed": 1.0, setup: 0.9}
        return study(architectures=["custom"], setups=[*effect], effect=effect, **options)
    finally:
        del SETUPS[setup]


def interrupted(monkeypatch, k, function, *arguments):
    """Call a function that is interrupted when it puts its file number k in place -> whether."""
    replace, calls = os.replace, iter(range(k))

    def limited(*paths):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", limited)
        try:
            function(*arguments)
        except KeyboardInterrupt:
            return True
    return False


def with_rows(results, frame, rows, **values):
    """Return Results in one of whose frames the rows of a query have other values."""
    table = getattr(results, frame).copy()
    for column, value in values.items():
        table.loc[table.query(rows).index, column] = value
    return dataclasses.replace(results, **{frame: table})


def _row(run, lost):
    at = {"step": 7, "images": 56} if lost else {"step": 40, "images": 320}
    made = {"device": "cpu", "device_kind": "cpu", "precision": "float32", "protocol": PROTOCOL}
    made |= {"torch": "2.9", "commit": "abc", "system": "Linux", "inception": NETWORK}
    made |= {"alexnet": NETWORK, "seconds": 60.0, "step_seconds": 0.5, "host_memory": 1e9}
    made |= {"parameters_g": 1e5, "parameters_d": 1e4, "why": "loss is not finite" if lost else ""}
    outcome = {"outcome": "diverged" if lost else "finished"}
    return dict(zip(frames.RUN, run, strict=True)) | at | made | outcome


def _values(config, architecture, l1, n_images):
    widths, rows = config.curriculum.mask_widths, []
    own = config.models[architecture].mask_family
    for stage in range(1, len(widths) + 1):
        last = stage == len(widths)
        for family in masks.FAMILIES if last and own != "center" else [own]:
            for width in widths:
                part = l1 * width / widths[-1] * (1 + 0.1 * (len(widths) - stage))
                measures = MEASURES | (AT_THE_END if (last, width) == (True, widths[-1]) else {})
                for (region, metric), function in measures.items():
                    rows.append([stage, family, width, region, metric, function(part), n_images])
    return pd.DataFrame(rows, columns=frames.MEASURED)


def _per_image(config, l1, n_images, rng):
    rows = []
    for width in config.curriculum.mask_widths:
        errors = l1 * width / config.curriculum.mask_widths[-1] * rng.uniform(0.5, 1.5, n_images)
        rows += [[width, k, error, error**2] for k, error in enumerate(errors)]
    return pd.DataFrame(rows, columns=["mask_width", "image", "l1", "l2"])


def _history(config, rng):
    curriculum, rows = config.curriculum, []
    for step in range(10, curriculum.steps + 1, 10):
        stage = (step - 1) // curriculum.steps_per_stage + 1
        row = {"step": step, "stage": stage, "mask_width": curriculum.mask_widths[stage - 1]}
        row |= {"reconstruction_weight": 1.0, "adversarial_weight": 1.0, "d_accuracy": 0.7}
        row |= dict.fromkeys(["adversarial_g_std", "adversarial_d_std", "unsaturated"], 0.5)
        for name in ("l1_valid", "l1_hole", "adversarial_g", "adversarial_d", "total_g"):
            row[name] = rng.uniform(0.5, 1)
        row |= {"d_real": 0.8, "d_fake": 0.2, "probe_g": rng.uniform(0.5, 1), "probe_d": 0.5}
        rows.append(row | {"grad_norm_g": 1.0, "grad_norm_d": 1.0, "images_per_second": 50.0})
    return pd.DataFrame(rows)


def _baseline_images(config, n_images):
    """Errors of the baselines that grow by a per cent from image to image."""
    rows, widths = [], config.curriculum.mask_widths
    for name, family, width in itertools.product(BASELINES, masks.FAMILIES, widths):
        l1 = BASELINES[name] * width / widths[-1]
        for image in range(4 if name == "biharmonic" else n_images):
            part = l1 * (1 + 0.01 * image)
            rows.append([name, family, width, image, part, part**2])
    return pd.DataFrame(rows, columns=frames.COLUMNS["baseline_images"][1:])


def _baselines(config, n_images):
    rows, widths = [], config.curriculum.mask_widths
    for name, family, width in itertools.product(BASELINES, masks.FAMILIES, widths):
        n, l1 = 4 if name == "biharmonic" else n_images, BASELINES[name] * width / widths[-1]
        for (region, metric), function in MEASURES.items():
            if region != "whole_raw":
                rows.append([name, family, width, region, metric, function(l1), n])
    return pd.DataFrame(rows, columns=frames.COLUMNS["baselines"][1:])


def _fills(config, run, n):
    dataset, architecture, setup, seed = run
    found, own = {}, config.models[architecture].mask_family
    for stage in range(1, config.curriculum.n_stages + 1):
        for width in config.curriculum.mask_widths:
            key = f"stage{stage}/{own}_{width}"
            pixels = _pixels(stage, (n, 32, 32, 3))
            found[f"{dataset}/{architecture}/{setup}/seed{seed}/{key}"] = pixels
            hole = np.zeros((n, 32, 32), np.uint8)
            hole[:, 8 : 8 + width, 8 : 8 + width] = 1
            found[f"{dataset}/mask/{own}_{width}"] = hole
    return found


def _pixels(seed, shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _data(config, dataset, n_images):
    keys = [f"{f}_{w}" for f in masks.FAMILIES for w in config.curriculum.mask_widths]
    groups = [k // 3 for k in range(n_images)] if dataset == "scenes" else None
    return {
        "about": f"made-up {dataset}",
        "stands_in_for": {"faces": "CelebA", "scenes": "MSCOCO"}.get(dataset),
        "images": {"train": 100, "test": n_images},
        "identity": {"train": "a" * 64, "test": "b" * 64, "masks": "c" * 64},
        "masks": dict.fromkeys(keys, 0.25),
        "test_groups": groups,
    }


def _rounded(frame):
    """As written to a file: nine digits."""
    digits = {c: [float(f"{v:.9g}") for v in frame[c]] for c in frame.select_dtypes("float")}
    return frame.assign(**digits)
