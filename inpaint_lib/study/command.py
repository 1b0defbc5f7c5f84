"""What the commands of run_all.sh share: a command line that is wrong, or whatever else is, ends in one line."""

import argparse
import sys


class Parser(argparse.ArgumentParser):
    """Raises ValueError where argparse would print its usage and exit."""

    def error(self, message):
        raise ValueError(f"{message}; see ./{self.prog} --help")


def printable(text):
    """Text with names of files in it as any terminal takes it: bytes that are no UTF-8 are shown as \\xNN."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def fail(code, message, name="run_all.sh"):
    """Say in one line why a command ends -> its exit code."""
    print(f"{name}: {' '.join(printable(message).split())}", file=sys.stderr, flush=True)
    return code
