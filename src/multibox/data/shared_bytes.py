"""Memory that a process shares with the workers it starts."""

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any


class SharedBytes:
    """``size`` zeroed bytes, the same ones in this process and in those it is sent to.

    Workers get it when they are started, whether by fork or by another method. It lies in memory
    of its own and not in ``/dev/shm``, of which containers often have 64 MB; what was never
    written to takes no room.
    """

    def __init__(self, size: int) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("multibox")
        else:
            with tempfile.TemporaryFile() as file:
                self._file = os.dup(file.fileno())
        os.ftruncate(self._file, max(size, 1))
        self.memory = mmap.mmap(self._file, max(size, 1))

    def __del__(self) -> None:
        os.close(self._file)

    def __getstate__(self) -> dict[str, Any]:
        return {"file": reduction.DupFd(self._file), "size": len(self.memory)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._file = state["file"].detach()
        self.memory = mmap.mmap(self._file, state["size"])
