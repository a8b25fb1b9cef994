"""Ctrl-C and SIGTERM ask a run to end after the step it is in."""

import contextlib
import signal
from collections.abc import Generator
from types import FrameType
from typing import Any, Self

from multibox.errors import Interrupted


@contextlib.contextmanager
def ending_when_terminated() -> Generator[None]:
    """Let SIGTERM end the work with exit code 143 also while there is nothing to save yet.

    Raises in the main thread, when the signal comes: Interrupted. Elsewhere it does nothing.
    """
    try:
        before = signal.signal(signal.SIGTERM, _terminated)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, _: FrameType | None) -> None:
    # Once only: a second signal need not wait for the first to be told.
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted("terminated outside the training steps; what was saved stays", number)


class Interruption:
    """While it is open, ``signal_number`` tells which signal has arrived, if any.

    A second Ctrl-C no longer waits; a second SIGTERM is the same request, from a launcher that
    passes on what its processes have got already. Outside the main thread, where Python cannot take
    signals, it does nothing.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = self.signal_number or number
