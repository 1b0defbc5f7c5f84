import shutil

import numpy as np
import pandas as pd
import pytest

from inpaint_lib import metrics
from inpaint_lib.evaluation import baselines
from inpaint_lib.results import collect, report, stats, tables
from inpaint_lib.study import files
from inpaint_lib.training import loop


def results(values):
    """A tidy table with every shown measure of the last stage and width: {(setup, seed): value}."""
    rows = []
    for (setup, seed), value in values.items():
        rows.append(["scenes", "custom", setup, seed, 1, "square", 8, "hole", "l1", 99.0, 8])
        rows += [["scenes", "custom", setup, seed, 2, "square", 16, *pair, value, 8] for pair in tables.SHOWN]
    return pd.DataFrame(rows, columns=collect.COLUMNS)


def fillings(value=0.3, family="square"):
    """baselines.csv with one value for all; the last measures are not taken of baselines."""
    pairs = [pair for pair in tables.SHOWN if pair[1] not in ("fid", "overfitting", "stability")]
    rows = [["scenes", name, family, 16, *pair, value, 8] for name in baselines.BASELINES for pair in pairs]
    return pd.DataFrame(rows, columns=["dataset", "baseline", *collect.COLUMNS[5:]])


def test_the_paper_table_is_the_mean_over_seeds_of_the_last_stage_and_the_full_hole(micro):
    means, deviations = tables.paper_style(
        micro(), results({("progressive", 0): 1.0, ("progressive", 1): 3.0, ("fixed", 0): 4.0, ("fixed", 1): 6.0})
    )
    assert list(means.index) == [("scenes", "custom", "fixed"), ("scenes", "custom", "progressive")]
    assert list(means["hole", "L1"]) == [5.0, 2.0]
    assert deviations["hole", "L1"].tolist() == pytest.approx([2**0.5, 2**0.5])


def test_the_best_setup_is_bold_lower_for_errors_and_higher_for_psnr_and_baselines_never(micro):
    found = results({("fixed", 0): 0.5, ("progressive", 0): 0.25, ("adv_ramp", 0): 0.250001})
    study = micro(setups=["fixed", "progressive", "adv_ramp"])
    text = tables.formatted(study, found, fillings(0.1), bold=lambda t: f"<{t}>")["scenes", "custom"]
    assert list(text.index) == ["fixed", "progressive", "adv_ramp", *baselines.BASELINES]
    assert text["hole", "L1"].tolist() == ["0.5000", "<0.2500>", "<0.2500>", *["0.1000"] * 5]  # equal to the last digit shown
    assert text["hole", "PSNR"].tolist() == ["<0.50>", "0.25", "0.25", *["0.10"] * 5]
    assert text["training - test", "hole L1"].tolist() == ["0.5000", "0.2500", "0.2500", *["-"] * 5]  # neither end is better
    assert text["distribution", "FID"].tolist()[3:] == ["not available"] * 5


def test_every_cell_is_marked_with_where_it_comes_from(micro):
    found = results({("fixed", 0): 0.5, ("fixed", 1): 0.7})
    text = tables.formatted(micro(), found, fillings(), link=lambda t, *where: f"{t} from {where}")["scenes", "custom"]
    assert text.at["fixed", ("hole", "L1")] == "0.6000 ± 0.1414 from ('scenes', 'custom', 'fixed')"
    assert text.at["Telea", ("hole", "L1")] == "0.3000 from ('scenes', 'custom', None)"


def test_the_control_is_shown_apart(micro):
    study = micro(setups=["fixed", "mixed", "progressive"])
    found = results({("fixed", 0): 0.5, ("mixed", 0): 0.1, ("progressive", 0): 0.25})
    assert list(tables.paper_style(study, found)[0].index.get_level_values("setup")) == ["fixed", "progressive"]
    shown = tables.paper_style(study, found, controls=True)[0]
    assert list(shown.index.get_level_values("setup")) == ["fixed", "progressive", "mixed"]


@pytest.mark.parametrize(("asked", "there"), [("none", False), ("auto", True)])
def test_lpips_has_a_column_only_if_it_was_asked_for(micro, asked, there):
    found = results({("fixed", 0): 0.5}).query("metric != 'lpips'")
    without = fillings().query("metric != 'lpips'")
    text = tables.formatted(micro(lpips_weights=asked), found, without)["scenes", "custom"]
    assert (("whole", "LPIPS") in text) == there
    if there:
        assert set(text["whole", "LPIPS"]) == {"not available"}


def test_stability_is_the_mean_of_the_history_over_a_stage(micro):
    study = micro(setups=["progressive"])
    collect.complete(study, lambda *_: None)
    (run,) = study.runs()
    history = pd.read_csv(run.folder / "history.csv")
    found = tables.stability(study).set_index("stage")
    assert list(found.index) == [1, 2]
    for column in ("adversarial_g_std", "d_accuracy", "unsaturated", "grad_norm_d"):
        assert found[column][2] == pytest.approx(history[history.mask_width == 16][column].mean())
    assert history.d_accuracy.between(0, 1).all() and history.unsaturated.between(0, 1).all()


