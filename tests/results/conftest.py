"""A place for published studies, and figures that are not drawn."""

import pytest

from inpaint_lib.results import figures, published, report
from inpaint_lib.study import files


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty place for published studies."""
    monkeypatch.setattr(published, "FOLDER", tmp_path / "published")
    return tmp_path / "published"


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are empty files."""
    names = ("answer", "pairs", "sizes_faces_custom")
    monkeypatch.setattr(figures, "draw", lambda results, *kinds: dict.fromkeys(names, ""))

    def save(folder, found, pdf):
        folder.mkdir(exist_ok=True)
        for name in found:
            (folder / f"{name}.png").touch()
        files.write_json(
            folder / "captions.json", {name: {"caption": "What to see."} for name in found}
        )

    monkeypatch.setattr(report, "save_figures", save)
