"""Which default box is responsible for which object (paper section 2.2, "Matching strategy").

x_ij^p = 1, default box i is matched to object j of class p, is here an array over i that holds j:
a default box has one object at most, an object may have several default boxes.
"""

import heapq
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BACKGROUND = -1
"""Matched to no object."""
LEFT_OUT = -2
"""Matched to no object, and yet too near to one to be a negative."""

Bipartite = Literal["one-to-one", "later-wins"]


@dataclass(frozen=True, slots=True)
class MatchingRule:
    """How objects are given to default boxes; the defaults are Caffe's (``MatchBBox``)."""

    threshold: float = 0.5
    """Every default box whose best IoU reaches it is positive."""
    least_positives: int = 1
    """An object with fewer positives than this is given the next best free default boxes as well,
    ranked by IoU minus the normalised distance of the centres (DIoU, Zheng et al. 2020). 1 is the
    paper's rule: the bipartite step alone. Objects much smaller than every default box, which the
    threshold can never reach, otherwise learn from one cell only."""
    bipartite: Bipartite = "one-to-one"
    """one-to-one: the pair with the highest IoU first, both then taken. later-wins: every object
    takes its favourite, also from an object before it in the list, as torchvision and the other
    PyTorch implementations do it."""
    strict: bool = False
    """Only an IoU above the threshold makes a positive, not one equal to it (NVIDIA)."""
    iou_epsilon: float = 0.0
    """Added to the union of two boxes, in fractions of the picture (lufficc, qfgaohao: 1e-5)."""
    least_overlap: float = 1e-6
    """An object whose IoU with every free default box is not above this stays unmatched. Below 0:
    it is forced onto the first default box, where max-based implementations put it."""
    negative_overlap: float = 1.0
    """A default box that is not positive is left out of the loss when its best IoU reaches this
    (Caffe's ``neg_overlap``, 0.5); from 1 on, none is. Empty where threshold <= this."""


class DefaultBoxes:
    """Default boxes d laid out for matching: one contiguous row for each coordinate.

    ``boxes [n, 4]`` are (cx, cy, w, h) in fractions of the picture.
    """

    def __init__(self, boxes: Tensor) -> None:
        self.centre_size = boxes
        half = boxes[:, 2:] / 2
        corners = torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], dim=1)
        self.x0, self.y0, self.x1, self.y1 = corners.t().contiguous().unbind()
        self.area = (self.x1 - self.x0) * (self.y1 - self.y0)

    def __len__(self) -> int:
        return len(self.centre_size)

    def iou(self, objects: Tensor, epsilon: float = 0.0) -> Tensor:
        """IoU (jaccard overlap) of ``objects [m, 4]`` (corners) with every default box: ``[m, n]``.

        ``epsilon`` is added to the union.
        """
        x0, y0, x1, y1 = objects[:, :, None].unbind(1)
        width = torch.minimum(self.x1, x1).sub_(torch.maximum(self.x0, x0)).clamp_(min=0)
        height = torch.minimum(self.y1, y1).sub_(torch.maximum(self.y0, y0)).clamp_(min=0)
        intersection = width.mul_(height)
        union = (self.area + (x1 - x0) * (y1 - y0)).sub_(intersection)
        if epsilon:
            union.add_(epsilon)
        return intersection.div_(union)

    def centre_distance(self, objects: Tensor) -> Tensor:
        """Squared centre distance over the squared diagonal of the hull: ``[m, n]``, 0..1."""
        x0, y0, x1, y1 = objects[:, :, None].unbind(1)
        cx, cy = self.centre_size[:, 0], self.centre_size[:, 1]
        distance = (cx - (x0 + x1) / 2).square_() + (cy - (y0 + y1) / 2).square_()
        hull_width = torch.maximum(self.x1, x1).sub_(torch.minimum(self.x0, x0))
        hull_height = torch.maximum(self.y1, y1).sub_(torch.minimum(self.y0, y0))
        return distance.div_(hull_width.square_().add_(hull_height.square_()))


