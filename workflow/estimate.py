"""What a study will cost on this device, before anything is spent: some steps timed per architecture, the rest reckoned.

    ./run_all.sh PROFILE --estimate

Training: whole steps on made-up images, after warm-up. Evaluation: a batch filled and measured, times the images, stages, mask
families and widths there will be; the table of per-image values; FID's and KID's algebra, once on features of as many images.
Fillings without training: some images filled by each, times those of all data sets, families and widths. Disk: the sizes of
what a run leaves. Every architecture is tried in a process of its own, so peak memory is its own. The command keeps what a run
costs in runs/PROFILE/estimate.json, for jobs on a cluster. Not counted: preparing data, start-up, notebooks, figures.
"""

import multiprocessing
import time
from functools import partial

import numpy as np
import pandas as pd
import torch

from inpaint_lib import masks, metrics, models
from inpaint_lib.data import feed
from inpaint_lib.evaluation import baselines, evaluate, fid
from inpaint_lib.study import devices, files, processes
from inpaint_lib.study.config import run_settings
from inpaint_lib.training import probe, trial
from inpaint_lib.training.step import choose_levers

SECONDS = 5.0  # of timed training
ROW_BYTES = 20  # of per_image.csv.gz
FILE = "estimate.json"  # in a study's folder: {architecture: {"seconds", "host" (bytes), "device", "settings"}} of a run


def cost_of(run):
    """Cost of one run: {"images_per_second", "training_s", "evaluation_s", "disk", "host", "device" (bytes, None on a CPU)}."""
    config, device = run.config, devices.choose_device(run.config.device)
    torch.set_num_threads(config.threads)
    with devices.enough_memory(config, "training"):
        fast, rate = _rate(run, device)
    with devices.enough_memory(config, "evaluation"):
        evaluation = _evaluation(run, fast.state.G, device)
        evaluation += _distributions(run) * _algebra(config)
    return {
        "images_per_second": rate,
        "training_s": config.total_images / rate,
        "evaluation_s": evaluation,
        "disk": _disk(run, fast.state),
        **_memory(config, device),
    }


def _rate(run, device):
    """(the Step that was tried, images/s of training)."""
    config = run.config
    step = trial.stepper(run, device, choose_levers(config, device, run.architecture))
    for _ in range(4):  # past compilation and capture
        step()
    step.fast.read()
    begun, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - begun < SECONDS:
        for _ in range(min(config.log_every, 1 + steps)):
            step()
            steps += 1
        step.fast.read()  # waits for the device
    return step.fast, steps * config.batch_size / (time.perf_counter() - begun)


def _memory(config, device):
    """Peak bytes so far, with all training images instead of the made-up ones where they will lie on the device."""
    peak, n_bytes = devices.peak_memory(device), config.train_images * 3 * config.image_size**2
    if peak["device"] and feed.choose_loading(config.loading, n_bytes, device) == "resident":
        peak["device"] += n_bytes
    return peak


def _evaluation(run, G, device):
    """Seconds of all evaluations of a run."""
    config = run.config
    n, batch = config.test_images, config.evaluation_batch
    images = trial.made_up(min(batch, n), config.image_size)
    holes = masks.frozen(run.model.mask_family, len(images), config.mask_widths[-1], config.image_size, 0)
    tools = evaluate.tools(config)
    extractor = tools.extractor
    filled = list(metrics.inpaint(G, images, holes, device, batch))
    table = pd.DataFrame(np.random.default_rng(0).random((1000, len(metrics.METRICS))), columns=list(metrics.METRICS))

    def seconds(work):
        return _seconds(work) / len(images)

    fill = seconds(lambda: list(metrics.inpaint(G, images, holes, device, batch)))
    calibrate = seconds(lambda: metrics.calibrated(G, images, holes, device, batch)) if metrics.batch_norms(G) else 0.0
    plain = seconds(lambda: metrics.evaluate(filled))
    row = len(metrics.REGIONS) * _seconds(lambda: files.as_gzip(table)) / len(table)
    whole = seconds(lambda: evaluate.measure(filled, tools.lpips))
    features = seconds(lambda: fid.features(extractor, images, batch)) if extractor else 0.0
    sets = _sets(run)
    measured = sets["plain"] * (plain + row) + sets["whole"] * whole + sets["features"] * features
    return n * (sets["filled"] * fill + measured) + min(config.train_images, probe.CALIBRATION) * sets["calibrated"] * calibrate


