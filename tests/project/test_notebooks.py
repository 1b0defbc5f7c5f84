"""The notebooks as committed: executed, essays, without machine paths; marked outputs recur."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from inpaint_lib import models
from inpaint_lib.evaluation import evaluate
from inpaint_lib.study import grid
from inpaint_lib.training import loop
from tests.workflow.commands import ROOT, run_cells
from workflow import kernels

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EVERY = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def cells(path):
    return nbformat.read(path, as_version=4).cells


def marked(path):
    return [c for c in cells(path) if "nbval-check-output" in c.metadata.get("tags", [])]


@EVERY
def test_a_notebook_was_run_from_top_to_bottom_without_error(path):
    code = [c for c in cells(path) if c.cell_type == "code"]
    assert code and [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert not any(o.output_type == "error" for c in code for o in c.outputs)
    assert marked(path) and all(c.outputs for c in marked(path))


@EVERY
def test_no_machine_path_is_committed_and_the_file_is_small(path):
    assert not re.search(r"(?<![\w:/.])/(home|root|tmp|work|Users|opt|usr)/", path.read_text())
    assert path.stat().st_size < 1_000_000


@EVERY
def test_a_notebook_is_an_essay(path):
    """A title that asks, parameters of the smoke profile (or the newest one), no definitions, a
    verdict."""
    found = cells(path)
    assert found[0].cell_type == "markdown" and re.match(r"# .*\?\n", found[0].source)
    parameters = [c for c in found if "parameters" in c.metadata.get("tags", [])]
    profile = "" if path.stem == "40_explore" else "smoke"
    assert len(parameters) == 1 and f'profile = "{profile}"' in parameters[0].source
    code = [c.source for c in found if c.cell_type == "code"]
    assert not re.search(r"^\s*(def|class|while) ", "\n".join(code), re.M)
    assert max(len(source.splitlines()) for source in code) <= 24
    headings = [c.source for c in found[-4:] if c.cell_type == "markdown"]
    assert headings[-1].startswith(("## Verdict", "## What would answer the claim?"))


@pytest.mark.slow
def test_marked_outputs_are_reproduced_with_every_architecture(tmp_path, monkeypatch, capsys):
    """10_train for every architecture, custom's in a kernel; the other notebooks then look at what
    is there."""
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setenv("INPAINT_UNSEEN", "1")
    study = grid.open_study("smoke", {"grid.datasets": ["faces"], "grid.setups": ["fixed"]})
    for run in study.runs():  # the progressive ones are trained by the notebooks
        loop.fit(run, lambda *_: None, after_stage=evaluate.evaluate)
    for architecture in (name for name in models.ARCHITECTURES if name != "custom"):
        run_cells(ROOT / "notebooks/10_train.ipynb", {"architecture": architecture})
        out = capsys.readouterr().out
        assert "known pixels are kept: True" in out and "losses finite: True" in out
    copies = [Path(shutil.copy(path, tmp_path)) for path in NOTEBOOKS]
    kernels.write_kernel(tmp_path / "jupyter")
    environment = os.environ | {
        "JUPYTER_PATH": str(tmp_path / "jupyter"),
        "CUDA_VISIBLE_DEVICES": "",  # their device is auto
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--nbval-lax"]
        + ["-c", os.devnull, "--rootdir", tmp_path, "--nbval-cell-timeout=300", *copies],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    executed = sum(c.cell_type == "code" for path in copies for c in cells(path))
    assert f" {executed} passed" in done.stdout and "skipped" not in done.stdout, done.stdout[-900:]
    compared = sum(len(marked(path)) for path in copies)
    assert compared >= len(copies)
