"""Tables of made-up results whose entries are known."""

import dataclasses

import pandas as pd
import pytest

from inpaint_lib.results import health, notes, select, standing, stats, tables
from tests.results import synthetic

CELL = {"datasets": ["faces"], "architectures": ["custom"], "diverged": ()}
KEY = ("faces", "custom")


def with_values(values, **options):
    """Results in whose last stage every measure in the largest hole is {(setup, seed): value}."""
    setups, seeds = (list(dict.fromkeys(of)) for of in zip(*values, strict=True))
    results = synthetic.study(**CELL, setups=setups, seeds=seeds, **options)
    for (setup, seed), value in values.items():
        rows = f"setup == '{setup}' and seed == {seed} and stage == 3 and mask_width == 16"
        results = synthetic.with_rows(results, "values", rows, value=value)
    return results


def test_the_table_is_the_mean_over_seeds_of_the_last_stage_and_the_largest_hole():
    values = {
        ("fixed", 0): 4.0,
        ("fixed", 1): 6.0,
        ("progressive", 0): 1.0,
        ("progressive", 1): 3.0,
    }
    found = tables.make_table(with_values(values)).query("region == 'hole' and metric == 'l1'")
    found = found.set_index("setup")
    assert found["mean"][["fixed", "progressive"]].tolist() == [5.0, 2.0]
    assert found.deviation[["fixed", "progressive"]].tolist() == pytest.approx([2**0.5, 2**0.5])
    assert found["mean"]["Telea"] == synthetic.BASELINES["Telea"] and found.n_seeds["Telea"] == 0
    assert set(found.n_images) == {24, 4}


def test_means_of_every_stage_are_over_the_same_images_in_a_smaller_data_set_too():
    results = synthetic.study(["faces", "clutter"], ["custom"], seeds=[0], diverged=())
    few = results.per_image.index.get_level_values("dataset") == "clutter"
    results.per_image.loc[few, results.per_image.columns >= 10] = float("nan")
    results.about["data"]["clutter"]["images"] = {"train": 100, "test": 10}
    elsewhere = results.about["config"]["evaluation"]["images_elsewhere"] = 20
    found = select.get_by_stage(results).query("metric == 'l1' and stage == 3")
    errors = select.get_image_errors(results, "l1").astype(float)
    for dataset, n in (("faces", elsewhere), ("clutter", 10)):
        expected = errors.xs(dataset, level="dataset").iloc[:, :n].mean(axis="columns")
        keys = list(expected.index.names)
        given = found[found.dataset == dataset].set_index(keys).value
        assert given[expected.index].tolist() == pytest.approx(expected.tolist())


def test_a_setup_is_bold_only_where_it_is_better_than_every_other_and_every_baseline():
    values = {("fixed", 0): 0.5, ("progressive", 0): 0.125, ("adv_ramp", 0): 0.125001}
    text = tables.format_tables(with_values(values), bold=lambda t: f"<{t}>")[KEY]
    baselines = [*list(synthetic.BASELINES)[:-1], "biharmonic (first 4)"]
    assert list(text.index) == ["fixed", "progressive", "adv_ramp", *baselines]
    l1 = [f"{value:.4f}" for value in synthetic.BASELINES.values()]
    assert text["hole", "L1"].tolist() == ["0.5000", "<0.1250>", "<0.1250>", *l1]
    assert "<" not in "".join(text["hole", "PSNR"])  # every baseline has a higher one
    assert text["training - test", "hole L1"].tolist()[2:] == ["0.1250", *["-"] * 4]  # none is best


def test_outputs_made_elsewhere_are_a_row_that_no_mark_and_no_verdict_counts():
    results = with_values({("fixed", 0): 0.125, ("progressive", 0): 0.1})
    beside = synthetic.with_outputs(results, "lama", 0.01)
    (name,) = set(beside.baselines.baseline) - set(results.baselines.baseline)
    assert name == "lama (not trained here)"
    before, after = (
        tables.format_tables(of, bold=lambda t: f"<{t}>")[KEY] for of in (results, beside)
    )
    l1 = after["hole", "L1"]
    assert l1["progressive"] == "<0.1000>" and l1[name] == "0.0100"
    assert before.equals(after.drop(index=name))
    assert tables.make_generalisation(beside).xs(name, level="setup").notna().all(axis=None)
    assert name in tables.tabulate_areas(beside).index.get_level_values("setup")
    for function in (stats.judge, standing.judge_runs, standing.judge_gates, health.examine_runs):
        assert function(results).equals(function(beside)), function
    said = [notes.render_footnote(of).count("not trained here") for of in (results, beside)]
    assert said == [0, 1]
    rows = f"baseline == '{name}' and mask_width == 8 and metric == 'l1' and region == 'hole'"
    changed = synthetic.with_rows(beside, "baselines", rows, region="visible")
    assert "; lama had changed known pixels: all but" in notes.render_footnote(changed)
    assert "changed known pixels" not in notes.render_footnote(beside)


