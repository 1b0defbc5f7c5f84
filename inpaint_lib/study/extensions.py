"""Extensions: the user's Python files that add setups, architectures or data sets.

Every process runs each file in a profile's key `extensions` once. The file registers its entries:

    from inpaint_lib.setups import SETUPS, Setup, fixed

    SETUPS["mine"] = Setup(fixed, "One sentence about it.", colour="#333333", marker="*")

So do entries of `models.ARCHITECTURES` and `data.sources.DATASETS`.
"""

import os
import runpy
import traceback
from pathlib import Path

_loaded = set()


class ExtensionError(ValueError):
    """An extension is missing or fails; the message names the file and the line."""


def load(paths, folder="."):
    """Run the files, relative to `folder`, that this process has not run; return absolute paths.

    Raises ExtensionError.
    """
    found = [os.path.abspath(Path(folder, str(path))) for path in paths]
    for path in found:
        if path in _loaded:
            continue
        if not Path(path).is_file():
            raise ExtensionError(f"there is no file {path}")
        try:
            runpy.run_path(path)
        except Exception as error:  # whatever a user's file raises
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if frame.filename == path]
            if isinstance(error, SyntaxError) and error.filename == path and error.lineno:
                lines.append(error.lineno)
            where = f"{path}, line {lines[-1]}" if lines else path
            raise ExtensionError(f"{where}: {type(error).__name__}: {error}") from error
        _loaded.add(path)
    return found
