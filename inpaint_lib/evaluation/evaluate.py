"""Evaluate networks and baselines with every measure, mask family and width.

`evaluate(run, stage)` writes evaluation/stage<k>.* in the run's folder. After every stage it
measures L1, L2, PSNR, SSIM, colour and continuity on the first `images_elsewhere` test images, for
the mask family of training. After the last stage it uses all test images for that family and
`images_elsewhere` for the others, and adds images.csv.gz (errors per image), area bins (of the
user's own masks: one mask per test image) and

- overfitting: hole L1 on training images (evenly spread) minus hole L1 on as many test images, with
  the same largest holes. Compare it with the baselines': one set of images may be harder.
- hole_snapshot: L1, L2 and PSNR of G with the weights of the last step; everything else uses their
  moving average.

LPIPS, FID, KID and IS are computed for the family of training and for the largest holes of two
others, after the last stage (after every stage with fid_stages=all); LPIPS on the first
`images_elsewhere` images. Batch norm uses statistics of the measured holes (probe.calibrate_for).
"""

import functools
import re
from contextlib import nullcontext, suppress

import numpy as np
import pandas as pd
import torch

from .. import PROTOCOL, masks, metrics, models
from ..data import packs
from ..study import devices, files, processes
from ..training import artifacts, identity, probe, recording
from . import baselines as fillers
from . import card, fid, lpips, measures, pretrained

COLUMNS = ["stage", "mask_family", "mask_width", "region", "metric", "value", "n_images"]
TO_NETWORKS = ("free_form", "rectangles")  # families with FID and so on at the largest width
RECORDED = "free_form"  # family of recorded fills at the largest width
NETWORKS = ("inception", "alexnet")
NO_RESULT = {"slow_baseline_images", "recorded_points", "inception_weights", "lpips_weights"}


# --- settings and networks of the metrics


@functools.lru_cache(maxsize=2)
def _networks(inception, perceptual, device):
    """Return [fid.Extractor, lpips.Lpips], None for weights that are not available."""
    found = [None, None]
    with suppress(pretrained.NotAvailable):
        found[0] = fid.load(pretrained.find("inception", inception), device)
    with suppress(pretrained.NotAvailable):
        pretrained.find("alexnet", perceptual)
        found[1] = lpips.load(perceptual, device)
    return found


def _settings(config, **more):
    """Return the settings of an evaluation, with hashes of the files of weights, or why there are
    none."""
    of = config.evaluation
    return more | {
        "protocol": PROTOCOL,
        **of.model_dump(exclude=NO_RESULT),
        "inception": pretrained.identify("inception", of.inception_weights),
        "alexnet": pretrained.identify("alexnet", of.lpips_weights),
    }


def _is_valid(path, settings):
    """Return whether the evaluation in a .json file was made with these settings."""
    head = files.read_json(path)
    return bool(head) and _without_reasons(head["settings"]) == _without_reasons(settings)


def _without_reasons(settings):
    """Return settings without the texts that say why weights were missing: only hashes count."""
    texts = [n for n in NETWORKS if not re.fullmatch("[0-9a-f]{64}", settings.get(n, ""))]
    return settings | dict.fromkeys(texts)


# --- networks


def evaluate(run, stage):
    """Measure the networks of a stage (1 ..), write the results, and return the frame (COLUMNS)."""
    with files.lock(run.folder / "evaluation"), devices.explain_out_of_memory(run.config):
        torch.set_num_threads(run.config.machine.threads)
        return _evaluate(run, stage)


def _evaluate(run, stage):
    config, pack, last = run.config, packs.open_pack(run.study, run.dataset), stage == run.n_stages
    device, batch = devices.choose_device(config.machine.device), config.machine.evaluation_batch
    widths, own = config.curriculum.mask_widths, run.model.mask_family
    raw = not models.is_central(run.architecture)  # a central one copies the known pixels
    networks_see = last or config.evaluation.fid_stages == "all"

    def inpainting(network):
        return lambda images, holes: metrics.inpaint(network, images, holes, device, batch)

    G = artifacts.load_generator(run, stage, device)
    chosen = recording.choose_images(config, len(pack.test))
    rows, warnings, fills, of_own = [], [], {}, []
    families = [*run.architecture_entry.mask_families] if last else []
    for family in families + [own] * (own not in families):
        full = last and family == own
        n = len(pack.test) if full else min(len(pack.test), config.evaluation.images_elsewhere)
        for width in widths:
            largest = width == widths[-1]
            seen = networks_see and (family == own or (largest and family in TO_NETWORKS))
            fill = inpainting(probe.calibrate_for(run, pack, G, width, device, family))
            values, images, composites, warned = _measure(
                fill, config, pack, family, width, n, networks=seen, raw=raw
            )
            if full and largest:
                snapshot = artifacts.load_snapshot(run, device)
                values["hole", "overfitting"] = _overfitting(fill, pack, family, width, images.l1)
                values |= _of_snapshot(inpainting(snapshot), pack, family, width)
                values |= _of_game(run, pack, snapshot, device)
            rows += _rows(stage, family, width, values)
            warnings += warned
            if family == own or (largest and family == RECORDED):
                fills[f"{family}_{width}"] = composites[chosen]
            if full:
                of_own.append(images)

    head = _path(run, stage, ".json")
    head.unlink(missing_ok=True)
    if last:
        images = pd.concat(of_own)
        areas = {own: images}
        if raw and masks.FOLDER in pack.widths:  # the user's masks: of all areas, no width
            fill = inpainting(probe.calibrate_for(run, pack, G, 0, device, masks.FOLDER))
            _, found, _, _ = _measure(
                fill, config, pack, masks.FOLDER, 0, len(pack.test), networks=False, raw=raw
            )
            areas[masks.FOLDER] = found
        for family, found in areas.items():
            rows += _rows(stage, family, 0, measures.average_by_area(found))
        _store_images(head.with_name("images.csv.gz"), images.drop(columns="mask_family"))
    with files.replace(_path(run, stage, "_fills.npz")) as temporary:
        np.savez_compressed(temporary, **fills)
    frame = _store(head, rows, _settings(config), warnings)
    if last:
        card.write(run, frame)
    return frame


