"""What tests do with a run: train it up to a step, and read what it computed."""

import pandas as pd
import pytest
from safetensors import safe_open

from inpaint_lib.training import loop


class Stop(Exception):
    pass


def quiet(*_):
    pass


def never(*_):
    raise AssertionError("there must be nothing to train")


def stop(run, at):
    """Train up to the first log point at or after a step."""

    def watch(run, state):
        if state.step >= at:
            raise Stop

    with pytest.raises(Stop):
        loop.fit(run, watch)


def read(path):
    """Return a file's bytes, or what of them does not depend on the clock."""
    if path.name == "history.csv":
        return pd.read_csv(path).drop(columns="images_per_second").to_csv().encode()
    if path.suffix == ".safetensors":  # the order of its header is not fixed
        with safe_open(path, "np") as file:
            return {key: file.get_tensor(key).tobytes() for key in file.keys()}
    return path.read_bytes()


def contents(folder):
    """Return {name: what is in it} of all that a run computed: logs, recorded fills, weights."""
    paths = [p for kind in ("*.csv", "*.gz", "*.npz") for p in folder.rglob(kind)]
    paths = [p for p in paths if not p.name.startswith(".")] + list((folder / "stages").iterdir())
    return {str(p.relative_to(folder)): read(p) for p in sorted(paths)}
