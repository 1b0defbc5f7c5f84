"""What processes share: nothing outlives run_all.sh, and a request to stop is passed on."""

import contextlib
import ctypes
import os
import signal
import sys
import threading


def die_with_parent(signum=signal.SIGTERM):
    """Have Linux send this process a signal when its parent dies. Elsewhere: nothing."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signum)


def interrupt_on_terminate():
    """Make SIGTERM and a closed terminal end this process as Ctrl-C does: `finally` blocks run.

    A SIGHUP that is ignored (nohup) stays ignored; SIGINT, which background jobs ignore, does not.
    """
    closed = signal.getsignal(signal.SIGHUP)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or closed is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def stop_with(pid):
    """End this process, as SIGTERM would, when process `pid` is gone, even if Snakemake waits."""
    import psutil

    def watch():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
