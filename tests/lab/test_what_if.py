"""Runs with changed settings under names of their own: trained, shown, and in nothing else."""

import shutil

import pandas as pd
import pytest

from inpaint_lib.evaluation import evaluate
from inpaint_lib.lab import live, state, what_if
from inpaint_lib.results import collect, frames
from inpaint_lib.study import config, files, provenance
from inpaint_lib.study.config import ConfigError
from inpaint_lib.training import identity, loop
from tests.conftest import MICRO
from workflow import commands, graph

CHANGES = {"lr_d": 1e-3, "curriculum.total_images": 32}


@pytest.fixture
def run(micro, run_of, monkeypatch):
    monkeypatch.setenv("INPAINT_UNSEEN", "1")
    return run_of(micro(), "fixed")


def of(run, name="mine", changes=CHANGES):
    return what_if.make_run(
        run.study, name, run.dataset, run.architecture, run.setup, run.seed, changes
    )


def test_holes_cannot_change_by_any_name(run):
    whole = config.to_dict(run.study.config)
    whole["curriculum"]["mask_widths"] = [4, 8]
    for changes in (
        {"mask_family": "center"},
        {"models.custom.mask_family": "center"},
        {"curriculum": whole["curriculum"]},
        {"evaluation.images_elsewhere": 3},
    ):
        with pytest.raises(ConfigError, match="cannot change in a what-if run"):
            of(run, changes=changes)


def test_without_changes_nothing_is_trained_and_the_use_is_printed(run, capsys):
    assert what_if.train(run, "mine", {}) is None
    assert 'changes = {"lr_d": 4e-4}' in capsys.readouterr().out
    assert not run.study.folder.exists()


def test_only_what_is_named_differs_from_the_study_whose_data_are_used(run):
    other = of(run)
    differ = identity.identify(other, None, "cpu")["settings"]
    found = provenance.find_differences(identity.identify(run, None, "cpu")["settings"], differ)
    assert found == [("curriculum.total_images", 64, 32), ("model.lr_d", 2e-4, 1e-3)]
    assert other.name == "what_if/mine/clutter/custom/fixed/seed0"
    assert other.folder == run.study.folder / other.name
    assert other.study.data_folder("clutter") == run.study.data_folder("clutter")
    assert of(run, changes={"models.custom.lr_d": 1e-3}).model.lr_d == 1e-3


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("a/b", {"lr_d": 1}, "a name has"),
        ("..", {"lr_d": 1}, "a name has"),
        ("x", {"lr": 1}, "what_if/x: models.custom.lr: unknown key"),
        ("x", {"lr_d": -1}, "what_if/x: models.custom.lr_d: .* greater than 0"),
        ("x", {"data.image_size": 64}, "write a profile"),
        ("x", {"grid.seeds": [3]}, "write a profile"),
        ("x", {"curriculum.mask_widths": [8, 12]}, "write a profile"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(run, name, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        what_if.train(run, name, changes)
    assert error.value._render_traceback_() == [str(error.value)]  # noqa: SLF001
    assert not (run.study.folder / "what_if").exists()


def test_a_run_appears_in_the_explorer_and_in_nothing_else(finished, output, run, capsys):
    of_grid = shutil.ignore_patterns("progressive")
    shutil.copytree(finished, output, dirs_exist_ok=True, ignore=of_grid)
    evaluate.complete(run)
    what_if.train(run, "mine", CHANGES)
    out = capsys.readouterr().out
    assert "what_if/mine/clutter/custom/fixed/seed0: " in out and "40_explore" in out
    found, lacks = what_if.list_runs(run.study)
    assert [other.name for other in found] == [of(run).name] and lacks == {}

    study = run.study
    explorer = state.load_study("smoke", MICRO | {"grid.setups": ["fixed"]})
    assert list(explorer.runs) == [run.name, of(run).name]
    entry = explorer.about["runs"][1]
    assert entry["setup"] == "what_if/mine: fixed" and entry["seed"] == run.seed
    shown = explorer.about["setups"][entry["setup"]]
    assert shown["about"] == "fixed with lr_d = 0.001, curriculum.total_images = 32"
    history = pd.read_csv(of(run).folder / "history.csv")
    assert history.step.max() == 8 and explorer.history(of(run).name).step.max() == 16
    assert explorer.health(of(run).name).equals(live.check_health(found[0]))

    names = frames.name_runs(collect.collect(study, partial=True).runs)
    assert names == [run.name]
    commands.status(["smoke", *(f"--set={k}={v}" for k, v in MICRO.items())])
    assert "what_if" not in capsys.readouterr().out
    assert "what_if" not in str(graph.describe(study, {}, [], False))


def test_a_name_keeps_its_changes_and_its_run(run, capsys):
    what_if.train(run, "mine", CHANGES)
    with pytest.raises(provenance.SettingsChanged, match=r"lr_d=0.001, now 0.002: take another"):
        what_if.train(run, "mine", CHANGES | {"lr_d": 2e-3})
    capsys.readouterr()
    what_if.train(run, "mine", CHANGES)
    assert "was trained before: 32 images.\n" + what_if.ANOTHER in capsys.readouterr().out


def test_what_cannot_be_shown_is_named(run):
    other = of(run)
    loop.fit(other, lambda *_: None)
    (other.folder / "result.json").unlink()
    files.write_json(run.study.folder / "what_if/mine" / what_if.CHANGES, CHANGES)
    assert what_if.list_runs(run.study) == ([], {other.name: "not finished"})
    files.write_json(run.study.folder / "what_if/mine" / what_if.CHANGES, {"lr_d": 5})
    [why] = what_if.list_runs(run.study)[1].values()
    assert "lr_d" in why