def _measure(fill, config, pack, family, width, n, networks, raw):
    """Measure the first n test images, filled by `fill`(images, holes) -> (output, real, mask)s.

    Return {(region, metric): (mean, n)}, a frame of errors per image, composites, warnings.
    """
    truth, holes = np.array(pack.test[:n]), pack.test_masks(family, width, slice(n))
    each, composites = measures.measure(fill(truth, holes), raw)
    values, warnings = measures.average(each), []
    if networks:
        of, batch = config.evaluation, config.machine.evaluation_batch
        device = devices.choose_device(config.machine.device)
        extractor, perceptual = _networks(of.inception_weights, of.lpips_weights, device)
        if perceptual:
            part = (x[: of.images_elsewhere] for x in (composites, truth, holes))
            values |= measures.average(lpips.measure_distances(perceptual, *part, batch))
        if extractor:
            known = fid.load_reference(
                pack.folder, extractor, pack.test, batch, pack.identity["test"]
            )
            found, warnings = fid.compare(extractor, known, composites, batch)
            values |= {("whole_composite", name): (v, n) for name, v in found.items()}
    errors = {metric: each["hole", metric] for metric in metrics.METRICS}
    if (errors["psnr"] >= metrics.PSNR_CAP).any():
        warnings = [*warnings, f"PSNR of images filled without error is {metrics.PSNR_CAP:.0f} dB"]
    named = {"mask_family": family, "mask_width": width, "image": range(n)}
    images = pd.DataFrame(named | errors | {"area": holes.mean((1, 2))})
    return values, images, composites, warnings


def _overfitting(fill, pack, family, width, l1):
    """Return (hole L1 on training images minus hole L1 `l1` on test images, their number)."""
    n = min(len(l1), len(pack.train))
    images = np.array(pack.train[probe.spread_evenly(len(pack.train), n)])
    errors = metrics.measure_batches(fill(images, pack.test_masks(family, width, slice(n))))
    return errors[:, 0, 0].mean().item() - l1[:n].mean(), n


def _of_snapshot(fill, pack, family, width):
    """Return the hole errors of the generator with the weights of the last step."""
    each = measures.measure(fill(pack.test, pack.test_masks(family, width)), extra=False)[0]
    found = measures.average(each)
    return {("hole_snapshot", metric): found["hole", metric] for metric in metrics.METRICS}


def _of_game(run, pack, snapshot, device):
    """Return the measures of the adversarial game in the last stage."""
    D = artifacts.load_networks(run, run.n_stages)[1].to(device)
    noise = probe.measure_frozen_noise(run, pack, snapshot, D, device)
    tables = (pd.read_csv(run.folder / name) for name in ("history.csv", "probe.csv"))
    found = measures.measure_game(*tables, noise)
    return {("training", name): (v, 0) for name, v in found.items() if np.isfinite(v)}


def _store_images(path, images):
    files.write_csv(path, images.drop(columns=["psnr", "area"]))


def _rows(stage, family, width, values):
    return [[stage, family, width, *key, *value] for key, value in values.items()]


def _path(run, stage, ending):
    return run.folder / "evaluation" / f"stage{stage}{ending}"


def _store(head, rows, settings, warnings):
    """Write a frame and, last, its head; return the frame as read from the file."""
    table = head.with_suffix(".csv")
    files.write_csv(table, pd.DataFrame(rows, columns=COLUMNS))
    files.write_json(head, {"settings": settings, "warnings": sorted(set(warnings))})
    return pd.read_csv(table)


def is_evaluated(run, stage):
    """Return whether a stage was evaluated with the current settings."""
    return _is_valid(_path(run, stage, ".json"), _settings(run.config))


def complete(run):
    """Evaluate the missing stages of a run, if it has finished."""
    ended = identity.read_result(run)
    if ended and ended["outcome"] == "finished":
        for stage in run.evaluated_stages:
            if not is_evaluated(run, stage):
                evaluate(run, stage)


