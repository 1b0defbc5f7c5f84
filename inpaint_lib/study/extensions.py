"""Entries of one's own: Python files that add setups, architectures or data sets to the
registries.

A file named by a profile's key `extensions` is run once in every process. It registers its entries
itself:

    from inpaint_lib.setups import SETUPS, Setup, fixed

    SETUPS["mine"] = Setup(fixed, "One sentence about it.", colour="#333333", marker="*")

`models.ARCHITECTURES` and `data.sources.DATASETS` take entries in the same way.
"""

import runpy
import traceback
from pathlib import Path

from .files import ROOT

_loaded = set()


class ExtensionError(ValueError):
    """An extension is missing or fails; the message names the file and the line."""


def resolve(path, folder=ROOT):
    """Return the absolute path of an extension; a relative one is looked for in `folder`."""
    return str((Path(folder) / Path(path).expanduser()).resolve())


def load(paths):
    """Run each file that this process has not run yet. Raises ExtensionError."""
    for path in paths:
        if path in _loaded:
            continue
        if not Path(path).is_file():
            raise ExtensionError(f"extensions: there is no file {path}")
        try:
            runpy.run_path(path)
        except Exception as error:  # whatever a user's file raises
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            what = f"{type(error).__name__}: {error}"
            raise ExtensionError(f"extensions: {path}, line {line}: {what}") from error
        _loaded.add(path)
