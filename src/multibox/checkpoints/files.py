"""Files that are either wholly there or not there at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Hand out a temporary path beside ``path``; when the block ends well, it becomes ``path``.

    What was there before is lost, or becomes ``previous``: once the new content is on the disk.
    Whatever stops the process or the machine, ``path`` is either the old file or the new one:
    the content reaches the disk before the name does. The temporary name is always the same, so
    that a killed process leaves at most one behind, which the next write uses up. The folder is
    created when it is missing. The file gets the permissions of any new file there, whatever
    writes it: safetensors would keep its own from everybody else.

    Raises: OSError (no space, no permission); the temporary file is then gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        _flush_to_disk(temporary)
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        _flush_to_disk(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, keys in their order, with a final newline; atomically.

    Raises: OSError (no space, no permission).
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if path.is_symlink() or (path.exists() and not path.is_file()):
        # Replacing would put a file in the place of the link, pipe or device (/dev/stdout).
        path.write_text(text, encoding="utf-8")
        return
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _flush_to_disk(path: Path) -> None:
    # A folder can only be opened for reading; a file opened so can be flushed as well (not on
    # Windows, where flushing needs a handle that may write).
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
