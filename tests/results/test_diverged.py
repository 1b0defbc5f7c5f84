"""A study of which runs diverged, or all, ends in its tables, figures and page like any other."""

import re

import pandas as pd
import pytest

from inpaint_lib.results import figures, frames, published, report, standing, stats, summary, tables
from tests.results import synthetic

NAMES = [f"faces/custom/{setup}/seed{k}" for setup in synthetic.PAPERS for k in (0, 1)]
CELL = {"datasets": ["faces"], "seeds": [0, 1]}


def reported(results, folder):
    """Tables, figures and page of Results -> the page's text."""
    tables.write(results, folder / "tables")
    report.save_figures(folder / "figures", figures.draw_all(results), pdf=False)
    return report.build(results, folder).read_text()


def test_a_study_whose_runs_all_diverged_is_reported(tmp_path):
    results = synthetic.study(**CELL, architectures=["custom"], diverged=NAMES)
    page = reported(results, tmp_path)
    found = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert not [name for name in found if name.startswith(("answer", "grid", "stages", "curves"))]
    verdicts = pd.read_csv(tmp_path / "tables/hypotheses.csv")
    assert len(verdicts) and set(verdicts.n_seeds) == {0}
    assert set(verdicts.verdict) == {f"{stats.NO_PAIR}: 4 of 4 runs diverged"}
    matrix = pd.read_csv(tmp_path / "tables/stage_matrix.csv")
    assert set(matrix.setup) == {tables.NO_TRAINING}
    for text in (page, summary.page(results)):
        assert "Of 8 runs 0 beat" in text and "No run finished" in text
        assert "faces/custom/fixed/seed0 (loss is not finite)" in text
    assert not re.search(r"<tbody>\s*</tbody>", page)  # headings of nothing
    assert not re.search(r"\b(nan|None|NaN|Traceback)\b", page)


def test_an_architecture_whose_runs_all_diverged_stands_beside_one_that_did_not(tmp_path):
    lost = [name.replace("custom", "free_form") for name in NAMES]
    results = synthetic.study(**CELL, architectures=["custom", "free_form"], diverged=lost)
    page = reported(results, tmp_path)
    found = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert "grid_faces_custom" in found and "grid_faces_free_form" not in found
    verdicts = stats.judge(results).set_index("architecture").verdict
    assert verdicts["free_form"].str.startswith(stats.NO_PAIR).all()
    assert not verdicts["custom"].str.contains("diverged").any()
    assert "8: faces/free_form/fixed/seed0 (" in page and "Tables show the others." in page


@pytest.mark.parametrize("lost", [NAMES[:1], NAMES])
def test_runs_that_diverged_are_published_and_verified(lost, tmp_path):
    results = synthetic.study(**CELL, architectures=["custom"], diverged=lost)
    published.publish(results, f"{tmp_path}/mine")
    assert published.verify(f"{tmp_path}/mine") == []
    runs = standing.of_runs(frames.load(tmp_path / "mine"))
    assert runs.diverged.sum() == len(lost)
    outcomes = pd.read_csv(tmp_path / "mine/tables/outcomes.csv").set_index("setup")
    assert outcomes.diverged["fixed"] == sum("fixed" in name for name in lost)
    assert "Diverged" in (tmp_path / "mine/README.md").read_text()
