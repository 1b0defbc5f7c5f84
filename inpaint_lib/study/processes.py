"""Processes of multiprocessing that end with their parent, and interrupts kept for the next point from which work goes on."""

import concurrent.futures as futures
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


def workers(tasks, tasks_per_worker):
    """How many processes so many tasks are worth, at most one a core: another for each `tasks_per_worker`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, tasks // tasks_per_worker))


def pool(tasks, tasks_per_worker):
    """An executor of so many processes; None where they are one."""
    if (n := workers(tasks, tasks_per_worker)) == 1:
        return None
    return futures.ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), work_for_parent)


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
