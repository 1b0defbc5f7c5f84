"""A published study follows from its saved values, takes in what fits, and is never lost."""

import dataclasses
import time

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from inpaint_lib.results import frames, ledger, published, summary
from inpaint_lib.study import files
from tests.conftest import snapshot
from tests.results import synthetic
from workflow import commands

PUBLISHED = published.FOLDER
SMALL = {"datasets": ["faces"], "architectures": ["custom"], "setups": ["fixed", "progressive"]}
SMALL |= {"diverged": ()}


@pytest.mark.slow
def test_a_study_of_a_hundred_runs_has_few_files_and_is_verified_in_seconds(shelf, undrawn):
    published.publish(synthetic.study(), "mine")
    started = time.process_time()
    assert published.verify("mine") == []
    assert time.process_time() - started < 20
    kept = [path for path in (shelf / "mine").rglob("*") if path.is_file()]
    assert len(kept) <= 60 and sum(path.stat().st_size for path in kept) < 5e6
    fills = frames.load(shelf / "mine").fills
    assert not [key for key in fills if "seed1" in key]
    assert all(any(f"{name}/seed0" in key for key in fills) for name in ("fixed", "mixed"))


def test_an_edit_of_values_tables_or_the_page_is_named(shelf, undrawn):
    published.publish(synthetic.study(**SMALL, seeds=[0, 1]), "mine")
    base = shelf / "mine"
    assert published.verify("mine") == []

    path = base / "values/seed0.csv.gz"
    kept = path.read_bytes()
    frame = frames._read(path)
    frame.loc[(frame.metric == "l1") & (frame.setup == "fixed"), "value"] *= 1.1
    files.write_csv(path, frame)
    found = published.verify("mine")
    named = {line.split(":")[0] for line in found}
    assert {"tables/table.csv", "tables/hypotheses.csv", "README.md"} <= named
    path.write_bytes(kept)

    for name, one, other in (
        ("tables/hypotheses.csv", "exploratory", "provisional"),
        ("README.md", "faces", "celeba"),
        ("tables/table.md", "0.3000", "0.3001"),
    ):
        text = (base / name).read_text()
        assert one in text
        (base / name).write_text(text.replace(one, other, 1))
        (line,) = published.verify("mine")
        assert line.startswith(f"{name}: line ") and other in line
        (base / name).write_text(text)
    path = base / "tables/table.csv"
    frame = pd.read_csv(path)
    for factor, wrong in ((1 + 1e-3, 1), (1 + 1e-7, 0)):  # another processor rounds otherwise
        files.write_csv(path, frame.assign(mean=frame["mean"] * factor))
        assert len(published.verify("mine")) == wrong
    (base / "tables/table.tex").unlink()
    (base / "tables/more.csv").touch()
    (base / "figures/answer.png").unlink()
    found = [line.split(":")[0] for line in published.verify("mine")]
    assert found == ["tables/more.csv", "tables/table.tex", "figures/answer.png"]


@pytest.mark.parametrize("setups", [["fixed"], ["recon_first", "adv_ramp"]])
def test_a_study_without_a_pair_of_a_question_is_published(shelf, undrawn, setups):
    published.publish(synthetic.study(["faces"], ["custom"], setups, seeds=[0]), "mine")
    assert "No pair of runs" in (shelf / "mine/README.md").read_text()
    assert published.verify("mine") == []


def test_a_seed_joins_and_a_run_again_is_never_replaced(shelf, undrawn):
    published.publish(synthetic.study(**SMALL, seeds=[0, 1]), "mine")
    again = synthetic.study(**SMALL, seeds=[1, 2])
    rows = "setup == 'fixed' and seed == 1 and metric == 'l1'"
    expected = again.values.query(rows).value.to_numpy()
    changed = synthetic.with_rows(again, "values", rows, value=expected * 1.5)
    said = published.publish(changed, "mine")
    assert said[0].startswith("2 runs added, 6 in ")
    names = [f"faces/custom/{setup}/seed1" for setup in SMALL["setups"]]
    assert said[1:] == [f"{name} is published already and stays" for name in names]
    assert published.verify("mine") == []
    kept = frames.load(shelf / "mine").values.query(rows).value
    assert kept.to_numpy() == pytest.approx(expected)


def test_outputs_made_elsewhere_are_published_with_their_study_and_after_it(shelf, undrawn):
    study = synthetic.study(**SMALL, seeds=[0])
    published.publish(study, "mine")
    for name, value, shown in (("lama", 0.1, 0.1), ("other", 0.2, 0.2), ("lama", 0.3, 0.1)):
        published.publish(synthetic.with_outputs(study, name, value), "mine")
        found = frames.load(shelf / "mine").baselines
        assert set(found[found.baseline == name + frames.EXTERNAL].value) == {shown}
        assert published.verify("mine") == []
        assert f"{name} (not trained here)" in (shelf / "mine/tables/table.md").read_text()
    assert not found.duplicated(found.columns[:6].tolist()).any()


def test_runs_that_do_not_fit_are_refused_and_nothing_changes(shelf, undrawn):
    published.publish(synthetic.study(**SMALL, seeds=[0]), "mine")
    before = snapshot(shelf)
    other = synthetic.study(**SMALL, seeds=[1], overrides={"models.custom.lr_g": 0.5})
    with pytest.raises(ValueError, match="models.custom.lr_g"):
        published.publish(other, "mine")
    assert snapshot(shelf) == before


