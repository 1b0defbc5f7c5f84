"""Processes that end when they should: with their parent, on request, or at the next point from which work goes on."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait

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


def work_for_parent():
    """In a worker process of multiprocessing: leave Ctrl-C to the parent, and end when the parent does, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: (wait([parent]), os._exit(1)), daemon=True).start()


@contextlib.contextmanager
def interrupts_kept():
    """Yield an event that a first Ctrl-C sets instead of raising KeyboardInterrupt anywhere; a second one raises it at once.

    An interrupt that nobody has answered by the end is raised then. Outside the main thread, or where Ctrl-C means something
    else, nothing changes.
    """
    event, usual = threading.Event(), signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield event
        return

    def keep(signum, frame):
        if event.is_set():
            usual(signum, frame)
        event.set()

    signal.signal(signal.SIGINT, keep)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, usual)
    if event.is_set():
        raise KeyboardInterrupt
