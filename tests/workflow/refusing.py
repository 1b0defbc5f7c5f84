"""Calls that some file systems and containers refuse, refused here, in this process or in all.

`REFUSALS` names them; `refuse` makes them fail. Where INPAINT_REFUSED is set, a sitecustomize.py
that calls `refuse` does the same in every process that a command starts.
"""

import _multiprocessing
import errno
import fcntl
import os
import shutil
import socket
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIND = socket.socket.bind


def _bind(self, address):
    if self.family == socket.AF_UNIX:
        raise PermissionError(errno.EPERM, "Operation not permitted")
    return BIND(self, address)


def failing(number):
    def call(*arguments, **_):
        name = next((a for a in arguments if isinstance(a, str | bytes | os.PathLike)), None)
        raise OSError(number, os.strerror(number), name and os.fspath(name))

    return call


class NoSemaphore:
    SEM_VALUE_MAX = _multiprocessing.SemLock.SEM_VALUE_MAX

    def __init__(self, *_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


REFUSALS = {
    "symbolic links": [(os, "symlink", failing(errno.EPERM))],
    "hard links": [(os, "link", failing(errno.EPERM))],
    "chmod": [(os, name, failing(errno.EPERM)) for name in ("chmod", "fchmod")],
    "chown": [(os, name, failing(errno.EPERM)) for name in ("chown", "fchown", "lchown")],
    "times of files": [(os, "utime", failing(errno.EPERM))],
    "attributes": [(os, name, failing(errno.ENOTSUP)) for name in ("setxattr", "listxattr")],
    "pipes with a name": [(os, "mkfifo", failing(errno.EPERM))],
    "fsync": [(os, name, failing(errno.EINVAL)) for name in ("fsync", "fdatasync")],
    "sparse files": [(os, "posix_fallocate", failing(errno.EOPNOTSUPP))],
    "copying in the kernel": [
        (os, name, failing(errno.EXDEV)) for name in ("copy_file_range", "sendfile")
    ],
    "asking for free space": [
        (shutil, "disk_usage", failing(errno.ENOSYS)),
        (os, "statvfs", failing(errno.ENOSYS)),
    ],
    "sockets": [(socket.socket, "bind", _bind)],
    "semaphores": [(_multiprocessing, "SemLock", NoSemaphore)],
    "memory files": [(os, "memfd_create", failing(errno.ENOSYS))],
    "fork": [(os, "fork", failing(errno.EAGAIN))],
    "priorities": [(os, "nice", failing(errno.EPERM))],
}
LOCKS = {"locks": [(fcntl, name, failing(errno.ENOLCK)) for name in ("flock", "lockf")]}


def refuse(names, replace=setattr):
    """Make the calls of some refusals fail; of those that name a path, where results are written.

    The folder for temporary files is the system's own.
    """
    for place, name, call in (entry for n in names for entry in (REFUSALS | LOCKS)[n]):
        if hasattr(place, name):
            below = os.environ.get("INPAINT_OUTPUT")
            replaced = call if isinstance(call, type) else only_below(below, place, name, call)
            replace(place, name, replaced)


def only_below(folder, place, name, refused):
    allowed = getattr(place, name)

    def call(*arguments, **options):
        paths = [os.fspath(a) for a in arguments if isinstance(a, str | os.PathLike)]
        if folder and paths and not any(os.path.abspath(p).startswith(folder) for p in paths):
            return allowed(*arguments, **options)
        return refused(*arguments, **options)

    return call


def everywhere(folder, names):
    """Return the variables that refuse the same in all processes of a command."""
    Path(folder, "sitecustomize.py").write_text(
        f"import os, sys\nsys.path.append({str(ROOT)!r})\n"
        "from tests.workflow import refusing\n"
        "refusing.refuse(os.environ['INPAINT_REFUSED'].split(','))\n"
    )
    return {"PYTHONPATH": str(folder), "INPAINT_REFUSED": ",".join(names)}