def test_a_measure_is_a_column_only_if_it_has_values():
    results = with_values({("fixed", 0): 0.5, ("fixed", 1): 0.7})
    text = tables.format_tables(results)[KEY]
    assert text["hole", "L1"][["fixed", "Telea"]].tolist() == ["0.6000 ± 0.1414", "0.2000"]
    assert {("visible", "L1"), ("last weights", "hole L1")} <= set(text.columns)
    assert "distribution" not in text.columns.get_level_values(0)
    rows = "metric == 'ssim' and region == 'whole_composite'"
    vgg = synthetic.with_rows(results, "values", rows, metric="lpips_vgg")
    assert tables.format_tables(vgg)[KEY]["whole", "LPIPS (VGG)"]["fixed"] == "0.600 ± 0.141"
    centre = tables.format_tables(synthetic.study(**CELL | {"architectures": ["context_encoder"]}))
    assert "visible" not in centre["faces", "context_encoder"].columns.get_level_values(0)


def test_controls_are_shown_apart_and_alone_where_there_is_nothing_else():
    results = synthetic.study(**CELL, setups=["fixed", "mixed"], seeds=[0])
    for controls, expected in ((False, ["fixed", "mean colour"]), (True, ["fixed", "mixed"])):
        assert list(tables.format_tables(results, controls)[KEY].index[:2]) == expected
    alone = synthetic.study(**CELL, setups=["mixed"], seeds=[0])
    assert tables.format_tables(alone)[KEY].index[0] == "mixed"


def test_matrices_hold_the_means_of_the_values_and_the_baselines():
    results = synthetic.study(setups=[*synthetic.MADE, "last_only"])
    chosen = "dataset == 'clutter' and architecture == 'free_form' and setup == 'adv_ramp'"
    part = results.values.query(f"region == 'hole' and metric == 'l1' and {chosen}")
    own = part.query("stage == 1 and mask_width == 8 and mask_family == 'free_form'")
    assert len(own) == 3  # one of four diverged
    matrix = tables.make_stage_matrix(results)
    found = matrix.loc[("clutter", "free_form", "adv_ramp", "1"), 8]
    assert found == pytest.approx(own.value.mean())
    assert set(matrix.loc["faces", "custom", "last_only"].index) == {"3"}
    few = results.per_image.query(f"{chosen} and metric == 'l1' and mask_width == 16")
    found = matrix.loc[("clutter", "free_form", "adv_ramp", "3"), 16]
    assert found == pytest.approx(few.loc[:, :7].stack().mean(), rel=1e-6)  # as in earlier stages
    nothing = matrix.loc["faces", "custom", tables.NO_TRAINING]
    assert set(nothing.index) == {*synthetic.BASELINES, "biharmonic (first 4)"} - {"biharmonic"}
    few = results.baseline_images.query("dataset == 'faces' and mask_family == 'square'")
    few = few.query("baseline == 'Telea' and mask_width == 16 and image < 8")
    assert nothing.loc["Telea", 16] == pytest.approx(few.l1.mean())
    other = tables.make_generalisation(results)
    own = part.query("stage == 3 and mask_width == 16 and mask_family == 'square'")
    found = other.loc[("clutter", "free_form", "square", "adv_ramp", 8), 16]
    assert found == pytest.approx(own.value.mean())
    assert set(other.loc["faces", "context_encoder"].reset_index().mask_family) == {"center"}


def test_areas_are_bins_of_networks_and_baselines():
    results = synthetic.study(**CELL, seeds=[0])
    found = tables.tabulate_areas(results).loc[KEY]
    assert list(found) == ["0-10 %", "10-20 %", "20-30 %"]
    own = results.values.query("setup == 'fixed' and region == 'area_10_20' and metric == 'l1'")
    assert found.loc["fixed", "10-20 %"] == own.value.item()
    assert found.loc["Telea", "20-30 %"] == synthetic.BASELINES["Telea"]


def test_exposure_counts_the_images_of_every_width():
    results = synthetic.study(**CELL, setups=[*synthetic.MADE, "last_only"], seeds=[0])
    shown = tables.count_exposure(results).set_index("setup")
    columns = ["images shown", "up to 8 px", "up to 12 px", "up to 16 px"]
    expected = {"fixed": [240, 0, 0, 240], "progressive": [240, 80, 80, 80]}
    expected |= {"mixed": [240, 80, 80, 80], "last_only": [80, 0, 0, 80]}
    for setup, counts in expected.items():
        assert shown.loc[setup, columns].tolist() == counts


