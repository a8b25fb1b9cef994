"""How several processes divide the pictures of an evaluation, and put the results together."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from multibox.detections import Detections

Result = TypeVar("Result")

Found = list[list[Detections]]


@dataclass(frozen=True, slots=True)
class Share:
    """The part of process ``index`` of ``count``; ``gather`` returns every process's, in order."""

    index: int
    count: int
    gather: Callable[[Found], list[Found]]


ALONE = Share(0, 1, lambda found: [found])


def rounds(pictures: int, batch_size: int, share: Share = ALONE) -> Iterator[range]:
    """The pictures of one process, round after round.

    Whole batches are dealt out in turn: they are those of a single process, so that a network sees
    the same pictures together, unless there are too few for every process to get one; then they
    are smaller. Every process has as many rounds; in the last one a batch may be empty.
    """
    batch_size = max(1, min(batch_size, math.ceil(pictures / share.count)))
    batches = math.ceil(pictures / batch_size)
    for first in range(0, batches, share.count):
        start = min((first + share.index) * batch_size, pictures)
        yield range(start, min(start + batch_size, pictures))


def in_order(shares: Sequence[Sequence[Sequence[Result]]]) -> list[Result]:
    """One result a picture in the order of the pictures: ``shares[process][round][picture]``."""
    return list(chain.from_iterable(chain.from_iterable(zip(*shares, strict=True))))
