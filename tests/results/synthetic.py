"""A made-up study with known effects."""

import base64
import dataclasses
import io
import itertools
import os
import zlib

import nbformat
import numpy as np
import pandas as pd
from PIL import Image

from inpaint_lib import PROTOCOL, masks
from inpaint_lib.data import packing, packs
from inpaint_lib.evaluation import baselines, evaluate
from inpaint_lib.results import frames, hypotheses
from inpaint_lib.setups import SETUPS, Schedule, find_trained_stages
from inpaint_lib.study import config as configuration
from inpaint_lib.study import files
from inpaint_lib.training import artifacts, identity

PAPERS = ("fixed", "progressive", "recon_first", "adv_ramp")
MADE = ("fixed", "progressive", "adv_ramp", "mixed")  # with a control
EFFECT = {"progressive": 0.8, "recon_first": 0.97, "mixed": 0.9, "last_only": 1.2}
BASELINES = {"mean colour": 0.3, "nearest": 0.25, "Telea": 0.2, "biharmonic": 0.18}
LEVEL = {"custom": 0.10, "context_encoder": 0.12, "free_form": 0.09}
ERRORS = {  # metric: function of L1
    "l1": lambda l1: l1,
    "l2": lambda l1: 2 * l1**2,
    "psnr": lambda l1: -10 * np.log10(2 * l1**2),
}
REGIONS = ("hole", "whole_composite", "visible")
MEASURES = {(region, metric): ERRORS[metric] for region in REGIONS for metric in ERRORS}
EXTRA = {
    ("whole_composite", "ssim"): lambda l1: 1 - l1,
    ("hole", "colour"): lambda l1: 70 * l1,
    ("hole", "continuity"): lambda l1: l1 / 2,
}
ONCE = {  # with the largest hole
    ("hole", "overfitting"): lambda l1: -l1 / 100,
    ("hole_snapshot", "l1"): lambda l1: 1.1 * l1,
    ("training", "stability"): lambda l1: 20 * l1,
}
BINS = ("area_0_10", "area_10_20", "area_20_30")
NETWORK = "not available: this profile does without"


def study(
    datasets=("faces", "clutter"),
    architectures=("custom", "context_encoder", "free_form"),
    setups=MADE,
    seeds=range(4),
    diverged=("clutter/free_form/adv_ramp/seed1",),
    n_images=24,
    noise=0.01,
    effect=EFFECT,
    smaller=None,
    level=LEVEL,
    name="synthetic",
    profile="smoke",
    overrides=None,
):
    """Return Results of which hole L1 is the level of the architecture, times that of the seed,
    times `effect` of the setup (fixed's is 1) and, with smaller holes than the largest, times
    `smaller` of the setup. Pairs differ by `noise` (a ratio's standard deviation), seeds by ten
    times as much. With the profile `small` the study carries words."""
    sizes = {"data.test_images": n_images, "data.train_images": 100}
    asked = sizes if profile == "smoke" else {}
    grid = {"datasets": datasets, "architectures": architectures, "setups": setups, "seeds": seeds}
    asked |= {f"grid.{key}": list(value) for key, value in grid.items()}
    config = configuration.load(profile, asked | (overrides or {}))
    made, fills, rows, errors = {key: [] for key in frames.COLUMNS}, {}, [], {}
    recorded = np.linspace(0, n_images - 1, 3).round().astype(int)
    for dataset in datasets:
        size = config.data.image_size
        truth = _pixels(0, (len(recorded), size, size, 3))
        fills[f"{dataset}/truth"] = truth
        made["baselines"].append(_baselines(config, n_images).assign(dataset=dataset))
        made["baseline_images"].append(_baseline_images(config, n_images).assign(dataset=dataset))
    for run in itertools.product(datasets, architectures, setups, seeds):
        name_of_run = "/".join(map(str, run[:3])) + f"/seed{run[3]}"
        rows.append(_row(config, run, name_of_run in diverged))
        if name_of_run in diverged:
            continue
        rng = np.random.default_rng(zlib.crc32(name_of_run.encode()))
        of_seed = 1 + 10 * noise * np.random.default_rng(run[3]).normal()
        l1 = level[run[1]] * of_seed * effect.get(run[2], 1.0) * np.exp(noise * rng.normal())
        widths = config.curriculum.mask_widths
        by_width = {w: l1 * w / widths[-1] * (smaller or {}).get(run[2], 1.0) for w in widths[:-1]}
        by_width[widths[-1]] = l1
        found = {
            "values": _values(config, run, by_width, n_images),
            "history": _history(config, run, rng),
        }
        for key, frame in found.items():
            made[key].append(frame.assign(**dict(zip(frames.RUN, run, strict=True))))
        of_run = frames.spread_images(_per_image(by_width, n_images, rng), "mask_width")
        errors |= {(*run, metric): frame for metric, frame in of_run.items()}
        if run[3] == min(seeds):
            fills |= _fills(config, run, len(recorded))
    made["runs"] = [pd.DataFrame(rows)]
    about = {"name": name, "profile": profile, "protocol": PROTOCOL, "left_out": {}}
    about |= {"config": configuration.to_dict(config), "hypotheses": hypotheses.hash_plan()}
    about["data"] = {dataset: _data(config, dataset, n_images) for dataset in datasets}
    about["recorded"] = {dataset: recorded.tolist() for dataset in datasets}
    made = {key: _rounded(frames.join(key, found)) for key, found in made.items()}
    made["per_image"] = frames.join_errors(errors)
    return frames.narrow(frames.Results(about, **made, fills=fills))


