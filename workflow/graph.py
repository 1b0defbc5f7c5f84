"""Describe a study to the Snakefile: plain values, among them all that makes a step stale."""

import json
import os
import sys

from inpaint_lib.data import own_masks, sources
from inpaint_lib.study import config, files
from inpaint_lib.training import weights

from .arguments import ROOT

SECTIONS = ("data", "curriculum", "training", "evaluation")  # of what decides a run's numbers
ELSEWHERE = ("grid.datasets", "grid.seeds", "grid.without")  # nothing of a run depends on these


def hash_code(notebook):
    """Return the SHA-256 of a notebook's code cells; prose and outputs don't count."""
    name = f"notebooks/{notebook}.ipynb"
    try:
        cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
        cells = [cell for cell in cells if cell["cell_type"] == "code"]
        if not any("parameters" in cell["metadata"].get("tags", []) for cell in cells):
            raise ValueError
        return files.hash_text(json.dumps(["".join(cell["source"]) for cell in cells]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        what = f"{name} is missing, damaged or without a cell tagged 'parameters'"
        raise ValueError(f"{what}: git checkout -- {name} restores it") from None


def _last_change():
    """Return when the library was last changed, in ns: tables, figures and report depend on it."""
    paths = [p for p in (ROOT / "inpaint_lib").rglob("*.*") if p.suffix != ".pyc"]
    return max(path.stat().st_mtime_ns for path in [*paths, ROOT / "config" / "hypotheses.yaml"])


def describe(study, overrides, slots, cluster):
    """Return the values of study.json, the Snakefile's configuration; slots: GPUs to lease."""
    settings = config.to_dict(study.config)
    science = {name: settings[name] for name in SECTIONS}
    if study.config.initial_weights:  # a new key of `science` would make old steps stale
        science["initial_weights"] = weights.hash_weights(study.config.initial_weights)
    packed = [settings["data"], settings["curriculum"]["mask_widths"]]
    if own := own_masks.fingerprint(study.config):
        packed += [own, settings["machine"]["turn_masks"]]
    datasets = settings["grid"]["datasets"]
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    notebooks = ("00_data_prep", "10_train", "20_metrics", "30_figures")
    of_a_run = {key: value for key, value in overrides.items() if key not in ELSEWHERE}
    return {
        "python": sys.executable,
        "pythonpath": os.pathsep.join(dict.fromkeys([str(ROOT), *filter(None, path)])),
        # relative: braces in a path would be Snakemake's wildcards
        "report": os.path.relpath(os.path.realpath(study.report), os.path.realpath(study.folder)),
        "datasets": datasets,
        "runs": [run.name for run in study.runs()],
        "gpus": ",".join(slots),
        "threads": study.config.machine.threads if cluster else 1,  # here jobs alone are counted
        "parameters": {
            "run": {"profile": study.source, "overrides": of_a_run},
            "grid": {"profile": study.source, "overrides": overrides},
        },
        "code": {name: hash_code(name) for name in notebooks},
        "library": _last_change(),
        "data": {d: [sources.find_dataset(d).fingerprint(study.config), *packed] for d in datasets},
        "train": {a: science | {"model": settings["models"][a]} for a in settings["models"]},
        "study": science | {"models": settings["models"]},
    }
