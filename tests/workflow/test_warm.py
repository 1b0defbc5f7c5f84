"""Notebooks are forked from one process: as programs of their own they would do, say and leave the same."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from tests.conftest import repository
from workflow import run_notebook, warm

ROOT = repository()
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="on Linux alone")
SERVER = """
import sys
from workflow import warm
warm.MODULES = ("workflow.run_notebook",)
warm._runner = lambda arguments: exec(arguments[0], {}) or 0
warm.serve(sys.argv[1])
"""


@pytest.fixture
def address(tmp_path):
    """Where a process forks that does, as a runner, what it is given."""
    socket = f"/tmp/warm-{os.getpid()}-{time.monotonic_ns()}"
    server = subprocess.Popen([sys.executable, "-P", "-c", SERVER, socket], env=os.environ | {"PYTHONPATH": ROOT})
    while not os.path.exists(socket):
        time.sleep(0.01)
    yield socket
    server.kill()
    server.wait()
    os.unlink(socket)


def stand_in(address, code, **options):
    command = [sys.executable, "-I", "-S", f"{ROOT}/workflow/warm.py", "runner", address, code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def eventually(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_fork_has_the_streams_environment_folder_and_exit_code_of_who_stands_in(address, tmp_path):
    code = "import os, sys; print(os.environ['WHO'], os.getcwd()); print('trouble', file=sys.stderr); sys.exit(7)"
    for who in ("one", "another"):
        process = stand_in(address, code, env=os.environ | {"WHO": who}, cwd=tmp_path)
        assert process.communicate() == (f"{who} {tmp_path}\n", "trouble\n") and process.returncode == 7


@pytest.mark.parametrize(
    ("code", "returned", "words"),
    [("pass", 0, ""), ("import os; os.kill(os.getpid(), 9)", 137, ""), ("1 / 0", 1, "ZeroDivisionError: division by zero"),
     ("import sys; sys.exit('a word')", 1, "")],
)  # fmt: skip
def test_it_ends_as_its_fork_does(address, code, returned, words):
    process = stand_in(address, code)
    assert words in process.communicate()[1] and process.returncode == returned


LONG = """
import os, time
open(os.environ["THERE"], "w").write(str(os.getpid()))
try:
    time.sleep(60)
finally:
    open(os.environ["THERE"] + ".end", "w")
"""


@pytest.fixture
def long(address, tmp_path):
    """(who stands in, its fork) for a minute."""
    process = stand_in(address, LONG, env=os.environ | {"THERE": str(tmp_path / "there")})
    eventually(lambda: (tmp_path / "there").is_file() and (tmp_path / "there").read_text())
    yield process, psutil.Process(int((tmp_path / "there").read_text()))
    process.kill()


def test_an_interrupt_is_passed_on(long, tmp_path):
    process, _ = long
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130 and (tmp_path / "there.end").exists()


def test_a_fork_ends_with_who_stands_in_however_that_ends_and_is_buried(long):
    process, fork = long
    process.kill()
    eventually(lambda: not psutil.pid_exists(fork.pid))


def test_where_nobody_answers_it_is_the_program_itself(tmp_path):
    process = stand_in(str(tmp_path / "nobody"), "too few", env=os.environ | {"PYTHONPATH": ROOT})
    said = process.communicate()
    assert process.returncode == 2 and "FAILED  python -m workflow.run_notebook NOTEBOOK" in said[1]


@pytest.mark.parametrize("forked", [False, True])
def test_a_notebook_is_executed_and_drawn_alike(tmp_path, monkeypatch, forked):
    """By a kernel that was forked from the real process, and by one of its own."""
    cells = ["out = ''", "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
             "from inpaint_lib.results import plots\nplots.figure()[0]",
             "import torch\ntorch.manual_seed(0)\ntorch.rand(1)",
             "import os\nprint(os.environ['MPLBACKEND'], __name__, os.environ['INPAINT_UNSEEN'])",
             "import pandas\nfrom inpaint_lib.data import packs\nfrom inpaint_lib.training import loop\n"
             "print(pandas.get_option('display.max_columns'), packs.tqdm.__mro__[1].__name__, loop.tqdm.__name__)",
             "open(out, 'w').close()"]  # fmt: skip
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.cells[0].metadata.tags = ["parameters"]
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "draws.ipynb")
    monkeypatch.setattr(run_notebook, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("PYTHONPATH", ROOT)
    with warm.waiting(dict(os.environ)) as address:
        if forked:
            monkeypatch.setenv("INPAINT_WARM", address)
        else:
            monkeypatch.delenv("INPAINT_WARM", raising=False)
        out = str(tmp_path / "out")
        assert run_notebook.main("draws", tmp_path / "executed.ipynb", out, json.dumps({"out": out})) == 0
    _, _, figure, own, number, told, asked, _ = [cell.outputs for cell in nbformat.read(tmp_path / "executed.ipynb", 4).cells]
    assert [output.output_type for output in figure] == ["display_data"] and "image/png" in figure[0].data
    assert "image/png" in own[0].data
    assert number[0].data["text/plain"] == "tensor([0.4963])"
    assert asked[-1].text == "20 tqdm_notebook tqdm\n"  # what asks, as it is imported, where it is
    assert told[0].text == "module://matplotlib_inline.backend_inline __main__ 1\n" and "INPAINT_UNSEEN" not in os.environ


def test_before_it_forks_it_has_no_threads_and_has_not_asked_for_a_gpu():
    """A fork of a process that has asked CUDA for anything can use no GPU."""
    code = """
import threading
import torch
from workflow import warm
asked = []
for module, name in ((torch._C, "_cuda_getDeviceCount"), (torch.cuda, "is_available"), (torch.cuda, "device_count"),
                     (torch.cuda, "_lazy_init")):
    setattr(module, name, lambda *_, name=name: asked.append(name))
warm._load()
print(asked, threading.active_count())
"""
    environment = os.environ | {"PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[] 1\n"
