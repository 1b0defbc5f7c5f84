"""Worker processes that end with their parent, and interrupts deferred until work can stop."""

import concurrent.futures as futures
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from multiprocessing.connection import wait

from . import extensions as own
from . import limits


def work_for_parent(extensions=()):
    """Let a worker process ignore Ctrl-C and end with its parent; load extensions."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: (wait([parent]), os._exit(1)), daemon=True).start()
    own.load(extensions)


def count_workers(tasks, tasks_per_worker):
    """Return how many processes to start: one per `tasks_per_worker`, at most one per core."""
    return max(1, min(limits.count_cores(), tasks // tasks_per_worker))


def create_pool(tasks, tasks_per_worker, extensions=()):
    """Return an executor of `count_workers` processes with the extensions loaded.

    Return None where one is enough, or where processes cannot share semaphores (no writable
    /dev/shm).
    """
    if (n := count_workers(tasks, tasks_per_worker)) == 1:
        return None
    spawn = multiprocessing.get_context("spawn")
    with contextlib.suppress(OSError, ImportError, NotImplementedError):
        return futures.ProcessPoolExecutor(n, spawn, work_for_parent, (tuple(extensions),))
    return None


def run_in_order(executor, function, tasks, depth):
    """Yield function(*task) of each task, in order, with `depth` tasks given ahead."""
    tasks = iter(tasks)
    given = deque(executor.submit(function, *task) for task in itertools.islice(tasks, depth))
    while given:
        given.extend(executor.submit(function, *task) for task in itertools.islice(tasks, 1))
        yield given.popleft().result()


@contextlib.contextmanager
def defer_interrupts():
    """Yield an event that a first Ctrl-C sets; a second one raises KeyboardInterrupt at once.

    If the event is set at the end, KeyboardInterrupt is raised then. Outside the main thread, or
    where Ctrl-C has another handler, nothing changes.
    """
    event, usual = threading.Event(), signal.default_int_handler
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not usual
    ):
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
