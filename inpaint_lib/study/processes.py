"""Processes of multiprocessing that end with their parent, and interrupts kept for the next point from which work goes on."""

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


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
