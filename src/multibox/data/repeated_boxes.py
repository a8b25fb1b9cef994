"""Objects that are labelled twice: boxes of one class that are all but the same."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from multibox.boxes import iou

SAME_BOX = 0.99
"""IoU from which two boxes of one class are one object labelled twice."""

Corners = tuple[float, float, float, float]

_MOST_COMPARED = 2_000


def repeated_boxes(
    names: Sequence[str], boxes: Sequence[Corners | None]
) -> Iterator[tuple[int, int]]:
    """Pairs (later, earlier) of objects of one name whose boxes are all but the same.

    Objects without a box are left aside. Where there are more than 2,000 of a name, only boxes that
    are equal count as the same: the pairs would fill the memory.
    """
    by_name: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        if boxes[i] is not None:
            by_name[name].append(i)
    for places in by_name.values():
        if len(places) > _MOST_COMPARED:
            yield from _equal(places, boxes)
            continue
        if len(places) < 2:
            continue
        corners = np.array([boxes[i] for i in places], np.float64)
        same = np.triu(iou(corners, corners) >= SAME_BOX, k=1)
        for column in np.flatnonzero(same.any(axis=0)):
            yield places[column], places[int(same[:, column].argmax())]


def _equal(places: Iterable[int], boxes: Sequence[Corners | None]) -> Iterator[tuple[int, int]]:
    first: dict[Corners | None, int] = {}
    for place in places:
        if (earlier := first.setdefault(boxes[place], place)) != place:
            yield place, earlier
