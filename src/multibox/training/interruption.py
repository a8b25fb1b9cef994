"""Ctrl-C and SIGTERM ask a run to end after the step it is in."""

import signal
from types import FrameType
from typing import Any, Self


class Interruption:
    """While it is open, ``signal_number`` tells which signal has arrived, if any.

    A second Ctrl-C no longer waits. Outside the main thread, where Python cannot take signals, it
    does nothing.
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
        if self.signal_number is not None:
            raise KeyboardInterrupt
        self.signal_number = number
