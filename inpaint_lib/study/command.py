"""Parse arguments, print and exit: one line per error, names printable on any terminal."""

import argparse
import os
import sys

_unprinted = []  # errors of `say`
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ValueError instead of printing its usage and exiting."""

    def error(self, message):
        raise ValueError(f"{message}; see ./{self.prog} --help")

    def print_help(self, file=None):
        say(*self.format_help().splitlines())


def make_printable(text):
    """Return text as one line; control characters and bytes that are not UTF-8 become \\xNN."""
    raw = str(text).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace").translate(CONTROLS)


def say(*lines):
    """Print lines. An error doesn't stop the work: `exit_with` reports it at the end."""
    try:
        print(*map(make_printable, lines), sep="\n", flush=True)
    except OSError as error:
        _unprinted.append(error)


def fail(code, message, name="run_all.sh"):
    """Print in one line why a command failed and return its exit code."""
    print(f"{name}: {make_printable(' '.join(str(message).split()))}", file=sys.stderr, flush=True)
    return code


def warn(message):
    """Print a warning in one line."""
    fail(0, message, "warning")


def exit_with(main, *arguments):
    """Exit with the code that `main` returns, or with an error if its output was not printed."""
    try:
        code = main(*arguments)
    except SystemExit as end:  # --help
        code = end.code
    except KeyboardInterrupt:
        code = 130
    if _unprinted:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python prints the rest at exit
        if isinstance(_unprinted[0], BrokenPipeError):  # the reader has seen enough
            code = code or 141
        else:
            why = f"the output cannot be printed ({_unprinted[0].strerror})"
            code = fail(code or 1, why if code else f"{why}, but the work is done")
    sys.exit(code)
