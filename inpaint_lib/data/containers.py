"""Read image files in place from a folder tree or a zip archive, as (container, name inside)."""

import errno
import functools
import hashlib
import io
import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path

from .images import Unusable

LARGEST_MEMBER = 1 << 28  # bytes of one image in an archive
SYSTEM_FOLDERS = set("__macosx @eadir #recycle @recycle $recycle.bin lost+found".split())
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError)
ZIP_ERRORS += (RuntimeError, ValueError, KeyError)  # zipfile raises all of these
DAMAGED = None, errno.EINVAL  # of an OSError: an offset out of range; any other is the machine's


class SourceError(ValueError):
    """The images are missing or cannot be used; the message says how to fix it."""


def _is_zip(container):
    """Return whether a container is an archive; a folder may have a name that ends in .zip."""
    return str(container).endswith(".zip") and not os.path.isdir(container)


def _archive(path):
    return _opened(str(path), os.stat(path).st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _opened(path, changed):
    return zipfile.ZipFile(path)


def locate(container, name):
    """Return an image's path in a folder, or the image in an archive as a file in memory.

    Raises Unusable if its part of the archive is damaged or above 256 MiB.
    """
    if not _is_zip(container):
        return Path(container, name)
    try:
        archive = _archive(container)
        if archive.getinfo(name).file_size > LARGEST_MEMBER:
            raise Unusable("decompression bomb", f"over {LARGEST_MEMBER >> 20} MiB in the archive")
        return io.BytesIO(archive.read(name))
    except ZIP_ERRORS as error:
        if isinstance(error, OSError) and error.errno not in DAMAGED:
            raise
        raise Unusable("damaged", f"{type(error).__name__}: {error}") from None


def _is_system(name):
    """Return whether a file is hidden or in a folder of thumbnails and copies."""
    return any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in name.split("/"))


def list_names(container):
    """Return the sorted relative names in a folder tree or an archive, without system files.

    Raises SourceError for a damaged archive.
    """
    if not _is_zip(container):
        return sorted(walk(container))
    try:
        names = _archive(container).namelist()
    except ZIP_ERRORS as error:
        if isinstance(error, OSError) and error.errno not in DAMAGED:
            raise
        what = f"data_root: {container} is damaged ({error}): download it again"
        raise SourceError(what) from None
    return sorted(name for name in names if not (name.endswith("/") or _is_system(name)))


def map_file_names(container, suffixes):
    """Return {file name: relative name} of the images of a container, at any depth."""
    names = [name for name in list_names(container) if name.lower().endswith(suffixes)]
    return {name.rpartition("/")[2]: name for name in names}


def walk(folder, prefix="", seen=None):
    """Yield the relative names of a folder's files. Links are followed, each folder once."""
    seen = set() if seen is None else seen
    if (place := os.path.realpath(folder)) in seen:
        return
    seen.add(place)
    for name in sorted(name for name in os.listdir(folder) if not _is_system(name)):
        if os.path.isdir(path := os.path.join(folder, name)):
            yield from walk(path, f"{prefix}{name}/", seen)
        else:
            yield prefix + name


def fingerprint(*containers):
    """Return the SHA-256 of names, sizes and modification times; contents are not read."""
    found = hashlib.sha256()
    for container in containers:
        for name in walk(container) if os.path.isdir(container) else [""]:
            path = Path(container, name)
            status = path.stat() if path.exists() else None  # a link to nowhere, or to itself
            state = (status.st_size, status.st_mtime_ns) if status else None
            found.update(f"{name}\0{state}\n".encode(errors="surrogateescape"))
    return found.hexdigest()
