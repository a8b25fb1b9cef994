"""Turns: several contenders measured in one process, so that a busy machine is busy for all."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Sample = TypeVar("Sample")

TURN = 0.1
"""How long a contender may run before the next one's turn, in seconds."""

REST = 0.2
"""Before each turn: threads of the last contender look for more work for up to a tenth of a second,
during which another engine has half of two cores."""

_WARM_UP = 3
_ROUNDS = 3


def interleave(
    contenders: Mapping[Key, Callable[[], Sample]],
    seconds: float,
    *,
    turn: float = TURN,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[Key, list[Sample]]:
    """What each contender's calls returned, measured for about ``seconds`` each.

    Each is called three times to warm up. Then they take turns, at least three of them, with a rest
    between them that comes on top. Within a turn of ``turn`` seconds a contender runs again and
    again; the first of several calls does not count: it finds another's data in the caches.
    """
    for call in contenders.values():
        for _ in range(_WARM_UP):
            call()
    samples: dict[Key, list[Sample]] = {key: [] for key in contenders}
    worked, rounds = 0.0, 0
    while rounds < _ROUNDS or worked < seconds * len(contenders):
        for key, call in contenders.items():
            if len(contenders) > 1:
                sleep(REST)
            start = clock()
            samples[key] += _one_turn(call, turn, clock)
            worked += clock() - start
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
