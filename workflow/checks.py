"""What must hold before anything is made. Whatever does not is told in one line, and nothing on disk has changed."""

import os
import sys
from pathlib import Path

from inpaint_lib import losses
from inpaint_lib.data import packs, sources
from inpaint_lib.evaluation import evaluate, pretrained
from inpaint_lib.results import collect, published, stats, tables
from inpaint_lib.study import files, grid
from inpaint_lib.training import artifacts, jobs

from . import slurm
from .arguments import ROOT


def opened(args, overrides):
    """The study that is asked for. Raises ValueError."""
    if args.profile.endswith((".yaml", ".yml")):
        raise ValueError(f"{args.profile}: name a profile of config/, not a file")
    study = grid.open_study(args.profile, overrides)
    stats.registered(measures=evaluate.MEASURES)
    if args.runs_per_gpu is not None and (args.cluster or args.runs_per_gpu < 1):
        why = "Slurm assigns the GPUs" if args.cluster else "give a whole number, 1 or more"
        raise ValueError(f"--runs-per-gpu {args.runs_per_gpu}: {why}")
    if args.cluster:
        slurm.check(args.cluster, study.config)
    return study


def published_elsewhere(study):
    """Names of the runs that are published and of which nothing lies here."""
    done = set(published.done(study))
    return [run.name for run in study.runs() if run.name in done and not grid.holds_work(run.folder)]


def ready(study, args):
    """Check places, data and weights, fetching what is to be fetched -> {folder: why} of the runs to be made anew. Raises
    ValueError or OSError."""
    if reason := next(filter(None, map(files.obstacle, places(study, args.only))), None):
        raise ValueError(reason)
    if args.download and not args.dry_run:
        fetch(study.config)
    if args.only:
        collect.check(study)
        return {}
    if not args.dry_run:
        check_inputs(study.config)
    changed = jobs.changed(study)
    if changed and not args.force_new:
        raise ValueError(f"{next(iter(changed.values()))}{f'; {len(changed)} runs are concerned' * (len(changed) > 1)}")
    return changed


def places(study, only):
    """Every file that will be written, those of the reports last; `only` those."""
    report = ["index.html", "notebooks/metrics.html", "figures/captions.json", *(f"tables/{name}" for name in tables.FILES)]
    pack = ["manifest.json", "train.npy", "test.npy", "masks.npz", "skipped.csv", "summary.json", "notebook.ipynb"]
    trained = [*artifacts.names(study.config), "result.json", "evaluation.csv", "evaluation.json", "notebook.ipynb"]
    output = Path(os.environ.get("INPAINT_OUTPUT") or ROOT).absolute()  # as given: it may be a link to nowhere
    return [
        output / "runs" / study.profile / "study.json",
        *(study.folder / name for name in (".study.lock", "metrics.ipynb", "figures.ipynb")),
        *([study.data_folder(d) / name for d in study.config.datasets for name in pack] if not only else ()),
        *([run.folder / name for run in study.runs() for name in trained] if not only else ()),
        *(study.report / name for name in report),
    ]


def fetch(config):
    """Download the data sets that data_root lacks. Raises ValueError."""
    if not config.data_root:
        raise ValueError("--download: say where to with --data-root DIR")
    for name in config.datasets:
        try:
            sources.DATASETS[name].fingerprint(config)
        except sources.SourceError:
            sources.download(name, config.data_root)


def check_inputs(config):
    """Data and weights, before any is asked of the network. Raises ValueError."""
    for dataset in config.datasets:
        packs.settings_of(config, dataset)
        sources.DATASETS[dataset].plan(config)
    if any("perceptual" in losses.OBJECTIVES[name].terms for name in config.architectures):
        losses.Perceptual(config.perceptual_weights, config.perceptual_width)
    for name, weights in pretrained.WEIGHTS.items():
        if trouble := pretrained.fetch(name, getattr(config, weights.key)):
            print(trouble, file=sys.stderr, flush=True)