def match(objects: Tensor, default_boxes: DefaultBoxes, rule: MatchingRule) -> Tensor:
    """The object each default box is responsible for, or BACKGROUND, or LEFT_OUT: int64 ``[n]``.

    ``objects [m, 4]`` are corners in fractions of the picture. First each object takes one default
    box (``rule.bipartite``); then every default box still free joins the object it overlaps most
    when that IoU reaches ``rule.threshold``.
    """
    if not len(objects):
        return torch.full((len(default_boxes),), BACKGROUND, device=objects.device)
    overlap = default_boxes.iou(objects, rule.iou_epsilon)
    best_overlap, matched = overlap.max(dim=0)
    free = best_overlap <= rule.threshold if rule.strict else best_overlap < rule.threshold
    matched = matched.masked_fill_(free, BACKGROUND)
    if rule.negative_overlap < 1:
        matched.masked_fill_(free.logical_and_(best_overlap >= rule.negative_overlap), LEFT_OUT)
    first_step = one_to_one if rule.bipartite == "one-to-one" else later_wins
    pairs = torch.tensor(
        first_step(overlap, rule.least_overlap), dtype=torch.int64, device=objects.device
    )
    boxes, owners = pairs.reshape(-1, 2).unbind(1)
    matched[boxes] = owners
    if rule.least_positives > 1:
        _top_up(matched, objects, overlap, default_boxes, rule)
    return matched


def one_to_one(overlap: Tensor, least_overlap: float) -> list[tuple[int, int]]:
    """Greedy pairs (i, j) of ``overlap [m, n]``, highest IoU first.

    Ties go to the earlier default box, then to the earlier object, as in Caffe's loop. Two objects
    that prefer the same default box get two different ones.
    """
    values, favourites = overlap.max(dim=1)
    queue = [
        (-value, i, j)
        for j, (value, i) in enumerate(zip(values.tolist(), favourites.tolist(), strict=True))
    ]
    heapq.heapify(queue)
    owner: dict[int, int] = {}
    while queue:
        negated, i, j = heapq.heappop(queue)
        if -negated <= least_overlap:
            break
        if i not in owner:
            owner[i] = j
            continue
        rest = overlap[j].clone()
        rest[list(owner)] = -torch.inf
        next_value, next_i = rest.max(dim=0)
        heapq.heappush(queue, (-float(next_value), int(next_i), j))
    return list(owner.items())


def later_wins(overlap: Tensor, least_overlap: float) -> list[tuple[int, int]]:
    """Each object's favourite as a pair (i, j); the last object to want a default box has it."""
    values, favourites = overlap.max(dim=1)
    owner = {
        i: j
        for j, (value, i) in enumerate(zip(values.tolist(), favourites.tolist(), strict=True))
        if value > least_overlap
    }
    return list(owner.items())


def _top_up(
    matched: Tensor,
    objects: Tensor,
    overlap: Tensor,
    default_boxes: DefaultBoxes,
    rule: MatchingRule,
) -> None:
    """Give objects that have fewer than ``rule.least_positives`` their next best, in place."""
    positives = torch.bincount(matched[matched >= 0], minlength=len(objects))
    poor = (positives < rule.least_positives).nonzero()[:, 0]
    if not len(poor):
        return
    overlap = overlap[poor]
    taken = (overlap <= max(rule.least_overlap, 0.0)).logical_or_(matched >= 0)
    affinity = overlap.sub_(default_boxes.centre_distance(objects[poor]))
    affinity.masked_fill_(taken, -torch.inf)
    values, boxes = affinity.topk(min(rule.least_positives - 1, affinity.shape[1]), dim=1)
    # A place two objects want goes to the one that fits it better: write the best pair last.
    wanted = (torch.arange(values.shape[1], device=values.device) + positives[poor, None]) < (
        rule.least_positives
    )
    wanted &= values > -torch.inf
    order = values[wanted].argsort(stable=True)
    takers = poor[:, None].expand_as(boxes)[wanted][order].tolist()
    for i, j in zip(boxes[wanted][order].tolist(), takers, strict=True):
        matched[i] = j
