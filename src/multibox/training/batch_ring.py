"""The memory of batches: written by workers, read by the main process or copied by its device."""

import contextlib
import math
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from multibox.data.shared_bytes import SharedBytes
from multibox.imaging import Image


class BatchRing:
    """``slots`` batches of one shape ``[b, h, w, 3]`` of uint8, used in turn again and again.

    Memory that is taken once and kept costs no page faults, and can be pinned: a device then
    copies a batch from where a worker has written it, while the main process goes on.
    """

    def __init__(self, slots: int, shape: tuple[int, ...], *, pinned: bool) -> None:
        self.slots = slots
        self._shape = shape
        self._shared = SharedBytes(slots * math.prod(shape))
        self._pinned = pinned and self._pin()
        self._done: list[torch.cuda.Event | None] = [None] * slots

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pinned:
            torch.cuda.synchronize()
            _runtime().cudaHostUnregister(self._whole().data_ptr())

    def __getstate__(self) -> dict[str, Any]:
        # What a worker needs where it is not forked; events belong to the main process.
        return self.__dict__ | {"_pinned": False, "_done": []}

    def array(self, slot: int) -> Image:
        """The pixels of ``slot``, to be written."""
        return np.asarray(self._whole()[slot].numpy(), np.uint8)

    def tensor(self, slot: int) -> Tensor:
        """The pixels of ``slot``, to be read."""
        return self._whole()[slot]

    def used(self, slot: int) -> None:
        """All that needs ``slot`` has been given to the device; ``wait`` waits for that."""
        if self._pinned:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._done[slot] = event

    def wait(self, slot: int) -> None:
        """Wait until ``slot`` may be written anew."""
        if (event := self._done[slot]) is not None:
            event.synchronize()

    def _whole(self) -> Tensor:
        size = self.slots * math.prod(self._shape)
        whole = np.frombuffer(self._shared.memory, np.uint8, size)
        return torch.from_numpy(whole).view(self.slots, *self._shape)

    def _pin(self) -> bool:
        """Whether the system lets so much memory be pinned; without it copies are only slower."""
        whole = self._whole()
        if int(_runtime().cudaHostRegister(whole.data_ptr(), whole.nbytes, 0)) == 0:
            return True
        # CUDA keeps an error for whoever asks next; otherwise a step's first kernel would get it.
        with contextlib.suppress(RuntimeError):
            torch.zeros(1, device="cuda")
        return False


def _runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
