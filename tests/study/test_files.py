import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpaint_lib.study import command, files, provenance
from inpaint_lib.study.grid import Run, open_study
from tests.conftest import repository
from tests.workflow.commands import commit_all


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path):
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(KeyError), files.replace(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_temporary_files_of_killed_processes_of_this_host_are_removed(tmp_path):
    path = tmp_path / "value.json"
    mine = files.name_temporary(path).name
    host = mine.split(".")[2]
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / mine.replace(str(os.getpid()), str(ended.pid))
    alive = tmp_path / mine.replace(str(os.getpid()), str(os.getppid()))
    elsewhere = tmp_path / dead.name.replace(host, "00000000")
    for left in (dead, alive, elsewhere):
        left.touch()
    files.name_temporary(path)
    assert [left.exists() for left in (dead, alive, elsewhere)] == [False, True, True]


def test_a_name_of_any_length_can_be_written(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    files.write_json(path, 1)
    assert files.read_json(path) == 1


def test_equal_tables_give_equal_bytes(tmp_path):
    frame = pd.DataFrame({"a": np.random.default_rng(0).random(50)})
    for name in ("one.csv.gz", "other.csv.gz"):
        files.write_csv(tmp_path / name, frame.copy())
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "other.csv.gz").read_bytes()
    assert np.allclose(pd.read_csv(tmp_path / "one.csv.gz"), frame, rtol=1e-8)


def test_an_obstacle_to_writing_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    assert "file where a folder is needed" in files.find_obstacle(tmp_path / "file" / "x")
    assert "broken link" in files.find_obstacle(tmp_path / "link" / "x")
    assert "folder where a file is needed" in files.find_obstacle(tmp_path / "folder")
    assert files.find_obstacle(tmp_path / "new" / "x") is None
    with pytest.raises(RuntimeError, match="mine"), files.explain_errors(tmp_path / "new" / "x"):
        raise RuntimeError("mine")


def test_a_lock_is_seen_and_freed(tmp_path):
    with files.lock(tmp_path) as mine:
        assert mine
        with files.lock(tmp_path, wait=False) as also:
            assert also is False
    with files.lock(tmp_path, wait=False) as again:
        assert again


def test_using_a_notebook_does_not_change_the_commit(tmp_path, monkeypatch):
    for name in ("notebooks/10_train.ipynb", "inpaint_lib/rng.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("1")
    commit_all(tmp_path)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    (tmp_path / "notebooks/10_train.ipynb").write_text("2")
    assert provenance.find_commit() != "unknown" and not provenance.find_commit().endswith(
        "+changes"
    )
    (tmp_path / "inpaint_lib/rng.py").write_text("2")
    assert provenance.find_commit().endswith("+changes")


@given(st.text(), st.binary())
def test_any_name_is_printable_in_one_line(text, raw):
    for name in (text, os.fsdecode(raw)):
        shown = command.make_printable(name)
        shown.encode()
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)


def test_runs_follow_the_order_of_the_configuration(output):
    without = ["faces/custom/fixed/seed0"]
    study = open_study("smoke", {"grid.seeds": [1, 0], "grid.without": without})
    names = [run.name for run in study.runs()]
    assert names[0] == "faces/custom/fixed/seed1" and without[0] not in names
    assert len(names) == len(set(names)) == 2 * 3 * 4 * 2 - 1
    assert all(run.folder == output / "runs" / "smoke" / run.name for run in study.runs())


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (("faces", "costum", "fixed", 0), "unknown 'costum': choose"),
        (("faces", "custom", "fixd", 0), "unknown 'fixd': choose"),
        (("faces", "custom", "fixed", -1), "greater than or equal to 0"),
        (("../x", "custom", "fixed", 0), "grid|match"),
    ],
)
def test_an_impossible_run_is_refused_by_name(output, run, message):
    with pytest.raises(ValueError, match=message):
        Run(open_study("smoke"), *run)


@pytest.mark.slow
def test_a_worker_process_ends_with_its_parent():
    """However the parent ends: its children must not be left behind."""
    code = (
        "import os, sys, time\n"
        "from inpaint_lib.study import processes\n"
        "if __name__ == '__main__':\n"
        "    pool = processes.create_pool(2000, 1000) or sys.exit(5)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os._exit(0)\n"
    )
    script = subprocess.run(
        [sys.executable, "-c", code], cwd=repository(), capture_output=True, text=True, check=False
    )
    if script.returncode == 5:
        pytest.skip("one core")
    import psutil

    pid = int(script.stdout)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    assert not psutil.pid_exists(pid)
