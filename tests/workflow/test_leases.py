"""GPUs leased by real processes through real locks; the GPUs themselves are made up."""

import os
import signal
import subprocess
import sys
from itertools import accumulate

import pytest
import torch

from inpaint_lib.study import devices
from tests.conftest import repository
from tests.workflow.commands import write_notebook
from workflow import __main__ as command
from workflow import gpus

HOLD = """
import sys, time
from workflow import gpus
with gpus.lease(sys.argv[1]) as gpu:
    print(gpu, time.monotonic(), flush=True)
    time.sleep(float(sys.argv[2]))
    print(time.monotonic())
"""


@pytest.fixture(autouse=True)
def _locks(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def hold():
    """hold(names, seconds) -> a process that leases one of `names` and prints which, and when."""
    started = []

    def start(names, seconds=60):
        command = [sys.executable, "-c", HOLD, names, str(seconds)]
        started.append(
            subprocess.Popen(command, cwd=repository(), stdout=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("device", "visible", "there", "found"),
    [
        ("auto", None, 2, ["0", "1"]),
        ("cuda", "3, GPU-5f,MIG-7a", 3, ["3", "GPU-5f", "MIG-7a"]),
        ("auto", "0,1,-1,2", 2, ["0", "1"]),  # CUDA stops at the first that is none
        ("auto", "0", 0, []),  # a machine without a GPU, whatever is set
        ("auto", "", 0, []),
        ("cuda:1", None, 2, []),  # the user chose
        ("cpu", None, 2, []),
    ],
)
def test_gpus_are_those_that_cuda_may_use(monkeypatch, device, visible, there, found):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    assert gpus.list_gpus(device) == found


def test_a_gpu_that_is_not_there_and_sharing_a_chosen_one_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="machine.device=cuda:2 is not available: set it to auto"):
        devices.choose_device("cuda:2")
    with pytest.raises(ValueError, match="--runs-per-gpu 2: machine.device=cuda:1: set machine"):
        gpus.list_gpus("cuda:1", 2)


def test_every_gpu_is_used_and_none_by_more_than_it_may(hold):
    """Two studies share three GPUs: one leases each twice, the other once."""
    names, n = ["0", "GPU-a", "MIG-b/1/0"], 2
    processes = [hold(",".join(names * (n if k % 3 else 1)), 0.5) for k in range(12)]
    changes = {name: [] for name in names}
    for process in processes:
        *_, name, begun, ended = process.communicate(timeout=30)[0].split()
        changes[name] += [(float(begun), 1), (float(ended), -1)]
    peaks = [max(accumulate(k for _, k in sorted(found))) for found in changes.values()]
    assert max(peaks) == n and min(peaks) >= 1


def test_a_killed_holder_frees_its_gpu(hold):
    first = hold("0")
    assert first.stdout.readline().split()[0] == "0"
    second = hold("0", 0)
    assert "wait    for one of the GPUs 0" in second.stdout.readline() and second.poll() is None
    first.send_signal(signal.SIGKILL)
    assert second.stdout.readline().split()[0] == "0" and second.wait(5) == 0


def test_the_first_lease_of_every_gpu_goes_before_the_second_of_any(hold):
    assert [hold("0,1,0,1").stdout.readline().split()[0] for _ in range(4)] == ["0", "1", "0", "1"]


def test_another_users_folder_of_locks_is_refused(tmp_path):
    (tmp_path / f"inpaint-gpus-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="belongs to another user"):
        gpus.make_lock_folder()


@pytest.mark.slow
def test_the_kernel_sees_the_leased_gpu_alone(hold, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("INPAINT_GPUS", "4,GPU-a")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    look = "import os, pathlib\npathlib.Path('seen').write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
    write_notebook(tmp_path / "look.ipynb", look)
    assert hold("4").stdout.readline().startswith("4 ")
    paths = (tmp_path / "executed.ipynb", tmp_path / "seen")
    assert command.execute_notebook("look", *paths) == 0 and paths[1].read_text() == "GPU-a"


@pytest.mark.parametrize(
    ("arguments", "at_a_time", "slots", "words"),
    [
        ([], 2, "0,1", "2 at a time, on GPU 0, 1"),
        (["--runs-per-gpu", "2"], 4, "0,1,0,1", "4 at a time, on GPU 0, 1"),
        (["--jobs", "1"], 1, "0,1", "1 at a time"),
        (["--jobs", "8"], 8, "0,1", "2 at a time"),  # six wait for a GPU
        (["--set", "machine.device=cpu", "--set", "machine.jobs=3"], 3, "", "3 at a time"),
    ],
)
def test_as_many_runs_at_a_time_as_gpus_can_take(
    output, monkeypatch, capsys, arguments, at_a_time, slots, words
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked = []
    monkeypatch.setattr(command, "run_snakemake", lambda *given: asked.append(given) or 130)
    assert command.main(["smoke", "--datasets", "faces", *arguments]) == 130
    (_, _, described, jobs), *_ = asked
    assert (jobs, described["gpus"], described["threads"]) == (at_a_time, slots, 1)
    assert words in capsys.readouterr().out
