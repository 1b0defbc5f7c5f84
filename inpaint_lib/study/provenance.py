"""The settings, commit, versions and machine of a result; refuse results of other settings."""

import contextlib
import platform
import subprocess
from importlib import metadata

from .files import ROOT


class SettingsChanged(ValueError):
    """A folder holds work of other settings; the message names them and says what to do."""


def flatten(value, name=""):
    """Return nested dicts as {"dotted.key": leaf}."""
    if not isinstance(value, dict):
        return {name: value}
    parts = (flatten(inner, f"{name}.{key}" if name else str(key)) for key, inner in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}


def find_differences(one, other):
    """Return (key, one's value, other's value) for the keys of nested dicts that differ."""
    one, other = flatten(one), flatten(other)
    pairs = {key: (one.get(key, "-"), other.get(key, "-")) for key in one | other}
    return [(key, a, b) for key, (a, b) in pairs.items() if a != b]


REMEDY = (
    "restore these settings, or write elsewhere with INPAINT_OUTPUT=DIR, or use --force-new to "
    "make it again"
)


def refuse_changes(what, made, wanted, remedy=REMEDY):
    """Raise SettingsChanged if `what` was made with other settings (nested dicts) than wanted."""
    if changed := find_differences(made, wanted):
        listed = [f"{key}={a!s:.24}, now {b!s:.24}" for key, a, b in changed[:6]]
        listed += [f"{len(changed) - 6} more"] * (len(changed) > 6)
        raise SettingsChanged(f"{what} was made with {'; '.join(listed)}: {remedy}")


def describe_environment():
    """Return the commit, the versions and the machine that make a result."""
    versions = ("torch", "torchvision", "numpy", "pandas")
    return {
        "commit": find_commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: metadata.version(name) for name in versions},
    }


def find_commit():
    """Return this repository's commit, with "+changes" if code or config differs from it."""
    inside = _git("rev-parse", "--short=12", "HEAD")
    code = ("inpaint_lib", "config", "workflow", "run_all.sh")  # notebooks keep outputs when used
    changed = inside and _git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return (inside or "unknown") + ("+changes" if changed else "")


def _git(*arguments):
    """Return git's output for this repository, whatever the environment names; "" without git."""
    place = ["-C", ROOT, f"--git-dir={ROOT}/.git", f"--work-tree={ROOT}"]
    with contextlib.suppress(OSError):  # there is no git
        done = subprocess.run(
            ["git", *place, *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""
