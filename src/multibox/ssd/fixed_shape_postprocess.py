"""Raw outputs to detections in operations whose shapes no value decides.

So nothing waits for the device: the whole can be queued ahead, and captured in a CUDA graph. The
answer is that of :func:`multibox.ssd.postprocess.postprocess`; ties fall by class, then by box.

Only a candidate with a higher score can suppress one. So it is enough to look at the best so many
pairs of class and box, as long as ``keep`` of them survive or no others pass the threshold; whether
that is so is part of the answer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from multibox.card import PostProcessing
from multibox.ssd.box_coder import decode
from multibox.ssd.postprocess import BatchDetections, foreground_scores

CANDIDATES = 1024
"""Pairs of class and box of a picture that are looked at: twice what trained networks let pass."""
ROUNDS = 24
"""Rounds of suppression: the longest chain of boxes, each of which the one before it suppresses, or
would if it were not suppressed itself."""
_AT_ONCE = 64
"""Pictures; to compare the candidates of so many with each other takes 1 GB."""

_LOW = 0xFFFFFFFF


class FixedShapeDetections(NamedTuple):
    """``found`` of b pictures, and ``exact [b]``: whether nothing can be missing from them.

    Where it is False more candidates, or more rounds, would have been needed:
    ``postprocess.postprocess`` takes as many as there are.
    """

    found: BatchDetections
    exact: Tensor


class _Candidates(NamedTuple):
    """Pairs of class and box ``[b, m]``, best first; a score of -1 is none."""

    scores: Tensor
    labels: Tensor
    places: Tensor


@torch.no_grad()
def postprocess_fixed_shape(
    class_logits: Tensor,
    box_offsets: Tensor,
    default_boxes: Tensor,
    variances: Tensor,
    settings: PostProcessing,
    *,
    candidates: int = CANDIDATES,
    rounds: int = ROUNDS,
) -> FixedShapeDetections:
    """Detections from c, ``class_logits [b, n, classes + 1]``, and l, ``box_offsets [b, n, 4]``.

    ``default_boxes [n, 4]`` (d) are (cx, cy, w, h) in fractions of the picture, ``variances [4]`` a
    tensor on the same device. Everything stays there.
    """
    parts = [
        _postprocess(*part, default_boxes, variances, settings, candidates, rounds)
        for part in zip(
            torch.split(class_logits, _AT_ONCE), torch.split(box_offsets, _AT_ONCE), strict=True
        )
    ]
    if len(parts) == 1:
        return parts[0]
    found = (torch.cat(each) for each in zip(*(part.found for part in parts), strict=True))
    return FixedShapeDetections(BatchDetections(*found), torch.cat([part.exact for part in parts]))


def _postprocess(
    class_logits: Tensor,
    box_offsets: Tensor,
    default_boxes: Tensor,
    variances: Tensor,
    settings: PostProcessing,
    candidates: int,
    rounds: int,
) -> FixedShapeDetections:
    best = _best_pairs(foreground_scores(class_logits, settings), settings, candidates)
    boxes = decode(
        _rows(box_offsets, best.places).float(),
        default_boxes[best.places],
        variances,
        largest_log_ratio=settings.largest_log_ratio,
    )
    if settings.clip == "before":
        boxes = boxes.clamp(0, 1)
    passing = best.scores >= 0
    m = passing.shape[1]
    place = torch.arange(m, device=passing.device)
    rivals = (best.labels[:, :, None] == best.labels[:, None]) & (place[:, None] < place)
    valid = passing & (rivals.sum(dim=1) < settings.top_k)
    rivals &= _overlapping(boxes, settings.iou_threshold)
    alive, settled = _greedy(rivals, valid, rounds)
    looked_at_all = m == class_logits.shape[1] * (class_logits.shape[2] - 1)
    enough = alive.sum(dim=1) >= settings.keep
    exact = settled if looked_at_all else settled & (enough | ~passing[:, -1])
    return FixedShapeDetections(_first(alive, best, boxes, settings.keep), exact)


def _best_pairs(scores: Tensor, settings: PostProcessing, candidates: int) -> _Candidates:
    """The best pairs of ``scores [b, n, classes]`` above the threshold; ties by class, then box.

    They belong to the boxes with the best scores of their own, of which there are at most as many:
    only these boxes' classes are sorted.
    """
    _, n, classes = scores.shape
    scores = torch.where(scores > settings.score_threshold, scores, -1.0)
    places = torch.arange(n, device=scores.device)
    top, label = scores.max(dim=2)  # the first of equals
    keys = _keys(top, label * n + places)
    boxes = keys.topk(min(candidates, n), dim=1).indices
    labels = torch.arange(classes, device=scores.device)
    keys = _keys(_rows(scores, boxes), labels * n + boxes[:, :, None]).flatten(1)
    keys = keys.topk(min(candidates, keys.shape[1]), dim=1).values
    pair = _LOW - (keys & _LOW)
    label = pair.div(n, rounding_mode="floor")
    return _Candidates((keys >> 32).int().view(torch.float32), label, pair - label * n)


def _keys(scores: Tensor, pairs: Tensor) -> Tensor:
    """Numbers that are in the order of ``scores``, and of equals the lowest of ``pairs`` first.

    Positive floats are ordered as their bits are; -1, which is none, becomes negative.
    """
    return (scores.view(torch.int32).long() << 32) | (_LOW - pairs)


def _rows(values: Tensor, places: Tensor) -> Tensor:
    """``[b, m, c]``: the rows ``places [b, m]`` of ``values [b, n, c]``."""
    return values.gather(1, places[:, :, None].expand(-1, -1, values.shape[2]))


def _overlapping(boxes: Tensor, threshold: float) -> Tensor:
    """Whether the IoU of each two of ``boxes [b, m, 4]`` is above ``threshold``: ``[b, m, m]``."""
    x0, y0, x1, y1 = boxes.unbind(dim=2)
    # In place: of the largest arrays there are to be as few as possible.
    width = torch.minimum(x1[:, :, None], x1[:, None])
    width = width.sub_(torch.maximum(x0[:, :, None], x0[:, None])).clamp_(min=0)
    height = torch.minimum(y1[:, :, None], y1[:, None])
    height = height.sub_(torch.maximum(y0[:, :, None], y0[:, None])).clamp_(min=0)
    common = width.mul_(height)
    area = (x1 - x0) * (y1 - y0)
    union = (area[:, :, None] + area[:, None]).sub_(common)
    return common.div_(union) > threshold


def _greedy(suppresses: Tensor, valid: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Which of ``valid [b, m]``, best first, survive; and whether that is certain ``[b]``.

    ``suppresses [b, m, m]``: the first of a pair, if it lives itself, suppresses the second. A box
    lives when no living better one suppresses it. Each round settles at least the next box of
    every chain, and once a round changes nothing that is the one answer.
    """
    # Counts up to 2,048 are whole numbers in half precision, and above that still not 0.
    kind = torch.float16 if suppresses.is_cuda else torch.float32
    matrix, start = suppresses.to(kind), valid[:, None].to(kind)
    alive = before = start
    for _ in range(rounds):
        before, alive = alive, torch.baddbmm(start, alive, matrix, alpha=-1).relu_()
    return alive[:, 0] > 0, (alive == before).all(dim=2)[:, 0]


