"""A hostile machine: full disks, files in the way, values that are not finite, little memory."""

import subprocess

import pytest
import torch
from safetensors.torch import load_file

from inpaint_lib.data import packs
from inpaint_lib.evaluation import evaluate
from inpaint_lib.study import devices, files, grid
from inpaint_lib.training import artifacts, loop, step
from tests.conftest import MICRO
from tests.training.runs import contents, quiet, stop
from tests.workflow.commands import SETTINGS, is_refusal
from workflow import __main__ as command

RUN = "runs/smoke/clutter/custom/progressive/seed0"
ONE = {"grid.setups": ["progressive"], "machine.checkpoint_seconds": 0}


def progressive(architecture="custom"):
    overrides = MICRO | ONE | {"grid.architectures": [architecture]}
    return grid.open_study("smoke", overrides).runs()[0]


def bytes_below(folder):
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(contents of a run, bytes that it and its pack take, bytes of the pack)"""
    output = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(output))
        run = progressive()
        loop.fit(run, quiet)
        pack = bytes_below(run.study.data_folder("clutter"))
        return contents(run.folder), bytes_below(output), pack


@pytest.mark.parametrize("share", [0.02, 0.8])
def test_a_full_disk_is_reported_and_with_room_training_continues_to_the_same_bytes(
    disk, undisturbed, share
):
    expected, everything, pack = undisturbed
    place = disk(int(pack + share * (everything - pack)) // 4096 * 4096)
    run = progressive()
    with pytest.raises(OSError, match="the disk is full at .*: free some space and run the same"):
        loop.fit(run, quiet)
    assert not [p for p in place.rglob("*.tmp*") if p.is_file()]
    assert not (run.folder / "result.json").exists()
    for path in (run.folder / "stages").glob("*.safetensors"):
        load_file(path)
    assert all(artifacts.load_checkpoint(p) for p in run.folder.glob("checkpoint*.pt"))
    disk(50 * 2**20)
    loop.fit(run, quiet)
    assert contents(run.folder) == expected


@pytest.fixture
def refused(asked):
    """refused() -> the line that refuses the micro study."""

    def ask():
        found = asked("smoke", *SETTINGS)
        assert is_refusal(*found), found
        return found[2]

    return ask


def test_a_full_or_a_read_only_disk_is_refused_before_any_work(disk, refused):
    place = disk(64 * 1024)
    assert f"the disk is full at {place}" in refused()
    with pytest.raises((ValueError, OSError), match=r"the pack needs .* GB|the disk is full"):
        packs.prepare(progressive().study, "clutter")
    disk(50 * 2**20, "ro")
    said = refused()
    assert str(place) in said and "INPAINT_OUTPUT" in said


IN_THE_WAY = f"runs runs/smoke/clutter/data {RUN}/stages reports/smoke/tables reports/smoke/results"


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "file") for name in IN_THE_WAY.split()), ("runs", "broken link")]
)
def test_what_lies_where_a_folder_belongs_is_named(output, refused, name, kind):
    place = output / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("mine") if kind == "file" else place.symlink_to(output / "nowhere")
    said = refused()
    assert f"{place} is a {kind} where a folder is needed: rename it" in said
    assert [p for p in output.rglob("*") if not p.is_dir()] == [place]
    assert kind != "file" or place.read_text() == "mine"


@pytest.mark.parametrize("name", [f"{RUN}/result.json", "reports/smoke/index.html"])
def test_a_folder_where_a_file_belongs_is_named(output, refused, name):
    (output / name / "mine").mkdir(parents=True)
    what = f"{output / name} is a folder where a file is needed: rename it"
    assert what in refused() and (output / name / "mine").is_dir()


def test_a_place_that_becomes_read_only_in_training_is_named_and_the_run_continues_later(
    disk, undisturbed
):
    place, run = disk(50 * 2**20), progressive()

    def close(run, state):
        if state.step == 9:  # by a mount over it: a disk with open files can't be made read-only
            subprocess.run(["mount", "--bind", place, place], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)

    with pytest.raises(
        files.OutputError, match=rf"^{run.folder}/.* cannot be written \(Read-only file system\): "
    ):
        loop.fit(run, close)
    subprocess.run(["umount", "--lazy", place], check=True)
    assert loop.fit(run, quiet)["sittings"][1]["from_step"] == 9
    assert contents(run.folder) == undisturbed[0]


def test_a_second_run_all_on_a_profile_ends_with_a_line(output, capsys, monkeypatch):
    def meanwhile(*_):
        assert command.main(["smoke", *SETTINGS]) == 2
        return 1

    monkeypatch.setattr(command, "run_snakemake", meanwhile)
    assert command.main(["smoke", *SETTINGS]) == 1
    said = "another run_all.sh works on profile smoke: wait for it or stop it"
    assert capsys.readouterr().err.count(said) == 1


# --- values that are not finite


def plant(monkeypatch, what, network, value):
    """From the 12th step on: a non-finite value in a batch, a weight or a gradient of G or D."""
    done = [0]
    compute, to_float = step.Step._compute, step.metrics.to_float

    def poisoned(self, images, u):
        done[0] += 1
        if done[0] == 12 and what in ("weight", "gradient"):
            parameter = next(getattr(self.state, network).parameters())
            if what == "weight":
                parameter.data.view(-1)[0] = value
            else:
                first = torch.tensor([0])
                parameter.register_hook(lambda gradient: gradient.index_fill(0, first, value))
        return compute(self, images, u)

    def batch(images, device):
        floats = to_float(images, device)
        if done[0] == 12 and what == "batch":
            floats = floats.clone()
            floats[0, 0, 0, 0] = value
        return floats

    monkeypatch.setattr(step.Step, "_compute", poisoned)
    monkeypatch.setattr(step.metrics, "to_float", batch)


NAN, INF = float("nan"), float("inf")
PLANTED = [
    ("custom", "batch", "", NAN),
    ("custom", "weight", "G", INF),
    ("custom", "weight", "D", NAN),
    ("custom", "gradient", "G", NAN),
    ("custom", "gradient", "D", INF),
    ("context_encoder", "gradient", "G", INF),
    ("free_form", "weight", "G", NAN),
]


@pytest.mark.parametrize(("architecture", "what", "network", "value"), PLANTED)
def test_a_value_that_is_not_finite_ends_training_and_is_never_saved(
    output, architecture, what, network, value
):
    run = progressive(architecture)
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, what, network, value)
        result = loop.fit(run, quiet)
    assert result["outcome"] == "diverged" and 0 < result["step"] < 16
    assert "became" in result["why"] or "is not finite" in result["why"]
    assert files.read_json(run.folder / "result.json") == result
    assert not (run.folder / "checkpoint.pt").exists()
    for path in (run.folder / "stages").iterdir():
        assert all(bool(weight.isfinite().all()) for weight in load_file(path).values())


def test_a_diverged_run_is_never_drawn_again_unless_its_result_is_deleted(output, undisturbed):
    run = progressive()
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, "gradient", "G", float("nan"))
        assert loop.fit(run, quiet)["outcome"] == "diverged"
    assert loop.fit(run, quiet)["outcome"] == "diverged"
    (run.folder / "result.json").unlink()  # by a person who knows that it was the memory
    loop.fit(run, quiet)
    assert contents(run.folder) == undisturbed[0]


# --- memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_says_what_to_set_and_another_error_is_another(output, error):
    config = progressive().study.config
    with pytest.raises(devices.OutOfMemory) as told, devices.explain_out_of_memory(config):
        raise error
    for words in ("batch_size", "precision=bfloat16", "loading=prefetch"):
        assert words in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(RuntimeError, match="no such thing"), devices.explain_out_of_memory(config):
        raise RuntimeError("no such thing")


def test_too_little_memory_keeps_what_is_done(output, undisturbed):
    run = progressive()

    def full(*_):
        raise MemoryError

    stop(run, 9)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(devices.OutOfMemory):
        patch.setattr(step.Step, "_compute", full)
        loop.fit(run, quiet)
    assert artifacts.load_checkpoint(run.folder / "checkpoint.pt")["state"]["step"] == 9
    loop.fit(run, quiet)
    assert contents(run.folder) == undisturbed[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.metrics, "inpaint", full)
        with pytest.raises(devices.OutOfMemory, match="evaluation_batch"):
            evaluate.evaluate(run, 2)
    assert len(evaluate.evaluate(run, 2))
