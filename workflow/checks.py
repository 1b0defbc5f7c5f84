"""What must hold before anything is made; otherwise one line says why, and nothing has changed."""

import os
import sys
from pathlib import Path

from inpaint_lib import PROTOCOL, losses, models
from inpaint_lib.data import sources
from inpaint_lib.evaluation import measures, pretrained
from inpaint_lib.results import published, stats
from inpaint_lib.study import config as configuration
from inpaint_lib.study import files, grid
from inpaint_lib.training import identity

from . import slurm
from .arguments import ROOT


def open_study(args, overrides):
    """Return the study that is asked for. Raises ValueError."""
    study = grid.open_study(args.profile, overrides)
    for dataset in study.config.grid.datasets:
        sources.find(dataset)
    stats.registered(measures=measures.MEASURES)
    if args.runs_per_gpu is not None and (args.cluster or args.runs_per_gpu < 1):
        why = "Slurm assigns the GPUs" if args.cluster else "give a whole number, 1 or more"
        raise ValueError(f"--runs-per-gpu {args.runs_per_gpu}: {why}")
    if args.cluster:
        slurm.check(study.config)
    return study


def published_runs(study):
    """Return the names of runs that are published with these settings and have no work here."""
    done = published.names(configuration.to_dict(study.config), PROTOCOL)
    return [r.name for r in study.runs() if r.name in done and not grid.holds_work(r.folder)]


def ready(study, args):
    """Check places, data, weights; return {folder: why} of runs to replace. Raises ValueError."""
    if reason := next(filter(None, map(files.obstacle, places(study))), None):
        raise ValueError(reason)
    if args.download and not args.dry_run:
        download(study.config)
    if not args.dry_run:
        check_inputs(study.config)
    changed = identity.changed(study)
    if changed and not args.force_new:
        more = f"; {len(changed)} runs are concerned" if len(changed) > 1 else ""
        raise ValueError(f"{next(iter(changed.values()))}{more}")
    return changed


def places(study):
    """Return files that will be written, at least one of every folder."""
    output = Path(os.environ.get("INPAINT_OUTPUT") or ROOT).absolute()  # perhaps a broken link
    trained = "run.json checkpoint.pt result.json done.json notebook.ipynb history.csv"
    trained += " stages/1.safetensors model/model.safetensors evaluation/stage1.json"
    packed = "manifest.json train.npy test.npy summary.json notebook.ipynb"
    reported = "results/study.json tables/done.json figures/captions.json notebooks/metrics.html"
    runs, data = study.runs(), map(study.data_folder, study.config.grid.datasets)
    return [
        output / "runs" / study.profile / "study.json",
        *(study.folder / name for name in (".study.lock", "metrics.ipynb", "figures.ipynb")),
        *(folder / name for folder in data for name in packed.split()),
        *(run.folder / name for run in runs for name in trained.split()),
        *(study.report / name for name in [*reported.split(), "index.html"]),
    ]


def download(config):
    """Download the data sets that data_root lacks. Raises ValueError."""
    if not config.machine.data_root:
        raise ValueError("--download: say where to with --data-root DIR")
    for name in config.grid.datasets:
        try:
            sources.find(name).fingerprint(config)
        except sources.SourceError:
            sources.download(name, config.machine.data_root)


def check_inputs(config):
    """Check that data and weights are there. Raises ValueError."""
    for dataset in config.grid.datasets:
        sources.find(dataset).fingerprint(config)
        sources.find(dataset).plan(config)
    used = [models.ARCHITECTURES[name].objective.terms for name in config.grid.architectures]
    if any("perceptual" in terms for terms in used):
        losses.Perceptual(config.training.perceptual_weights, config.training.perceptual_width)
    for name, weights in pretrained.WEIGHTS.items():
        if missing := pretrained.fetch(
            name, getattr(config.evaluation, weights.key.split(".")[-1])
        ):
            print(missing, file=sys.stderr, flush=True)