def _first(alive: Tensor, best: _Candidates, boxes: Tensor, keep: int) -> BatchDetections:
    """The first ``keep`` that are ``alive [b, m]``, padded with zeros."""
    batch, m = alive.shape
    rank = alive.cumsum(dim=1) - 1
    slot = torch.where(alive & (rank < keep), rank, keep)  # the last is for what is not wanted
    place = torch.arange(m, device=alive.device).expand(batch, m)
    rows = place.new_zeros((batch, keep + 1)).scatter_(1, slot, place)[:, :keep]
    num = alive.sum(dim=1, keepdim=True).clamp(max=keep)
    there = torch.arange(keep, device=alive.device) < num
    return BatchDetections(
        num=num.int(),
        boxes=torch.where(there[:, :, None], _rows(boxes, rows).clamp(0, 1), 0.0),
        scores=torch.where(there, best.scores.gather(1, rows), 0.0),
        classes=torch.where(there, best.labels.gather(1, rows), 0).int(),
    )


def pack(detections: FixedShapeDetections) -> Tensor:
    """All of it as 32-bit numbers ``[b, 2 + 6 * keep]``: one array to copy instead of five."""
    found, exact = detections
    columns = (
        found.num,
        exact[:, None].int(),
        found.classes,
        found.scores.view(torch.int32),
        found.boxes.flatten(1).view(torch.int32),
    )
    return torch.cat(columns, dim=1)


def unpack(packed: Tensor, keep: int) -> FixedShapeDetections:
    """What was packed; views of it, but for ``exact``."""
    num, exact, classes, scores, boxes = torch.split(packed, [1, 1, keep, keep, 4 * keep], dim=1)
    found = BatchDetections(
        num=num,
        boxes=boxes.view(torch.float32).view(-1, keep, 4),
        scores=scores.view(torch.float32),
        classes=classes,
    )
    return FixedShapeDetections(found, exact[:, 0] > 0)
