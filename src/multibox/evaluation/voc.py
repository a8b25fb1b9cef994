"""Average precision as PASCAL VOC defines it: 11-point (VOC2007) and area (VOC2010 and later).

The rules are the VOC development kit's, on continuous boxes:

* The detections of a class are taken from the best score to the worst; equal scores in the order
  of the pictures, within a picture in the order of the detections.
* Each is compared with the object of its class and picture that it overlaps most, found or not,
  ignored or not; of several overlapped equally, with the first. At an overlap of at least the
  threshold it is left out when that object is ignored, right when the object had not been found
  before, and wrong when it had. Below the threshold it is wrong.
* Ignored objects (difficult; here crowds too) are not counted among those to be found.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from multibox.boxes import area
from multibox.evaluation.collect import Found, Objects


@dataclass(frozen=True, slots=True, eq=False)
class RankedHits:
    """One class's detections, best score first, the left-out ones removed.

    ``hits [k]`` tells which of them found an object; ``countable`` is the number of objects that
    there were to find.
    """

    hits: npt.NDArray[np.bool_]
    countable: int

    @property
    def found(self) -> npt.NDArray[np.int64]:
        """``[k]``: the objects found up to and including each detection."""
        return np.cumsum(self.hits, dtype=np.int64)

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """``[k]``: the part of the detections up to each that is right, 0..1."""
        return self.found / np.arange(1, len(self.hits) + 1)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """``[k]``: the part of the objects that is found up to each detection, 0..1."""
        return self.found / max(self.countable, 1)

    @property
    def envelope(self) -> npt.NDArray[np.float64]:
        """``[k]``: the best precision at each detection's recall or above; never increases."""
        return np.maximum.accumulate(self.precision[::-1])[::-1]


def rank_hits(found: Found, objects: Objects, iou: float) -> RankedHits:
    """Judge the detections of one class against its objects.

    ``iou`` in (0, 1] is the overlap from which a detection has found an object.
    """
    order = np.argsort(-found.scores, kind="stable")
    overlap, nearest = _most_overlapped(
        found.images[order], found.boxes[order], objects.images, objects.boxes
    )
    rank = np.flatnonzero(overlap >= iou)
    target = nearest[rank]

    left_out = np.zeros(len(order), bool)
    left_out[rank[objects.ignored[target]]] = True
    hits = np.zeros(len(order), bool)
    _, first = np.unique(target, return_index=True)
    hits[rank[first]] = True
    return RankedHits(hits[~left_out], int(np.count_nonzero(~objects.ignored)))


def eleven_point(ranked: RankedHits) -> float | None:
    """VOC2007 AP: the mean of the envelope where recall first reaches 0, 0.1, ... 1.

    A level j/10 is reached when ``10 * found >= j * countable``, in integers: no recall is missed
    by a rounding error. A level that is never reached contributes 0. None without objects to find.
    """
    if ranked.countable == 0:
        return None
    first = np.searchsorted(10 * ranked.found, np.arange(11) * ranked.countable)
    reached = ranked.envelope[first[first < len(ranked.hits)]]
    return float(reached.sum() / 11)


def area_under_curve(ranked: RankedHits) -> float | None:
    """AP of VOC2010 and later: the area under the envelope. None without objects to find."""
    if ranked.countable == 0:
        return None
    # Recall grows by 1/countable at each hit and nowhere else.
    return float(ranked.envelope[ranked.hits].sum() / ranked.countable)


def _most_overlapped(
    images: npt.NDArray[np.int64],
    boxes: npt.NDArray[np.float64],
    object_images: npt.NDArray[np.int64],
    object_boxes: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """For each box the largest IoU with an object of its picture, and that object's index.

    The first of several equal ones. IoU 0 and index 0 where the picture has no object.
    ``object_images`` must be sorted.
    """
    overlap = np.zeros(len(boxes))
    nearest = np.zeros(len(boxes), np.int64)
    start = np.searchsorted(object_images, images, side="left")
    count = np.searchsorted(object_images, images, side="right") - start
    candidates = np.flatnonzero(count)
    if len(candidates) == 0:
        return overlap, nearest

    # One row per (box, object of the same picture) pair, the pairs of a box side by side.
    count = count[candidates]
    begin = np.cumsum(count) - count
    pair_object = np.arange(count.sum()) + np.repeat(start[candidates] - begin, count)
    pair_iou = _paired_iou(boxes[np.repeat(candidates, count)], object_boxes[pair_object])

    best = np.maximum.reduceat(pair_iou, begin)
    is_best = pair_iou == np.repeat(best, count)
    overlap[candidates] = best
    nearest[candidates] = np.minimum.reduceat(
        np.where(is_best, pair_object, len(object_boxes)), begin
    )
    return overlap, nearest


def _paired_iou(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """IoU of ``a[i]`` with ``b[i]``; 0 where both are empty."""
    top_left = np.maximum(a[:, :2], b[:, :2])
    bottom_right = np.minimum(a[:, 2:], b[:, 2:])
    intersection = np.clip(bottom_right - top_left, 0, None).prod(axis=1)
    union = area(a) + area(b) - intersection
    iou = np.zeros(len(a))
    np.divide(intersection, union, out=iou, where=union > 0)
    return iou