def _sets(run):
    """How many sets of images a run fills, measures and calibrates batch norm with, in training and at its end."""
    config, families = run.config, len(models.ARCHITECTURES[run.architecture].MASK_FAMILIES)
    stages = widths = len(config.mask_widths)
    extractor = evaluate.tools(config).extractor
    between = (stages - 1) * widths if extractor and config.fid_stages == "all" else 0  # those of stages before the last
    small = config.test_images * 3 * config.image_size**2 <= probe.SMALL
    again = between + families * widths - small * min(probe.REMEMBERED, between + widths)
    return {
        "plain": stages * widths + 3,  # full-size holes: training images, test images and the last weights themselves
        "whole": families * widths,
        "features": _distributions(run),
        "filled": stages * widths + again + 3,
        "calibrated": stages * widths + again + stages + 2,  # what a stage leaves, and what the run leaves
    }


def _seconds(work):
    """Of a second call, until the device has done it: the first loads what is needed."""
    for _ in range(2):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    return time.perf_counter() - begun


def _distributions(run):
    """How many sets of fills of a run are compared with the truth by FID and KID."""
    config, families = run.config, models.ARCHITECTURES[run.architecture].MASK_FAMILIES
    if not evaluate.tools(config).extractor:
        return 0
    stages = len(config.mask_widths) if config.fid_stages == "all" else 1
    return stages * len(config.mask_widths) + len({*evaluate.WITH_FID} & {*families} - {run.model.mask_family})


def _algebra(config):
    """Seconds of one such comparison, features apart."""
    if not (extractor := evaluate.tools(config).extractor):
        return 0.0
    one, other = np.random.default_rng(0).standard_normal((2, config.test_images, extractor.classes.shape[1]))

    def both():
        fid.distance(fid.statistics(one), fid.statistics(other))
        fid.kernel_distance(one, other)

    return _seconds(both)


