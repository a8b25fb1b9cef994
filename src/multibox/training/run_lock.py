"""Keeps two processes from writing into one run folder at the same time."""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from typing import IO

from multibox.errors import InputError

FILE = ".lock"

# What systems answer for a file that another process has locked.
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the run folder, which is created if need be; the system frees it when the process dies.

    The lock belongs to this process alone: loader workers that outlive it for a moment do not keep
    it. Where the file system has no locks, nothing is held.

    Raises: InputError when another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Opened for appending: the name of the holder must not be lost by asking.
    with (folder / FILE).open("a+", encoding="utf-8") as file:
        try:
            _lock(file)
        except OSError as error:
            if error.errno in _TAKEN:
                raise InputError(
                    f"{folder} is in use by {_holder(file)}: wait for it or choose another --out"
                ) from None
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield


if sys.platform == "win32":
    import msvcrt

    # Far behind the text, because nobody else could read a locked byte.
    _PLACE = 1 << 20

    def _lock(file: IO[str]) -> None:
        file.seek(_PLACE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        # Not flock, whose lock forked workers would share.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(file: IO[str]) -> str:
    """Who said last to have locked ``file``."""
    with contextlib.suppress(OSError, ValueError):
        file.seek(0)
        if name := file.read(200):
            return name
    return "another process"
