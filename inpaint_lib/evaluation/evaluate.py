"""Evaluation of networks and baselines: every measure, mask family and width. Nothing here trains.

`evaluate(run, stage)` measures each time it is called and writes evaluation/stage<k>.* in the run's
folder. After a stage: L1, L2 and PSNR on the family trained with (and FID if fid_stages is all).
After the last stage also all other measures (measures.py), all families, images.csv.gz, and:

- overfitting: hole L1 on training images (as many, evenly spread) minus that on test images, with
  the same largest holes. One set may be harder than the other: the baselines differ, too.
- hole_snapshot: L1, L2 and PSNR of G with the weights of the last step; all else is of their moving
  average.

Batch-norm statistics are those of the holes that are measured (probe.calibrated).
"""

import functools
import itertools
from contextlib import nullcontext, suppress

import numpy as np
import pandas as pd
import torch

from .. import PROTOCOL, masks, metrics, models
from ..data import packs
from ..study import devices, files, processes
from ..training import artifacts, identity, probe
from . import baselines as fillers
from . import card, fid, measures, pretrained

COLUMNS = ["stage", "mask_family", "mask_width", "region", "metric", "value", "n_images"]
WITH_FID = ("free_form", "rectangles")  # at the largest width, beside the family trained with
RECORDED = "free_form"  # family of recorded fills, likewise


@functools.lru_cache(maxsize=2)
def _networks(inception, alexnet, device):
    """Return (fid.Extractor, LPIPS network); None where weights are not available."""
    extractor = lpips = None
    with suppress(pretrained.NotAvailable):
        extractor = fid.load(pretrained.find("inception", inception), device)
    with suppress(pretrained.NotAvailable):
        pretrained.find("alexnet", alexnet)
        from torchmetrics.image import lpip  # takes seconds to import

        lpips = lpip.LearnedPerceptualImagePatchSimilarity("alex").net.to(device)
    return extractor, lpips


def _settings(config, **more):
    """Return what decides the numbers of an evaluation, beside the networks that are evaluated."""
    of = config.evaluation
    return more | {
        "protocol": PROTOCOL,
        **of.model_dump(exclude={"slow_baseline_images"}),
        "inception": pretrained.identity("inception", of.inception_weights),
        "alexnet": pretrained.identity("alexnet", of.lpips_weights),
    }


def recorded(config, n_test):
    """Return the indices of the test images whose fills are kept: evenly spread."""
    return _spread(n_test, min(config.evaluation.recorded_images, n_test))


def _spread(n, wanted):
    return np.linspace(0, n - 1, wanted).round().astype(int)


def evaluate(run, stage):
    """Measure the networks of a stage (1 ..), write the results, and return the frame (COLUMNS)."""
    with files.locked(run.folder / "evaluation"), devices.enough_memory(run.config):
        torch.set_num_threads(run.config.machine.threads)
        return _evaluate(run, stage)


def _evaluate(run, stage):
    config, pack, last = run.config, packs.existing(run.study, run.dataset), stage == run.n_stages
    device, batch = devices.choose_device(config.machine.device), config.machine.evaluation_batch
    widths, own = config.curriculum.mask_widths, run.model.mask_family
    families = run.architecture_entry.mask_families if last else (own,)
    raw = not models.central(run.architecture)  # else it has no whole image of its own
    fid_wanted = last or config.evaluation.fid_stages == "all"
    G, chosen = artifacts.load_generator(run, stage, device), recorded(config, len(pack.test))
    rows, warnings, fills, images = [], [], {}, []
    for family, width in itertools.product(families, widths):
        largest, holes = width == widths[-1], pack.test_masks(family, width)
        calibrated = probe.calibrated(run, pack, G, width, device, family)
        outputs = metrics.inpaint(calibrated, pack.test, holes, device, batch)
        with_fid = fid_wanted and (family == own or (largest and family in WITH_FID))
        each, values, composites, warned = _measured(outputs, config, pack, with_fid, raw, last)
        rows += _rows(stage, family, width, values, len(pack.test))
        warnings += warned
        if family == own or (largest and family == RECORDED):
            fills[f"{family}_{width}"] = composites[chosen]
        if last and family == own:
            images.append(_per_image(each, mask_width=width))
    if last:
        for values, n in _of_run(run, pack, G, device):
            rows += _rows(stage, own, widths[-1], values, n)

    head = _path(run, stage, ".json")
    head.unlink(missing_ok=True)
    if images:
        files.write_csv(head.with_name("images.csv.gz"), pd.concat(images))
    with files.replacing(_path(run, stage, "_fills.npz")) as temporary:
        np.savez_compressed(temporary, **fills)
    frame = _store(head, rows, _settings(config), warnings)
    if last:
        card.write(run, frame)
    return frame