@pytest.mark.slow
def test_an_interruption_at_any_file_loses_nothing(shelf, undrawn, monkeypatch):
    old, new = (synthetic.study(**SMALL, seeds=seeds) for seeds in ([0], [1]))
    for k in (0, 5, 13, 100):
        published.publish(old, f"mine{k}")
        lost = synthetic.interrupted(monkeypatch, k, published.publish, new, f"mine{k}")
        if lost:
            kept = frames.load(shelf / f"mine{k}")
            assert set(kept.runs.seed) in ({0}, {0, 1}) and kept.values.seed.eq(0).any()
            published.publish(new, f"mine{k}")
        assert published.verify(f"mine{k}") == []
    assert not lost and set(frames.load(shelf / "mine100").runs.seed) == {0, 1}


def test_names_lists_what_training_again_would_repeat(shelf, undrawn):
    results = synthetic.study(**SMALL, seeds=[0])
    published.publish(results, "mine")
    config, protocol = results.about["config"], results.about["protocol"]
    assert published.find_published(config, protocol) == set(frames.name_runs(results.runs))
    assert published.find_published(config, protocol + 1) == set()
    other = synthetic.study(**SMALL, seeds=[0], overrides={"data.seed": 3})
    assert published.find_published(other.about["config"], protocol) == set()


def test_nothing_finished_a_wrong_name_and_no_study_are_one_line_each(shelf, undrawn):
    results = synthetic.study(**SMALL, seeds=[0])
    with pytest.raises(ValueError, match="no run of profile smoke is finished"):
        published.publish(dataclasses.replace(results, runs=results.runs.iloc[:0]), "mine")
    with pytest.raises(ValueError, match="no published study: published are none"):
        published.verify("mine")
    with pytest.raises(ValueError, match="small letters"):
        published.find_folder("X y")
    assert not (shelf / "mine").exists()


def test_a_persons_paragraph_stays_and_the_pages_are_written_on_demand(
    shelf, undrawn, tmp_path, monkeypatch
):
    published.publish(synthetic.study(**SMALL, seeds=[0]), "mine")
    (shelf / "mine/surprised.md").write_text("The smallest holes were the hardest.\n")
    published.publish(synthetic.study(**SMALL, seeds=[1]), "mine")
    assert "The smallest holes were the hardest." in (shelf / "mine/README.md").read_text()
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    page = tmp_path / "README.md"
    page.write_text("<!-- published mine -->\nold\n")
    with pytest.raises(
        ValueError, match="the block <!-- published mine --> has no end: .* <!-- end -->"
    ):
        commands.publish(["--docs"])
    assert not (tmp_path / "docs").exists()
    page.write_text("before\n")
    commands.publish(["--docs"])
    assert page.read_text() == "before\n"
    page.write_text("before\n<!-- published mine -->\nold\n<!-- end -->\nafter\n")
    for _ in range(2):
        commands.publish(["--docs"])
    assert (tmp_path / "docs/glossary.md").is_file() and (tmp_path / "docs/results.md").is_file()
    text = page.read_text()
    assert text.startswith("before\n<!-- published mine -->\n\n**Q1: ") and text.endswith("after\n")
    assert "\nold\n" not in text and "**Q1: " in text
    assert summary.render_study(frames.load(shelf / "mine"), front=True) in text
    (shelf / "mine/README.md").unlink()
    commands.publish(["--rebuild", "mine"])
    assert published.verify("mine") == []


@pytest.mark.parametrize("base", published.list_studies(), ids=lambda base: base.name)
def test_what_this_repository_publishes_follows_from_its_values(base):
    assert published.verify(f"{base}/") == []
    for name, drawn in files.read_json(base / "figures/captions.json").items():
        size = drawn["width"] / 96, drawn["height"] / 96  # inches; A4 less margins of an inch
        assert size[0] <= 6.3 + 0.01 and size[1] <= 10.1, name


def recomputed(base, first, second, dataset, architecture, widths):
    """Return an effect and its simultaneous interval as printed, from the values by numpy alone."""
    values = pd.concat(pd.read_csv(path) for path in sorted((base / "values").glob("*.csv.gz")))
    about = files.read_json(base / "study.json")["config"]
    last, family = (
        len(about["curriculum"]["mask_widths"]),
        about["models"][architecture]["mask_family"],
    )
    rows = values[(values.stage == last) & (values.metric == "l1") & (values.region == "hole")]
    rows = rows[(rows.dataset == dataset) & (rows.architecture == architecture)]
    rows = rows[(rows.mask_family == family) & rows.mask_width.isin(widths)]
    wide = np.log(rows.pivot(index=["seed", "mask_width"], columns="setup", values="value"))
    d = (wide[first] - wide[second]).dropna().groupby("seed").mean().to_numpy()
    if len(d) < 3:
        return f"{100 * np.expm1(d.mean()):+.1f} %", "-"
    half = scipy.stats.t.ppf(1 - 0.05 / 18 / 2, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    ends = [f"{100 * np.expm1(end):+.1f} %" for end in (d.mean() - half, d.mean() + half)]
    return f"{100 * np.expm1(d.mean()):+.1f} %", " to ".join(ends)


@pytest.mark.parametrize("name", ["made up", *(base.name for base in published.list_studies())])
def test_an_independent_recomputation_agrees_in_every_printed_digit(name, shelf, undrawn):
    base = PUBLISHED / name
    if name == "made up":
        made = synthetic.study(["faces"], setups=["fixed", "progressive", "mixed"], profile="small")
        published.publish(made, "mine")
        base = shelf / "mine"
    lines = (base / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:3] == "| Q"]
    widths = files.read_json(base / "study.json")["config"]["curriculum"]["mask_widths"]
    for question, second, of in (
        ("Q1", "fixed", widths[-1:]),
        ("Q2", "fixed", widths),
        ("Q3", "mixed", widths),
    ):
        row = next(row for row in rows if row[0] == question and row[4] != "-")
        assert recomputed(base, "progressive", second, *row[1:3], of) == (row[4], row[5])
