"""Files that appear whole or not at all, the locks of folders, and what keeps either from being written.

Nothing here knows what the files hold.
"""

import contextlib
import errno
import glob
import gzip
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import psutil
from filelock import FileLock
from safetensors import SafetensorError

ROOT = Path(__file__).resolve().parents[2]  # of the repository
os.umask(UMASK := os.umask(0o077))  # asking sets it, so it is set back


class OutputError(OSError):
    """A file cannot be written; the message names the place and says how to mend it."""


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
FULL = "{}: the disk is full; make room and run the same command again, it goes on from here"


def obstacle(path):
    """What keeps the file `path` from being written, and the cure; None if nothing does."""
    for folder in reversed(path.parents):
        if os.path.lexists(folder) and not folder.is_dir():
            return f"{folder} is a {'link to nowhere' if folder.is_symlink() else 'file'} where a folder belongs; move it away"
    if path.is_dir():
        return f"{path} is a folder where a file belongs; move it away"
    folder = next(folder for folder in path.parents if folder.is_dir())
    try:
        tempfile.TemporaryFile(dir=folder).close()  # rights alone do not tell: those of /proc allow it
    except OSError as error:
        cure = "mend its permissions, or name another folder (INPAINT_OUTPUT for a study)"
        return FULL.format(folder) if error.errno in NO_ROOM else f"{folder} cannot be written to; {cure}"
    size, _, free = shutil.disk_usage(folder)
    return FULL.format(folder) if size and free < 2**20 else None


@contextlib.contextmanager
def writing(path):
    """Raise OutputError where the body fails for want of room, or for an obstacle on the way to `path`."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save on a full disk: a RuntimeError that says nothing
        place = Path(getattr(error, "filename2", None) or getattr(error, "filename", None) or path)
        full = getattr(error, "errno", None) in NO_ROOM or "os error 28" in str(error)
        reason = FULL.format(place.parent) if full else obstacle(place) or obstacle(Path(path))
        if reason and not isinstance(error, OutputError):
            raise OutputError(reason) from error
        raise


@contextlib.contextmanager
def locked(folder, name=".lock", wait=True):
    """Hold `folder`'s lock, waiting for another process that writes there, or, with `wait` false, yield False at once where
    there is one. The system frees it when its holder dies."""
    lock = FileLock(folder / name)
    with writing(folder / name), contextlib.suppress(TimeoutError):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0.5 if wait else 0)
    if wait and not lock.is_locked:
        print(f"waiting for another process that works in {folder.name}/ ...", flush=True)
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path; on success it becomes `path` in one step, on failure it vanishes and `path` is as it was."""
    path = Path(path)
    temporary = temporary_for(path)
    try:
        with writing(path):  # inside, because it looks at the disk as the failure left it
            yield temporary
            temporary.chmod(0o666 & ~UMASK)  # as any new file, whatever the writer gave it (safetensors: 0600)
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
    long, suffix = len(os.fsencode(path.name)) > 200, path.suffix[:16]  # systems allow a name 255 bytes
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest() if long else path.name
    for left in path.parent.glob(f".{glob.escape(name)}.*.tmp{glob.escape(suffix)}"):
        pid = left.name.removeprefix(f".{name}.").partition(".")[0]
        if not (pid.isdigit() and int(pid) != os.getpid() and psutil.pid_exists(int(pid))):
            left.unlink(missing_ok=True)
    return path.with_name(f".{name}.{os.getpid()}.tmp{suffix}")


def write_json(path, value):
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_csv(path, frame):
    """A table as CSV, gzipped if the name ends so; equal tables give equal bytes."""
    with replacing(path) as temporary:
        temporary.write_bytes(as_gzip(frame) if str(path).endswith(".gz") else as_csv(frame))


def as_csv(frame, header=True):
    return frame.to_csv(index=False, header=header, float_format="%.9g", lineterminator="\n").encode()


def as_gzip(frame, header=True):
    """A table as gzipped CSV. Several, all but the first without header, make one table when they are put one after another."""
    return gzip.compress(as_csv(frame, header), mtime=0)


def read_json(path):
    """The file's value, or None where there is no such file or no whole JSON in it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def file_sha256(path):
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def text_sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()