def test_tables_come_from_runs_and_are_the_same_every_time(micro):
    study = micro()
    with pytest.raises(FileNotFoundError, match="run scenes/custom/fixed/seed0 of profile smoke is not finished"):
        collect.stages(study)
    collect.complete(study, lambda *_: None)
    found = tables.write(study)
    assert list(found.columns) == collect.COLUMNS and found.value.notna().all()
    assert not found.duplicated(collect.COLUMNS[:9]).any()
    folder = study.report / "tables"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert set(before) == set(tables.FILES)
    tables.write(study)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}

    run = study.runs()[0]
    per_image = pd.read_csv(run.folder / "per_image.csv.gz")
    assert len(per_image) == 2 * 2 * 8 * 3
    means = per_image.groupby(["stage", "mask_width", "region"]).l1.mean()
    tidy = found[(found.setup == run.setup) & (found.metric == "l1") & (found.mask_family == "square")]
    tidy = tidy[tidy.region.isin(metrics.REGIONS)].set_index(["stage", "mask_width", "region"]).value
    assert tidy.sort_index().values == pytest.approx(means.sort_index().values, rel=1e-7)

    matrix = pd.read_csv(folder / "stage_matrix.csv").set_index(["setup", "stage"])
    assert matrix.loc[("fixed", "1"), "8"] == pytest.approx(means[1, 8, "hole"])
    simple = {"mean colour", "nearest", "biharmonic (first 4)", "Telea", "Navier-Stokes"}
    assert set(matrix.loc[tables.NO_TRAINING].index) == simple
    other = pd.read_csv(folder / "generalisation.csv")
    assert len(other) == 4 * (2 + 5)  # families, setups and baselines
    long = pd.read_csv(folder / "table.csv")
    assert set(long.setup) == {"fixed", "progressive", *simple}
    assert (folder / "table.tex").read_text().count(r"\begin{tabular}") == 1


def test_a_planted_effect_over_five_seeds_is_refuted_from_the_files_of_the_runs(micro):
    """One trained run per setup, copied to five seeds, progressive worse by a tenth of hole L1 with a little noise. Nothing has
    learnt in so few steps: with their errors as they are the question is not answered."""
    collect.complete(micro(), lambda *_: None)
    study, rng = micro(seeds=[0, 1, 2, 3, 4]), np.random.default_rng(0)
    levels = 0.2 + 0.05 * rng.normal(size=5)  # seeds differ by more than the effect
    for run in study.runs():
        source = run.folder.with_name("seed0")
        if run.seed:
            shutil.copytree(source, run.folder)
        table = pd.read_csv(run.folder / "stages.csv")
        table.loc[table.region == "hole", "l1"] = levels[run.seed] * (1 + (0.1 + 0.005 * rng.normal()) * (run.setup != "fixed"))
        table.to_csv(run.folder / "stages.csv", index=False)
    tables.write(study)
    found = pd.read_csv(study.report / "tables" / "hypotheses.csv")
    assert list(found.columns) == stats.COLUMNS and set(found.verdict) <= {stats.NOT_LEARNT, "inconclusive"}
    for run in study.runs():
        table = pd.read_csv(run.folder / "per_image.csv.gz")
        table.assign(l2=1e-6).to_csv(run.folder / "per_image.csv.gz", index=False)
    tables.write(study)
    found = pd.read_csv(study.report / "tables" / "hypotheses.csv")
    runs = pd.read_csv(study.report / "tables" / "runs.csv")
    assert runs.learnt.all() and runs.useful.all() and not runs.diverged.any()
    primary = found[found.hypothesis.str.startswith("primary")].iloc[0]
    assert primary.verdict == "exploratory refuted" and primary.n_seeds == 5
    assert primary.effect == pytest.approx(0.1, abs=0.01) and 0.02 < primary.ci_low < primary.effect < primary.ci_high
    suffers = found[found.hypothesis.str.contains("does not suffer")].iloc[0]
    assert suffers.verdict == "exploratory refuted"


def test_old_numbers_are_never_published_under_new_settings(micro):
    collect.complete(micro(), lambda *_: None)
    collect.check(micro())
    for key, value in {"mask_seed": 5, "models.custom.lr_g": 0.5, "fid_stages": "last"}.items():
        said = f"was made with other settings .*{key.rpartition('.')[2]}" if key != "fid_stages" else "was evaluated with other"
        with pytest.raises(ValueError, match=said):
            collect.check(micro(**{key: value}))


@pytest.mark.parametrize("only", ["fixed", "mixed"])
def test_a_grid_of_one_setup_has_its_table_and_its_page(micro, only):
    study = micro(setups=[only])
    collect.complete(study, lambda *_: None)
    tables.write(study)
    assert f"| {only} |" in (study.report / "tables" / "table.md").read_text()
    files.write_json(study.report / "figures" / "captions.json", {})
    text = report.build(study).read_text()
    assert "No pair of setups that the primary hypothesis names was run." in text and only in text


def test_a_name_with_markup_is_shown_as_it_is():
    words = {"hypothesis": "secondary: a <b> & c", "verdict": "inconclusive", "dataset": "d", "remark": ""}
    row = dict.fromkeys(stats.COLUMNS, 0.0) | words
    assert "a &lt;b&gt; &amp; c" in report.verdicts(pd.DataFrame([row]))["secondary"]


def test_exposure_counts_full_holes(micro):
    table = tables.exposure(micro()).set_index("setup")
    assert table.loc["fixed", "with a full-size hole"] == "100%" and table.loc["progressive", "with a full-size hole"] == "50%"


def test_a_run_that_is_missing_is_trained_and_a_finished_one_is_not(micro, monkeypatch):
    study, trained = micro(), []
    original = loop._fit
    monkeypatch.setattr(loop, "_fit", lambda job, *rest: trained.append(job.run.setup) or original(job, *rest))
    collect.complete(study)
    collect.complete(study)
    assert trained == ["fixed", "progressive"]
