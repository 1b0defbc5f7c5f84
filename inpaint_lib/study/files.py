"""Write files completely or not at all, lock folders, and explain why a file cannot be written."""

import contextlib
import errno
import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

import psutil
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]  # of the repository
FULL = "the disk is full at {}: free some space and run the same command again; it resumes"
ELSEWHERE = "fix its permissions, or name another folder (INPAINT_OUTPUT for a study)"
LATER = "fix this and run the same command again; it resumes"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT)
MISSING = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)  # of a file system
TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.([0-9a-f]{8})\.(\d{1,9})\.tmp")
REMEDIES = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), ELSEWHERE)
REMEDIES |= dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n 1024)")
REMEDIES |= dict.fromkeys(MISSING, "name another folder; this file system cannot do that")


class OutputError(OSError):
    """A file cannot be written; the message says where, why and what to do."""


def find_obstacle(path):
    """Return why the file `path` cannot be written and what to do, or None if it can be."""
    for folder in reversed(path.parents):
        if os.path.lexists(folder) and not folder.is_dir():
            kind = "broken link" if folder.is_symlink() else "file"
            return f"{folder} is a {kind} where a folder is needed: rename it"
    if path.is_dir():
        return f"{path} is a folder where a file is needed: rename it"
    folder = next(folder for folder in path.parents if folder.is_dir())
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions alone do not decide
    except OSError as error:
        if error.errno in NO_ROOM:
            return FULL.format(folder)
        why = error.strerror or error
        return f"{folder} cannot be written to ({why}): {REMEDIES.get(error.errno, LATER)}"
    with contextlib.suppress(OSError):  # not every file system says how full it is
        size, _, free = shutil.disk_usage(folder)
        return FULL.format(folder) if size and free < 2**20 else None


@contextlib.contextmanager
def explain_errors(path):
    """Turn the body's OSError into an OutputError that says where and what to do.

    Only error numbers are trusted: nothing is called an obstacle unless the number says so.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        path = Path(path)
        place, reason = Path(error.filename2 or error.filename or path), None
        if error.errno in NO_ROOM:
            reason = FULL.format(place.parent)
        elif error.errno in IN_THE_WAY:
            reason = find_obstacle(place) or find_obstacle(path)
        elif error.errno:
            place = path if place.parent == path.parent else place  # not a temporary name
            remedy = REMEDIES.get(error.errno, LATER)
            reason = f"{place} cannot be written ({error.strerror}): {remedy}"
        if not reason:
            raise
        raise OutputError(reason) from error


@contextlib.contextmanager
def lock(folder, name=".lock", wait=True):
    """Hold the lock of `folder` and yield True; wait while another process holds it.

    Without `wait` yield False in that case. The system frees the lock when its holder dies.
    """
    lock = FileLock(folder / name, fallback_to_soft=False)  # a soft one outlives a killed holder
    with explain_errors(folder / name), contextlib.suppress(TimeoutError):
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
def replace(path):
    """Yield a temporary path; on success rename it to `path`, on failure delete it."""
    path = Path(path)
    temporary = name_temporary(path)
    try:
        with explain_errors(path):
            yield temporary
            with open(temporary, "rb") as handle:
                try:
                    os.fsync(handle.fileno())
                except OSError as error:
                    if error.errno not in MISSING:
                        raise
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # the folder may have become read-only
            temporary.unlink()


def name_temporary(path):
    """Return a temporary name beside `path`; delete those of killed processes of this host."""
    with explain_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]  # `path`'s own may be too long
    for left in filter(is_abandoned, path.parent.glob(f".{name}.*")):
        left.unlink(missing_ok=True)
    return path.with_name(f".{name}.{_host()}.{os.getpid()}.tmp{path.suffix[:16]}")


def is_abandoned(path):
    """Return whether a file is the temporary file of a killed process of this host."""
    found = TEMPORARY.match(path.name)
    return bool(found) and found[1] == _host() and not psutil.pid_exists(int(found[2]))


def _host():
    return hash_text(socket.gethostname())[:8]


def write_text(path, text):
    """Write a text."""
    with replace(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write a value as JSON."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_csv(path, frame):
    """Write a table as CSV, compressed for *.gz; equal tables give equal bytes."""
    content = format_csv(frame)
    with replace(path) as temporary:
        temporary.write_bytes(compress(content) if str(path).endswith(".gz") else content)


def compress(content):
    """Return bytes compressed by gzip, at a level that is four times as fast and 3 % larger."""
    return gzip.compress(content, 5, mtime=0)


def format_csv(frame):
    """Return a table as the bytes of a CSV file, nine digits per number."""
    return frame.to_csv(index=False, float_format="%.9g", lineterminator="\n").encode()


def read_json(path):
    """Return the value of a JSON file, or None if it is missing or incomplete."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None  # any other error is raised: it does not mean that there is no result


def hash_file(path):
    """Return the SHA-256 of a file; an unchanged file is read once per process."""
    return _sha256(os.fspath(path), os.stat(path).st_mtime_ns)


@functools.cache
def _sha256(path, _):
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def hash_text(text):
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()