def _measured(outputs, config, pack, with_fid, raw, extra=True):
    """Return the measures of `(output, real, mask)` batches: per image and as means (with FID, KID
    and IS), both {(region, metric): ...}; the composites; warnings.
    """
    of, device = config.evaluation, devices.choose_device(config.machine.device)
    extractor, lpips = _networks(of.inception_weights, of.lpips_weights, device)
    each, composites = measures.measure(outputs, lpips, raw, extra)
    values, warnings = measures.means(each), []
    if (each["hole", "psnr"] >= metrics.PSNR_CAP).any():
        warnings = [f"PSNR of images filled without error is {metrics.PSNR_CAP:.0f} dB"]
    if with_fid and extractor:
        batch, digest = config.machine.evaluation_batch, pack.identity["test"]
        truth = fid.reference(pack.folder, extractor, pack.test, batch, digest)
        found, warned = fid.compare(extractor, truth, composites, batch)
        values |= {("whole_composite", name): value for name, value in found.items()}
        warnings += warned
    return each, values, composites, warnings


def _of_run(run, pack, G, device):
    """Yield (values, number of images) of what is measured once a run, with its largest holes."""
    own, width = run.model.mask_family, run.config.curriculum.mask_widths[-1]
    holes, batch = pack.test_masks(own, width), run.config.machine.evaluation_batch

    def outputs(network, images):  # the networks are stored with statistics of these holes
        return metrics.inpaint(network, images, holes[: len(images)], device, batch)

    sets, snapshot = _both_sets(pack, len(pack.test)), artifacts.load_snapshot(run, device)
    yield {("hole", "overfitting"): _gap(outputs(G, images) for images in sets)}, len(sets[0])
    errors = metrics.evaluate(outputs(snapshot, pack.test))[:, metrics.REGIONS.index("hole")]
    named = zip(metrics.METRICS, errors.mean(0).tolist(), strict=True)
    yield {("hole_snapshot", name): value for name, value in named}, len(pack.test)
    D = artifacts.load_networks(run, run.n_stages)[1].to(device)
    noise = probe.frozen_noise(run, pack, snapshot, D, device)
    tables = (pd.read_csv(run.folder / name) for name in ("history.csv", "probe.csv"))
    found = measures.stability(*tables, noise)
    yield {("training", name): v for name, v in found.items() if np.isfinite(v)}, 0


def _both_sets(pack, n):
    """Return up to n training images, evenly spread, and as many test images."""
    n = min(n, len(pack.train), len(pack.test))
    return np.array(pack.train[_spread(len(pack.train), n)]), np.array(pack.test[:n])


def _gap(outputs):
    """Return the hole L1 of the first of two sets of batches minus that of the second."""
    train, test = (metrics.evaluate(batches)[:, 0, 0].mean().item() for batches in outputs)
    return train - test


def _per_image(values, **keys):
    errors = {metric: values["hole", metric] for metric in ("l1", "l2")}
    return pd.DataFrame(keys | {"image": range(len(errors["l1"]))} | errors)


def _rows(stage, family, width, values, n):
    return [[stage, family, width, *key, value, n] for key, value in values.items()]


def _path(run, stage, ending):
    return run.folder / "evaluation" / f"stage{stage}{ending}"


def _store(head, rows, settings, warnings):
    """Write a frame and, last, its head; return the frame as it is read."""
    table = head.with_suffix(".csv")
    files.write_csv(table, pd.DataFrame(rows, columns=COLUMNS))
    files.write_json(head, {"settings": settings, "warnings": sorted(set(warnings))})
    return pd.read_csv(table)


def evaluated(run, stage):
    """Return whether a stage is evaluated with today's settings."""
    head = files.read_json(_path(run, stage, ".json"))
    return bool(head) and head["settings"] == _settings(run.config)


