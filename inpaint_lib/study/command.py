"""What the commands of run_all.sh share: a command line that is wrong, or whatever else is, ends in one line."""

import argparse
import sys


class Parser(argparse.ArgumentParser):
    """Raises ValueError where argparse would print its usage and exit."""

    def error(self, message):
        raise ValueError(f"{message}; see ./{self.prog} --help")


def fail(code, message, name="run_all.sh"):
    """Say in one line why a command ends -> its exit code."""
    print(f"{name}: {' '.join(str(message).split())}", file=sys.stderr, flush=True)
    return code