def fillings(run):
    """Seconds of all fillings without training of one data set."""
    config, device = run.config, devices.choose_device(run.config.device)
    torch.set_num_threads(config.threads)
    widths, batch, whole = config.mask_widths, config.evaluation_batch, 0.0
    images = trial.made_up(min(batch, config.test_images), config.image_size)
    tools = evaluate.tools(config)
    cores = processes.workers(config.test_images, baselines.IMAGES_PER_WORKER)
    features = _seconds(lambda: fid.features(tools.extractor, images, batch)) / len(images) if tools.extractor else 0.0
    compared = len(masks.FAMILIES) * (config.test_images * features + _algebra(config))  # by FID and KID
    for name in baselines.BASELINES:
        n = min(config.test_images, config.slow_baseline_images) if name in baselines.SLOW else config.test_images
        some = images[:2] if name in baselines.SLOW else images
        for family in masks.FAMILIES:
            holes = masks.frozen(family, len(some), widths[len(widths) // 2], config.image_size, 0)
            done = [(baselines.fill(name, some, holes), some, holes)]
            fill = _seconds(partial(baselines.fill, name, some, holes)) / len(some) / cores
            measured = _seconds(partial(_measured, done, device, tools)) / len(some)
            whole += n * (len(widths) * max(fill, measured) + 2 * fill)
        whole += compared * (n == config.test_images)
    return whole


def _measured(filled, device, tools):
    evaluate.measure(evaluate.on_device(filled, device), tools.lpips, raw=False)


def _disk(run, state):
    """Bytes that a finished run leaves: weights of every stage, snapshot, model, a checkpoint with Adam's two moments and the
    moving average, tables."""
    config = run.config
    G, D = (sum(t.nbytes for t in network.state_dict().values()) for network in (state.G, state.D))
    stages = len(config.mask_widths)
    rows = stages * len(config.mask_widths) * config.test_images * len(metrics.REGIONS)
    return (stages + 3) * (G + D) + 3 * G + ROW_BYTES * rows


def estimate(study):
    """(a frame with a row per architecture, {what: value} of the whole grid and, as `measured`, what FILE keeps). Raises
    ValueError for a device that is not here."""
    config, found = study.config, []
    device = devices.device_name(devices.choose_device(config.device))
    for architecture in config.architectures:
        run = next(r for r in study.runs() if r.architecture == architecture)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            try:
                cost = pool.apply(cost_of, (run,))
            except devices.OutOfMemory as error:
                raise ValueError(f"{architecture}: {error}") from None
        n = sum(r.architecture == architecture for r in study.runs())
        found.append({"architecture": architecture, "runs": n} | cost)
    frame = pd.DataFrame(found)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        plain = len(config.datasets) * pool.apply(fillings, (study.runs()[0],)) / 3600
    hours = (frame.training_s + frame.evaluation_s) / 3600
    pack = (config.train_images + config.test_images) * 3 * config.image_size**2
    shown = pd.DataFrame({
        "architecture": frame.architecture, "runs": frame.runs, "images/s": frame.images_per_second,
        "training (h)": frame.training_s / 3600, "evaluation (h)": frame.evaluation_s / 3600, "run (h)": hours,
        "disk (GiB)": frame.disk / 2**30, "host memory (GiB)": frame.host / 2**30,
        "device memory (GiB)": frame.device.astype(float) / 2**30,
    })  # fmt: skip
    whole = {
        "runs": len(study.runs()),
        "hours": float((hours * frame.runs).sum()),
        "fillings": plain,
        "disk": int((frame.disk * frame.runs).sum() + len(config.datasets) * pack),
        "measured": {
            row.architecture: {"seconds": row.training_s + row.evaluation_s, "host": int(row.host), "device": device,
                               "settings": settings_of(config, row.architecture)}
            for row in frame.itertuples()
        },
    }  # fmt: skip
    return shown.dropna(axis=1, how="all"), whole


def settings_of(config, architecture):
    """What the cost of a run of an architecture depends on, beside the device."""
    return run_settings(config, None, architecture, None, None)


def keep(study, whole):
    """Write what `estimate` measured; what other estimates measured of other architectures stays."""
    files.write_json(study.folder / FILE, (files.read_json(study.folder / FILE) or {}) | whole["measured"])


def as_text(study, frame, whole):
    config, device = study.config, devices.choose_device(study.config.device)
    name = devices.device_name(device) if device.type == "cuda" else f"{device.type}, {config.threads} thread(s) a run"
    lines = [
        f"profile {study.profile} on {name}; a run: {config.total_images:,} images; one architecture measured at a time",
        "",
        frame.to_string(index=False, float_format="{:.3g}".format),
        "",
        f"{whole['runs']} runs: {whole['hours']:.3g} hours one after another; {config.jobs} at a time, if they do not slow "
        f"each other down, {whole['hours'] / config.jobs:.3g}. Disk: {whole['disk'] / 2**30:.3g} GiB, packed data included.",
        f"Fillings without training, once: {whole['fillings']:.3g} hours.",
        "Not counted: preparing data, start-up, notebooks. Up to "
        f"{config.train_images:,} training and {config.test_images:,} test images are assumed.",
    ]
    tools = evaluate.tools(config)
    wanted = {"FID and IS": tools.extractor, "LPIPS": config.lpips_weights == "none" or tools.lpips}
    if missing := [name for name, tool in wanted.items() if not tool]:
        lines.append(f"{' and '.join(missing)} left out: the weights are not here yet.")
    return "\n".join(lines)
