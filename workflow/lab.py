"""./run_all.sh lab [options of JupyterLab]: JupyterLab on copies of the notebooks.

The copies lie in lab/, which git ignores, so working in them changes no file of the repository. The
user's own settings of JupyterLab stay, but kernels start without an IPython profile.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from inpaint_lib.study import files
from inpaint_lib.study.command import ended, fail, say

from .arguments import ROOT


def copy_notebooks(folder):
    """Copy the notebooks that `folder` lacks; return the names of copies that differ."""
    differ = []
    for original in sorted((ROOT / "notebooks").glob("*.ipynb")):
        copy = folder / original.name
        if not copy.exists():
            with files.replacing(copy) as temporary:
                shutil.copyfile(original, temporary)
        elif copy.read_bytes() != original.read_bytes():
            differ.append(copy.name)
    return differ


def surroundings(folder):
    """Return the environment variables of a start; `folder` replaces a home that can't be used."""
    own = {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    try:
        with tempfile.TemporaryFile(dir=Path.home()):
            return own
    except (OSError, RuntimeError):  # RuntimeError: there is none
        return own | {"HOME": str(folder)}


def main(argv):
    output = Path(os.environ.get("INPAINT_OUTPUT") or ROOT).resolve()
    try:
        differ = copy_notebooks(output / "lab")
    except OSError as error:
        return fail(2, error)
    if differ:
        kept = (
            f"{output / 'lab'}: kept your copies that differ from notebooks/: {', '.join(differ)}"
        )
        say(f"{kept}; rename a copy to get the repository's")
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        os.environ |= surroundings(Path(folder))
        from jupyterlab.labapp import main as lab  # Jupyter reads the environment at its import

        address = [] if any("ip=" in a for a in argv) else ["--ip=127.0.0.1"]
        return lab([*address, *argv, str(output / "lab")])


if __name__ == "__main__":
    ended(main, sys.argv[1:])
