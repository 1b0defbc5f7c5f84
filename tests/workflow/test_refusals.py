"""What a file system, a container or a system's limits refuse: work goes on, or one line says what
is the matter before anything is made.
"""

import errno
import os
import resource
import signal
import subprocess
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from inpaint_lib.data import images, packing, packs
from inpaint_lib.evaluation import evaluate
from inpaint_lib.photos import inpaint
from inpaint_lib.study import files, grid, limits, processes
from inpaint_lib.training import identity, loop
from tests.conftest import MICRO, smooth
from tests.workflow import refusing
from tests.workflow.commands import (
    ROOT,
    SETTINGS,
    call,
    current,
    is_refusal,
    write_script,
)
from workflow import checks, kernels

ONE = MICRO | {
    "grid.setups": ["fixed"],
    "curriculum.mask_widths": [8],
    "curriculum.total_images": 8,
}  # two steps
ADVICE = ("remove", "move", "delete", "rename")


@pytest.fixture(params=refusing.REFUSALS)
def refused(request, monkeypatch):
    """One kind of call after the other, refused in this process."""
    refusing.refuse([request.param], monkeypatch.setattr)
    return request.param


# --- calls that are refused


def test_a_run_needs_no_call_that_may_be_refused(refused, output, monkeypatch):
    """Preparing, training, measuring, saving, filling a photo, and a kernel's folder."""
    monkeypatch.setattr(packing, "IMAGES_PER_WORKER", 8)  # enough for a pool
    study = grid.open_study("smoke", ONE)
    (made,) = study.runs()
    assert (
        checks.check_study(study, SimpleNamespace(dry_run=False, download=False, force_new=False))
        == {}
    )
    assert loop.fit(made, lambda *_: None)["outcome"] == "finished"
    for stage in made.evaluated_stages:
        evaluate.evaluate(made, stage)
    images.Image.fromarray(smooth(48, 64)).save(output / "photo.png")
    model = inpaint.load(made.folder)
    inpaint.fill_file(model, output / "photo.png", output / "out.png", boxes=[(8, 8, 9, 9)])
    with kernels.isolate() as options:
        manager = options["config"].KernelManager
        assert manager.transport == ("tcp" if refused == "sockets" else "ipc")
    assert not list(output.rglob("*.tmp*"))


@pytest.mark.parametrize(
    "number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get
)
def test_a_place_without_locks_is_named_before_anything_is_made(output, monkeypatch, asked, number):
    monkeypatch.setattr(refusing.fcntl, "flock", refusing.failing(number))
    code, out, err = asked("smoke", *SETTINGS)
    named = f"{output}/runs/smoke/.study.lock cannot be written ("
    assert is_refusal(code, out, err) and named in err
    assert os.strerror(number) in err and "name another folder" in err
    assert {p.name for p in output.rglob("*") if p.is_file()} <= {".study.lock"}


def test_a_kernels_sockets_lie_where_their_path_is_short_enough(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    for place, transport in ((tmp_path, "ipc"), (deep, "ipc")):
        monkeypatch.setattr(kernels.tempfile, "tempdir", str(place))
        with kernels.isolate() as options:
            manager = options["config"].KernelManager
            assert manager.transport == transport
            assert manager.ip.startswith("/tmp" if place == deep else str(place))
    assert not list(deep.iterdir())


def test_without_semaphores_one_process_does_the_work_of_several(monkeypatch):
    monkeypatch.setattr(limits, "count_cores", lambda: 8)
    with processes.create_pool(4000, 1000) as pool:
        assert pool is not None
    refusing.refuse(["semaphores"], monkeypatch.setattr)
    assert processes.create_pool(4000, 1000) is None


# --- an error is told by its number


OTHERS = (errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EROFS)
OTHERS += (errno.EACCES, errno.EPERM, errno.ENOLCK, errno.ENOMEM, errno.EFBIG, errno.EBUSY)


@pytest.mark.parametrize("number", OTHERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("named", ["the folder", "the file", "nothing"])
def test_an_error_is_told_in_the_systems_words_and_never_as_something_in_the_way(
    tmp_path, number, named
):
    path = tmp_path / "x.json"
    name = {"the folder": str(tmp_path), "the file": str(path), "nothing": None}[named]
    with pytest.raises(files.OutputError) as raised, files.replace(path):
        raise OSError(number, os.strerror(number), name)
    said = str(raised.value)
    assert os.strerror(number) in said and str(tmp_path) in said and "): " in said
    assert not any(word in said for word in ADVICE), said
    assert ("ulimit -n" in said) == (number in (errno.EMFILE, errno.ENFILE))


def test_what_cannot_be_read_now_is_not_taken_for_missing(output, monkeypatch):
    """A result behind a stale handle or beyond the last file descriptor is no reason to retrain."""
    (made,) = grid.open_study("smoke", ONE).runs()
    files.write_json(made.folder / "result.json", {"outcome": "finished"})
    assert files.read_json(made.folder / "none.json") is None
    for number in (errno.EMFILE, errno.ESTALE, errno.EIO, errno.EACCES):
        with monkeypatch.context() as patch:
            patch.setattr(files.Path, "read_text", refusing.failing(number))
            with pytest.raises(OSError, match=os.strerror(number)):
                identity.read_result(made)
            with pytest.raises(OSError, match=os.strerror(number)):
                packs.open_pack(made.study, "clutter")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT])