def read_head(run):
    """Return {"settings", "warnings"} of the last stage's evaluation, or None."""
    return files.read_json(_path(run, run.n_stages, ".json"))


def read_values(run):
    """Return the frame (COLUMNS) of all evaluated stages."""
    paths = [_path(run, stage, ".csv") for stage in run.evaluated_stages]
    return pd.concat([pd.read_csv(path) for path in paths if path.is_file()], ignore_index=True)


def read_image_errors(run):
    """Return hole errors per test image (last stage, own family): mask_width, image, l1, l2."""
    return pd.read_csv(run.folder / "evaluation" / "images.csv.gz")


def read_fills(run):
    """Return the recorded fills {"stage<k>/<family>_<width>": (R,H,W,3) uint8}."""
    found = {}
    for stage in run.evaluated_stages:
        with np.load(_path(run, stage, "_fills.npz")) as stored:
            found |= {f"stage{stage}/{key}": stored[key] for key in stored.files}
    return found


# --- baselines, on all test images (slow ones on the first `slow_baseline_images`)


def measure_baselines(study, dataset):
    """Measure missing baselines on every family and width; return COLUMNS and `baseline` of all."""
    pack, config = packs.open_pack(study, dataset), study.config
    torch.set_num_threads(config.machine.threads)  # or parallel processes slow each other down
    pool = processes.create_pool(
        len(pack.test), fillers.IMAGES_PER_WORKER, extensions=config.extensions
    )
    with (
        files.lock(pack.folder / "baselines"),
        devices.explain_out_of_memory(config),
        pool or nullcontext(),
    ):
        for name in fillers.BASELINES:
            _baseline(name, config, pack, pool)
    return read_baselines(pack.folder)


def _baseline(name, config, pack, pool):
    """Measure a baseline, unless the current settings have been measured."""
    head = pack.folder / "baselines" / f"{name}.json"
    slow, n = name in fillers.SLOW, len(pack.test)
    n = min(n, config.evaluation.slow_baseline_images) if slow else n
    settings = get_untrained_settings(config, pack, n)
    if _is_valid(head, settings):
        return

    def fill(images, holes):
        size = config.machine.evaluation_batch
        return fillers.fill_batches(name, images, holes, size, pool)

    measure_untrained(head, settings, lambda *_: fill, config, pack, pack.widths, not slow)


def get_untrained_settings(config, pack, n_images):
    """Return the settings of the evaluation of baselines or other methods' outputs."""
    widths = list(config.curriculum.mask_widths)
    return _settings(config, images=n_images, mask_widths=widths, data=pack.identity)


def measure_untrained(
    head, settings, fill_of, config, pack, families, networks=True, elsewhere=False
):
    """Measure baselines or other methods' outputs; write the results and return the frame.

    fill_of(family, width) returns a function (images, holes) -> batches of filled images, uint8.
    `elsewhere`: filled by other methods, which may change known pixels and have no fills of
    training images.
    """
    rows, warnings, of_all, n = [], [], [], settings["images"]
    for family in families:
        of_family, widths = {}, pack.widths[family]
        for width in widths:
            largest, fill = width == widths[-1] > 0, _in_floats(config, fill_of(family, width))
            values, images, _, warned = _measure(
                fill, config, pack, family, width, n, networks=largest and networks, raw=elsewhere
            )
            if largest and not elsewhere:
                values["hole", "overfitting"] = _overfitting(fill, pack, family, width, images.l1)
            rows += _rows(0, family, width, values) if width else []
            warnings += warned
            of_family[width] = images
        any_area = of_family.pop(0, None)  # the user's own masks
        by_area = pd.concat(of_family.values()) if any_area is None else any_area
        rows += _rows(0, family, 0, measures.average_by_area(by_area))
        of_all += of_family.values()
    head.unlink(missing_ok=True)
    if not elsewhere:
        _store_images(head.with_name(f"{head.stem}_images.csv.gz"), pd.concat(of_all))
    return _store(head, rows, settings, warnings)


def _in_floats(config, fill):
    """Return a function like `fill` that yields batches as metrics.inpaint does."""
    device = devices.choose_device(config.machine.device)
    device = "cpu" if device.type == "mps" else device  # it has no float64

    def filled(images, holes):
        start = 0
        for output in fill(images, holes):
            part = slice(start, start + len(output))
            start = part.stop
            output, real = (metrics.to_float(x, device) for x in (output, images[part]))
            yield output, real, metrics.to_holes(holes[part], device)

    return filled


def read_baselines(folder, ending=".csv"):
    """Return the frame of all baselines from a data folder: COLUMNS and `baseline`."""
    paths = {name: folder / "baselines" / f"{name}{ending}" for name in fillers.BASELINES}
    parts = [pd.read_csv(path).assign(baseline=name) for name, path in paths.items()]
    return pd.concat(parts, ignore_index=True)


def read_baseline_errors(folder):
    """Return hole errors per image: baseline, mask_family, mask_width, image, l1, l2."""
    return read_baselines(folder, "_images.csv.gz")
