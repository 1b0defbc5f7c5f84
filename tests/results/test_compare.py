"""./run_all.sh compare: what differs between two runs, or two reports."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from inpaint_lib.results import collect, compare, tables
from inpaint_lib.study import grid


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    from tests.conftest import MICRO


    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(tmp_path_factory.mktemp("study")))
        study = grid.open_study("smoke", MICRO)
        collect.complete(study, lambda *_: None)
        tables.write(study)
        yield study


def test_two_runs_differ_in_their_setup_and_in_paired_effects(study):
    one, other = (run.folder for run in study.runs())
    text = compare.compare(one, other)
    assert "configuration: 1 differ\n  setup: fixed | progressive" in text
    tables_of = [pd.read_csv(folder / "per_image.csv.gz") for folder in (one, other)]
    last = [t[(t.stage == 2) & (t.region == "hole") & (t.mask_width == 16)].l1.mean() for t in tables_of]
    row = next(line.split() for line in text.splitlines() if line.split()[:3] == ["square", "16", "l1"])
    assert [float(v) for v in row[3:6]] == pytest.approx([*last, last[1] - last[0]], rel=1e-3, abs=1e-6)
    assert float(row[6]) <= float(row[5]) <= float(row[7]) and row[8] == "8"


def test_equal_runs_and_equal_reports_have_no_differences(study, tmp_path):
    for folder in (study.runs()[0].folder, study.report):
        copy = shutil.copytree(folder, tmp_path / folder.name)
        text = compare.compare(folder, copy)
        for words in ("configuration: the same", "provenance: the same", "none: the last stage's values are equal"):
            assert words in text


def test_two_reports_show_what_was_configured_otherwise_and_by_how_much_the_values_differ(study, tmp_path):
    other = shutil.copytree(study.report, tmp_path / "other")
    head = json.loads((other / "tables" / "study.json").read_text())
    head["config"]["models"]["custom"]["lr_g"] = 0.5
    head["runs"]["scenes/custom/fixed/seed0"]["provenance"]["commit"] = "another"
    (other / "tables" / "study.json").write_text(json.dumps(head))
    values = pd.read_csv(other / "tables" / "results.csv")
    values.loc[values.metric == "l1", "value"] += 0.25
    values.to_csv(other / "tables" / "results.csv", index=False)
    text = compare.compare(study.report, other)
    assert "models.custom.lr_g: 0.0005 | 0.5" in text and "scenes/custom/fixed/seed0.provenance.commit:" in text
    changed = [line for line in text.splitlines() if " l1 " in line and "hole" in line]
    assert changed and all(" 0.25 " in line for line in changed)


def test_intervals_over_seeds_are_t_intervals():
    same = dict(zip(compare.KEYS, ("d", "a", "s", 0, 2, "square", 16, "hole", "l1"), strict=True))
    frames = [pd.DataFrame([same | {"seed": k, "value": v} for k, v in enumerate(vs)]) for vs in ([1, 2, 3], [2, 4, 3.5])]
    row = compare.effects_of_reports(*frames).iloc[0]
    d = np.array([1, 2, 0.5])
    half = 4.302653 * d.std(ddof=1) / 3**0.5  # t quantile, two degrees of freedom
    assert (row["B - A"], row.ci_low, row.ci_high, row.seeds) == pytest.approx((d.mean(), d.mean() - half, d.mean() + half, 3))


def test_runs_on_other_images_or_holes_are_no_pairs(study, tmp_path):
    run = study.runs()[0].folder
    other = shutil.copytree(run, tmp_path / "other")
    result = json.loads((other / "result.json").read_text())
    result["settings"]["data"]["masks.npz"] = "another"
    (other / "result.json").write_text(json.dumps(result))
    assert "effects: none, they were measured on other test images or holes" in compare.compare(run, other)


def test_images_of_one_photograph_are_drawn_together(study):
    """The interval of a run's comparison is that of the report's bootstrap: scenes by photograph."""
    one, other = (run.folder for run in study.runs())
    row = next(line.split() for line in compare.compare(one, other).splitlines() if line.split()[:3] == ["square", "16", "l1"])
    expected = collect.bootstrap(study).iloc[0]
    assert expected.n_groups == 8 and expected.n_images == 8
    assert [float(v) for v in row[5:8]] == pytest.approx([expected.effect, expected.ci_low, expected.ci_high], rel=1e-3)


def test_reports_of_unequal_length_are_compared_at_their_own_ends():
    same = dict(zip(compare.KEYS, ("d", "a", "s", 0, 2, "square", 16, "hole", "l1"), strict=True))
    short = pd.DataFrame([same | {"value": 1.0}])
    long = pd.DataFrame([same | {"value": 9.0}, same | {"stage": 8, "value": 1.5}])
    assert compare.effects_of_reports(short, long)["B - A"].tolist() == [0.5]


@pytest.mark.parametrize("kind", ["nothing", "mixed"])
def test_what_cannot_be_compared_is_named(study, tmp_path, kind):
    run = study.runs()[0].folder
    with pytest.raises(ValueError, match="neither a finished run" if kind == "nothing" else "is a run, .* a report"):
        compare.compare(run, tmp_path if kind == "nothing" else study.report)