def test_an_image_is_not_left_out_for_what_is_wrong_with_the_machine(monkeypatch, number):
    monkeypatch.setattr(images.os, "stat", refusing.failing(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        images.read_image("image.png", 32)
    monkeypatch.setattr(images.os, "stat", refusing.failing(errno.EIO))
    with pytest.raises(images.Unusable, match="unreadable"):
        images.read_image("image.png", 32)


# --- limits


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("-n 64", "ulimit -n allows 64 open files, a study needs 256: ulimit -n 1024"),
        ("-n 255", "ulimit -n allows 255 open files"),
        ("-v 2000000", "ulimit -v allows 2000 MB of addresses"),
        ("-v 4000000", "ulimit -v unlimited"),
    ],
)
@pytest.mark.parametrize("arguments", [["smoke"], ["lab"], ["inpaint"]], ids=" ".join)
def test_a_limit_that_is_too_low_is_named_before_anything_is_started(
    tmp_path, limit, words, arguments
):
    line = f"ulimit {limit} && exec bash {ROOT}/run_all.sh {' '.join(arguments)}"
    found = call("bash", "-c", line, env=current())
    assert is_refusal(*found) and words in found[2]


def test_the_soft_limit_of_open_files_is_raised_and_never_lowered(tmp_path):
    write_script(tmp_path / "python", 'case "$*" in *find_spec*) ;; *) ulimit -n ;; esac')
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 2000:
        pytest.skip("the hard limit is too low here")
    for soft, expected in ((64, 1024), (1500, 1500)):
        line = f"ulimit -Sn {soft} && exec bash {ROOT}/run_all.sh smoke"
        environment = current() | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        _, out, err = call("bash", "-c", line, env=environment)
        assert out.strip() == str(expected), err


def test_cores_and_memory_are_those_of_the_control_group(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "GROUPS", tmp_path)
    machine = limits.count_cores(), limits.measure_memory()
    assert min(machine) > 0
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert (limits.count_cores(), limits.measure_memory()) == machine
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("123456789\n")
    assert (limits.count_cores(), limits.measure_memory()) == (1, 123456789)
    assert processes.count_workers(10_000, 10) == 1


def test_the_first_line_says_on_what_it_is_computed_and_days_are_warned_of(
    output, monkeypatch, capsys
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(limits, "count_cores", lambda: 3)
    assert checks.check_machine(grid.open_study("smoke", ONE)) == "; cpu, float32, 3 cores"
    assert not capsys.readouterr().err
    big = {"data.image_size": 64, "curriculum.total_images": 24 * 10**7}
    checks.check_machine(grid.open_study("smoke", big | {"machine.device": "cpu"}))
    assert not capsys.readouterr().err
    checks.check_machine(grid.open_study("smoke", big | {"machine.device": "auto"}))
    (warning,) = capsys.readouterr().err.splitlines()
    assert "PyTorch finds no GPU" in warning and "--estimate" in warning and "days" in warning
    monkeypatch.setattr(limits, "measure_memory", lambda: 2**29)
    with pytest.raises(
        ValueError, match=r"at a time need .* MB of memory, there are 512 MB.*limit$"
    ):
        checks.check_machine(grid.open_study("smoke", MICRO))


# --- signals


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT], ids=lambda n: n.name)
def test_what_is_ignored_stays_ignored(number):
    code = (
        "import signal, sys, time\nfrom workflow.processes import interrupt_on_terminate\n"
        "interrupt_on_terminate()\nprint('ready', flush=True)\n"
        "time.sleep(1)\nprint('went on', flush=True)\ntime.sleep(60)"
    )

    def before():
        signal.signal(number, signal.SIG_IGN)

    with subprocess.Popen(
        ["python", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=before
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "went on\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10)  # by KeyboardInterrupt


def test_ctrl_c_ends_a_snakemake_that_hangs_and_its_jobs_save_their_work(tmp_path, output):
    """Its handler of SIGTERM waits for a lock, for ever if the interrupted code holds it."""
    engine, begun, saved = (tmp_path / name for name in ("engine", "begun", "saved"))
    job = f"(trap 'echo > {saved}; exit' TERM; echo > {begun}; while :; do sleep 0.1; done) &"
    write_script(engine, f"{job}\ntrap '' TERM; while :; do sleep 0.1; done")
    code = (
        "import sys\nfrom types import SimpleNamespace\nfrom inpaint_lib.study import grid\n"
        f"from workflow import __main__ as command\nsys.executable = {str(engine)!r}\n"
        "args = SimpleNamespace(cluster=None, dry_run=False)\n"
        "sys.exit(command.run_snakemake(grid.open_study('smoke', {}), args, {}, 1))"
    )
    with subprocess.Popen(["python", "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        for _ in range(600):
            if begun.exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(10) == 130 and saved.exists()
        finally:
            process.kill()


def test_ctrl_z_pauses_all_and_fg_goes_on():
    child = "import time; [print(k, flush=True) or time.sleep(0.05) for k in range(10**6)]"
    code = (
        "import subprocess, sys, time\nfrom workflow.processes import pause_together\n"
        f"pause_together()\nchild = subprocess.Popen([sys.executable, '-c', {child!r}],\n"
        "    start_new_session=True, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\nchild.wait()"
    )
    with subprocess.Popen(["python", "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        both = [process.pid, int(process.stdout.readline())]

        def become(stopped):
            for _ in range(100):
                states = [psutil.Process(pid).status() == "stopped" for pid in both]
                if states == [stopped, stopped]:
                    return True
                time.sleep(0.05)
            return False

        try:
            for _ in range(2):
                process.send_signal(signal.SIGTSTP)
                assert become(stopped=True)
                process.send_signal(signal.SIGCONT)
                assert become(stopped=False)
        finally:
            for pid in both:
                os.kill(pid, signal.SIGKILL)
