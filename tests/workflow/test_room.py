"""A study is refused where it does not fit; `clean` removes only what nothing needs."""

import shutil
import subprocess
import sys

import pytest
import yaml

from inpaint_lib.study import files, grid
from inpaint_lib.training import loop
from tests.conftest import MICRO
from tests.workflow.commands import SETTINGS, is_refusal
from workflow import room

FIXED, PROGRESSIVE = (f"clutter/custom/{setup}/seed0" for setup in ("fixed", "progressive"))
HASH = "0123456789abcdef"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of output with one finished run of the micro study."""
    output = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(output))
        loop.fit(grid.open_study("smoke", MICRO).runs()[0], lambda *_: None)
    return output


@pytest.fixture
def copied(trained, output):
    """A copy of it that may be changed, as the place of output."""
    shutil.copytree(trained, output, dirs_exist_ok=True)
    return output / "runs/smoke"


@pytest.fixture
def asked(asked):
    """asked(*arguments) -> (exit code, stdout, stderr) of a command about the micro study."""
    return lambda *arguments: asked(*arguments, *SETTINGS)


def below(folder):
    return {p.relative_to(folder) for p in folder.rglob("*") if not p.name.endswith(".lock")}


def abandoned(folder, pid=None, host=None):
    """Make the file of an interrupted write of a process that is gone."""
    if pid is None:
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        pid = child.pid
    path = folder / f".{HASH}.{host or files._host()}.{pid}.tmp.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    return path


# --- before a study starts


@pytest.fixture
def free(monkeypatch):
    """free(n): so many bytes are free on every disk."""
    return lambda n: monkeypatch.setattr(room.shutil, "disk_usage", lambda _: (10**12, 0, n))


def test_a_study_that_does_not_fit_is_refused_and_nothing_is_made(output, free, asked):
    free(5 * 2**20)
    found = asked("smoke")
    assert is_refusal(*found) and not below(output), found
    assert f"{output}: 5.2 MB are free, profile smoke needs " in found[2]
    for word in ("weights", "checkpoints", "records", "data", "report", "INPAINT_OUTPUT=DIR"):
        assert word in found[2]


def test_a_dry_run_needs_neither_the_room_nor_slurm(output, free, asked):
    free(5 * 2**20)
    code, out, err = asked("smoke", "--dry-run", "--cluster", "slurm", "--jobs", "8")
    assert code == 0 and "5 jobs of Slurm, at most 24 hours each, 24 in all with 2 at a time" in out
    assert err.startswith(f"warning: {output}: 5.2 MB are free, profile smoke needs "), err


def test_only_what_is_missing_counts(copied, free):
    study = grid.open_study("smoke", MICRO)
    run = study.runs()[0]
    parts, missing, more = room.forecast(study, {}, 1)
    of = room.estimate_run(study.config, "custom")
    assert missing == pytest.approx(sum(of.values()) + parts["report"])  # one run of two
    assert more == room.forecast(study, {}, 99)[2] == 2 * of["checkpoints"]
    there = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    again = room.forecast(study, {run.folder: "other settings"}, 2)
    assert again[1] == pytest.approx(missing + sum(of.values()) - there)
    assert again[2] == 2 * more
    result = files.read_json(run.folder / "result.json")
    (run.folder / "result.json").unlink()
    assert room.forecast(study, {}, 2)[1:] == pytest.approx(again[1:], rel=1e-3)
    free(missing + more + 1)
    with pytest.raises(ValueError, match="needs"):
        room.check_space(study, {}, 1)
    files.write_json(run.folder / "result.json", result)
    words = room.format_bytes(parts.total()), room.format_bytes(missing)
    assert room.check_space(study, {}, 1) == "; {} of disk, {} of it still to come".format(*words)
    (copied / "clutter/data/manifest.json").unlink()
    with pytest.raises(ValueError, match="needs"):
        room.check_space(study, {}, 1)


def test_where_free_space_cannot_be_asked_for_nothing_is_refused(output, monkeypatch):
    def failing(_):
        raise OSError("not here")

    for ask in (failing, lambda _: (0, 0, 0)):
        monkeypatch.setattr(room.shutil, "disk_usage", ask)
        assert " of it still to come" in room.check_space(grid.open_study("smoke", MICRO), {}, 1)


@pytest.mark.parametrize("profile", ["smoke", "tiny", "small", "medium", "paper"])
def test_every_profile_has_a_forecast(profile, output):
    study = grid.open_study(profile, {"grid.datasets": ["faces", "clutter"]})
    parts, missing, more = room.forecast(study, {}, 1)
    assert set(parts) == {"weights", "checkpoints", "records", "data", "report"}
    assert all(size > 0 for size in parts.values()) and missing == pytest.approx(parts.total())
    most = max(room.estimate_run(study.config, name)["checkpoints"] for name in study.config.models)
    assert more == 2 * most


# --- clean


def test_finished_runs_lose_checkpoints_and_all_else_stays(copied, output, asked, monkeypatch):
    unfinished, other = copied / PROGRESSIVE, copied / "what_if/half" / PROGRESSIVE
    for folder in (unfinished, other):
        folder.mkdir(parents=True)
        shutil.copyfile(copied / FIXED / "checkpoint.pt", folder / "checkpoint.pt")
    tried = shutil.copytree(copied / FIXED, copied / "what_if/half" / FIXED)
    gone = [abandoned(copied / place) for place in (FIXED, f"{FIXED}/evaluation", "clutter/data")]
    gone.append(tried / "checkpoint.pt")
    gone += [abandoned(output / "reports/smoke/tables"), copied / "clutter/data/features_ab.npy"]
    gone += [copied / ".snakemake/cache/a b\nc", copied / FIXED / "checkpoint.pt"]
    gone[-2].parent.mkdir(parents=True)
    for path in gone[-3:-1]:
        path.write_bytes(b"x")
    [abandoned(unfinished), abandoned(other), abandoned(output / "reports/tiny")]
    abandoned(copied, pid=1), abandoned(copied, host="deadbeef")
    for name in ("clutter/data/features_ab.csv", "checkpoint.pt", "clutter/checkpoint.pt"):
        (copied / name).write_text("mine")
    (copied / FIXED / "evaluation/checkpoint.pt").mkdir(parents=True)
    before = below(output)
    code, out, err = asked("clean", "smoke")
    assert code == 0 and not err and below(output) == before
    assert len(out.splitlines()) == len(gone) + 1 and "a b\\x0ac" in out
    assert "; 1 unfinished runs: left alone" in out
    code, out, err = asked("clean", "smoke", "--yes")
    assert code == 0 and before - below(output) == {path.relative_to(output) for path in gone}, err
    code, out, err = asked("clean", "smoke", "--yes")
    assert code == 0 and "nothing to remove" in out and len(out.splitlines()) == 1
    run = grid.open_study("smoke", MICRO).runs()[0]
    monkeypatch.setattr(loop, "_train", None)
    assert loop.fit(run)["outcome"] == "finished"


def test_published_runs_are_never_touched(copied, asked, monkeypatch):
    monkeypatch.setattr(room.published, "find_published", lambda config, protocol: {FIXED})
    abandoned(copied / FIXED)
    before = below(copied)
    code, out, _ = asked("clean", "smoke", "--yes")
    assert code == 0 and below(copied) == before
    assert "nothing to remove; 1 published runs: left alone" in out


def test_links_are_not_followed(copied, tmp_path_factory, output, asked):
    away = tmp_path_factory.mktemp("away")
    (copied / FIXED / "checkpoint.pt").rename(away / "kept.pt")
    (copied / FIXED / "checkpoint.pt").symlink_to(away / "kept.pt")
    abandoned(away)
    (copied / "clutter/data/more").symlink_to(away)
    (copied / "clutter/custom").rename(away / "custom")
    (copied / "clutter/custom").symlink_to(away / "custom")
    before = below(away)
    code, out, _ = asked("clean", "smoke", "--yes")
    assert code == 0 and "nothing to remove" in out and below(away) == before
    (away / "custom").rename(away / "moved")
    (copied / "clutter/custom").unlink()
    copied.rename(away / "smoke")
    copied.symlink_to(away / "smoke")  # the study's own place may be one
    abandoned(away / "smoke")
    assert "interrupted writes 0.0 MB, removed" in asked("clean", "smoke", "--yes")[1]


@pytest.mark.parametrize("place", [".snakemake/cache/x", "a/data", "faces/custom/fixed/seed0"])
def test_the_names_of_folders_above_mean_nothing(trained, tmp_path, monkeypatch, asked, place):
    output = shutil.copytree(trained, tmp_path / place)
    monkeypatch.setenv("INPAINT_OUTPUT", str(output))
    before, gone = below(output), f"runs/smoke/{FIXED}/checkpoint.pt"
    code, out, _ = asked("clean", "smoke", "--yes")
    assert code == 0 and [str(path) for path in before - below(output)] == [gone], out


def test_a_running_study_is_refused(copied, asked):
    with files.lock(copied, ".study.lock"):
        for more in ([], ["--yes"]):
            found = asked("clean", "smoke", *more)
            assert is_refusal(*found) and "another run_all.sh works on profile smoke" in found[2]
    assert (copied / FIXED / "checkpoint.pt").exists()


def test_a_profile_whose_name_has_spaces_is_cleaned(output, tmp_path, asked):
    profile = tmp_path / "my own.yaml"
    profile.write_text(yaml.safe_dump({"extends": "smoke"}))
    path = abandoned(output / "runs/my own/a folder")
    code, out, _ = asked("clean", profile, "--yes")
    assert code == 0 and not path.exists() and "profile my own: interrupted writes" in out


def test_without_runs_nothing_is_made(output, asked):
    code, out, _ = asked("clean", "smoke", "--yes")
    assert code == 0 and "no run in" in out and not list(output.iterdir())


def test_what_lies_where_a_folder_belongs_is_named_and_stays(output, asked):
    place = output / "runs/smoke"
    place.parent.mkdir()
    place.write_text("mine")
    found = asked("clean", "smoke", "--yes")
    assert is_refusal(*found) and f"{place} is a file where a folder is needed" in found[2]
    assert place.read_text() == "mine"


def test_a_full_disk_can_be_cleaned_and_a_read_only_one_is_named(trained, disk, asked):
    place = disk(50 * 2**20)
    shutil.copytree(trained, place, dirs_exist_ok=True)
    with (place / "more").open("wb") as more, pytest.raises(OSError):
        while True:
            more.write(b"x" * 2**16)
            more.flush()
    checkpoint = place / "runs/smoke" / FIXED / "checkpoint.pt"
    disk(50 * 2**20, "ro")
    found = asked("clean", "smoke", "--yes")
    assert is_refusal(*found) and str(place) in found[2] and "Read-only" in found[2]
    assert checkpoint.is_file()
    disk(50 * 2**20, "rw")
    code, out, _ = asked("clean", "smoke", "--yes")
    assert code == 0 and "removed" in out and not checkpoint.exists()
