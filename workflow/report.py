"""python -m workflow.report STUDY.json: the report, with a page for every executed notebook."""

import sys

from inpaint_lib.results import frames, report
from inpaint_lib.study import files, grid
from inpaint_lib.study.command import fail


def pages(study):
    """Return (title, path, page name, run name or None) of every executed notebook."""
    found = [
        (f"Data: {name}", study.data_folder(name) / "notebook.ipynb", f"data_{name}.html", None)
        for name in study.config.grid.datasets
    ]
    for run in study.runs():
        page = f"{run.name.replace('/', '_')}.html"
        found.append((f"Training: {run.name}", run.folder / "notebook.ipynb", page, run.name))
    found.append(("Metrics", study.folder / "metrics.ipynb", "metrics.html", None))
    found.append(("Figures", study.folder / "figures.ipynb", "figures.html", None))
    return [page for page in found if page[1].is_file()]


def build(study):
    """Write the report of saved results. Raises FileNotFoundError or ValueError."""
    report.build(frames.load(study.report / "results"), study.report, pages(study))


def main(path):
    try:
        build(grid.open_study(**files.read_json(path)["parameters"]["grid"]))
    except (OSError, ValueError) as error:
        return fail(1, f"report: {error}", name="  FAILED")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
