"""./run_all.sh PROFILE --estimate: time a few steps here, print how many hours a study takes."""

import tempfile
import time
from dataclasses import dataclass, replace

import torch

from inpaint_lib import masks
from inpaint_lib.data import packs
from inpaint_lib.evaluation import evaluate, pretrained
from inpaint_lib.study import config as configuration
from inpaint_lib.study import devices
from inpaint_lib.training import artifacts, loop, probe, trial
from inpaint_lib.training.step import choose_options

SECONDS = 12  # of timed steps of an architecture, and about as many of its evaluations


@dataclass(frozen=True)
class Timed:
    """Hours of a run's training and evaluations, and from how many images they were estimated."""

    training: float
    evaluation: float
    batch: int
    images: int


def estimate(study):
    """Return the lines of the estimate, from a few steps and evaluations of each architecture."""
    lines, total = [], 0.0
    for architecture in study.config.grid.architectures:
        if runs := [run for run in study.runs() if run.architecture == architecture]:
            found = time_run(runs[0])
            total += len(runs) * (found.training + found.evaluation)
            hours = f"{found.training:.3g} hours of training, {found.evaluation:.3g} of evaluation"
            how = f"timed with batches of {found.batch} and {found.images} test images"
            lines.append(f"{architecture}: {len(runs)} runs of {hours} ({how})")
    device = devices.get_device_name(devices.choose_device(study.config.machine.device))
    assumed = "assumed: hours grow with the number of images; drawn images take as long as others"
    try:
        pretrained.find("inception", study.config.evaluation.inception_weights)
    except pretrained.NotAvailable:
        assumed += "; FID is not measured (no Inception weights here)"
    return [
        f"profile {study.profile} on {device}, one run at a time:",
        *lines,
        f"{total:.3g} hours, without preparing data, baselines, start-up and notebooks",
        assumed,
    ]


def time_run(run):
    """Return the Timed of a run; nothing is kept. Where steps are long, batches are smaller."""
    curriculum, of, n = run.config.curriculum, run.config.evaluation, run.n_stages
    if run.model.mask_family == masks.FOLDER:  # the user's masks are not packed here
        others = {f"models.{run.architecture}.mask_family": run.architecture_entry.mask_families[0]}
        config = configuration.change(run.config, others, "--estimate")
        run = replace(run, study=replace(run.study, config=config))
    run = replace(run, dataset="faces", setup="fixed")
    device = devices.choose_device(run.config.machine.device)
    torch.set_num_threads(run.config.machine.threads)
    batch = 2 if device.type == "cpu" else curriculum.batch_size
    a_step, a_probe = time_steps(run, device, batch)
    more = min(curriculum.batch_size, int(SECONDS / 3 / a_step))  # an image takes half of it
    if more > batch:
        batch, (a_step, a_probe) = more, time_steps(run, device, more)
    # beside steps: gradients at log points take about one, the game is probed in the last stage
    steps = curriculum.steps * (1 + 1 / run.config.training.log_every)
    probes = curriculum.steps / n + run.config.training.probe_batches
    training = (steps * a_step + probes * a_probe) * curriculum.batch_size / batch

    test, families = run.config.data.test_images, len(run.architecture_entry.mask_families)
    elsewhere = min(of.images_elsewhere, test)  # images for other families and other stages
    fills = families * n * a_probe / batch  # s of an image in the last evaluation
    images = min(64, elsewhere, max(2, int(SECONDS / fills)))
    sizes = [images, images // 4] if images >= 16 else [images]
    times = dict(zip(sizes, (time_evaluations(run, size) for size in sizes), strict=True))
    last, earlier = (extrapolate({k: t[i] for k, t in times.items()}) for i in (0, 1))
    evaluation = last((test + (families - 1) * elsewhere) / families) + (n - 1) * earlier(elsewhere)
    return Timed(training / 3600, evaluation / 3600, batch, images)


def extrapolate(times):
    """Return the line through {images: seconds} as a function, through 0 if there is but one."""
    (many, longer), (few, shorter) = ([*times.items()] + [(0, 0.0)])[:2]
    slope = max(longer - shorter, 0.0) / (many - few)
    return lambda images: shorter + slope * (images - few)


def shrink(run, batch, images):
    """Return the run with batches of a size, one step a stage and few test images."""
    size = {"batch_size": batch, "total_images": run.n_stages * batch}
    parts = {
        "curriculum": size,
        "data": {"train_images": max(batch, images), "test_images": images},
        "training": {"probe_batches": 2, "perceptual_weights": "random"},
    }
    config = run.config
    parts = {key: getattr(config, key).model_copy(update=new) for key, new in parts.items()}
    return replace(run, study=replace(run.study, config=config.model_copy(update=parts)))


def time_steps(run, device, batch):
    """Return the seconds of a training step and of a pass of G and D, after those that compile."""
    run = shrink(run, batch, 2)
    step = trial.create_stepper(run, device, choose_options(run.config, device, run.architecture))
    G, D, objective = step.fast.state.G, step.fast.state.D, step.fast.objective
    size = run.config.data.image_size
    real, mask = torch.zeros(batch, 3, size, size), torch.zeros(batch, 1, size, size)
    inputs = real.to(device), mask.to(device)

    def mean(what, first):
        for _ in range(first):
            what()
        times, begun = 0, time.perf_counter()
        while not times or time.perf_counter() - begun < SECONDS / 3:
            times += 1
            what()
            if device.type == "cuda":
                torch.cuda.synchronize()
        return (time.perf_counter() - begun) / times

    a_step = mean(step, 5 if device.type == "cuda" else 1)
    return a_step, mean(lambda: probe.measure_adversarial_g(G, D, objective, *inputs), 1)


def time_evaluations(run, images):
    """Return the seconds of the last stage's evaluation and of one before it."""
    found = []
    with tempfile.TemporaryDirectory(prefix="estimate-") as folder:
        run = shrink(run, 2, images)
        # an absolute path as the profile's name is where its runs lie
        run = replace(run, study=replace(run.study, profile=folder))
        write_untrained(run)
        for stage in (1, run.n_stages, 1):  # the first time is longer
            begun = time.perf_counter()
            evaluate.evaluate(run, stage)
            found.append(time.perf_counter() - begun)
    return found[1:]


def write_untrained(run):
    """Write what evaluating the first and the last stage needs, of untrained networks."""
    pack = packs.prepare(run.study, run.dataset)
    device = devices.choose_device(run.config.machine.device)
    state = loop.create_state(run, device, choose_options(run.config, device, run.architecture))
    state.history = [{"step": 1, "stage": run.n_stages, "d_accuracy": 0.5}]
    for stage in (1, run.n_stages):
        artifacts.save_stage(run, pack, state, stage)
    artifacts.write_records(run, state)