def test_the_game_of_every_stage_is_counted_where_there_is_one():
    results = synthetic.study(**CELL, setups=["fixed", "recon_only", "last_only"], seeds=[0, 1])
    lost = synthetic.with_rows(
        results, "history", "setup == 'fixed' and seed == 0 and stage == 2", d_accuracy=0.5
    )
    found = tables.count_games(lost).set_index("setup")
    assert found.loc["fixed", "stage 1"] == "2 of 2; D 0.70, share 0.30"
    assert found.loc["fixed", "stage 2"] == "1 of 2; D 0.60, share 0.30"
    assert set(found.loc["recon_only"][["stage 1", "stage 3"]]) == {"-"}
    assert found.loc["last_only", "stage 2"] == "-" != found.loc["last_only", "stage 3"]


def test_all_files_are_written(tmp_path):
    results = synthetic.study(seeds=[0, 1])
    tables.write(results, tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {*(f"{name}.csv" for name in tables.FILES), "table.md", "table.tex"}
    long = pd.read_csv(tmp_path / "table.csv")
    assert {"fixed", "mixed", "Telea"} < set(long.setup) and long["mean"].notna().all()
    assert (tmp_path / "table.tex").read_text().count(r"\begin{tabular}") == 6
    behind = pd.read_csv(tmp_path / "generalisation.csv").n_images
    assert {24, 8, 4} == set(behind)  # how many images are behind a number


def test_caveats_name_replaced_data_random_weights_few_seeds_and_what_is_left_out():
    results = synthetic.study(seeds=[0, 1])
    about = results.about | {"left_out": {"faces/custom/fixed/seed7": "protocol 2, now 3"}}
    said = " ".join(notes.list_caveats(dataclasses.replace(results, about=about)))
    for words in ("faces is used instead of CelebA", "random weights"):
        assert words in said
    assert (
        "Trained with 2 seeds" in said and "Left out: faces/custom/fixed/seed7 (protocol 2" in said
    )
    quiet = synthetic.study(["mine"], ["context_encoder"])
    assert notes.list_caveats(quiet) == []


def test_the_footnote_names_masks_seeds_images_and_once_what_was_not_measured():
    results = synthetic.study()
    said = notes.render_footnote(results)
    for words in ("square", "16 px wide", "fraction 0.25", "over 3 to 4 seeds", "faces cccc"):
        assert words in said
    assert "faces 24, clutter 24; before the last" in said and "the first 8 of them at most" in said
    assert "biharmonic on the first 4 images" in said and "{" not in said
    assert said.count("not measured") == said.count("not available") == 1
    measured = synthetic.with_rows(results, "values", "metric == 'ssim'", metric="lpips")
    measured = synthetic.with_rows(measured, "runs", "seed >= 0", alexnet="abc")
    said = notes.describe_networks(measured)
    assert said == ["LPIPS: abc.", "FID, KID and IS: not measured: weights not available."]


# --- answers in words


@pytest.mark.parametrize("word", stats.WORDS)
def test_every_word_has_its_meaning(word):
    row = dict.fromkeys(stats.COLUMNS, 0.0) | {"question": "Q1", "name": "It helps.", "word": word}
    row |= {"badges": "exploratory, provisional", "remark": "", "margin": 0.02, "n_seeds": 3}
    (answer,) = notes.answer_questions(pd.DataFrame([row]))
    assert answer["text"].endswith(f". Verdicts: {word} in 1.")
    assert answer["badges"] == "exploratory, provisional"
    (cell,) = answer["cells"]
    assert cell["word"] == word and len(cell["meaning"]) > 20 and "{" not in cell["meaning"]


def test_a_study_without_words_is_told_in_estimates():
    judged = stats.judge(synthetic.study(**CELL, seeds=[0], noise=0))
    answers = {answer["question"]: answer for answer in notes.answer_questions(judged)}
    assert list(answers) == ["Q1", "Q2", "Q3"]
    assert answers["Q1"]["text"] == (
        "The error of progressive is 20.0 % lower than that of fixed. This is an estimate: "
        f"{notes.NO_WORDS}."
    )
    text = answers["Q3"]["cells"][0]["text"]
    assert text.startswith("faces, custom: in holes of all widths the error of progressive is 11.1")
    assert text.endswith("% lower than that of mixed (1 seed).")


@pytest.mark.parametrize(
    ("effects", "text"),
    [
        ([0.023], "2.3 % higher than that of fixed"),
        ([0.169, 0.023], "2.3 % to 16.9 % higher than that of fixed (2 comparisons)"),
        ([-0.05, -0.10], "5.0 % to 10.0 % lower than that of fixed (2 comparisons)"),
        (
            [0.324, -0.283],
            "between 28.3 % lower and 32.4 % higher than that of fixed "
            "(lower in 1 of 2 comparisons)",
        ),
        ([0.05, 0.05], "5.0 % higher than that of fixed (2 comparisons)"),
    ],
)
def test_effects_are_described_from_the_smallest_to_the_largest(effects, text):
    assert notes.describe_effects(pd.Series(effects), "fixed") == text
