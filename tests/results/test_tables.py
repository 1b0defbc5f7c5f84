"""Tables of made-up results whose entries are known."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from inpaint_lib.results import notes, standing, tables
from inpaint_lib.study import config as configuration
from tests.results import synthetic

CELL = {"datasets": ["faces"], "architectures": ["custom"], "diverged": ()}
KEY = ("faces", "custom")


def with_values(values, **options):
    """Results in whose last stage every measure in the largest hole is {(setup, seed): value}."""
    setups, seeds = (list(dict.fromkeys(of)) for of in zip(*values, strict=True))
    results = synthetic.study(**CELL, setups=setups, seeds=seeds, **options)
    for (setup, seed), value in values.items():
        rows = f"setup == '{setup}' and seed == {seed} and stage == 2 and mask_width == 16"
        results = synthetic.with_rows(results, "values", rows, value=value)
    return results


def test_the_paper_table_is_the_mean_over_seeds_of_the_last_stage_and_the_largest_hole():
    keys = [(setup, seed) for setup in ("fixed", "progressive") for seed in (0, 1)]
    values = dict(zip(keys, (4.0, 6.0, 1.0, 3.0), strict=True))
    means, deviations = tables.paper_style(with_values(values))
    assert list(means.index) == [(*KEY, "fixed"), (*KEY, "progressive")]
    assert list(means["hole", "L1"]) == [5.0, 2.0]
    assert deviations["hole", "L1"].tolist() == pytest.approx([2**0.5, 2**0.5])


def test_the_best_setup_is_bold_lower_for_errors_higher_for_psnr_and_baselines_never():
    values = {("fixed", 0): 0.5, ("progressive", 0): 0.25, ("adv_ramp", 0): 0.250001}
    text = tables.formatted(with_values(values), bold=lambda t: f"<{t}>")[KEY]
    baselines = [*list(synthetic.BASELINES)[:-1], "biharmonic (first 4)"]
    assert list(text.index) == ["fixed", "progressive", "adv_ramp", *baselines]
    l1 = [f"{value:.4f}" for value in synthetic.BASELINES.values()]
    assert text["hole", "L1"].tolist() == ["0.5000", "<0.2500>", "<0.2500>", *l1]
    assert text["hole", "PSNR"].tolist()[:3] == ["<0.50>", "0.25", "0.25"]
    assert text["training - test", "hole L1"].tolist()[2:] == ["0.2500", *["-"] * 4]  # none is best


def test_a_column_without_any_value_is_left_out():
    results = with_values({("fixed", 0): 0.5})
    assert "distribution" not in tables.formatted(results)[KEY].columns.get_level_values(0)
    rows = "region == 'whole_composite' and metric == 'ssim'"
    assert ("whole", "SSIM") in tables.formatted(results)[KEY]
    table = results.values[~results.values.index.isin(results.values.query(rows).index)]
    baselines = results.baselines.query("metric != 'ssim'")
    without = dataclasses.replace(results, values=table, baselines=baselines)
    assert ("whole", "SSIM") not in tables.formatted(without)[KEY]


def test_the_deviation_over_seeds_is_shown():
    text = tables.formatted(with_values({("fixed", 0): 0.5, ("fixed", 1): 0.7}))[KEY]
    assert text["hole", "L1"][["fixed", "Telea"]].tolist() == ["0.6000 ± 0.1414", "0.2000"]


def test_controls_are_shown_apart_and_alone_where_there_is_nothing_else():
    results = synthetic.study(**CELL, setups=["fixed", "progressive", "mixed"], seeds=[0])
    for controls, expected in ((False, ["fixed", "progressive"]), (True, None)):
        shown = list(tables.paper_style(results, controls)[0].index.get_level_values("setup"))
        assert shown == (expected or ["fixed", "progressive", "mixed"])
    alone = synthetic.study(**CELL, setups=["mixed"], seeds=[0])
    assert list(tables.formatted(alone)[KEY].index)[0] == "mixed"


def test_matrices_hold_the_means_of_the_values_and_the_baselines():
    results = synthetic.study()
    matrix = tables.stage_matrix(results)
    part = results.values.query("region == 'hole' and metric == 'l1'")
    chosen = "dataset == 'scenes' and architecture == 'free_form' and setup == 'adv_ramp'"
    own = part.query(f"{chosen} and stage == 1 and mask_width == 8 and mask_family == 'free_form'")
    assert len(own) == 3  # one of four diverged
    found = matrix.loc[("scenes", "free_form", "adv_ramp", "1"), 8]
    assert found == pytest.approx(own.value.mean())
    nothing = matrix.loc["faces", "custom", tables.NO_TRAINING]
    assert set(nothing.index) == {*synthetic.BASELINES, "biharmonic (first 4)"} - {"biharmonic"}
    assert nothing.loc["Telea", 16] == pytest.approx(synthetic.BASELINES["Telea"])
    other = tables.generalisation(results)
    own = part.query(f"{chosen} and stage == 2 and mask_width == 16 and mask_family == 'square'")
    found = other.loc[("scenes", "free_form", "square", "adv_ramp"), 16]
    assert found == pytest.approx(own.value.mean())
    assert set(other.loc["scenes", "context_encoder"].reset_index().mask_family) == {"center"}


def test_stability_is_the_mean_of_the_history_over_a_stage_and_exposure_counts_largest_holes():
    results = synthetic.study(**CELL, seeds=[0])
    found = tables.stability(results).set_index(["setup", "stage"])
    history = results.history[results.history.setup == "progressive"]
    expected = history[history.mask_width == 16].d_accuracy.mean()
    assert found.d_accuracy["progressive", 2] == pytest.approx(expected)
    shown = tables.exposure(results).set_index("setup")["with the largest hole"]
    assert (shown["fixed"], shown["progressive"]) == ("100%", "50%")


def test_the_bootstrap_table_is_the_mean_difference_over_shared_seeds():
    results = synthetic.study()
    rows = tables.bootstrap(results).set_index(["dataset", "architecture"])
    l1 = results.per_image.query("dataset == 'scenes' and mask_width == 16")
    means = l1[l1.architecture == "custom"].groupby("setup").l1.mean()
    row = rows.loc["scenes", "custom"]
    assert row.effect == pytest.approx(means["progressive"] - means["fixed"])
    assert row.ci_low < row.effect < row.ci_high and (row.n_images, row.n_groups) == (24, 8)
    assert rows.loc["faces", "custom"].n_groups == 24


def test_all_files_are_written(tmp_path):
    tables.write(synthetic.study(seeds=[0, 1]), tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {*(f"{name}.csv" for name in tables.FILES), "table.md", "table.tex"}
    long = pd.read_csv(tmp_path / "table.csv")
    assert {"fixed", "progressive", "Telea"} < set(long.setup) and long["mean"].notna().all()
    assert (tmp_path / "table.tex").read_text().count(r"\begin{tabular}") == 6
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert {"beats_trivial", "beats_all", "game_active"} < set(runs) and len(runs) == 48


def test_caveats_name_replaced_data_photographs_random_weights_few_seeds_and_what_is_left_out():
    results = synthetic.study(seeds=[0, 1])
    about = results.about | {"left_out": {"faces/custom/fixed/seed7": "protocol 1, now 2"}}
    said = " ".join(notes.caveats(dataclasses.replace(results, about=about)))
    for words in ("faces is used instead of CelebA", "8 photographs", "uses random weights"):
        assert words in said
    assert "Trained with 2 seeds" in said and "run faces/custom/fixed/seed7 (protocol 1" in said
    quiet = synthetic.study(datasets=["mine"], architectures=["free_form"])
    assert notes.caveats(quiet) == []


def test_the_footnote_names_masks_families_seeds_and_what_was_not_measured():
    said = notes.footnote(synthetic.study())
    for words in ("square", "16 px wide", "fraction 0.25", "over 3 to 4 seeds", "faces cccc"):
        assert words in said
    assert "biharmonic on the first 4 images" in said and "LPIPS: not available" in said
    assert "{" not in said


def test_a_setup_without_an_adversarial_loss_has_no_game():
    results = synthetic.study(**CELL, seeds=[0])
    without = synthetic.with_rows(results, "history", "setup == 'fixed'", adversarial_weight=0.0)
    runs = standing.of_runs(without)
    assert runs.set_index("setup").has_game.to_dict()["fixed"] is False
    assert "active in 3 of 3" in standing.summary(runs)[0]
    assert np.isfinite(runs.d_accuracy).all()
    assert configuration.to_dict(results.config)["grid"]["setups"] == list(synthetic.PAPERS)
