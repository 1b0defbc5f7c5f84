"""A study of which runs diverged, or all, ends in its tables, figures and page like any other."""

import re

import pandas as pd
import pytest

from inpaint_lib.results import (
    figures,
    frames,
    hypotheses,
    published,
    report,
    standing,
    stats,
    summary,
    tables,
)
from tests.results import synthetic

NAMES = [f"faces/custom/{setup}/seed{k}" for setup in synthetic.MADE for k in (0, 1)]
CELL = {"datasets": ["faces"], "seeds": [0, 1]}


def reported(results, folder):
    """Tables, figures and page of Results -> the page's text."""
    tables.write(results, folder / "tables")
    report.save_figures(folder / "figures", figures.draw(results), pdf=False)
    return report.build(results, folder).read_text()


def shown(page):
    """Return a page's text, without tags."""
    return re.sub("<[^>]*>", "", page)


def test_a_study_whose_runs_all_diverged_is_reported(tmp_path):
    results = synthetic.study(**CELL, architectures=["custom"], diverged=NAMES)
    page = reported(results, tmp_path)
    found = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert not [name for name in found if name.startswith(("answer", "grid", "stages", "curves"))]
    verdicts = pd.read_csv(tmp_path / "tables/hypotheses.csv")
    assert len(verdicts) == 3 and set(verdicts.n_seeds) == {0} and verdicts.effect.isna().all()
    assert verdicts.remark.str.fullmatch(r"2 of 2 \w+ and 2 of 2 \w+ runs diverged").all()
    matrix = pd.read_csv(tmp_path / "tables/stage_matrix.csv")
    assert set(matrix.setup) == {tables.NO_TRAINING}
    for text in (shown(page), summary.render_study(results)):
        assert "in 0 of 8 runs on faces" in text and "No run finished" in text
        assert "faces/custom/fixed/seed0 (loss is not finite)" in text
    assert not re.search(r"<tbody>\s*</tbody>", page)  # headings of nothing
    assert not re.search(r"\b(nan|None|NaN|Traceback)\b", page)


def test_an_architecture_whose_runs_all_diverged_stands_beside_one_that_did_not(tmp_path):
    lost = [name.replace("custom", "free_form") for name in NAMES]
    results = synthetic.study(**CELL, architectures=["custom", "free_form"], diverged=lost)
    page = reported(results, tmp_path)
    found = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert "grid_faces_custom" in found and "grid_faces_free_form" not in found
    remarks = stats.get_questions(stats.judge(results)).set_index("architecture").remark
    assert remarks["free_form"].str.endswith("runs diverged").all()
    assert not remarks["custom"].str.contains("diverged").any()
    assert "8: faces/free_form/fixed/seed0 (" in shown(page)
    assert "Tables show the others." in shown(page)


@pytest.mark.parametrize("lost", [NAMES[:1], NAMES])
def test_runs_that_diverged_are_published_and_verified(lost, tmp_path):
    results = synthetic.study(**CELL, architectures=["custom"], diverged=lost)
    published.publish(results, f"{tmp_path}/mine")
    assert published.verify(f"{tmp_path}/mine") == []
    drawn = list((tmp_path / "mine/figures").glob("*.png"))
    assert bool(drawn) == (lost != NAMES) and all(p.stat().st_size > 1000 for p in drawn)
    runs = standing.judge_runs(frames.load(tmp_path / "mine"))
    assert runs.diverged.sum() == len(lost)
    assert "Diverged" in (tmp_path / "mine/README.md").read_text()


def test_a_diverged_run_takes_the_word_from_its_own_comparisons_alone(monkeypatch):
    monkeypatch.setattr(hypotheses, "find_registration", lambda *_: (4, False))
    lost = ["faces/custom/mixed/seed1", "faces/custom/adv_ramp/seed0"]
    results = synthetic.study(datasets=["faces"], architectures=["custom"], diverged=lost)
    found = stats.get_questions(stats.judge(results)).set_index("question")
    assert found.word.to_dict() == {"Q1": "supported", "Q2": "supported", "Q3": "diverged"}
    assert found.n_seeds.to_dict() == {"Q1": 4, "Q2": 4, "Q3": 3}
    assert found.remark["Q3"] == "0 of 4 progressive and 1 of 4 mixed runs diverged"
