import pandas as pd
import pytest

from inpaint_lib import tables, train


def results(values):
    """A tidy table with hole L1 of the last stage and width: {(setup, seed): value}."""
    rows = []
    for (setup, seed), value in values.items():
        rows.append(["d", "custom", setup, seed, 1, "square", 8, "hole", "l1", 99.0, 8])
        rows += [["d", "custom", setup, seed, 2, "square", 16, region, metric, value, 8] for region, metric in tables.SHOWN]
    return pd.DataFrame(rows, columns=tables.COLUMNS)


def test_the_paper_table_is_the_mean_over_seeds_of_the_last_stage_and_the_full_hole():
    means, deviations = tables.paper_style(
        results({("progressive", 0): 1.0, ("progressive", 1): 3.0, ("fixed", 0): 4.0, ("fixed", 1): 6.0})
    )
    assert list(means.index) == [("d", "custom", "fixed"), ("d", "custom", "progressive")]
    assert list(means["hole L1"]) == [5.0, 2.0]
    assert deviations["hole L1"].tolist() == pytest.approx([2**0.5, 2**0.5])


def test_the_best_is_bold_lower_for_errors_and_higher_for_psnr():
    means, deviations = tables.paper_style(results({("fixed", 0): 0.5, ("progressive", 0): 0.25}))
    text = tables.formatted(means, deviations, lambda t: f"<{t}>")
    assert text["hole L1"].tolist() == ["0.5000", "<0.2500>"]
    assert text["hole PSNR"].tolist() == ["<0.50>", "0.25"]


def test_the_control_is_shown_apart():
    found = results({("fixed", 0): 0.5, ("mixed", 0): 0.1, ("progressive", 0): 0.25})
    assert list(tables.paper_style(found)[0].index.get_level_values("setup")) == ["fixed", "progressive"]
    shown = tables.paper_style(found, controls=True)[0]
    assert list(shown.index.get_level_values("setup")) == ["fixed", "progressive", "mixed"]


def test_stability_is_the_mean_of_the_history_over_a_stage(micro):
    study = micro(setups=["progressive"])
    tables.complete(study, lambda *_: None)
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
        tables.stages(study)
    tables.complete(study, lambda *_: None)
    found = tables.write(study)
    assert list(found.columns) == tables.COLUMNS
    assert len(found) == 2 * 2 * 2 * 3 * 3  # setups, stages, widths, regions, metrics
    folder = study.report / "tables"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert set(before) == {"results.csv", "table.csv", "table.md", "table.tex", "exposure.csv", "stability.csv"}
    tables.write(study)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}

    run = study.runs()[0]
    per_image = pd.read_csv(run.folder / "per_image.csv.gz")
    assert len(per_image) == 2 * 2 * 8 * 3
    means = per_image.groupby(["stage", "mask_width", "region"]).l1.mean()
    tidy = found[(found.setup == run.setup) & (found.metric == "l1")].set_index(["stage", "mask_width", "region"]).value
    assert tidy.sort_index().values == pytest.approx(means.sort_index().values, rel=1e-7)


def test_exposure_counts_full_holes(micro):
    table = tables.exposure(micro()).set_index("setup")
    assert table.loc["fixed", "with a full-size hole"] == "100%" and table.loc["progressive", "with a full-size hole"] == "50%"


def test_a_run_that_is_missing_is_trained_and_a_finished_one_is_not(micro, monkeypatch):
    study, trained = micro(), []
    original = train.fit
    monkeypatch.setattr(train, "fit", lambda run, watch=None: trained.append(run.setup) or original(run, lambda *_: None))
    tables.complete(study)
    tables.complete(study)
    assert trained == ["fixed", "progressive"]
