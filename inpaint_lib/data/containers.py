"""Where image files lie: a folder tree or a zip archive, read in place, both addressed as (container, name inside)."""

import functools
import hashlib
import io
import lzma
import os
import stat
import zipfile
import zlib

from .images import Unusable

LARGEST_MEMBER = 1 << 28  # bytes of one image in an archive
SYSTEM_FOLDERS = {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "lost+found"}  # Finder, NAS, Windows, ext4


class SourceError(ValueError):
    """The images are not where they should be, or cannot be used; the message says how to mend it."""


def zipfile_at(container):
    return str(container).endswith(".zip") and not os.path.isdir(container)


@functools.lru_cache(maxsize=2)
def _opened(path, changed):
    return zipfile.ZipFile(path)


def _archive(path):
    return _opened(str(path), os.stat(path).st_mtime_ns)


def member(archive, name):
    """An image inside an archive, in memory: nothing is ever unpacked to disk."""
    try:
        if _archive(archive).getinfo(name).file_size > LARGEST_MEMBER:
            raise Unusable("decompression bomb", f"over {LARGEST_MEMBER >> 20} MiB in the archive")
        data = _archive(archive).read(name)
    except KeyError:
        raise Unusable("unreadable", "no such file in the archive") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise Unusable("damaged", f"{type(error).__name__}: {error}") from None
    if not data:
        raise Unusable("empty")
    return io.BytesIO(data)


def system(name):
    """Whether a file is none of the user's: hidden, or in a folder where a system or a NAS keeps thumbnails and copies."""
    return any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in name.split("/"))


def every_name(container):
    """The files of a folder tree or an archive, sorted, as relative names with forward slashes."""
    if zipfile_at(container):
        try:
            return sorted(name for name in _archive(container).namelist() if not name.endswith("/"))
        except Exception as error:  # zipfile lets more than BadZipFile through
            raise SourceError(f"data_root: {container} is damaged ({error}); get it again") from None
    return sorted(name for name, _ in walk(container))


def names(container):
    """`every_name` but the system's."""
    return [name for name in every_name(container) if not system(name)]


def by_file_name(container, suffixes):
    """{file name: relative name} of the images of a container, however deep they lie in it."""
    return {name.rpartition("/")[2]: name for name in names(container) if name.lower().endswith(suffixes)}


def walk(folder, prefix="", seen=None, own=False):
    """(relative name, stat or None) of every file below, or of all but the system's; links are followed, but no folder is
    entered twice, and the system's last.

    Raises OSError for a folder that cannot be read, unless it is the system's.
    """
    status, seen = os.stat(folder), set() if seen is None else seen
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    try:
        with os.scandir(folder) as entries:
            entries = sorted((e for e in entries if not (own and system(e.name))), key=lambda e: (system(e.name), e.name))
    except OSError:
        if system(prefix.rstrip("/")):
            return
        raise
    for entry in entries:
        try:
            status = entry.stat()
        except OSError:  # a link to nowhere, or to itself
            status = None
        if status and stat.S_ISDIR(status.st_mode):
            yield from walk(entry.path, f"{prefix}{entry.name}/", seen, own)
        else:
            yield prefix + entry.name, status


def stamp(*containers):
    """A digest of names, sizes and times of change, the system's files apart: contents are not read, so that asking takes a
    second or two."""
    found = hashlib.sha256()
    for container in containers:
        files = [("", os.stat(container))] if os.path.isfile(container) else walk(container, own=True)
        for name, s in files:
            found.update(f"{name}\0{(s.st_size, s.st_mtime_ns) if s else None}\n".encode(errors="surrogateescape"))
    return found.hexdigest()
