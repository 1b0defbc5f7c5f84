"""What a piece of work was made with, and whether it is what is asked for now: settings, code, commit, versions, machine."""

import ast
import contextlib
import functools
import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata

from .files import ROOT, read_json

SAME = ROOT / "config" / "same_numbers.json"  # {digest of sources: that of older ones, which computed the same to the bit}


class SettingsChanged(ValueError):
    """A folder holds work made with other settings; the message says which, and what may be done."""


def flat(value, name=""):
    """Nested dicts as {"dotted.key": leaf}."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in flat(inner, f"{name}.{key}" if name else str(key)).items()}


def differences(one, other):
    """Keys whose values differ, as (key, one, other)."""
    one, other = flat(one), flat(other)
    pairs = {key: (one.get(key, "-"), other.get(key, "-")) for key in one | other}
    return [(key, a, b) for key, (a, b) in pairs.items() if a != b]


def refuse_other(what, made, wanted):
    """Raise SettingsChanged unless `what` was made with the wanted settings (both are dicts)."""

    def short(value):
        text = str(value)
        return text if len(text) <= 24 else f"{text[:12]}..."

    if changed := differences(made, wanted):
        listed = [f"{key} {short(a)} -> {short(b)}" for key, a, b in changed[:6]]
        listed += [f"{len(changed) - 6} more"] * (len(changed) > 6)
        raise SettingsChanged(
            f"{what} was made with other settings ({', '.join(listed)}): give those again, or work elsewhere with "
            "INPAINT_OUTPUT=DIR, or delete the old and make it anew with ./run_all.sh ... --force-new"
        )


def code_digest(*names):
    """A digest of what the named sources do, or of older ones that did the same (benchmarks/same_numbers.py): by it work is
    known to be of one kind. Names are relative to the repository, with globs."""
    own = own_digest(*names)
    return (read_json(SAME) or {}).get(own, own)


def own_digest(*names):
    """The sources' own: Python without comments and docstrings, notebooks without outputs, other files whole."""
    digest = hashlib.sha256()
    for path in sorted({p for name in names for p in ROOT.glob(name)}):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            text = _without_docstrings(text)
        elif path.suffix == ".ipynb":
            text = "\n".join("".join(c["source"]) for c in json.loads(text)["cells"])
        digest.update(f"{path.name}\n{text}\n".encode())
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=128)
def _without_docstrings(text):
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0].value = ast.Constant(None)
    return ast.unparse(tree)


def current():
    """What a result was made with, beyond its configuration: commit, versions, machine."""

    def git(*arguments):  # of this very repository, whatever others are above it or named by the environment
        own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        own["GIT_CEILING_DIRECTORIES"] = str(ROOT.parent)
        with contextlib.suppress(OSError):  # no git here
            done = subprocess.run(["git", *arguments], cwd=ROOT, env=own, capture_output=True, text=True, check=False)
            return done.stdout.strip() if done.returncode == 0 else ""
        return ""

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return {
        "commit": commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else ""),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "pandas")},
    }
