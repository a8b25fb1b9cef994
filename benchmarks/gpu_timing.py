"""Clocks for a device that works while Python goes on."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch


class Latency(NamedTuple):
    """Milliseconds from the call until the device has done it; 50 and 99 of 100 take no longer."""

    p50: float
    p99: float
    samples: int


class Clock:
    """Measures on one device, until time is over.

    ``warm_up`` calls do not count; after them come at least ``least``.
    """

    def __init__(self, device: str, warm_up: int, least: int, is_over: Callable[[], bool]) -> None:
        self.device = torch.device(device)
        self.warm_up = warm_up
        self.least = least
        self.is_over = is_over

    def wait(self) -> None:
        """Until the device has nothing left to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def latency(self, call: Callable[[], object], seconds: float) -> Latency:
        """One call after the other, each waited for."""
        for _ in range(self.warm_up):
            call()
        self.wait()
        samples: list[float] = []
        end = time.perf_counter() + seconds
        while len(samples) < self.least or (time.perf_counter() < end and not self.is_over()):
            start = time.perf_counter()
            call()
            self.wait()
            samples.append(1000 * (time.perf_counter() - start))
        p50, p99 = np.percentile(samples, [50, 99])
        return Latency(float(p50), float(p99), len(samples))

    def seconds_each(self, call: Callable[[], object], seconds: float) -> float:
        """Of calls that are queued one behind the other: the median of a few such rounds."""
        once = self.latency(call, 0).p50 / 1000
        calls = max(1, round(seconds / self.least / once))
        rounds = []
        for _ in range(self.least):
            start = time.perf_counter()
            for _ in range(calls):
                call()
            self.wait()
            rounds.append((time.perf_counter() - start) / calls)
        return statistics.median(rounds)


def matrix_peak(clock: Clock, side: int) -> float:
    """Operations a second of a square bf16 product of random matrices."""
    a, b = (torch.randn(side, side, device=clock.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / clock.seconds_each(lambda: a @ b, 1 if clock.least > 1 else 0.01)
