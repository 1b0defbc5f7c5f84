"""The notebooks as committed: executed, marked, free of machine paths; and they run (nbval)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.conftest import repository
from workflow import run_notebook, warm

NOTEBOOKS = sorted(Path(repository(), "notebooks").glob("*.ipynb"))


def cells(path):
    return nbformat.read(path, as_version=4).cells


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_notebook_is_stripped(path):
    code = [c for c in cells(path) if c.cell_type == "code"]
    assert code and all(c.execution_count for c in code)
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1)), "not run from top to bottom"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_stable_outputs_are_marked_for_comparison(path):
    marked = [c for c in cells(path) if "nbval-check-output" in c.metadata.get("tags", [])]
    assert marked and all(c.outputs for c in marked)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_machine_path_and_no_error_is_committed(path):
    text = path.read_text()
    assert not re.search(r"(?<![\w:/.])/(home|root|tmp|work|Users|opt|usr)/", text)
    assert path.stat().st_size < 1_000_000
    assert not any(o.output_type == "error" for c in cells(path) if c.cell_type == "code" for o in c.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_an_essay(path):
    """A title that asks, parameters with the smoke preset, no definitions, a verdict at the end."""
    found = cells(path)
    assert found[0].cell_type == "markdown" and re.match(r"# .*\?\n", found[0].source)
    parameters = [c for c in found if "parameters" in c.metadata.get("tags", [])]
    assert len(parameters) == 1 and 'profile = "smoke"' in parameters[0].source
    code = "\n".join(c.source for c in found if c.cell_type == "code")
    assert not re.search(r"^\s*(def|class|while) ", code, re.M)
    assert any(c.cell_type == "markdown" and c.source.startswith("## Verdict") for c in found[-4:])


def test_every_notebook_runs_and_its_marked_outputs_are_reproduced(tmp_path):
    environment = os.environ | {"INPAINT_OUTPUT": str(tmp_path)}
    environment["CUDA_VISIBLE_DEVICES"] = ""  # their device is auto
    environment["PYTHONPATH"] = os.pathsep.join([repository(), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-cell-timeout=300"]
    with warm.waiting(environment) as address:
        run_notebook.write_kernel(tmp_path / "jupyter", address)
        environment["JUPYTER_PATH"] = str(tmp_path / "jupyter")
        done = subprocess.run([*command, *map(str, NOTEBOOKS)], cwd=repository(), env=environment, capture_output=True,
                              text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
