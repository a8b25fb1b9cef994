"""One file out of a ``.tar.gz``, and nothing else of it.

The archive's names never become paths, its links are not followed, and what it may unpack to is
bounded, so that the worst archive costs some seconds and leaves nothing behind.
"""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from io import SEEK_SET
from pathlib import Path
from typing import Any, cast

from multibox.checkpoints.files import atomic_write
from multibox.errors import InputError

LARGEST = 1 << 30
"""Bytes that an archive may unpack to."""
_MOST_MEMBERS = 1_000
_CHUNK = 1 << 20
# What tarfile lets through when an archive is damaged, besides its own errors.
_DAMAGED = (
    tarfile.TarError, EOFError, OSError, zlib.error, ValueError, LookupError, OverflowError,
    RecursionError,
)  # fmt: skip


def extract_member(archive: Path, member: str, out: Path) -> None:
    """Write the regular file ``member`` of the gzipped tar ``archive`` to ``out``, atomically.

    Raises: InputError when the archive is damaged, has no such regular file, or is made to unpack
    to more than ``LARGEST`` bytes; OSError when ``out`` cannot be written.
    """
    with atomic_write(out) as temporary, temporary.open("wb") as target:
        for chunk in _content(archive, member):
            target.write(chunk)


def _content(archive: Path, member: str) -> Iterator[bytes]:
    try:
        with gzip.open(archive) as unpacked:
            bounded = _Bounded(unpacked, archive)
            # tarfile's type asks for more than it uses.
            with tarfile.TarFile(fileobj=cast(Any, bounded)) as tar:
                found = _find(tar, member, archive)
            bounded.seek(found.offset_data)
            left = found.size
            while left:
                chunk = bounded.read(min(_CHUNK, left))
                if not chunk:
                    raise EOFError("it ends early")
                left -= len(chunk)
                yield chunk
    except _DAMAGED as error:
        raise InputError(
            f"{archive}: damaged, or not a .tar.gz archive ({error or type(error).__name__}): "
            "delete it and download it again"
        ) from error


def _find(tar: tarfile.TarFile, member: str, archive: Path) -> tarfile.TarInfo:
    for count, entry in enumerate(tar):
        if entry.size < 0 or count >= _MOST_MEMBERS:
            raise InputError(f"{archive}: not a plausible archive: delete it")
        if entry.name.removeprefix("./") != member:
            continue
        # A sparse file is short in the archive and as long as it likes on the disk.
        if not entry.isreg() or entry.issparse():
            raise InputError(f"{archive}: {member} is not a regular file in it: delete the archive")
        return entry
    raise InputError(f"{archive}: has no {member} in it: not the archive that was expected")


class _Bounded:
    """What tarfile needs of a file, over an unpacking stream that may be endless."""

    name = None

    def __init__(self, unpacked: gzip.GzipFile, archive: Path) -> None:
        self._unpacked = unpacked
        self._archive = archive

    def tell(self) -> int:
        return self._unpacked.tell()

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._check(offset)
        return self._unpacked.seek(offset, whence)

    def read(self, size: int) -> bytes:
        # Headers are read in one piece: an honest one is far smaller than a chunk.
        if not 0 <= size <= _CHUNK:
            raise InputError(f"{self._archive}: has a header of {size} bytes: delete it")
        self._check(self.tell() + size)
        return self._unpacked.read(size)

    def _check(self, end: int) -> None:
        if not 0 <= end <= LARGEST:
            raise InputError(
                f"{self._archive}: unpacks to more than {LARGEST >> 20} MiB: not the archive that "
                "was expected: delete it"
            )