def write_folders(study):
    """Write the folders that training and evaluation leave of a study: made-up numbers, no weights,
    black test images."""
    config = study.config
    n, n_recorded = config.data.test_images, config.evaluation.recorded_images
    for dataset in config.grid.datasets:
        _write_data(study, dataset, n)
    for run in study.runs():
        key = (run.dataset, run.architecture, run.setup, run.seed)
        rng = np.random.default_rng(zlib.crc32(run.name.encode()))
        l1 = LEVEL[run.architecture] * EFFECT.get(run.setup, 1.0) * np.exp(0.01 * rng.normal())
        widths = config.curriculum.mask_widths
        by_width = {w: l1 * w / widths[-1] for w in widths}
        values, folder = _values(config, key, by_width, n), run.folder
        for name in artifacts.list_files(run):
            files.write_text(folder / name, "")
        made = identity.identify(run, packs.open_pack(study, run.dataset), "cpu")
        row = _row(config, key, lost=False)
        kept = {k: row[k] for k in frames.COLUMNS["runs"] if k in row} | {"identity": made}
        kept |= {"peak_memory_bytes": {"host": row["host_memory"]}}
        kept |= {"parameters": {"generator": 1e5, "discriminator": 1e4}}
        versions = {"versions": {"torch": row["torch"]}, "commit": "abc", "system": "Linux"}
        files.write_json(folder / "result.json", kept | {"provenance": versions})
        files.write_json(folder / "run.json", made)
        files.write_csv(folder / "history.csv", _history(config, key, rng))
        files.write_csv(folder / "evaluation/images.csv.gz", _per_image(by_width, n, rng))
        fills = _fills(config, key, n_recorded) if run.seed == config.grid.seeds[0] else {}
        head = {"settings": evaluate._settings(config), "warnings": []}
        for k in run.evaluated_stages:
            files.write_csv(folder / f"evaluation/stage{k}.csv", values[values.stage == k])
            files.write_json(folder / f"evaluation/stage{k}.json", head)
            begin = f"{run.name}/stage{k}/"
            of = {name.removeprefix(begin): v for name, v in fills.items() if begin in name}
            if of:
                np.savez(folder / f"evaluation/stage{k}_fills.npz", **of)


