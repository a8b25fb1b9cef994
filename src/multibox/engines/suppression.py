"""Scores and box offsets to detections in NumPy, in well under a millisecond a picture.

Paper section 3.7: a score threshold, per-class non-maximum suppression, the best of each picture.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from multibox.card import PostProcessing
from multibox.engines.base import RawDetections

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# How many candidates are looked at first.
_FIRST_LOOK = 1 << 12
# How many pairs of one class the first step compares, and how much more the next.
_FIRST_PAIRS, _GROWTH = 1 << 12, 2
# By how much a background score below 1 may be rounded up, in bfloat16: half of it, and then some.
_ROUNDING = 2**-8


class _Candidates(NamedTuple):
    """Pairs of class and box, best score first; ties by class, then by box."""

    labels: Ints
    places: Ints
    scores: Floats
    ranks: Ints
    """How many candidates of the same class are better."""

    def at(self, rows: "Ints | npt.NDArray[np.bool_]") -> "_Candidates":
        return _Candidates(
            self.labels[rows], self.places[rows], self.scores[rows], self.ranks[rows]
        )


class _Corners(NamedTuple):
    """Boxes by column, ``[m]`` each, and their areas."""

    x0: Floats
    y0: Floats
    x1: Floats
    y1: Floats
    area: Floats

    @classmethod
    def of(cls, boxes: Floats) -> "_Corners":
        x0, y0, x1, y1 = np.ascontiguousarray(boxes.T)
        return cls(x0, y0, x1, y1, (x1 - x0) * (y1 - y0))


def suppress(
    scores: Floats,
    box_offsets: Floats,
    decode: Callable[[Floats, Ints], Floats],
    settings: PostProcessing,
) -> RawDetections:
    """Detections from ``scores [b, n, classes + 1]`` (0..1, background first) and offsets.

    ``box_offsets [b, n, 4]`` are decoded only where a score says so, by ``decode(offsets [m, 4],
    places [m])``, a ``BoxDecoder`` most often; places count the default boxes. With the scores
    "softmax" of the settings those of a box have to have the sum 1. The answer is the one that
    ``ssd.postprocess`` gives from raw outputs.
    """
    batch = len(scores)
    result = RawDetections(
        num=np.zeros(batch, np.int32),
        boxes=np.zeros((batch, settings.keep, 4), np.float32),
        scores=np.zeros((batch, settings.keep), np.float32),
        classes=np.zeros((batch, settings.keep), np.int32),
    )
    for i in range(batch):
        found, boxes = _best(scores[i], box_offsets[i], decode, settings)
        n = len(boxes)
        result.num[i] = n
        result.boxes[i, :n] = boxes.clip(0, 1)
        result.scores[i, :n] = found.scores
        result.classes[i, :n] = found.labels
    return result


def _best(
    scores: Floats,
    box_offsets: Floats,
    decode: Callable[[Floats, Ints], Floats],
    settings: PostProcessing,
) -> tuple[_Candidates, Floats]:
    """The best ``keep`` of a picture that survive suppression, and their boxes.

    Only candidates with a higher score can suppress one. So as soon as the first so many have
    ``keep`` survivors these are the answer, and a network that lets nearly every box pass, as one
    that has learned nothing does, costs little more than a good one.
    """
    keys = _keys(scores, settings)
    look = _FIRST_LOOK
    while True:
        first = _candidates(keys, look, len(scores), settings.top_k)

        def boxes_of(rows: slice, places: Ints = first.places) -> Floats:
            return decode(box_offsets[places[rows]], places[rows])

        survivors, boxes = _survivors(first, boxes_of, settings)
        if len(survivors) >= settings.keep or look >= len(keys):
            return first.at(survivors), boxes
        look *= 4


def _keys(scores: Floats, settings: PostProcessing) -> npt.NDArray[np.uint64]:
    """A number for each pair of class and box above the threshold, smaller for a better one.

    Positive floats are ordered as their bits are. So the inverted bits, the class and the box, put
    behind each other, let one sort of integers order the pairs by score and then as ties fall.
    """
    n = len(scores)
    boxes = np.arange(n)
    if settings.scores == "softmax":
        # What is nearly certainly background has no other score above the threshold.
        boxes = np.flatnonzero(scores[:, 0] < 1 - settings.score_threshold + _ROUNDING)
    foreground = scores[boxes, 1:]
    passing = np.flatnonzero(foreground > settings.score_threshold)
    rows, labels = np.divmod(passing, foreground.shape[1])
    keys: npt.NDArray[np.uint64] = (~foreground.ravel()[passing].view(np.uint32)).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= (labels * n + boxes[rows]).astype(np.uint64)
    return keys


def _candidates(keys: npt.NDArray[np.uint64], look: int, n: int, top_k: int) -> _Candidates:
    """The best ``look`` of the pairs that ``keys`` stand for, at most ``top_k`` of each class."""
    if len(keys) > look:
        keys = np.partition(keys, look)[:look]
    keys = np.sort(keys)
    labels, places = np.divmod((keys & np.uint64(0xFFFFFFFF)).astype(np.int64), n)
    scores = (~(keys >> np.uint64(32)).astype(np.uint32)).view(np.float32)
    found = _Candidates(labels, places, scores, _ranks(labels))
    return found if len(keys) <= top_k else found.at(found.ranks < top_k)


def _ranks(labels: Ints) -> Ints:
    """How many earlier entries have the same label."""
    by_label = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    ranks = np.empty_like(labels)
    ranks[by_label] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def _survivors(
    candidates: _Candidates, boxes_of: Callable[[slice], Floats], settings: PostProcessing
) -> tuple[Ints, Floats]:
    """Greedy suppression within each class, best first: the first ``keep`` and their boxes.

    In steps that grow: most of what a step brings overlaps a survivor of those before it, and is
    gone before its boxes are compared with each other.
    """
    survivors, boxes = np.empty(0, np.int64), np.empty((0, 4), np.float32)
    labels, pairs = candidates.labels, np.cumsum(candidates.ranks)
    start, at_once = 0, _FIRST_PAIRS
    while start < len(labels) and len(survivors) < settings.keep:
        before = pairs[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(pairs, before + at_once, "right")))
        rows = np.concatenate([survivors, np.arange(start, end)])
        boxes = np.concatenate([boxes, boxes_of(slice(start, end))])
        alive = _alive(labels[rows], boxes, len(survivors), settings.iou_threshold)
        survivors, boxes = rows[alive], boxes[alive]
        start, at_once = end, _GROWTH * at_once
    return survivors[: settings.keep], boxes[: settings.keep]


def _alive(labels: Ints, boxes: Floats, settled: int, threshold: float) -> Ints:
    """Greedy suppression within each class of ``boxes [m, 4]``, best first: the rows that live.

    The first ``settled`` rows are known to.
    """
    corners = _Corners.of(boxes)
    rows = np.arange(settled, len(labels))
    if settled:
        better, worse = np.nonzero(labels[:settled, None] == labels[settled:])
        overlapping = _overlap(corners, better, rows[worse], threshold)
        undecided = np.ones(len(rows), np.bool_)
        undecided[worse[overlapping]] = False
        rows = rows[undecided]
    better, worse = _pairs_of_a_class(labels[rows])
    overlapping = _overlap(corners, rows[better], rows[worse], threshold)
    better, worse = better[overlapping], worse[overlapping]
    alive = np.ones(len(rows), np.bool_)
    while True:
        # Each round settles at least the next box of every chain, so this ends, and it ends at
        # the one answer: a box lives when no living better one overlaps it.
        now = np.ones_like(alive)
        now[worse[alive[better]]] = False
        if (now == alive).all():
            return np.concatenate([np.arange(settled), rows[alive]])
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


def _overlap(corners: _Corners, a: Ints, b: Ints, threshold: float) -> npt.NDArray[np.bool_]:
    """Whether the IoU of boxes ``a`` and ``b`` is above ``threshold``: ``[pairs]``."""
    x0, y0, x1, y1, area = corners
    width = np.minimum(x1[a], x1[b]) - np.maximum(x0[a], x0[b])
    height = np.minimum(y1[a], y1[b]) - np.maximum(y0[a], y0[b])
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = intersection / (area[a] + area[b] - intersection)
    overlapping: npt.NDArray[np.bool_] = ratio > np.float32(threshold)
    return overlapping
