"""How the tests start run_all.sh, and the settings of their smallest study."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat

from tests.conftest import MICRO, repository

ROOT = Path(repository())
SETTINGS = [f"--set={key}={json.dumps(value)}" for key, value in MICRO.items()]


def current(**environment):
    """Return the environment in which run_all.sh takes this Python's packages."""
    path = environment.pop("PATH", os.environ["PATH"])
    path = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    return os.environ | {"INPAINT_ENV": "current", "PATH": path} | environment


def start(*arguments, root=ROOT, cwd=ROOT, **environment):
    """Start run_all.sh in the current environment."""
    return subprocess.Popen(
        ["bash", root / "run_all.sh", *map(str, arguments)],
        cwd=cwd,
        env=current(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run(*arguments, **options):
    """Run run_all.sh and return (exit code, stdout, stderr)."""
    process = start(*arguments, **options)
    out, err = process.communicate()
    return process.returncode, out, err


def call(*words, **options):
    """Run a program and return (exit code, stdout, stderr)."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


def commit_all(folder):
    """Make a folder a git repository with one commit of what is in it."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", folder]
    for words in ("init -q", "add .", "commit -q --allow-empty -m x"):
        subprocess.run([*git, *words.split()], check=True)


def write_script(path, text):
    """Write a program of the shell."""
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def write_notebook(path, *cells):
    """Write a notebook with code cells."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source) for source in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


def run_cells(notebook, parameters):
    """Execute a notebook's code in this process, without what it displays."""
    names = {"display": lambda *_: None}
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", ()):
                names |= parameters


def tables(output, profile="smoke"):
    """Return {name: bytes} of a study's tables."""
    return {p.name: p.read_bytes() for p in (output / "reports" / profile / "tables").iterdir()}


def is_refusal(code, out, err):
    """Return whether a command ended with exit code 2 and one line that says why."""
    return code == 2 and not out and len(err.strip().splitlines()) == 1 and "Traceback" not in err
