"""A study of which runs diverged, or all, ends in its tables, notebooks and page like any other."""

import re

import nbformat
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from inpaint_lib.results import collect, figures, report, standing, stats, tables
from inpaint_lib.study import files
from inpaint_lib.training import loop


@pytest.fixture
def diverged(micro, monkeypatch):
    """diverged(lost, **overrides) -> a study, trained and evaluated, whose runs with `lost` in their names diverged: at the
    first log point, or, `evaluated`, with a row of the first stage in their tables."""

    def make(lost, evaluated=False, **overrides):
        study, fit = micro(**overrides), loop._fit

        def train(job, *rest):
            with monkeypatch.context() as patch:
                if lost in job.run.name:
                    patch.setattr(loop, "_check_weights" if evaluated else "_read", _diverge)
                return fit(job, *rest)

        monkeypatch.setattr(loop, "_fit", train)
        collect.complete(study, lambda *_: None)
        monkeypatch.setattr(loop, "_fit", None)  # an outcome is not drawn again
        return study

    return make


def _diverge(*given):
    state = next(value for value in given if isinstance(value, loop.State))
    if len(given) > 1 or state.evaluations:
        raise loop.Diverged(f"weight to_rgb.bias of the generator is not finite at step {state.step}")


def executed(name, study):
    """What the code of a notebook prints and shows for a study."""
    shell, said = InteractiveShell(), []
    shell.user_ns["print"] = lambda *values, sep=" ", **_: said.append(sep.join(map(str, values)))
    for cell in nbformat.read(files.ROOT / "notebooks" / name, as_version=4).cells:
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            done = shell.run_cell(cell.source.replace("grid.open_study(profile, overrides)", "THE_STUDY"), silent=True)
            done.raise_error()
        shell.user_ns["THE_STUDY"] = study
    return "\n".join(said)


def written(study, name):
    return pd.read_csv(study.report / "tables" / name)


@pytest.mark.parametrize("evaluated", [False, True])
def test_a_study_whose_runs_all_diverged_is_reported_whole(diverged, evaluated):
    study = diverged("", evaluated, architectures=["custom", "context_encoder"], lpips_weights="none")
    said = executed("20_metrics.ipynb", study) + executed("30_figures.ipynb", study)
    found = {path.stem for path in (study.report / "figures").glob("*.png")}
    assert found == {"schedules", "masks_scenes"}  # no picture of nothing
    assert {path.name for path in (study.report / "tables").iterdir()} == set(tables.FILES)
    assert written(study, "results.csv").empty and set(written(study, "stage_matrix.csv").setup) == {tables.NO_TRAINING}
    verdicts = written(study, "hypotheses.csv")
    assert len(verdicts) and set(verdicts.verdict) == {f"{stats.NO_PAIR}: 2 of 2 runs diverged"}
    assert set(verdicts.n_seeds) == {0} and verdicts[["effect", "ci_low", "p_value"]].isna().to_numpy().all()
    page = report.build(study).read_text()
    where = "scenes/context_encoder/progressive/seed0 (weight to_rgb.bias of the generator is not finite at step "
    for text in (page, said):
        assert "Of 4 runs 0 have learnt" in text and where in text and "There are no others" in text
    assert [name for kind in figures.FROM_TABLES for name in kind(study)] == ["schedules"]
    assert not re.search(r"<tbody>\s*</tbody>", page)  # headings of nothing
    assert not re.search(r"\b(nan|None|NaN|Traceback)\b", page)


def test_an_architecture_whose_runs_all_diverged_stands_beside_one_that_did_not(diverged):
    study = diverged("context_encoder", architectures=["custom", "context_encoder"], lpips_weights="none")
    executed("20_metrics.ipynb", study)
    executed("30_figures.ipynb", study)
    found = {path.stem for path in (study.report / "figures").glob("*.png")}
    assert "grid_scenes_custom" in found and not [name for name in found if "context_encoder" in name]
    verdicts = written(study, "hypotheses.csv").set_index("architecture").verdict
    assert set(verdicts["context_encoder"]) == {f"{stats.NO_PAIR}: 2 of 2 runs diverged"}
    assert not verdicts["custom"].str.contains("diverged").any()
    page = report.build(study).read_text()
    assert "2: scenes/context_encoder/fixed/seed0 (" in page and "Tables show the others." in page


def test_a_study_whose_run_diverged_compares_what_is_left(diverged):
    """The run is named on the first screen and in the tables; it is not trained again."""
    study = diverged("fixed", fid_stages="last")
    found = tables.write(study)
    assert set(found.setup) == {"progressive"}
    runs = written(study, "runs.csv").set_index("setup")
    assert runs.outcome["fixed"] == "diverged" and "is not finite" in runs.why["fixed"] and not runs.learnt["fixed"]
    said = " ".join(standing.summary(runs.reset_index()))
    assert "was not tried again: 1: scenes/custom/fixed/seed0 (weight to_rgb.bias" in said
    outcomes = written(study, "outcomes.csv").set_index("setup")
    assert list(outcomes.diverged) == [1, 0] and outcomes.pairs_better["progressive"] == 1
    report.save_figures(study, {})
    text = report.build(study).read_text()
    assert "1: scenes/custom/fixed/seed0" in text and "counts as the worse" in text
