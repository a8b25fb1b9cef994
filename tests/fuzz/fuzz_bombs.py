"""What the tests of bombs have in common: hollow files, and a refusal that costs nothing."""

import resource
import time
from collections.abc import Callable
from pathlib import Path

from multibox.data import DataSet
from multibox.errors import InputError

GIGABYTE = 1 << 30


def hollow(path: Path, beginning: bytes = b"", size: int = GIGABYTE) -> Path:
    """A file of that size which takes no place on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(size)
    return path


def refused(read: Callable[[], object], expected: str) -> str:
    """The one line; within five seconds, and a hundred megabytes beyond the most before.

    Where a data set is still good for something without the file, the line is one of its problems.
    """
    before, began = peak(), time.process_time()
    try:
        data = read()
    except InputError as error:
        said = [str(error)]
    else:
        assert isinstance(data, DataSet)
        said = [*data.notes, *(problem.reason for problem in data.problems)]
    assert time.process_time() - began < 5
    assert peak() - before < 100 << 20
    (line,) = [line for line in said if expected in line]
    assert "\n" not in line
    assert len(line) < 2_000
    return line


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
