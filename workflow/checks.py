"""Check a study before it starts: a refusal is one line, and no file has changed."""

import os
import sys
from collections import Counter
from pathlib import Path

from inpaint_lib import PROTOCOL, losses, models
from inpaint_lib.data import own_masks, sources
from inpaint_lib.evaluation import pretrained
from inpaint_lib.results import advice, hypotheses, published
from inpaint_lib.study import config as configuration
from inpaint_lib.study import devices, files, grid, limits
from inpaint_lib.study.command import say, warn
from inpaint_lib.training import identity, step

from . import own, slurm
from .arguments import ROOT

A_RUN = 3 * 2**28  # bytes of memory that the smallest run takes
PIXELS_PER_CORE = 26_000  # a second, of the narrow networks: `small` takes a day or two on two


def open_requested(args, overrides):
    """Return the study of a command line, None if nothing of it is left. Raises ValueError.

    With --skip-published, published runs are left out and added to `overrides`.
    """
    study = grid.open_study(args.profile, overrides)
    if args.skip_published:
        done = published.find_published(configuration.to_dict(study.config), PROTOCOL)
        left = [r.name for r in study.runs() if r.name in done and not grid.holds_work(r.folder)]
        if len(left) == len(study.runs()):
            return say(f"nothing to train: all {len(left)} runs are published")
        say(f"{len(left)} runs are published and not trained again")
        overrides["grid.without"] = sorted({*study.config.grid.without, *left})
        study = grid.open_study(args.profile, overrides)
    hypotheses.read_plan()
    if args.cluster and not args.dry_run:
        slurm.check_slurm(study.config)
    return study


def check_study(study, args):
    """Check folders, data and weights. Raises ValueError.

    Returns {folder: why} of runs that --force-new deletes.
    """
    if reason := next(filter(None, map(files.find_obstacle, _list_places(study))), None):
        raise ValueError(reason)
    if not args.dry_run:
        check_inputs(study.config, args.download)
    changed = identity.find_changed(study)
    if changed and not args.force_new:
        more = f" ({len(changed)} runs have other settings)" if len(changed) > 1 else ""
        raise ValueError(f"{next(iter(changed.values()))}{more}")
    if not args.dry_run:
        own = own_masks.prepare(study)
        own_masks.check_widths(study, own)
        if own:
            say(own_masks.describe_masks(study, own))
    return changed


def check_machine(study, jobs=None):
    """Return part of a line: device, precision, cores. Raises ValueError for too little memory.

    Prints a warning if a study will take days on a CPU that the user did not choose.
    """
    config, runs, cores = study.config, len(study.runs()), limits.count_cores()
    device = devices.choose_device(config.machine.device)
    precision = step.choose_precision(config.training.precision, device)
    jobs = min(jobs or config.machine.jobs, runs)
    if limits.measure_memory() < jobs * A_RUN:
        has, needed = limits.measure_memory() / 2**20, jobs * A_RUN / 2**20
        what = f"{jobs} runs at a time need {needed:.0f} MB of memory, there are {has:.0f} MB"
        raise ValueError(f"{what}: {'--jobs 1, or ' if jobs > 1 else ''}raise the limit")
    pixels = runs * config.curriculum.total_images * config.data.image_size**2
    days = pixels / (PIXELS_PER_CORE * cores) / 86400
    if device.type == "cpu" and config.machine.device == "auto" and days > 3:
        what = f"PyTorch finds no GPU, and on {cores} CPU cores profile {study.profile} takes"
        how = "--estimate measures it; --set machine.device=cpu silences this"
        warn(f"{what} {days:,.0f} days or more: {how}")
    return f"; {devices.get_device_name(device)}, {precision}, {cores} cores"


def _list_places(study):
    """Return files that will be written: at least one in every folder."""
    trained = "run.json checkpoint.pt result.json done.json notebook.ipynb history.csv"
    trained += " stages/1.safetensors model/model.safetensors evaluation/stage1.json"
    packed = "manifest.json train.npy test.npy summary.json notebook.ipynb"
    reported = "index.html results/study.json tables/done.json figures/captions.json"
    data = map(study.data_folder, study.config.grid.datasets)
    output = Path(os.environ.get("INPAINT_OUTPUT") or ROOT).absolute()  # perhaps a broken link
    return [
        output / "runs" / "any",
        *(study.folder / name for name in ("study.json", ".study.lock", "metrics.ipynb")),
        *(folder / name for folder in data for name in packed.split()),
        *(run.folder / name for run in study.runs() for name in trained.split()),
        *(study.report / name for name in [*reported.split(), "notebooks/metrics.html"]),
    ]


def check_inputs(config, download):
    """Check that data and weights exist, or download them. Raises ValueError."""
    root = config.machine.data_root
    if download and not root:
        raise ValueError("--download: name the folder with --data-root DIR")
    for name in config.grid.datasets:
        try:
            sources.find_dataset(name).fingerprint(config)
        except sources.SourceError:
            if not download:
                raise
            sources.download(name, root)
        plan = sources.find_dataset(name).plan(config)
        if name == advice.OWN:
            own.report_images(plan)
        if left := plan.passed_over:
            counts = Counter(reason for _, reason, _ in left).items()
            why = ", ".join(f"{n:,} {reason}" for reason, n in counts)
            say(f"{name}: left out: {why}; {name}/data/skipped.csv will list them")
    used = [models.ARCHITECTURES[name].objective.terms for name in config.grid.architectures]
    if any("perceptual" in terms for terms in used):
        losses.Perceptual(config.training.perceptual_weights, config.training.perceptual_width)
    for name, weights in pretrained.WEIGHTS.items():
        wanted = getattr(config.evaluation, weights.key.split(".")[-1])
        if missing := pretrained.fetch(name, wanted):
            print(missing, file=sys.stderr, flush=True)
