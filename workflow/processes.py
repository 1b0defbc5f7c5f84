"""Let no process outlive run_all.sh, and pass requests to stop or pause on to all of them."""

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

    What is ignored stays so: a closed terminal under nohup, Ctrl-C in a script's background jobs.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def pause_together():
    """Make Ctrl-Z pause, and fg and bg continue, all processes that this one has started.

    They have sessions of their own, which the terminal does not reach.
    """
    import psutil

    def pause(*_):
        started = psutil.Process().children(recursive=True)
        for order in (signal.SIGSTOP, signal.SIGCONT):
            for process in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(order)
            if order == signal.SIGSTOP:
                os.kill(os.getpid(), order)

    if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, pause)


def stop_with(pid):
    """End this process, as SIGTERM would, when process `pid` is gone, even if Snakemake waits."""
    import psutil

    def watch():
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
