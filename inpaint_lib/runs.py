"""Where things lie, who may write them, and what they were made with.

    runs/<profile>/<dataset>/data/                                  images and test masks, packed (data.py)
    runs/<profile>/<dataset>/<architecture>/<setup>/seed<k>/        one training run (train.py)
    reports/<profile>/                                              tables, figures, pages

Both folders lie under the repository, or under $INPAINT_OUTPUT if that is set.
"""

import ast
import contextlib
import errno
import functools
import gzip
import hashlib
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError

from . import config as configuration

CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")  # newest first


@dataclass(frozen=True)
class Study:
    """A profile with its overrides applied, and the folders it writes to."""

    profile: str
    config: configuration.Config

    @property
    def folder(self):
        return output_root() / "runs" / self.profile

    @property
    def report(self):
        return output_root() / "reports" / self.profile

    def data_folder(self, dataset):
        return self.folder / dataset / "data"

    def runs(self):
        """Every training run of the grid, in the order of the configuration."""
        c = self.config
        return [Run(self, d, a, s, k) for d in c.datasets for a in c.architectures for s in c.setups for k in c.seeds]


@dataclass(frozen=True)
class Run:
    """One experiment: an architecture trained by one setup on one data set with one seed."""

    study: Study
    dataset: str
    architecture: str
    setup: str
    seed: int

    def __post_init__(self):  # raises config.ConfigError
        configuration.check_cell(self.dataset, self.architecture, self.setup, self.seed)

    @property
    def folder(self):
        return self.study.folder / self.dataset / self.architecture / self.setup / f"seed{self.seed}"

    @property
    def name(self):
        return f"{self.dataset}/{self.architecture}/{self.setup}/seed{self.seed}"

    @property
    def model(self):
        return self.study.config.models[self.architecture]


def open_study(profile, overrides=None):
    """Load and validate a profile. Raises config.ConfigError."""
    return Study(Path(str(profile)).stem, configuration.load(profile, overrides))


def output_root():
    return Path(os.environ.get("INPAINT_OUTPUT") or configuration.ROOT).resolve()


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


def holds_work(folder):
    """Whether something is in a run's folder that took training."""
    return any((folder / name).exists() for name in ("result.json", *CHECKPOINTS))


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


class OutputError(OSError):
    """A file cannot be written; the message names the place and says how to mend it."""


FULL = "{}: the disk is full; make room and run the same command again, it goes on from here"


def obstacle(path):
    """What keeps the file `path` from being written, and the cure; None if nothing does."""
    for folder in reversed(path.parents):
        if os.path.lexists(folder) and not folder.is_dir():
            return f"{folder} is a {'link to nowhere' if folder.is_symlink() else 'file'} where a folder belongs; move it away"
    if path.is_dir():
        return f"{path} is a folder where a file belongs; move it away"
    folder = next(folder for folder in path.parents if folder.is_dir())
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written to; mend its permissions, or set INPAINT_OUTPUT to another folder"
    return FULL.format(folder) if shutil.disk_usage(folder).free < 2**20 else None


@contextlib.contextmanager
def writing(path):
    """Raise OutputError where the body fails for want of room, or for an obstacle on the way to `path`."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save on a full disk: a RuntimeError that says nothing
        place = Path(getattr(error, "filename2", None) or getattr(error, "filename", None) or path)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error)
        reason = FULL.format(place.parent) if full else obstacle(place)
        if reason and not isinstance(error, OutputError):
            raise OutputError(reason) from error
        raise


@contextlib.contextmanager
def locked(folder, name=".lock"):
    """Hold `folder`'s lock, waiting for another process that writes there. The system frees it when its holder dies."""
    lock = FileLock(folder / name)
    with writing(folder / name), contextlib.suppress(TimeoutError):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0.5)
    if not lock.is_locked:
        print(f"waiting for another process that works in {folder.name}/ ...", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def interrupts_kept():
    """Yield an event that a first Ctrl-C sets instead of raising KeyboardInterrupt anywhere; a second one raises it at once.

    An interrupt that nobody has answered by the end is raised then. Outside the main thread, or where Ctrl-C means something
    else, nothing changes.
    """
    event, usual = threading.Event(), signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield event
        return

    def keep(signum, frame):
        if event.is_set():
            usual(signum, frame)
        event.set()

    signal.signal(signal.SIGINT, keep)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, usual)
    if event.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path; on success it becomes `path` in one step, on failure it vanishes and `path` is as it was."""
    path = Path(path)
    temporary = temporary_for(path)
    try:
        with writing(path):  # inside, because it looks at the disk as the failure left it
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # where the folder has become read-only, that is the error to tell
            temporary.unlink()


def temporary_for(path):
    """A name beside `path` to write to before renaming. What a killed process left under such a name is removed."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.tmp{path.suffix}"):
        if not _alive(left.name.removeprefix(f".{path.name}.").partition(".")[0]):
            left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")


def _alive(pid):
    """Whether another process of this number exists."""
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_json(path, value):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def write_csv(path, frame):
    """A table as CSV, gzipped if the name ends so; equal tables give equal bytes."""
    text = frame.to_csv(index=False, float_format="%.9g", lineterminator="\n").encode()
    with replacing(path) as temporary:  # compressed in memory: a file's header would name the temporary one
        temporary.write_bytes(gzip.compress(text, mtime=0) if str(path).endswith(".gz") else text)


def read_json(path):
    """The file's value, or None where there is no such file or no whole JSON in it."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None


def file_sha256(path):
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def text_sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def code_digest(*names):
    """A digest of what the named sources do: Python without comments and docstrings, notebooks without outputs, other files
    whole. Names are relative to the repository, with globs."""
    digest = hashlib.sha256()
    for path in sorted({p for name in names for p in configuration.ROOT.glob(name)}):
        text = path.read_text()
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


def peak_memory(device):
    """{"host": bytes, "device": bytes or None}: the most that this process has held so far."""
    import torch  # here: what only starts notebooks does without

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"host": held, "device": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None}


def provenance():
    """What a result was made with, beyond its configuration: commit, versions, machine."""

    def git(*arguments):
        done = subprocess.run(["git", *arguments], cwd=configuration.ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return {
        "commit": commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else ""),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "pandas")},
    }
