"""Copies of the notebooks: without edits they follow the originals, with edits they are kept."""

import json
import shutil

import nbformat
import pytest

from tests.workflow.commands import ROOT
from workflow import lab

NAME = "10_train"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for copies; the originals are copies themselves, to be changed."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.setattr(lab, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    assert lab.copy_notebooks(tmp_path / "lab") == []
    return tmp_path / "lab"


def edit(path, cell=2, text="\nmine = 1"):
    notebook = nbformat.read(path, 4)
    notebook.cells[cell].source += text
    nbformat.write(notebook, path)


def run(path):
    """What JupyterLab leaves where cells were run, and nothing else."""
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        cell.metadata["trusted"] = True
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], 77
    nbformat.write(notebook, path)


def paths(folder):
    return lab.NOTEBOOKS / f"{NAME}.ipynb", folder / f"{NAME}.ipynb"


def test_every_notebook_is_copied_and_a_missing_copy_again(folder):
    names = {path.name for path in lab.NOTEBOOKS.iterdir()}
    assert {path.name for path in folder.iterdir()} == {*names, ".originals"}
    original, copy = paths(folder)
    assert copy.read_bytes() == original.read_bytes()
    copy.unlink()
    assert lab.copy_notebooks(folder) == [] and copy.read_bytes() == original.read_bytes()


def test_a_copy_without_edits_keeps_its_outputs_and_follows_its_original(folder):
    original, copy = paths(folder)
    run(copy)
    lab.copy_notebooks(folder)
    assert nbformat.read(copy, 4).cells[2].execution_count == 77
    edit(original)
    assert lab.copy_notebooks(folder) == [] and copy.read_bytes() == original.read_bytes()


def test_edits_are_never_overwritten_and_the_first_cell_says_that_the_original_changed(folder):
    original, copy = paths(folder)
    edit(copy)
    edited = copy.read_bytes()
    assert lab.copy_notebooks(folder) == [] and copy.read_bytes() == edited
    edit(original, 4)
    for _ in range(2):
        assert lab.copy_notebooks(folder) == [NAME]
        first, *others = nbformat.read(copy, 4).cells
        assert "original of this notebook has changed" in first.source
        assert others[2].source.endswith("mine = 1") and others[0].source.startswith("# Does")
    nbformat.validate(nbformat.read(copy, 4))


def test_a_copy_that_is_no_notebook_or_of_unknown_origin_is_kept(folder):
    _, copy = paths(folder)
    copy.write_text("mine")
    assert lab.copy_notebooks(folder) == [] and copy.read_text() == "mine"
    shutil.copy(lab.NOTEBOOKS / "20_metrics.ipynb", copy)
    (folder / ".originals" / copy.name).unlink()
    assert lab.copy_notebooks(folder) == [NAME]


def test_edits_are_listed_in_a_few_lines_with_the_command_that_takes_them(folder, capsys):
    original, copy = paths(folder)
    lab.lab(["--edits"])
    assert "no copy has edits" in capsys.readouterr().out
    run(copy)
    edit(copy, 2, "\nmine = 1" * 30)
    lab.lab(["--edits"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(
        "1 cells differ; to bring them back into notebooks/: ./run_all.sh lab --take 10_train"
    )
    assert lines[1] == "  +cell 2 (code): mine = 1" and lines[21:] == ["  ... 10 lines more"]
    edit(original, 4)
    lab.lab(["--edits"])
    assert "changed in 1 cells, too" in capsys.readouterr().out


def test_edits_are_taken_into_the_original_without_outputs(folder):
    original, copy = paths(folder)
    before = json.loads(original.read_text())
    with pytest.raises(ValueError, match="has no edits"):
        lab.lab(["--take", NAME])
    run(copy)
    edit(copy)
    lab.lab(["--take", f"{NAME}.ipynb"])
    taken = json.loads(original.read_text())
    nbformat.validate(nbformat.read(original, 4))
    assert taken["metadata"] == before["metadata"] and len(taken["cells"]) == len(before["cells"])
    for cell, was in zip(taken["cells"], before["cells"], strict=True):
        assert cell["metadata"] == was["metadata"] and not cell.get("outputs")
        assert (cell["source"] != was["source"]) == (cell["id"] == "2")
    assert lab.copy_notebooks(folder) == [] and "no copy" in lab.list_edits(folder)[0]
    run_once = nbformat.read(copy, 4).cells[2]
    assert run_once.execution_count == 77  # what was run stays


def test_edits_are_not_taken_over_an_original_that_has_changed(folder):
    original, copy = paths(folder)
    edit(copy)
    edit(original, 4)
    kept = original.read_bytes()
    with pytest.raises(ValueError, match="has changed since the copy was made"):
        lab.lab(["--take", NAME])
    with pytest.raises(ValueError, match="no such notebook; there are: 00_data_prep"):
        lab.lab(["--take", "mine"])
    assert original.read_bytes() == kept
