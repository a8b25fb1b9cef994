"""Scores and decoded boxes to detections in NumPy, in well under a millisecond a picture.

Paper section 3.7: a score threshold, per-class non-maximum suppression, the best of each picture.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from multibox.card import PostProcessing
from multibox.engines.base import RawDetections

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# How many candidates are looked at first, for each detection that is kept in the end.
_FIRST_LOOK = 10
# How many of these are suppressed first.
_FIRST_STEP = 128


class _Candidates(NamedTuple):
    """Pairs of class and box, best score first; ties by class, then by box."""

    labels: Ints
    places: Ints
    scores: Floats

    def at(self, rows: "Ints | npt.NDArray[np.bool_]") -> "_Candidates":
        return _Candidates(self.labels[rows], self.places[rows], self.scores[rows])


def suppress(scores: Floats, boxes: Floats, settings: PostProcessing) -> RawDetections:
    """Detections from ``scores [b, n, classes + 1]`` (0..1, background first), ``boxes [b, n, 4]``.

    The same answer as ``ssd.postprocess`` gives from raw outputs.
    """
    batch = len(scores)
    result = RawDetections(
        num=np.zeros(batch, np.int32),
        boxes=np.zeros((batch, settings.keep, 4), np.float32),
        scores=np.zeros((batch, settings.keep), np.float32),
        classes=np.zeros((batch, settings.keep), np.int32),
    )
    for i in range(batch):
        found = _best(scores[i, :, 1:], boxes[i], settings)
        n = len(found.scores)
        result.num[i] = n
        result.boxes[i, :n] = boxes[i, found.places].clip(0, 1)
        result.scores[i, :n] = found.scores
        result.classes[i, :n] = found.labels
    return result


def _best(scores: Floats, boxes: Floats, settings: PostProcessing) -> _Candidates:
    """The best ``keep`` that survive suppression.

    Only candidates with a higher score can suppress one. So as soon as the first so many have
    ``keep`` survivors these are the answer, and a network that lets nearly every box pass, as one
    that has learned nothing does, costs little more than a good one.
    """
    passing = np.flatnonzero(scores > settings.score_threshold)
    values = scores[np.divmod(passing, scores.shape[1])]
    look = _FIRST_LOOK * settings.keep
    while True:
        first = _candidates(passing, values, look, scores.shape[1], settings.top_k)
        survivors = _survivors(first.labels, boxes[first.places], settings)
        if len(survivors) >= settings.keep or look >= len(passing):
            return first.at(survivors)
        look *= 4


def _candidates(passing: Ints, values: Floats, look: int, classes: int, top_k: int) -> _Candidates:
    """The best ``look`` of what passes the threshold, at most ``top_k`` of each class.

    ``passing`` are places in ``scores [n, classes]``, laid out in one row. Of equal scores all are
    taken or none.
    """
    if len(values) > look:
        high = np.flatnonzero(values >= np.partition(values, -look)[-look])
        passing, values = passing[high], values[high]
    places, labels = np.divmod(passing, classes)
    order = np.lexsort((places, labels, -values))
    found = _Candidates(labels[order], places[order], values[order])
    return found if len(order) <= top_k else found.at(_rank(found.labels) < top_k)


def _rank(labels: Ints) -> Ints:
    """How many earlier entries have the same label."""
    by_label = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    rank = np.empty_like(labels)
    rank[by_label] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def _survivors(labels: Ints, boxes: Floats, settings: PostProcessing) -> Ints:
    """Greedy suppression within each class of ``boxes [m, 4]``, best first: the first ``keep``.

    In steps that grow: most of what a step brings overlaps a survivor of those before it, and is
    gone before its boxes are compared with each other.
    """
    survivors = np.empty(0, np.int64)
    start, size = 0, _FIRST_STEP
    while start < len(labels) and len(survivors) < settings.keep:
        step = np.arange(start, min(start + size, len(labels)))
        start, size = start + size, 2 * size
        better, worse = np.nonzero(labels[survivors][:, None] == labels[step])
        alive = np.ones(len(step), np.bool_)
        overlapping = _overlap(boxes, survivors[better], step[worse], settings.iou_threshold)
        alive[worse[overlapping]] = False
        step = step[alive]
        alive = _alive(labels[step], boxes[step], settings.iou_threshold)
        survivors = np.concatenate([survivors, step[alive]])
    return survivors[: settings.keep]


def _alive(labels: Ints, boxes: Floats, threshold: float) -> npt.NDArray[np.bool_]:
    """Greedy suppression within each class of ``boxes [m, 4]``, best first: a mask ``[m]``."""
    better, worse = _pairs_of_a_class(labels)
    overlapping = _overlap(boxes, better, worse, threshold)
    better, worse = better[overlapping], worse[overlapping]
    alive = np.ones(len(labels), np.bool_)
    while True:
        # Each round settles at least the next box of every chain, so this ends, and it ends at
        # the one answer: a box lives when no living better one overlaps it.
        now = np.ones_like(alive)
        now[worse[alive[better]]] = False
        if (now == alive).all():
            return alive
        alive = now


def _pairs_of_a_class(labels: Ints) -> tuple[Ints, Ints]:
    """Every pair of entries with the same label, the earlier one first."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    ends = np.repeat(np.cumsum(counts), counts)
    position = np.arange(len(labels))
    later = ends - position - 1
    first = np.repeat(position, later)
    second = np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later) + first + 1
    return order[first], order[second]


def _overlap(boxes: Floats, a: Ints, b: Ints, threshold: float) -> npt.NDArray[np.bool_]:
    """Whether the IoU of ``boxes[a]`` and ``boxes[b]`` is above ``threshold``: ``[pairs]``."""
    x0, y0, x1, y1 = np.ascontiguousarray(boxes.T)
    area = (x1 - x0) * (y1 - y0)
    width = np.minimum(x1[a], x1[b]) - np.maximum(x0[a], x0[b])
    height = np.minimum(y1[a], y1[b]) - np.maximum(y0[a], y0[b])
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = intersection / (area[a] + area[b] - intersection)
    overlapping: npt.NDArray[np.bool_] = ratio > np.float32(threshold)
    return overlapping
