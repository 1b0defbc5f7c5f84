"""./run_all.sh PROFILE --estimate: about how many hours a study takes on this device.

Of each architecture some steps are timed, after warm-up, and one evaluation on few images. Nothing
is kept. Not counted: preparing data, baselines, start-up, notebooks.
"""

import os
import tempfile
import time
from dataclasses import replace

import torch

from inpaint_lib.evaluation import evaluate
from inpaint_lib.study import devices
from inpaint_lib.training import loop, step, trial

SECONDS = 5.0  # of timed training
IMAGES = 64  # training and test images of the timed evaluation, at most


def estimate(study):
    """Return the lines of the estimate. Raises ValueError."""
    device = devices.choose_device(study.config.machine.device)
    shown, total = devices.device_name(device), 0.0
    lines = [f"profile {study.profile} on {shown}; one architecture at a time, in hours:"]
    for architecture in study.config.grid.architectures:
        runs = [run for run in study.runs() if run.architecture == architecture]
        if not runs:
            continue
        training, evaluation = training_seconds(runs[0], device), evaluation_seconds(runs[0])
        hours = (training + evaluation) / 3600
        total += len(runs) * hours
        parts = f"training {training / 3600:.3g}, evaluation {evaluation / 3600:.3g}"
        lines.append(f"{architecture}: {len(runs)} runs of {hours:.3g} ({parts})")
    jobs = study.config.machine.jobs
    lines.append(f"{total:.3g} hours one after another, {total / jobs:.3g} with {jobs} at a time")
    lines[-1] += " if they do not slow each other down"
    return [*lines, "not counted: preparing data, baselines, start-up, notebooks"]


def training_seconds(run, device):
    """Return the seconds of a run's steps."""
    config = run.config
    torch.set_num_threads(config.machine.threads)
    train = trial.stepper(run, device, step.choose_options(config, device, run.architecture))
    for _ in range(4):  # past compilation and capture
        train()
    train.fast.read()  # waits for the device
    begun, steps = time.perf_counter(), 0
    while steps < 2 or time.perf_counter() - begun < SECONDS:
        train()
        steps += 1
        if steps % config.training.log_every == 0:
            train.fast.read()
    train.fast.read()
    return config.curriculum.steps * (time.perf_counter() - begun) / steps


def evaluation_seconds(run):
    """Return the seconds of a run's evaluations, from those of one step a stage on few images."""
    config, n_stages = run.config, run.n_stages
    few = {
        name: min(IMAGES, getattr(config.data, name)) for name in ("train_images", "test_images")
    }
    batch = min(config.curriculum.batch_size, few["train_images"])
    curriculum = {"total_images": n_stages * batch, "batch_size": batch}
    parts = {"data": few, "curriculum": curriculum}
    parts = {k: getattr(config, k).model_copy(update=v) for k, v in parts.items()}
    run = replace(run, study=replace(run.study, config=config.model_copy(update=parts)))
    kept = os.environ.get("INPAINT_OUTPUT")
    with tempfile.TemporaryDirectory(prefix="estimate-") as folder:
        os.environ["INPAINT_OUTPUT"] = folder
        try:
            loop.fit(run, watch=lambda *_: None)
            seconds = [_timed(run, stage) for stage in (1, n_stages, 1, n_stages)][2:]  # warm
        finally:
            os.environ.pop("INPAINT_OUTPUT")
            os.environ |= {"INPAINT_OUTPUT": kept} if kept is not None else {}
    scale = config.data.test_images / few["test_images"]
    return scale * ((n_stages - 1) * seconds[0] + seconds[1])


def _timed(run, stage):
    begun = time.perf_counter()
    evaluate.evaluate(run, stage)
    return time.perf_counter() - begun
