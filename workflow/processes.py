"""What processes share: nothing outlives run_all.sh, and a request to stop is passed on."""

import contextlib
import ctypes
import os
import signal
import sys
import threading

import psutil


def die_with_parent(signum=signal.SIGTERM):
    """Have Linux send this process a signal when its parent dies. Elsewhere: nothing."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signum)


def interrupt_on_terminate():
    """Make SIGTERM and a closed terminal end this process as Ctrl-C does: `finally` blocks run.

    A SIGHUP that is ignored (nohup) stays ignored; SIGINT, which background jobs ignore, does not.
    """

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)


def stop_with(pid):
    """End this process, as SIGTERM would, when process `pid` is gone, even if Snakemake waits."""

    def watch():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
