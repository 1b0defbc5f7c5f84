"""A process that has imported what notebooks and their runner import, and forks itself for each: short runs else spend a fifth
of their time loading torch. On Linux alone.

    python -P -m workflow.warm SOCKET                  waits there; at the first call imports; ends with its parent
    python -I -S workflow/warm.py kernel SOCKET FILE   stands in for `python -m ipykernel_launcher -f FILE`
    python -I -S workflow/warm.py runner SOCKET ...    stands in for `python -m workflow.run_notebook ...`

Who stands in sends its environment, folder and standard streams, passes signals on to its fork and ends as that ends; if it is
killed, so is the fork (a runner is asked to stop, so that it leaves nothing half done). If nobody answers at SOCKET, it becomes
the program it stands in for. When the process forks it has no threads of Python, has not run a kernel nor touched a GPU.
"""

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile

# the runner first: it keeps a slow module out
MODULES = ("workflow.run_notebook", "papermill", "ipykernel.kernelapp", "torch._dynamo", "inpaint_lib.lab.live",
           "inpaint_lib.evaluation.evaluate", "inpaint_lib.results.figures", "inpaint_lib.results.tables",
           "inpaint_lib.training.loop", "torchmetrics.image.kid")  # fmt: skip
PROGRAMS = {"kernel": ["-m", "ipykernel_launcher", "-f"], "runner": ["-m", "workflow.run_notebook"]}
LEFT_ALONE = {"kernel": signal.SIGKILL, "runner": signal.SIGTERM}  # what a fork gets for which nobody stands in any more
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# --- who stands in: no import of ours or of a package, for it must cost nothing


def stand_in(kind, address, arguments):
    """Have a fork do it, and end with its exit code."""
    pr_set_pdeathsig = 1  # as processes.die_with_parent, which is a module of ours
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    request = {"kind": kind, "arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    request = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(address)
            socket.send_fds(line, [len(request).to_bytes(4, "big")], [0, 1, 2])
            line.sendall(request)
            pid = int.from_bytes(line.recv(4, socket.MSG_WAITALL), "big")
        except OSError:
            pid = 0
        if not pid:
            os.execv(sys.executable, [sys.executable, "-P", *PROGRAMS[kind], *arguments])
        for signum in PASSED_ON:
            signal.signal(signum, lambda signum, _: _send(pid, signum))
        code = line.recv(1)
    sys.exit(code[0] if code else 1)  # nothing: the process that forked is gone


def _send(pid, signum):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


# --- who forks


@contextlib.contextmanager
def waiting(environment):
    """Start the process -> its SOCKET, or None where there is none to be had. It ends with the context."""
    if sys.platform != "linux":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="warm-", dir="/tmp") as folder:  # a socket's path may not be long
        address = f"{folder}/s"
        command = [sys.executable, "-P", "-m", "workflow.warm", address]
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)  # forks have the streams of who stands in
        process = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
        try:
            yield address
        finally:
            process.kill()
            process.wait()


def serve(address):
    """Fork for whoever asks, until the parent ends."""
    from .processes import die_with_parent

    die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines, alive = {}, set()  # {the line to who stands in: (pid, kind) of the fork}; pids of all forks
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(64)
        select.select([door], [], [])
        _load()
        while True:
            ready, _, _ = select.select([door, *lines], [], [], 0.1 if alive else None)
            for line in ready:
                if line is door:
                    _answer(door.accept()[0], lines, alive, door)
                elif not line.recv(1):  # who stood in is gone
                    pid, kind = lines.pop(line)
                    line.close()
                    _send(pid, LEFT_ALONE[kind])
            _bury(lines, alive)


def _load():
    """Import MODULES. Some, pandas and tqdm among them, ask as they are imported whether this is a notebook's kernel."""
    import builtins
    from types import SimpleNamespace

    import IPython

    own = IPython.get_ipython
    builtins.get_ipython = IPython.get_ipython = lambda: SimpleNamespace(kernel=True, config={"IPKernelApp": {}})
    for name in MODULES:
        importlib.import_module(name)
    IPython.get_ipython = own
    del builtins.get_ipython


def _answer(line, lines, alive, door):
    header, streams, _, _ = socket.recv_fds(line, 4, 3)
    length, request = int.from_bytes(header, "big"), b""
    while len(request) < length and (more := line.recv(length - len(request))):
        request += more
    if not header or len(request) < length:
        return line.close()
    request = json.loads(request)
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        line.sendall(pid.to_bytes(4, "big"))
        lines[line] = pid, request["kind"]
        alive.add(pid)
        for stream in streams:
            os.close(stream)
        return None
    for other in (door, line, *lines):
        other.close()
    _become(request, streams)
    return None


def _bury(lines, alive):
    """Tell who stands in for a fork that ended how it ended: by its exit code, or 128 and the signal, as a shell does."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            alive.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            for line in [line for line, (of, _) in lines.items() if of == pid]:
                del lines[line]
                with contextlib.suppress(OSError):
                    line.sendall(bytes([code if code >= 0 else 128 - code]))
                line.close()


def _become(request, streams):
    """In the fork: be the program that was asked for. Does not return."""
    code = 1
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        for signum in PASSED_ON:
            signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
        code = _kernel(request["arguments"]) if request["kind"] == "kernel" else _runner(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001  # a fork must never go on as the process that forked
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _kernel(arguments):
    import matplotlib
    from ipykernel import kernelapp

    from .processes import die_with_parent

    die_with_parent(signal.SIGKILL)
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"  # as a kernel's environment sets it
    sys.argv = ["ipykernel_launcher.py", "-f", *arguments]
    kernelapp.launch_new_instance()
    return 0


def _runner(arguments):
    from . import run_notebook

    return run_notebook.command(arguments)


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] in PROGRAMS:
        stand_in(sys.argv[1], sys.argv[2], sys.argv[3:])
    serve(sys.argv[1])
