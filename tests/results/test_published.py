"""A published study: it follows from its files, takes in what was made alike, and tells what was not."""

import json
import re
import shutil

import pandas as pd
import pytest

from inpaint_lib.evaluation import evaluate
from inpaint_lib.results import collect, figures, published, summary
from inpaint_lib.study import files, grid, provenance
from inpaint_lib.training import loop
from tests.conftest import MICRO

DRAWN = figures.FROM_TABLES


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a finished study: two setups, two seeds."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(folder))
        study = grid.open_study("smoke", MICRO | {"seeds": [0, 1]})
        collect.complete(study, watch=lambda *_: None)
    return folder


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An empty place for published studies, whose figures are not drawn."""
    monkeypatch.setattr(published, "FOLDER", tmp_path / "published")
    monkeypatch.setattr(figures, "FROM_TABLES", ())
    return tmp_path / "published"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """elsewhere(name): from here on runs/ and reports/ lie in another folder."""
    return lambda name: monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path / name))


@pytest.fixture
def trained(whole, output):
    """trained(**overrides) -> a study of the grid asked for, in a folder where what `whole` holds lies."""

    def found(**overrides):
        study = grid.open_study("smoke", MICRO | overrides)
        if not study.folder.exists():
            shutil.copytree(whole / "runs" / "smoke", study.folder)
        return study

    return found


def edit(path, change):
    path.write_text(change(path.read_text()))


def test_what_is_published_follows_from_its_files_and_an_edit_is_named(trained, shelf, monkeypatch):
    monkeypatch.setattr(figures, "FROM_TABLES", DRAWN)
    published.publish(trained(), "mine")
    base = shelf / "mine"
    assert published.verify("mine") == []
    page = (base / "index.html").read_text()
    linked = re.findall(r'(?:src|href)="([^"#:]+)"', page)
    assert [name for name in linked if not (base / name).is_file()] == []
    assert "2 training runs" in page
    assert not list(base.rglob("*.safetensors")) and not list(base.rglob("*.npy"))

    stages = base / "runs/scenes/custom/fixed/seed0/stages.csv"
    kept = stages.read_bytes()
    frame = pd.read_csv(stages, dtype=str)
    frame.loc[frame.index[-1], "l1"] = "0.01"
    frame.to_csv(stages, index=False)
    found = published.verify("mine")
    assert found[0] == "runs/scenes/custom/fixed/seed0/stages.csv: edited"
    assert any(line.startswith("tables/results.csv: line ") for line in found)
    stages.write_bytes(kept)

    monkeypatch.setattr(figures, "FROM_TABLES", ())
    edit(base / "tables/hypotheses.csv", lambda text: text.replace("inconclusive", "supported").replace("not answered", "yes"))
    found = published.verify("mine")
    assert found[0] == "tables/hypotheses.csv: edited" and any("from the runs" in line for line in found)

    stages.unlink()
    assert "runs/scenes/custom/fixed/seed0/stages.csv: missing" in published.verify("mine")


@pytest.mark.parametrize("base", sorted(p.parent for p in published.FOLDER.glob("*/study.json")), ids=lambda base: base.name)
def test_what_this_repository_publishes_follows_from_its_files(base, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FROM_TABLES", ())  # slow; above they are drawn
    here = tmp_path / base.name  # a copy: the page and other figures are written
    for other in {base, *(s.base for s in published.siblings(published.opened(base)))}:
        shutil.copytree(other, tmp_path / other.name)
    assert published.verify(str(here)) == []
    committed = [path for path in base.rglob("*") if path.relative_to(base).as_posix() in published.digests(base)]
    assert sum(path.stat().st_size for path in committed) < 10e6
    assert all(path.stat().st_size < published.LARGEST for path in committed if path.suffix == ".png")
    readme = (files.ROOT / "README.md").read_text(encoding="utf-8")
    if f"<!-- published {base.name} -->" in readme:
        assert "\n".join(summary.front_page(published.opened(here))) in readme


def test_pictures_of_images_are_taken_along_if_small(trained, shelf):
    study = trained()
    drawn = study.report / "figures"
    drawn.mkdir(parents=True)
    for name, size in (("grid_scenes_custom", 8), ("grid_scenes_free_form", published.LARGEST + 1), ("evolution_scenes", 8)):
        (drawn / f"{name}.png").write_bytes(bytes(size))
    of = {path.stem: {"caption": path.stem, "width": 1, "height": 1} for path in drawn.glob("*.png")}
    files.write_json(drawn / "captions.json", of)
    published.publish(study, "mine")
    assert [path.name for path in (shelf / "mine/figures").glob("*.png")] == ["grid_scenes_custom.png"]
    assert list(files.read_json(shelf / "mine/figures/captions.json")) == ["grid_scenes_custom"]


def test_digests_may_be_forged_but_tables_then_differ(trained, shelf):
    published.publish(trained(), "mine")
    base = shelf / "mine"
    edit(base / "README.md", lambda text: text.replace("custom", "tailored"))
    stored = files.read_json(base / "study.json")
    files.write_json(base / "study.json", stored | {"files": published.digests(base)})
    assert [line.split(":")[0] for line in published.verify("mine")] == ["README.md"]


def test_a_seed_from_another_folder_joins(trained, shelf, elsewhere):
    published.publish(trained(setups=["fixed"]), "mine")
    elsewhere("other")
    said = published.publish(trained(seeds=[1]), "mine")
    assert said[0] == "2 of 2 finished runs joined; 0 are published already, equal"
    study = published.opened(shelf / "mine")
    assert [run.name for run in study.runs()] == [
        "scenes/custom/fixed/seed0", "scenes/custom/fixed/seed1", "scenes/custom/progressive/seed1"]  # fmt: skip
    assert published.verify("mine") == []
    assert set(pd.read_csv(shelf / "mine/tables/runs.csv").seed) == {0, 1}


def test_the_same_run_again_is_compared_and_never_replaced(trained, shelf):
    study = trained(setups=["fixed"])
    published.publish(study, "mine")
    before = published.digests(shelf / "mine")
    assert published.publish(study, "mine")[0] == "0 of 1 finished runs joined; 1 are published already, equal"
    run = study.runs()[0]
    table = pd.read_csv(run.folder / "stages.csv")
    table.l1 *= 1.5
    files.write_csv(run.folder / "stages.csv", table)
    assert "+50.00 %" in published.publish(study, "mine")[1]
    assert published.digests(shelf / "mine") == before


@pytest.mark.parametrize("other", [{"total_images": 128}, {"models.custom.lr_g": 1e-3}, {"data_seed": 5}])
def test_a_run_made_otherwise_is_refused_and_nothing_changes(trained, shelf, elsewhere, other):
    published.publish(trained(setups=["fixed"]), "mine")
    before = published.digests(shelf / "mine")
    elsewhere("other")
    with pytest.raises(ValueError, match="published" if "data_seed" in other else next(iter(other)).split(".")[-1]):
        published.publish(trained(setups=["progressive"], **other), "mine")
    assert published.digests(shelf / "mine") == before and published.verify("mine") == []
    assert [path.name for path in shelf.iterdir() if path.is_dir()] == ["mine"]


@pytest.mark.parametrize("name, key", [("result.json", "code"), ("evaluation.json", "code")])
def test_other_code_is_refused(trained, shelf, elsewhere, name, key):
    published.publish(trained(setups=["fixed"]), "mine")
    elsewhere("other")
    study = trained(setups=["progressive"])
    path = study.runs()[0].folder / name
    made = json.loads(path.read_text())
    made["settings"][key] = "of another commit"
    files.write_json(path, made)
    with pytest.raises(provenance.SettingsChanged, match="code: published"):
        published.publish(study, "mine")


def test_what_is_published_is_not_trained_again_elsewhere(trained, shelf, elsewhere, micro):
    published.publish(trained(setups=["fixed"]), "mine")
    elsewhere("other")
    study = micro()
    assert published.done(study) == ["scenes/custom/fixed/seed0"]
    assert published.done(micro(total_images=128)) == published.done(micro(data_seed=3)) == []
    rest = micro(without=published.done(study))
    assert [run.name for run in rest.runs()] == ["scenes/custom/progressive/seed0"]


def test_studies_that_differ_in_their_budget_tell_of_each_other(whole, trained, shelf, elsewhere, micro, tmp_path, monkeypatch):
    front = tmp_path / "README.md"
    front.write_text("<!-- published mine -->\n<!-- end -->")
    monkeypatch.setattr(published, "FRONT", front)
    published.publish(trained(), "mine")
    assert not (shelf / "mine/tables/trend.csv").exists() and "trend" not in (shelf / "mine/README.md").read_text()
    elsewhere("longer")
    longer = micro(total_images=256)
    collect.complete(longer, watch=lambda *_: None)
    published.publish(longer, "longer", {"total_images": 256})
    for name in ("mine", "longer"):
        assert published.verify(name) == []
        points = pd.read_csv(shelf / name / "tables/trend.csv")
        assert dict(zip(points.study, points.total_images, strict=True)) == {"mine": MICRO["total_images"], "longer": 256}
        assert f"at {MICRO['total_images']}, 256 images" in (shelf / name / "README.md").read_text()
    assert f"at {MICRO['total_images']}, 256 images" in front.read_text()
    elsewhere("other")
    published.publish(trained(seeds=[1]), "mine")  # what is added to one is told by both
    assert set(pd.read_csv(shelf / "longer/tables/trend.csv").query("study == 'mine'").seed) == {0, 1}
    assert published.verify("longer") == []
    shutil.rmtree(shelf / "mine")
    assert any("rests on mine, which is not beside" in line for line in published.verify("longer"))


def test_a_pair_trained_otherwise_is_named_on_the_page(trained, shelf):
    study = trained()
    path = study.runs()[0].folder / "result.json"
    made = json.loads(path.read_text())
    files.write_json(path, made | {"sittings": [sitting | {"precision": "bfloat16"} for sitting in made["sittings"]]})
    published.publish(study, "mine")
    assert "trained otherwise: scenes, custom: seed 0: precision bfloat16 / float32." in (shelf / "mine/README.md").read_text()


def test_publishing_needs_the_data_of_finished_runs_alone(trained, shelf):
    assert published.publish(trained(datasets=["faces", "scenes"]), "mine")[0].startswith("2 of 2 finished runs joined")


@pytest.mark.parametrize("lost", [1, 4])
def test_runs_that_diverged_are_published_too(trained, shelf, monkeypatch, lost):
    study = trained(seeds=[0, 1])
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_check_weights", _diverge)
        for run in study.runs()[:lost]:
            shutil.rmtree(run.folder)
            loop.fit(run, watch=lambda *_: None)
    collect.complete(study, watch=lambda *_: None)
    published.publish(study, "mine")
    assert published.verify("mine") == []
    assert pd.read_csv(shelf / "mine/tables/runs.csv").diverged.sum() == lost
    assert "Diverged" in (shelf / "mine/README.md").read_text()


def _diverge(_):
    raise loop.Diverged("a planted value")


def test_nothing_finished_is_one_line_and_leaves_nothing(micro, shelf):
    with pytest.raises(ValueError, match="no run of profile smoke is finished"):
        published.publish(micro(), "mine")
    assert not (shelf / "mine").exists()
    with pytest.raises(ValueError, match="no published study"):
        published.verify("mine")
    with pytest.raises(ValueError, match="small letters"):
        published.place("../x y".replace("/", ""))


def test_a_persons_paragraph_stays_and_is_shown(trained, shelf, elsewhere):
    published.publish(trained(setups=["fixed"]), "mine")
    (shelf / "mine/surprised.md").write_text("The smallest holes were the hardest.\n")
    elsewhere("other")
    published.publish(trained(seeds=[1]), "mine")
    assert "The smallest holes were the hardest." in (shelf / "mine/README.md").read_text()
    assert published.verify("mine") == []


def test_the_summary_names_who_computed_what(trained, shelf):
    study = trained()
    found = summary.computed_by({run.name: files.read_json(run.folder / "result.json") for run in study.runs()})
    assert found.runs.tolist() == [2] and found.device.tolist() == ["cpu, float32"]


def test_evaluations_are_read_as_they_lie(trained, shelf):
    published.publish(trained(), "mine")
    study = published.opened(shelf / "mine")
    assert isinstance(study, grid.Study) and len(evaluate.kept(study.runs()[0])[0])
    shutil.rmtree(shelf / "mine/runs/scenes/data")
    with pytest.raises(FileNotFoundError):
        collect.plain(study)


@pytest.mark.parametrize("base", sorted(published.FOLDER.glob("*/study.json")), ids=lambda p: p.parent.name)
def test_the_commands_that_are_told_train_the_published_runs_and_no_others(base):
    """Also where cells have other seeds or setups than the rest."""
    told, study = [], published.opened(base.parent)
    for command in summary.commands(study):
        script, profile, *options = command.split()
        asked = dict(zip(options[::2], options[1::2], strict=True))
        overrides = {key.removeprefix("--"): value.split(",") for key, value in asked.items() if key != "--set"}
        if "seeds" in overrides:
            overrides["seeds"] = [int(seed) for seed in overrides["seeds"]]
        told += [run.name for run in grid.open_study(profile, overrides).runs()]
        assert script == "./run_all.sh"
    assert len(told) == len(set(told)) and set(told) == published.names(base.parent)
