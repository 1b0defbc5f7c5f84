"""./run_all.sh PROFILE --estimate: time a few steps here, print how many hours a study takes."""

import tempfile
import time
from dataclasses import replace

import pandas as pd

from inpaint_lib.evaluation import evaluate
from inpaint_lib.study import devices
from inpaint_lib.training import loop

STEPS = 8  # a stage, of the timed run
IMAGES = 64  # test images of the timed evaluations, at most


def estimate(study):
    """Return the lines of the estimate, from a few steps and evaluations of each architecture."""
    lines, total = [], 0.0
    for architecture in study.config.grid.architectures:
        if runs := [run for run in study.runs() if run.architecture == architecture]:
            training, evaluation = _time_run(runs[0])
            total += len(runs) * (training + evaluation)
            parts = f"{training:.3g} hours of training, {evaluation:.3g} of evaluation"
            lines.append(f"{architecture}: {len(runs)} runs of {parts}")
    device = devices.get_device_name(devices.choose_device(study.config.machine.device))
    first = f"profile {study.profile} on {device}, one run at a time:"
    last = f"{total:.3g} hours, without preparing data, baselines, start-up and notebooks"
    return [first, *lines, last]


def _time_run(run):
    """Return the hours of a run's training and of its evaluations; no file stays."""
    config, n, seconds = run.config, run.n_stages, {}
    batch, images = config.curriculum.batch_size, min(IMAGES, config.data.test_images)
    data = {"train_images": max(batch, images), "test_images": images}
    few = {
        "data": config.data.model_copy(update=data),
        "curriculum": config.curriculum.model_copy(update={"total_images": n * STEPS * batch}),
    }

    def measure(run, stage):
        begun = time.perf_counter()
        evaluate.evaluate(run, stage)
        seconds[stage] = time.perf_counter() - begun

    with tempfile.TemporaryDirectory(prefix="estimate-") as folder:
        # runs lie in the folder that the profile's name is, as it is absolute
        study = replace(run.study, profile=folder, config=config.model_copy(update=few))
        run = replace(run, study=study, setup="fixed")
        loop.fit(run, watch=lambda *_: None, after_stage=measure)
        history = pd.read_csv(run.folder / "history.csv")
        measure(run, n)  # once more: warm
    training = config.curriculum.total_images / history.images_per_second.iloc[-1]
    elsewhere = min(config.evaluation.images_elsewhere, config.data.test_images)
    earlier = (n - 1) * seconds.get(n - 1, 0) * max(images, elsewhere)
    evaluation = (earlier + seconds[n] * config.data.test_images) / images
    return training / 3600, evaluation / 3600
