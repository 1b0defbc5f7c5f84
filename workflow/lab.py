"""./run_all.sh lab: JupyterLab on copies of the notebooks, in a folder that git ignores.

Beside each copy lies the original that it was made from, in .originals/, to tell edits of the copy
from changes of the original. A copy without edits follows its original; one with edits is never
overwritten.
"""

import difflib
import json
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from inpaint_lib.study import files
from inpaint_lib.study.command import Parser, say

from .arguments import ROOT

NOTEBOOKS = ROOT / "notebooks"
NOTE = "original-has-changed"  # id of the cell that says so in a copy
LINES = 20  # of a changed notebook that are listed, at most
UPDATES = "jupyterlab.handlers.announcements.NeverCheckForUpdate"
OFFLINE = ("--LabApp.news_url=None", f"--LabApp.check_for_updates_class={UPDATES}")


def lab(argv):
    """Start JupyterLab, list edits (--edits) or take them over (--take NAME).

    The user's own settings of JupyterLab stay, but kernels start without an IPython profile.
    """
    folder = Path(os.environ.get("INPAINT_OUTPUT") or ROOT).resolve() / "lab"
    parser = Parser(prog="run_all.sh lab", add_help=False, allow_abbrev=False)
    parser.add_argument("--edits", action="store_true")
    parser.add_argument("--take", metavar="NAME")
    args, options = parser.parse_known_args(argv)
    if args.edits:
        return say(*list_edits(folder))
    if args.take:
        return say(take_edits(folder, args.take.removesuffix(".ipynb")))
    if os.getuid() == 0 and "--allow-root" not in argv:
        raise ValueError("JupyterLab does not run as root: be another user, or add --allow-root")
    if kept := copy_notebooks(folder):
        named = ", ".join(kept)
        say(f"{folder}: your edits are kept, but the originals of {named} changed: lab --edits")
    with tempfile.TemporaryDirectory(prefix="lab-") as own:
        os.environ |= {"IPYTHONDIR": f"{own}/ipython", "JUPYTER_RUNTIME_DIR": f"{own}/runtime"}
        if not os.access(os.path.expanduser("~"), os.W_OK):
            os.environ["HOME"] = own
        from jupyterlab.labapp import main  # Jupyter reads the environment at its import

        address = [] if any("ip=" in a for a in options) else ["--ip=127.0.0.1"]
        return main([*address, *OFFLINE, *options, str(folder)])


class Copy(NamedTuple):
    """A notebook, its copy, and the original as it was copied."""

    original: Path
    path: Path
    base: Path
    notebook: dict | None  # the copy; None if there is none that can be read
    mine: list | None  # lines of the copy
    was: list | None  # lines of the original as it was copied
    new: list  # lines of the original now


def copy_notebooks(folder):
    """Copy the notebooks that `folder` lacks and renew copies without edits. Of copies with edits
    whose original has changed return the names; their first cell says so from now on.
    """
    kept = []
    for name in _list_names():
        copy = _read_copy(folder, name)
        if copy.path.exists() and copy.mine != copy.new and copy.mine != (copy.was or copy.new):
            if copy.was != copy.new:
                kept.append(name)
                cells = copy.notebook["cells"] if copy.notebook else []
                if cells and cells[0].get("id") != NOTE:
                    cells.insert(0, _make_note(name))
                    files.write_json(copy.path, copy.notebook)
            continue
        text = copy.original.read_text(encoding="utf-8")
        if copy.mine != copy.new:
            files.write_text(copy.path, text)
        if copy.was != copy.new:
            files.write_text(copy.base, text)
    return kept


def list_edits(folder):
    """Return lines that say what differs in the copies, and how to bring it back."""
    lines = []
    for name in _list_names():
        copy = _read_copy(folder, name)
        if copy.path.exists() and copy.mine is None:
            lines.append(f"{copy.path}: cannot be read as a notebook: rename it to get a new copy")
        elif copy.mine not in (None, copy.was or copy.new):
            n, changed = _compare(copy.was or copy.new, copy.mine)
            how = f"to bring them back into notebooks/: ./run_all.sh lab --take {name}"
            if copy.was and copy.was != copy.new:
                theirs, _ = _compare(copy.was, copy.new)
                how = f"the original has changed in {theirs} cells, too: --take would undo that"
            lines += [f"{copy.path}: {n} cells differ; {how}", *(f"  {line}" for line in changed)]
    return lines or [f"{folder}: no copy has edits"]


def take_edits(folder, name):
    """Write the copy's cells to the repository's notebook, without outputs; return what was done.

    Raises ValueError where there is nothing to take or the original has changed since.
    """
    if name not in _list_names():
        raise ValueError(f"--take {name}: no such notebook; there are: {', '.join(_list_names())}")
    copy = _read_copy(folder, name)
    if copy.mine in (None, copy.was, copy.new):
        raise ValueError(f"--take {name}: {copy.path} has no edits")
    if copy.was != copy.new:
        what = f"{copy.original} has changed since the copy was made"
        how = "rename the copy and repeat your edits in a new one"
        raise ValueError(f"--take {name}: {what}: {how}")
    cells = [cell for cell in copy.notebook["cells"] if cell.get("id") != NOTE]
    for cell in cells:
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k == "tags"}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    taken = copy.notebook | {"cells": cells, "metadata": _read(copy.original)["metadata"]}
    text = json.dumps(taken, indent=1, ensure_ascii=False) + "\n"
    for place in (copy.original, copy.base):
        files.write_text(place, text)
    return f"{copy.original}: {_compare(copy.was, copy.mine)[0]} cells taken, outputs removed"


def _list_names():
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def _read(path):
    """Return a notebook as a dict, or None where there is none that can be read."""
    found = files.read_json(path)
    return found if isinstance(found, dict) and isinstance(found.get("cells"), list) else None


def _read_copy(folder, name):
    file = f"{name}.ipynb"
    paths = NOTEBOOKS / file, folder / file, folder / ".originals" / file
    original, notebook, base = map(_read, paths)
    if not original:
        what = f"{paths[0]} cannot be read as a notebook"
        raise ValueError(f"{what}: git checkout -- notebooks/{file} restores it")
    return Copy(*paths, notebook, *map(_list_lines, (notebook, base, original)))


def _list_lines(notebook):
    """Return the lines of all cells, each after its cell's id and kind; outputs do not count."""
    cells = [cell for cell in notebook["cells"] if cell.get("id") != NOTE] if notebook else []
    return [
        f"cell {cell.get('id', k)} ({cell.get('cell_type')}): {line}"
        for k, cell in enumerate(cells)
        for line in "".join(cell.get("source", "")).splitlines() or [""]
    ] or None


def _make_note(name):
    text = (
        f"**The original of this notebook has changed** since this copy was made. Your edits are "
        f"kept: `./run_all.sh lab --edits` lists them. To get the new one, rename this copy "
        f"({name}.ipynb) and start `./run_all.sh lab` again."
    )
    return {"cell_type": "markdown", "id": NOTE, "metadata": {}, "source": text}


def _compare(before, after):
    """Return (how many cells differ, a few of the lines that do)."""
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    lines = [line for line in lines if not line.startswith("@@")]
    more = [f"... {len(lines) - LINES} lines more"] if len(lines) > LINES else []
    return len({line[1:].partition(":")[0] for line in lines}), [*lines[:LINES], *more]
