"""./run_all.sh lab [options of JupyterLab]: the notebooks in JupyterLab.

What is the user's own (settings, extensions) stays, but not what would change a kernel: it starts without his IPython profile.
Without a home that can be written to JupyterLab keeps its settings in a folder of this start alone.
"""

import os
import sys
import tempfile
from pathlib import Path


def main(argv):
    from jupyterlab.labapp import main as lab  # after the environment is set: Jupyter reads it when it is imported

    return lab(["--ip=127.0.0.1", *argv, "notebooks"])


def surroundings(folder):
    """Environment variables for a start that may use a folder."""
    own = {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    return own if _writable(Path.home()) else own | {"HOME": str(folder)}


def _writable(home):
    try:
        with tempfile.TemporaryFile(dir=home):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        os.environ |= surroundings(Path(folder))
        sys.exit(main(sys.argv[1:]))
