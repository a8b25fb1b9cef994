"""Turns: several contenders measured in one process, so that a busy machine is busy for all."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Sample = TypeVar("Sample")

TURN = 0.05
"""How long a contender may run before the next one's turn, in seconds."""

_WARM_UP = 3
_ROUNDS = 3


def interleave(
    contenders: Mapping[Key, Callable[[], Sample]],
    seconds: float,
    *,
    turn: float = TURN,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, list[Sample]]:
    """What each contender's calls returned, measured for about ``seconds`` times their number.

    Each is called three times to warm up. Then they take turns, at least three of them. Within a
    turn of ``turn`` seconds a contender runs again and again; the first of several calls does not
    count: it finds another's data in the caches, and another's threads still waiting for work.
    """
    for call in contenders.values():
        for _ in range(_WARM_UP):
            call()
    samples: dict[Key, list[Sample]] = {key: [] for key in contenders}
    end = clock() + seconds * len(contenders)
    rounds = 0
    while rounds < _ROUNDS or clock() < end:
        for key, call in contenders.items():
            samples[key] += _one_turn(call, turn, clock)
        rounds += 1
    return samples


def _one_turn(
    call: Callable[[], Sample], seconds: float, clock: Callable[[], float]
) -> list[Sample]:
    start = clock()
    samples = [call()]
    while clock() - start < seconds:
        samples.append(call())
    return samples[1:] or samples
