"""./run_all.sh lab: JupyterLab on copies of the notebooks, in a folder that git ignores.

Beside each copy lies the original that it was made from, in .originals/: so edits of the copy and
changes of the original are told apart. A copy without edits follows its original; one with edits is
never overwritten.
"""

import difflib
import json
import os
import tempfile
from pathlib import Path

from inpaint_lib.study.command import Parser, say

from .arguments import ROOT

NOTEBOOKS = ROOT / "notebooks"
NOTE = "original-has-changed"  # id of the cell that says so in a copy
LINES = 8  # of a changed cell, at most
UPDATES = "jupyterlab.handlers.announcements.NeverCheckForUpdate"
SILENT = ("--LabApp.news_url=None", f"--LabApp.check_for_updates_class={UPDATES}")  # it asks nobody


def lab(argv):
    """Start JupyterLab, or list edits (--edits), or take them over (--take NAME).

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
        say(f"{folder}: your edits are kept, the originals have changed: {named}; lab --edits")
    with tempfile.TemporaryDirectory(prefix="lab-") as own:
        os.environ |= {"IPYTHONDIR": f"{own}/ipython", "JUPYTER_RUNTIME_DIR": f"{own}/runtime"}
        if not os.access(os.path.expanduser("~"), os.W_OK):
            os.environ["HOME"] = own
        from jupyterlab.labapp import main  # Jupyter reads the environment at its import

        address = [] if any("ip=" in a for a in options) else ["--ip=127.0.0.1"]
        return main([*address, *SILENT, *options, str(folder)])


def _list_names():
    """Return the names of the repository's notebooks."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def _read(path):
    """Return a notebook as a dict, or None where there is none that can be read."""
    from inpaint_lib.study import files

    found = files.read_json(path)
    return found if isinstance(found, dict) and isinstance(found.get("cells"), list) else None


def _list_sources(notebook):
    """Return {cell's id: (kind, source)}: what makes a copy edited; outputs do not."""
    cells = [cell for cell in notebook["cells"] if cell.get("id") != NOTE]
    return {
        cell.get("id", k): (cell.get("cell_type"), "".join(cell.get("source", "")))
        for k, cell in enumerate(cells)
    }


def copy_notebooks(folder):
    """Copy the notebooks that `folder` lacks, renew copies without edits; return the names of those
    with edits whose original has changed since, and say so in their first cell.
    """
    from inpaint_lib.study import files

    kept = []
    for name in _list_names():
        original, copy, base = _three(folder, name)
        new, now, was = _list_sources(_original(original)), _read(copy), _read(base)
        mine, text = now and _list_sources(now), original.read_text(encoding="utf-8")
        if copy.exists() and mine != new and not (was and mine == _list_sources(was)):  # with edits
            if not was or _list_sources(was) != new:
                kept.append(name)
                if now and now["cells"] and now["cells"][0].get("id") != NOTE:
                    now["cells"].insert(0, _note(name))
                    files.write_json(copy, now)
            continue
        if mine != new:
            files.write_text(copy, text)
        if not was or _list_sources(was) != new:
            files.write_text(base, text)
    return kept


def _three(folder, name):
    """Return the paths of a notebook, of its copy, and of the original that was copied."""
    file = f"{name}.ipynb"
    return NOTEBOOKS / file, folder / file, folder / ".originals" / file


def _original(path):
    found = _read(path)
    if not found:
        what = f"{path} is no notebook"
        raise ValueError(f"{what}; git checkout -- notebooks/{path.name} restores it")
    return found


def _note(name):
    text = (
        f"**The original of this notebook has changed** since this copy was made. Your edits are "
        f"kept: `./run_all.sh lab --edits` lists them. To get the new one, rename this copy "
        f"({name}.ipynb) and start `./run_all.sh lab` again."
    )
    return {"cell_type": "markdown", "id": NOTE, "metadata": {}, "source": text}


def list_edits(folder):
    """Return lines that say what differs in the copies, and how to bring it back."""
    found = []
    for name in _list_names():
        original, copy, base = _three(folder, name)
        now = _read(copy)
        if not now:
            found += [f"{copy}: is no notebook that can be read"] if copy.exists() else []
            continue
        of_original = _original(original)
        was, mine, new = _read(base) or of_original, _list_sources(now), _list_sources(of_original)
        changed = _differences(_list_sources(was), mine)
        if changed:
            if _list_sources(was) != new:
                theirs = len(_differences(_list_sources(was), new))
                how = f"its original has changed, too, in {theirs} cells: --take would undo that"
            else:
                how = f"to bring it back into notebooks/: ./run_all.sh lab --take {name}"
            found += [f"{copy}: {len(changed)} cells differ; {how}"]
            found += [line for lines in changed for line in lines]
    return found or [f"{folder}: no copy has edits"]


def _differences(before, after):
    """Return, per cell that differs, a few lines."""
    found = []
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key), after.get(key)
        if old != new:
            texts = [text[1].splitlines() if text else [] for text in (old, new)]
            lines = list(difflib.unified_diff(*texts, n=0, lineterm=""))[2:]
            lines = [line for line in lines if not line.startswith("@@")]
            more = [f"... {len(lines) - LINES} lines more"] if len(lines) > LINES else []
            what = "changed" if old and new else "new" if new else "deleted"
            shown = [f"    {line}" for line in [*lines[:LINES], *more]]
            found.append([f"  cell {key} ({what})", *shown])
    return found


def take_edits(folder, name):
    """Write the copy's cells to the repository's notebook, without outputs; return what was done.

    Raises ValueError where there is nothing to take or the original has changed since.
    """
    from inpaint_lib.study import files

    if name not in _list_names():
        raise ValueError(f"--take {name}: no such notebook; there are: {', '.join(_list_names())}")
    original, copy, base = _three(folder, name)
    now, was, of_original = _read(copy), _read(base), _original(original)
    if not now or _list_sources(now) in (was and _list_sources(was), _list_sources(of_original)):
        raise ValueError(f"--take {name}: {copy} has no edits")
    if not was or _list_sources(was) != _list_sources(of_original):
        what = f"{original} has changed since the copy was made"
        raise ValueError(
            f"--take {name}: {what}; rename the copy and repeat your edits in a new one"
        )
    now["cells"] = [cell for cell in now["cells"] if cell.get("id") != NOTE]
    for cell in now["cells"]:
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k == "tags"}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    now["metadata"] = of_original["metadata"]
    text = json.dumps(now, indent=1, ensure_ascii=False) + "\n"
    for place in (original, base):
        files.write_text(place, text)
    taken = _differences(_list_sources(was), _list_sources(now))
    return f"{original}: {len(taken)} cells taken, outputs removed"