def _write_data(study, dataset, n):
    """Write a pack of black images, and what baselines made of them."""
    folder, config, size = study.data_folder(dataset), study.config, study.config.data.image_size
    (folder / "baselines").mkdir(parents=True)
    for split, rows in (("train", 100), ("test", n)):
        header = packing.make_npy_header((rows, size, size, 3))
        with open(folder / f"{split}.npy", "wb") as file:
            file.write(header)
            file.truncate(len(header) + rows * size * size * 3)  # takes no room on disk
    keys = [f"{f}_{w}" for f in masks.FAMILIES for w in config.curriculum.mask_widths]
    bits = np.zeros((n, size * size // 8), np.uint8)
    np.savez_compressed(folder / "masks.npz", **dict.fromkeys(keys, bits))
    data = _data(config, dataset, n)
    manifest = {key: data[key] for key in ("about", "stands_in_for", "images")}
    manifest["masks"] = {key: {"hole_fraction": v} for key, v in data["masks"].items()}
    manifest["files"] = {
        f"{name}.np{end}": {"sha256": sha, "bytes": (folder / f"{name}.np{end}").stat().st_size}
        for (name, sha), end in zip(data["identity"].items(), "yyz", strict=True)
    }
    of = {"data": config.data.model_dump(), "mask_widths": list(config.curriculum.mask_widths)}
    files.write_json(folder / "manifest.json", manifest | {"settings": of})
    pack = packs.open_pack(study, dataset)
    values, images = _baselines(config, n), _baseline_images(config, n)
    for name in baselines.BASELINES:
        like = name if name in BASELINES else "nearest"
        few = config.evaluation.slow_baseline_images if name in baselines.SLOW else n
        settings = evaluate.get_untrained_settings(config, pack, few)
        head = {"settings": settings, "warnings": []}
        files.write_json(folder / f"baselines/{name}.json", head)
        for frame, ending in ((values, ".csv"), (images, "_images.csv.gz")):
            own = frame[frame.baseline == like].drop(columns="baseline")
            files.write_csv(folder / f"baselines/{name}{ending}", own)


def unknown(setup, **options):
    """Return Results of fixed and of a setup that is not known here."""
    SETUPS[setup] = SETUPS["progressive"]
    try:
        effect = {"fixed": 1.0, setup: 0.9}
        return study(architectures=["custom"], setups=[*effect], effect=effect, **options)
    finally:
        del SETUPS[setup]


def notebook(path, text):
    """Write an executed notebook with prose, a wide figure, a widget, a long line, a frame and a
    text in its output; return its path."""
    node, v4 = nbformat.v4.new_notebook(), nbformat.v4
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "WIDGET"}
    Image.new("RGB", (1800, 2)).save(file := io.BytesIO(), "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    waits = "waiting for another process that works in data/ ...\n"
    lines = f"{waits}{text}\n{waits}{'0123456789' * 30}\n"
    outputs = [
        v4.new_output("display_data", data={"image/png": picture}),
        v4.new_output("display_data", data=widget),
        v4.new_output("stream", text=lines),
    ]
    table = pd.DataFrame(np.ones((2, 40))).to_html(max_cols=40)
    frame = v4.new_output("execute_result", data={"text/html": table})
    node.cells = [
        v4.new_code_cell('profile = "smoke"', metadata={"tags": ["parameters"]}),
        v4.new_code_cell('profile = "tiny"', metadata={"tags": ["injected-parameters"]}),
        v4.new_markdown_cell("# What is shown?\n\nProse."),
        v4.new_code_cell("print(1)", outputs=outputs, execution_count=1),
        v4.new_code_cell("2", outputs=[frame], metadata={"jupyter": {"outputs_hidden": True}}),
        v4.new_code_cell("3  # " + "a long line " * 20, outputs=[frame]),
    ]
    nbformat.write(node, path)
    return path


def recording(path, widths, n_images, seed=0):
    """Write a run's recording.npz with the scores of a D of two scales; return its path."""
    rng, stages = np.random.default_rng(seed), len(widths)
    scores = {
        f"end_scores_{width}_{k}": rng.random((stages, n_images, side, side)).astype(np.float16)
        for width, (k, side) in itertools.product(widths, enumerate((4, 2)))
    }
    np.savez_compressed(path, **scores)
    return path


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


def with_errors(results, rows, metric, change):
    """Return Results with other errors per image in the rows of a query on the index.

    change: a function of what they were."""
    table = results.per_image.copy()
    at = table.query(f"({rows}) and metric == '{metric}'").index
    table.loc[at] = change(table.loc[at])
    return dataclasses.replace(results, per_image=table)


def with_outputs(results, name, value):
    """Return Results with outputs that were made elsewhere, of which every measure is `value`."""
    new = results.baselines.query("baseline == 'Telea'").assign(value=value)
    new = new.assign(baseline=name + frames.EXTERNAL)
    return dataclasses.replace(results, baselines=pd.concat([results.baselines, new]))


def stages(config, setup):
    """Return the stages (1 ..) in which a setup trains."""
    schedule = Schedule(config.curriculum.steps, config.curriculum.mask_widths)
    return find_trained_stages(SETUPS[setup], schedule)


def _row(config, run, lost):
    curriculum = config.curriculum
    step = 7 if lost else curriculum.steps
    made = {"step": step, "images": step * curriculum.batch_size}
    made |= {"device": "cpu", "device_kind": "cpu", "precision": "float32", "protocol": PROTOCOL}
    made |= {"torch": "2.9", "commit": "abc", "system": "Linux", "inception": NETWORK}
    made |= {"alexnet": NETWORK, "seconds": 60.0, "step_seconds": 0.5, "host_memory": 1e9}
    made |= {"parameters_g": 1e5, "parameters_d": 1e4, "why": "loss is not finite" if lost else ""}
    outcome = {"outcome": "diverged" if lost else "finished"}
    return dict(zip(frames.RUN, run, strict=True)) | made | outcome


def _values(config, run, by_width, n_images):
    _, architecture, setup, _ = run
    curriculum, own = config.curriculum, config.models[architecture].mask_family
    n_stages, largest, rows = curriculum.n_stages, curriculum.mask_widths[-1], []
    elsewhere = min(n_images, config.evaluation.images_elsewhere)
    for stage in stages(config, setup):
        last = stage == n_stages
        for family in masks.FAMILIES if last and own != "center" else [own]:
            n = n_images if last and family == own else elsewhere
            for width, l1 in by_width.items():
                l1 = l1 * (1 + 0.1 * (n_stages - stage))
                measures = MEASURES | (EXTRA if last else {})
                measures |= ONCE if last and family == own and width == largest else {}
                for (region, metric), function in measures.items():
                    if region != "visible" or own != "center":
                        rows.append([stage, family, width, region, metric, function(l1), n])
    rows += [[n_stages, own, 0, *row] for row in _areas(by_width[largest], n_images)]
    return pd.DataFrame(rows, columns=frames.MEASURED)


def _areas(l1, n_images):
    """Yield (region, metric, value, images) of the bins of hole area."""
    for k, region in enumerate(BINS, 1):
        for metric in ("l1", "psnr"):
            yield region, metric, ERRORS[metric](l1 * k / len(BINS)), k * n_images


def _per_image(by_width, n_images, rng):
    rows = []
    for width, l1 in by_width.items():
        errors = l1 * rng.uniform(0.5, 1.5, n_images)
        rows += [[width, k, error, error**2] for k, error in enumerate(errors)]
    return pd.DataFrame(rows, columns=["mask_width", "image", "l1", "l2"])


def _history(config, run, rng):
    curriculum, rows = config.curriculum, []
    schedule = Schedule(curriculum.steps, curriculum.mask_widths, run[3])
    for step in range(config.training.log_every, curriculum.steps + 1, config.training.log_every):
        phase = SETUPS[run[2]].phase(schedule, step - 1)
        if not phase.trains:
            continue
        row = {"step": step, "stage": phase.stage + 1, "mask_width": phase.mask_width}
        row |= {"reconstruction_weight": 1.0, "adversarial_weight": phase.adversarial}
        row |= {"d_accuracy": 0.7, "adversarial_share": 0.3 * phase.adversarial}
        row |= {"gradient_cosine": 0.1 if phase.adversarial else np.nan, "hole_fraction": 0.2}
        row |= {"grad_norm_adversarial": 0.3 * phase.adversarial, "grad_norm_reconstruction": 1.0}
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
        for (region, metric), function in (MEASURES | EXTRA).items():
            if region != "visible":
                rows.append([name, family, width, region, metric, function(l1), n])
        if width == widths[-1]:
            rows += [[name, family, 0, *row] for row in _areas(l1, n)]
    return pd.DataFrame(rows, columns=frames.COLUMNS["baselines"][1:])


def _fills(config, run, n):
    dataset, architecture, setup, seed = run
    found, own = {}, config.models[architecture].mask_family
    for stage in stages(config, setup):
        for width in config.curriculum.mask_widths:
            key = f"stage{stage}/{own}_{width}"
            size = config.data.image_size
            pixels = _pixels(stage, (n, size, size, 3))
            found[f"{dataset}/{architecture}/{setup}/seed{seed}/{key}"] = pixels
            hole = np.zeros((n, size, size), np.uint8)
            hole[:, 8 : 8 + width, 8 : 8 + width] = 1
            found[f"{dataset}/mask/{own}_{width}"] = hole
    return found


def _pixels(seed, shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _data(config, dataset, n_images):
    keys = [f"{f}_{w}" for f in masks.FAMILIES for w in config.curriculum.mask_widths]
    return {
        "about": f"made-up {dataset}",
        "stands_in_for": {"faces": "CelebA", "clutter": "MSCOCO"}.get(dataset),
        "images": {"train": 100, "test": n_images},
        "identity": {"train": "a" * 64, "test": "b" * 64, "masks": "c" * 64},
        "masks": dict.fromkeys(keys, 0.25),
    }


def _rounded(frame):
    """As written to a file: nine digits."""
    digits = {c: [float(f"{v:.9g}") for v in frame[c]] for c in frame.select_dtypes("float")}
    return frame.assign(**digits)
