"""What the commands of run_all.sh share: a command line that is wrong, or whatever else is, ends in one line."""

import argparse
import os
import re
import sys

UNSAID = []  # why something could not be printed
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class Parser(argparse.ArgumentParser):
    """Raises ValueError where argparse would print its usage and exit."""

    def error(self, message):
        named = [a for a in sys.argv[1:] if a[:1] == "-" and (os.path.lexists(a) or re.fullmatch(r"-[^=]+\.[A-Za-z]\w*", a))]
        raise ValueError(f"{message}; {f'write the name as ./{named[0]}' if named else f'see ./{self.prog} --help'}")

    def print_help(self, file=None):
        say(*self.format_help().splitlines())


def printable(text):
    """Text with names of files in it as one line that any terminal takes: controls and bytes that are no UTF-8 become \\xNN."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").translate(CONTROLS)


def say(*lines):
    """Print lines. Where that fails work goes on; `ended` tells of it at the end."""
    try:
        print(*map(printable, lines), sep="\n", flush=True)
    except OSError as error:
        UNSAID.append(error)


def fail(code, message, name="run_all.sh"):
    """Say in one line why a command ends -> its exit code."""
    print(f"{name}: {printable(' '.join(str(message).split()))}", file=sys.stderr, flush=True)
    return code


def ended(main, *arguments):
    """Exit as `main` says, and not as if all were well where what it said reached nobody."""
    try:
        code = main(*arguments)
    except SystemExit as end:  # --help
        code = end.code
    except KeyboardInterrupt:
        code = 130
    if UNSAID:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries to print the rest
        if isinstance(UNSAID[0], BrokenPipeError):  # the reader has seen enough
            code = code or 141
        else:
            done = "" if code else "; what was asked for is done"
            code = fail(code or 1, f"what there is to say cannot be printed ({UNSAID[0].strerror}){done}")
    sys.exit(code)
