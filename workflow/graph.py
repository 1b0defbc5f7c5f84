"""The study as Snakemake needs it: plain values for the Snakefile, and what makes a step stale."""

import ast
import json
import os
import sys

from inpaint_lib.data import sources
from inpaint_lib.study import config, files

from .arguments import ROOT

# in a study's folder, a link to its report: braces in a path would be Snakemake's wildcards
REPORT = ".report"
SECTIONS = ("data", "curriculum", "training", "evaluation")  # of what decides a run's numbers


def code_of(notebook):
    """Return the SHA-256 of a notebook's code cells; prose and outputs don't count.

    Raises ValueError, naming the notebook and the fix, if it could not be executed with parameters.
    """
    name = f"notebooks/{notebook}.ipynb"
    fix = f"git checkout -- {name} restores it"
    try:
        cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
        cells = [cell for cell in cells if cell["cell_type"] == "code"]
        code = ["".join(cell["source"]) for cell in cells]
        tagged = any("parameters" in cell["metadata"].get("tags", []) for cell in cells)
    except FileNotFoundError:
        raise ValueError(f"{name} is missing; {fix}") from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(f"{name} is not a notebook; {fix}") from None
    if not tagged:
        raise ValueError(f"{name} has no cell tagged 'parameters'; {fix}")
    for number, source in enumerate(code, 1):
        if any(line.lstrip().startswith(("%", "!")) for line in source.splitlines()):
            continue  # IPython's own syntax
        try:
            compile(source, name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            where = f"code cell {number}, line {error.lineno}"
            raise ValueError(f"{name}, {where}: {error.msg}; {fix}") from None
    return files.text_sha256(json.dumps(code))


def library_changed():
    """Return when the library was last changed: tables, figures and report follow it."""
    paths = [p for p in (ROOT / "inpaint_lib").rglob("*.*") if p.suffix != ".pyc"]
    return max(path.stat().st_mtime_ns for path in [*paths, ROOT / "config" / "hypotheses.yaml"])


def graph(study, overrides):
    """Return everything the Snakefile needs to know, as plain values."""
    settings = config.to_dict(study.config)
    science = {name: settings[name] for name in SECTIONS}
    packed = [settings["data"], settings["curriculum"]["mask_widths"]]
    datasets = settings["grid"]["datasets"]
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    notebooks = ("00_data_prep", "10_train", "20_metrics", "30_figures")
    ungridded = {k: v for k, v in overrides.items() if k.split(".")[0] != "grid"}
    return {
        "python": sys.executable,
        "pythonpath": os.pathsep.join(dict.fromkeys([str(ROOT), *filter(None, path)])),
        "report": REPORT,
        "datasets": datasets,
        "runs": [run.name for run in study.runs()],
        "threads": study.config.machine.threads,
        "parameters": {  # a run does not depend on what else is in the grid
            "run": {"profile": study.source, "overrides": ungridded},
            "grid": {"profile": study.source, "overrides": overrides},
        },
        "code": {name: code_of(name) for name in notebooks},
        "library": library_changed(),
        "data": {d: [sources.find(d).fingerprint(study.config), *packed] for d in datasets},
        "train": {a: science | {"model": settings["models"][a]} for a in settings["models"]},
        "study": science | {"models": settings["models"]},
    }