def complete(run):
    """Evaluate the missing stages of a finished run; do nothing for any other."""
    ended = identity.result(run)
    if ended and ended["outcome"] == "finished":
        for stage in range(1, run.n_stages + 1):
            if not evaluated(run, stage):
                evaluate(run, stage)


def read_head(run):
    """Return the head of the last stage's evaluation, or None: {"settings", "warnings"}."""
    return files.read_json(_path(run, run.n_stages, ".json"))


def read_values(run):
    """Return the values of all evaluated stages."""
    paths = [_path(run, stage, ".csv") for stage in range(1, run.n_stages + 1)]
    return pd.concat([pd.read_csv(path) for path in paths if path.is_file()], ignore_index=True)


def read_images(run):
    """Return hole errors per test image (last stage, own family): mask_width, image, l1, l2."""
    return pd.read_csv(run.folder / "evaluation" / "images.csv.gz")


def read_fills(run):
    """Return the recorded fills {"stage<k>/<family>_<width>": (R,H,W,3) uint8}."""
    found = {}
    for stage in range(1, run.n_stages + 1):
        with np.load(_path(run, stage, "_fills.npz")) as stored:
            found |= {f"stage{stage}/{key}": stored[key] for key in stored.files}
    return found


def baselines(study, dataset):
    """Return every baseline on the frozen masks of every family and width: COLUMNS and `baseline`.

    What is missing is measured first; the frame is always read from the files. Processes that need
    it share the work.
    """
    pack, config, missing = packs.existing(study, dataset), study.config, list(fillers.BASELINES)
    torch.set_num_threads(config.machine.threads)  # or two processes slow each other down
    pool = processes.pool(len(pack.test), fillers.IMAGES_PER_WORKER, extensions=config.extensions)
    with devices.enough_memory(config), pool or nullcontext():
        for wait in (False, True):  # those that another process measures last
            for name in list(missing):
                with files.locked(pack.folder / "baselines", f".{name}.lock", wait) as mine:
                    if mine:
                        _baseline(name, config, pack, pool)
                        missing.remove(name)
    return read_baselines(pack.folder)


def _baseline(name, config, pack, pool):
    """Measure a baseline, unless that is done with today's settings."""
    head, widths = pack.folder / "baselines" / f"{name}.json", config.curriculum.mask_widths
    n = len(pack.test)
    if name in fillers.SLOW:
        n = min(n, config.evaluation.slow_baseline_images)
    settings = _settings(config, images=n, mask_widths=list(widths), data=pack.identity)
    if (files.read_json(head) or {}).get("settings") == settings:
        return
    head.unlink(missing_ok=True)
    device = devices.choose_device(config.machine.device)
    device = "cpu" if device.type == "mps" else device  # it has no float64

    def filled(images, holes):  # as of metrics.inpaint
        size = config.machine.evaluation_batch
        for output, real, mask in fillers.batches(name, images, holes, size, pool):
            output, real = (metrics.to_float(x, device) for x in (output, real))
            yield output, real, torch.from_numpy(mask)[:, None].float().to(device)

    rows, warnings, images = [], [], []
    truth, both = np.array(pack.test[:n]), _both_sets(pack, n)
    for family, width in itertools.product(masks.FAMILIES, widths):
        holes, largest = pack.test_masks(family, width)[:n], width == widths[-1]
        with_fid = largest and n == len(pack.test)
        each, values, _, warned = _measured(filled(truth, holes), config, pack, with_fid, raw=False)
        if largest:
            gap = _gap(filled(part, holes[: len(part)]) for part in both)
            values["hole", "overfitting"] = gap
        images.append(_per_image(each, mask_family=family, mask_width=width))
        rows += _rows(0, family, width, values, n)
        warnings += warned
    files.write_csv(head.with_name(f"{name}_images.csv.gz"), pd.concat(images))
    _store(head, rows, settings, warnings)


def read_baselines(folder, ending=".csv"):
    """Return what `baselines` wrote in a data folder."""
    paths = {name: folder / "baselines" / f"{name}{ending}" for name in fillers.BASELINES}
    parts = [pd.read_csv(path).assign(baseline=name) for name, path in paths.items()]
    return pd.concat(parts, ignore_index=True)


def read_baseline_images(folder):
    """Return hole L1 and L2 per image: baseline, mask_family, mask_width, image, l1, l2."""
    return read_baselines(folder, "_images.csv.gz")
