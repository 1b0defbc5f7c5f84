"""What must hold before anything is made; otherwise one line says why, and nothing has changed."""

import os
import sys
from pathlib import Path

from inpaint_lib import PROTOCOL, losses, models
from inpaint_lib.data import sources
from inpaint_lib.evaluation import pretrained
from inpaint_lib.results import published, stats
from inpaint_lib.study import config as configuration
from inpaint_lib.study import files, grid
from inpaint_lib.study.command import say
from inpaint_lib.training import identity

from . import slurm
from .arguments import ROOT


def open_study(args, overrides):
    """Return the study that is asked for; `overrides` gets what is left out. Raises ValueError."""
    study = grid.open_study(args.profile, overrides)
    if args.skip_published:
        done = published.names(configuration.to_dict(study.config), PROTOCOL)
        left = [r.name for r in study.runs() if r.name in done and not grid.holds_work(r.folder)]
        say(f"{len(left)} runs are published and left out")
        overrides["grid.without"] = sorted({*study.config.grid.without, *left})
        study = grid.open_study(args.profile, overrides)
    stats.registered()
    if args.cluster:
        slurm.check(study.config)
    return study


def ready(study, args):
    """Check places, data, weights; return {folder: why} of runs to replace. Raises ValueError."""
    if reason := next(filter(None, map(files.obstacle, places(study))), None):
        raise ValueError(reason)
    if not args.dry_run:
        check_inputs(study.config, args.download)
    changed = identity.changed(study)
    if changed and not args.force_new:
        more = f"; {len(changed)} runs are concerned" if len(changed) > 1 else ""
        raise ValueError(f"{next(iter(changed.values()))}{more}")
    return changed


def places(study):
    """Return files that will be written, at least one of every folder."""
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
    """Check that data and weights are there, or fetch them. Raises ValueError."""
    root = config.machine.data_root
    if download and not root:
        raise ValueError("--download: say where to with --data-root DIR")
    for name in config.grid.datasets:
        try:
            sources.find(name).fingerprint(config)
        except sources.SourceError:
            if not download:
                raise
            sources.download(name, root)
        sources.find(name).plan(config)
    used = [models.ARCHITECTURES[name].objective.terms for name in config.grid.architectures]
    if any("perceptual" in terms for terms in used):
        losses.Perceptual(config.training.perceptual_weights, config.training.perceptual_width)
    for name, weights in pretrained.WEIGHTS.items():
        wanted = getattr(config.evaluation, weights.key.split(".")[-1])
        if missing := pretrained.fetch(name, wanted):
            print(missing, file=sys.stderr, flush=True)
