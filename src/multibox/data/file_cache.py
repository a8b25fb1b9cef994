"""Picture files kept in memory as they are, encoded: for disks and networks that are slow."""

import multiprocessing
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import numpy.typing as npt

from multibox.data.shared_bytes import SharedBytes
from multibox.imaging import read_bytes


class FileCache:
    """The files first read, as far as ``size`` bytes hold them; all workers share them.

    A file is read once by whichever worker needs it first. None is ever replaced: each epoch needs
    every file once, so that one kept is as good as another. The room is taken as it fills.
    """

    def __init__(self, files: int, size: int, context: BaseContext | None = None) -> None:
        """For ``files`` files; ``context`` is the one by which workers are started."""
        self._store = SharedBytes(size)
        self._size = size
        self._index = SharedBytes((files + 1) * 16)
        self._lock = (context or multiprocessing).Lock()

    def read(self, number: int, path: Path) -> bytes:
        """The contents of ``path``, which is file ``number`` of those there are, from 0.

        Raises ImageError where it cannot be read.
        """
        places = self._places()
        with self._lock:
            start, length = places[number].tolist()
        if length:
            return bytes(memoryview(self._store.memory)[start : start + length])
        data = read_bytes(path)
        with self._lock:
            start = int(places[-1, 0])
            if not data or start + len(data) > self._size:
                return data
            places[-1, 0] += len(data)
        # The room is reserved: others need not wait for the copying.
        self._store.memory[start : start + len(data)] = data
        with self._lock:
            places[number] = start, len(data)
        return data

    def _places(self) -> npt.NDArray[np.int64]:
        """Start and length of each file; in the last row, where free room begins."""
        return np.frombuffer(self._index.memory, np.int64).reshape(-1, 2)
