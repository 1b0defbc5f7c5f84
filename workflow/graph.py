"""The study as Snakemake needs it: plain values for the Snakefile, and a digest of whatever makes a step stale."""

import ast
import json
import sys

from inpaint_lib.data import packs
from inpaint_lib.evaluation import evaluate, pretrained
from inpaint_lib.results import tables
from inpaint_lib.study import config, provenance
from inpaint_lib.training import jobs

from . import snakemake
from .arguments import ROOT

TRAINING_NOTEBOOKS = {p.stem.split("_train_")[1]: p.stem for p in sorted((ROOT / "notebooks").glob("1*_train_*.ipynb"))}


def check_notebook(name):
    """Raise ValueError, naming the notebook and the cure, if it could not be executed with parameters."""
    cure = f"mend it, or get it back: git checkout -- {name}"
    path = ROOT / name
    if not path.is_file():
        raise ValueError(f"{name} is missing; give it its name again, or get it back: git checkout -- {name}")
    try:
        cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
        tagged = any("parameters" in c["metadata"].get("tags", []) for c in cells)
        sources = ["".join(c["source"]) for c in cells]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(f"{name} is not a notebook; {cure}") from None
    if not tagged:
        raise ValueError(f"{name} has no cell tagged 'parameters'; {cure}")
    for number, source in enumerate(sources, 1):
        try:
            if not any(line.lstrip().startswith(("%", "!")) for line in source.splitlines()):  # IPython's own
                compile(source, name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            raise ValueError(f"{name}, code cell {number}, line {error.lineno}: {error.msg}; {cure}") from None


def graph(study, overrides):
    """Everything the Snakefile needs to know: plain values, no import of the library there."""
    def digest(notebook, *sources):
        check_notebook(f"notebooks/{notebook}.ipynb")
        return provenance.code_digest(f"notebooks/{notebook}.ipynb", *sources)

    everything = ("inpaint_lib/**/*.py", "config/hypotheses.yaml")
    settings = config.to_dict(study.config)
    identity = {k: v for k, v in settings.items() if k not in (*config.MACHINE, *config.GRID, "models")}
    identity["weights"] = {name: pretrained.identity(name, settings[w.key]) for name, w in pretrained.WEIGHTS.items()}
    return {
        "python": sys.executable,
        "root": str(ROOT),
        "report": snakemake.REPORT,
        "tables": list(tables.FILES),
        "datasets": list(study.config.datasets),
        "runs": [str(run.folder.relative_to(study.folder)) for run in study.runs()],
        "notebooks": TRAINING_NOTEBOOKS,
        "parameters": {  # a run does not depend on what else is in the grid
            "run": {"profile": study.profile, "overrides": {k: v for k, v in overrides.items() if k not in config.GRID}},
            "grid": {"profile": study.profile, "overrides": overrides},
        },
        "settings": {
            "prepare": {
                d: packs.settings_of(study.config, d) | {"notebook": digest("00_data_prep", "inpaint_lib/results/pictures.py")}
                for d in study.config.datasets
            },
            "train": {
                a: identity
                | {
                    "model": settings["models"][a],
                    "code": digest(
                        TRAINING_NOTEBOOKS.get(a, f"1?_train_{a}"),
                        *jobs.SOURCES,
                        *evaluate.CODE,
                        f"inpaint_lib/models/{a}.py",
                        *(f"inpaint_lib/results/{name}.py" for name in ("collect", "pictures", "plots", "stats", "tables")),
                        "inpaint_lib/lab/live.py",
                    ),
                }
                for a in study.config.architectures
            },  # fmt: skip
            "tables": identity | {"models": settings["models"], "code": digest("20_metrics", *everything)},
            "figures": digest("30_figures", *everything),
            "report": provenance.code_digest(*everything, "inpaint_lib/**/*.j2"),
        },
    }
