"""What the workflow's processes share: no child outlives its parent, and a request to stop is passed on."""

import ctypes
import signal
import sys


def die_with_parent():
    """Ask Linux to send SIGTERM to this process when its parent dies, however it dies. Elsewhere: nothing."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def interrupt_on_terminate():
    """Make SIGTERM end this process the way Ctrl-C does, so that `finally` blocks run."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)  # a background process inherits SIGINT ignored
