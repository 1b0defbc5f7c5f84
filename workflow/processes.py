"""What the workflow's processes share: nothing outlives run_all.sh, and a request to stop is passed on."""

import contextlib
import ctypes
import os
import signal
import sys
import threading

import psutil


def die_with_parent(signum=signal.SIGTERM):
    """Ask Linux to send a signal to this process when its parent dies, however it dies. Elsewhere: nothing."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signum)


def interrupt_on_terminate():
    """Make SIGTERM end this process the way Ctrl-C does, so that `finally` blocks run."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)  # the terminal was closed
    signal.signal(signal.SIGINT, interrupt)  # a background process inherits SIGINT ignored


def stop_with(pid):
    """End this process, as SIGTERM would, when process `pid` is gone: Snakemake in between would wait for its jobs."""

    def watch():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
