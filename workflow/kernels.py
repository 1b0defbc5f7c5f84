"""Start the kernel of one notebook apart from the user's own kernels, profiles and settings."""

import contextlib
import os
import socket
import sys
import tempfile
from pathlib import Path

from traitlets.config import Config

from inpaint_lib.study import files


@contextlib.contextmanager
def isolate():
    """Yield papermill's options for a kernel with a folder of its own, which holds its sockets.

    Where neither TMPDIR nor /tmp can hold sockets, local ports are used.
    """
    with contextlib.ExitStack() as stack:
        for place in (tempfile.gettempdir(), "/tmp"):
            with contextlib.suppress(OSError):
                own = tempfile.TemporaryDirectory(prefix="kernel-", dir=place)
                folder = stack.enter_context(own)
                manager = {"transport": "ipc", "ip": f"{folder}/k"}
                with socket.socket(socket.AF_UNIX) as probe:  # a path may have about 104 bytes
                    probe.bind(f"{folder}/k-12345")
                break
        else:
            manager = {"transport": "tcp", "ip": "127.0.0.1"}
        write_kernel(folder)
        names = ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
        os.environ |= dict.fromkeys(names, folder)
        os.environ.pop("MPLBACKEND", None)
        yield {
            "kernel_name": "python3",
            "progress_bar": False,
            "extra_arguments": [
                "--log-level=50"
            ],  # or its shutdown by interrupt is logged as an error
            "config": Config({"KernelManager": manager}),
        }


def write_kernel(folder):
    """Define kernel python3 in `folder`, a $JUPYTER_PATH: this very Python, unwatched."""
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    path = Path(folder, "kernels", "python3", "kernel.json")
    files.write_json(path, spec | {"env": {"INPAINT_UNSEEN": "1"}})


def extend_jupyter_path():
    """Add the files of packages that only PYTHONPATH names to $JUPYTER_PATH."""
    import nbconvert

    above = Path(nbconvert.__file__).parents
    found = [str(folder / "share" / "jupyter") for folder in (above[1], above[4])]
    given = os.environ.get("JUPYTER_PATH", "").split(os.pathsep)
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [*given, *found]))


def escape_braces(path):
    """Return a path for papermill, which formats braces in paths."""
    return str(path).replace("{", "{{").replace("}", "}}")
