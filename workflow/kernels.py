"""How papermill starts the kernel of one notebook: on its own, whatever the user has installed."""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from traitlets.config import Config

from inpaint_lib.study import files


@contextlib.contextmanager
def private():
    """Yield papermill's options for a kernel with a folder of its own, in which its sockets lie."""
    long = len(os.fsencode(tempfile.gettempdir())) > 80  # a socket's path may have about 104 bytes
    with tempfile.TemporaryDirectory(prefix="kernel-", dir="/tmp" if long else None) as folder:
        write_kernel(folder)
        names = ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
        os.environ |= dict.fromkeys(names, folder)
        os.environ.pop("MPLBACKEND", None)
        yield {
            "kernel_name": "python3",
            "progress_bar": False,
            "extra_arguments": ["--log-level=50"],  # its shutdown by interrupt is no error
            "config": Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/k"}}),
        }


def write_kernel(folder):
    """Make the kernel python3 this very Python, unwatched, where `folder` is $JUPYTER_PATH."""
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    path = Path(folder, "kernels", "python3", "kernel.json")
    files.write_json(path, spec | {"env": {"INPAINT_UNSEEN": "1"}})


def literal(path):
    """Return a path as papermill takes it: it fills in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")
