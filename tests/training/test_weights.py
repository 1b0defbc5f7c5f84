"""Runs that start from given weights: which file, which layers, and kept apart from others."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from inpaint_lib.photos import inpaint
from inpaint_lib.results import frames, networks, notes, published, report, stats, tables
from inpaint_lib.study import config as configuration
from inpaint_lib.study import files, provenance
from inpaint_lib.training import artifacts, identity, loop, weights
from tests.results import synthetic
from tests.training.runs import contents, stop
from workflow import __main__ as command
from workflow import commands, graph

FIXED = {"grid.setups": ["fixed"]}


@pytest.fixture
def first(copied, micro, run_of):
    """A finished run, trained from nothing."""
    return run_of(micro(FIXED), "fixed")


@pytest.fixture
def then(run_of, micro):
    """then(name) -> such a run of another study, from given weights."""

    def run(name, **overrides):
        study = micro(FIXED | {"initial_weights": str(name)} | overrides)
        return run_of(dataclasses.replace(study, profile="then"), "fixed")

    return run


def same(network, state):
    mine = network.state_dict()
    return all(torch.equal(mine[name], value) for name, value in state.items())


def test_g_and_d_start_where_the_given_run_ended_and_go_on_from_there(first, then):
    run = then(first.folder)
    G, D = artifacts.load_networks(first, first.n_stages)
    for given in (weights.create_initial(run), artifacts.load_networks(run, 0)):
        assert same(given[0], G.state_dict()) and same(given[1], D.state_dict())
    state = loop.create_state(
        run, torch.device("cpu"), loop.choose_options(run.config, torch.device("cpu"))
    )
    assert same(state.average.module, G.state_dict()) and state.step == 0
    loop.fit(run)
    assert not same(artifacts.load_networks(run, run.n_stages)[0], G.state_dict())
    assert json.loads((run.folder / "run.json").read_text())["settings"]["initial_weights"]


def test_a_resumed_run_equals_an_uninterrupted_one(first, then):
    run = then(first.folder, **{"machine.checkpoint_seconds": 0})
    loop.fit(run)
    reference = contents(run.folder)
    shutil.rmtree(run.folder)
    stop(run, 6)
    loop.fit(run)
    assert contents(run.folder) == reference


def test_identity_has_the_values_not_the_name_nor_the_header(first, then, tmp_path):
    def of(name):
        return identity.identify(then(name), None, "cpu")["settings"]["initial_weights"]

    shutil.copytree(first.folder, tmp_path / "a copy\nelsewhere")
    path = first.folder / "stages/2.safetensors"
    save_file(load_file(path), tmp_path / "bare.safetensors", metadata={"other": "header"})
    wanted = of(first.folder)
    assert len(wanted) == 64 and of(tmp_path / "a copy\nelsewhere") == wanted
    assert of(tmp_path / "bare.safetensors") == of(path) == wanted
    without_d = of(first.folder / "model")
    assert without_d != wanted and of(first.folder / "model/model.safetensors") == without_d
    state = load_file(path)
    state["to_rgb.bias"][0] += 1
    save_file(state, tmp_path / "bare.safetensors")
    assert of(tmp_path / "bare.safetensors") != wanted


def test_a_run_by_its_name_and_a_published_network_in_half_precision(first, then, monkeypatch):
    run = first
    monkeypatch.setattr(weights, "PUBLISHED", run.study.folder)
    about = {"config": configuration.to_dict(run.config)}
    files.write_json(run.study.folder / "mine/study.json", about)
    networks.save_networks(run.study, run.study.folder / "mine")
    assert weights.find(f"smoke/{run.name}") == run.folder / "stages/2.safetensors"
    name = f"mine/{run.dataset}/custom/fixed"
    assert weights.find(name).name == "model.safetensors"
    G, D = artifacts.load_networks(run, run.n_stages)
    for given, own in zip(weights.create_initial(then(name)), (G, D), strict=True):
        assert same(given, {k: v.half().float() for k, v in own.state_dict().items()})
    assert inpaint.load(name).architecture == "custom"


def test_without_a_d_in_the_file_d_starts_by_the_seed(first, then):
    run = then(first.folder / "model")
    G, D = weights.create_initial(run)
    assert same(G, artifacts.load_networks(first, 2)[0].state_dict())
    assert same(D, weights.create_networks(run)[1].state_dict())
    assert "the file has no D" in weights.check_initial(run.config)


def test_in_one_folder_runs_from_weights_and_from_nothing_are_refused(first, micro, run_of):
    both = micro(FIXED | {"initial_weights": str(first.folder)})
    with pytest.raises(provenance.SettingsChanged, match="initial_weights=None, now"):
        loop.fit(run_of(both, "fixed"))
    assert "initial_weights=None, now" in str(identity.find_changed(both)[first.folder])


def test_the_command_starts_status_knows_and_nothing_else_is_trained_again(
    first, then, monkeypatch
):
    arguments = ["smoke", "--from", str(first.folder)]
    args = command.parse_arguments(arguments)
    assert command.read_overrides(args) == {"initial_weights": str(first.folder)}
    monkeypatch.chdir(first.folder.parent)
    relative = command.read_overrides(
        command.parse_arguments(["smoke", "--from", first.folder.name])
    )
    assert relative == {"initial_weights": str(first.folder)}
    run = then(first.folder, **{"machine.checkpoint_seconds": 0})
    described = [graph.describe(s, {}, [], False) for s in (first.study, run.study)]
    assert "initial_weights" not in json.dumps(described[0]["train"])
    assert described[1]["train"]["custom"]["initial_weights"] == weights.hash_weights(first.folder)
    stop(run, 6)
    assert commands.read_state(run)[0] == "interrupted"
    assert "from given weights" in commands.read_state(run)[1]
    loop.fit(run)
    found = weights.hash_weights(first.folder)[:12]
    assert commands.read_state(run) == ("finished", f"from given weights {found}")
    assert commands.read_state(first) == ("finished", "")


def test_results_of_given_weights_say_so_have_no_words_and_never_join_others(tmp_path, monkeypatch):
    from_nothing = synthetic.study(profile="small", architectures=("custom",), diverged=())
    given = synthetic.study(profile="small", architectures=("custom",), diverged=())
    given.about["initial_weights"] = "ab" * 32
    given.about["config"]["initial_weights"] = "/a folder/model.safetensors"
    assert (stats.get_questions(stats.judge(from_nothing)).word != "").all()
    assert (stats.get_questions(stats.judge(given)).word == "").all()
    assert "start from given weights (SHA-256 abababababababab)" in " ".join(
        notes.list_caveats(given)
    )
    tables.write(given, tmp_path)
    assert "start from given weights" in (tmp_path / "table.md").read_text()
    with pytest.raises(ValueError, match="initial weights: None and abab"):
        frames.merge(from_nothing, given)
    run = given.runs.iloc[0].to_dict()
    assert "--from '/a folder/model.safetensors'" in report.make_command(given, run)
    monkeypatch.setattr(published, "FOLDER", tmp_path / "published")
    frames.save(from_nothing, tmp_path / "published/mine")
    config = from_nothing.about["config"]
    assert published.find_published(config, from_nothing.about["protocol"])
    monkeypatch.setattr(weights, "hash_weights", lambda name: "ab" * 32)
    assert not published.find_published(config, from_nothing.about["protocol"])


@pytest.mark.parametrize("architecture", ["custom", "context_encoder", "free_form"])
def test_every_architecture_can_start_from_given_weights(micro, tmp_path, architecture):
    grid_of = {"grid.architectures": [architecture]}
    own = micro(grid_of).runs()[0]
    G, D = weights.create_networks(own)
    state = G.state_dict() | {f"discriminator.{k}": v for k, v in D.state_dict().items()}
    path = tmp_path / "x.safetensors"
    save_file({name: (value + 1).contiguous() for name, value in state.items()}, path)
    run = micro(grid_of | {"initial_weights": str(path)}).runs()[0]
    assert weights.check_initial(run.config).startswith(
        "G and D start from given weights, x.safetensors"
    )
    cpu = torch.device("cpu")
    begun = loop.create_state(run, cpu, loop.choose_options(run.config, cpu))
    for network, kept in zip((begun.G, begun.D), (G, D), strict=True):
        assert same(network, {name: value + 1 for name, value in kept.state_dict().items()})
