"""Which default box is responsible for which object (paper section 2.2, "Matching strategy").

x_ij^p = 1, default box i is matched to object j of class p, is here an array over i that holds j:
a default box has one object at most, an object may have several default boxes.

A whole batch at once, on its device, and no accelerator is waited for: no shape depends on the
data. Where values must be ranked with ties decided, the float and the number that decides are
packed into one int64 (``_rank``).
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from multibox.ssd import atss
from multibox.ssd.values import at_hand

BACKGROUND = -1
"""Matched to no object."""
LEFT_OUT = -2
"""Matched to no object, and yet too near to one to be a negative."""

Bipartite = Literal["one-to-one", "later-wins"]


@dataclass(frozen=True, slots=True)
class MatchingRule:
    """How objects are given to default boxes; the defaults are Caffe's (``MatchBBox``)."""

    assigner: Literal["iou", "atss"] = "iou"
    """iou: the paper's two steps. atss: instead of both, what :mod:`multibox.ssd.atss` says, and
    ``least_positives`` of every object; the other keys of the two steps have no part in it."""
    atss_cells: int = 9
    """Of every feature map, from how many cells ATSS takes an object's candidates (k)."""
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

    ``boxes [n, 4]`` are (cx, cy, w, h) in fractions of the picture; ``levels`` say which of them
    belong to which feature map and cell.
    """

    def __init__(self, boxes: Tensor, levels: Sequence[atss.Level] = ()) -> None:
        self.centre_size = boxes
        self.levels = levels
        half = boxes[:, 2:] / 2
        corners = torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], dim=1)
        self.x0, self.y0, self.x1, self.y1 = corners.t().contiguous().unbind()
        self.area = (self.x1 - self.x0) * (self.y1 - self.y0)

    def __len__(self) -> int:
        return len(self.centre_size)

    @property
    def device(self) -> torch.device:
        """Where matching is done."""
        return self.centre_size.device

    def iou(self, objects: Tensor, epsilon: float = 0.0) -> Tensor:
        """IoU (jaccard overlap) of ``objects [..., g, 4]`` with every default box: ``[..., g, n]``.

        Objects are corners; ``epsilon`` is added to the union.
        """
        x0, y0, x1, y1 = objects[..., None].unbind(-2)
        width = torch.minimum(self.x1, x1).sub_(torch.maximum(self.x0, x0)).clamp_(min=0)
        height = torch.minimum(self.y1, y1).sub_(torch.maximum(self.y0, y0)).clamp_(min=0)
        intersection = width.mul_(height)
        union = (self.area + (x1 - x0) * (y1 - y0)).sub_(intersection)
        if epsilon:
            union.add_(epsilon)
        return intersection.div_(union)

    def centre_distance(self, objects: Tensor) -> Tensor:
        """Squared centre distance over the squared diagonal of the hull: ``[..., g, n]``, 0..1."""
        x0, y0, x1, y1 = objects[..., None].unbind(-2)
        cx, cy = self.centre_size[:, 0], self.centre_size[:, 1]
        distance = (cx - (x0 + x1) / 2).square_() + (cy - (y0 + y1) / 2).square_()
        hull_width = torch.maximum(self.x1, x1).sub_(torch.minimum(self.x0, x0))
        hull_height = torch.maximum(self.y1, y1).sub_(torch.minimum(self.y0, y0))
        return distance.div_(hull_width.square_().add_(hull_height.square_()))


def match(
    objects: Tensor, present: Tensor, default_boxes: DefaultBoxes, rule: MatchingRule
) -> Tensor:
    """The object each default box is responsible for, or BACKGROUND, or LEFT_OUT: int64 ``[b, n]``.

    ``objects [b, g, 4]`` (g > 0) are corners in fractions of their picture, ``present [b, g]`` says
    which of them are not padding. First each object takes one default box (``rule.bipartite``);
    then every default box still free joins the object it overlaps most when that IoU reaches
    ``rule.threshold``.
    """
    overlap = default_boxes.iou(objects, rule.iou_epsilon).masked_fill_(~present[..., None], -1)
    if rule.assigner == "atss":
        return _match_atss(objects, overlap, default_boxes, rule)
    best_overlap, matched = overlap.max(dim=1)
    free = best_overlap <= rule.threshold if rule.strict else best_overlap < rule.threshold
    matched.masked_fill_(free, BACKGROUND)
    if rule.negative_overlap < 1:
        matched.masked_fill_(free.logical_and_(best_overlap >= rule.negative_overlap), LEFT_OUT)
    first_step = one_to_one if rule.bipartite == "one-to-one" else later_wins
    owner = first_step(overlap, rule.least_overlap)
    matched = torch.where(owner == BACKGROUND, matched, owner)
    if rule.least_positives > 1:
        matched = _top_up(matched, objects, overlap, default_boxes, rule, rule.least_positives - 1)
    return matched


def _match_atss(
    objects: Tensor, overlap: Tensor, default_boxes: DefaultBoxes, rule: MatchingRule
) -> Tensor:
    """Every default box goes to the object it overlaps most, of those ATSS allows it."""
    allowed = atss.positives(
        overlap,
        objects,
        default_boxes.centre_size[:, :2],
        default_boxes.levels,
        rule.atss_cells,
    )
    best, matched = overlap.masked_fill(~allowed, -1).max(dim=1)
    free = best < 0
    matched.masked_fill_(free, BACKGROUND)
    if rule.negative_overlap < 1:
        near = overlap.amax(dim=1) >= rule.negative_overlap
        matched.masked_fill_(free & near, LEFT_OUT)
    return _top_up(matched, objects, overlap, default_boxes, rule, rule.least_positives)


def one_to_one(overlap: Tensor, least_overlap: float) -> Tensor:
    """Greedy pairs of ``overlap [b, g, n]``, highest IoU first: the owner j of each box ``[b, n]``.

    Ties go to the earlier default box, then to the earlier object, as in Caffe's loop. Two objects
    that prefer the same default box get two different ones.
    """
    if at_hand(overlap):
        return torch.stack([_one_to_one_in_turn(picture, least_overlap) for picture in overlap])
    return _one_to_one_by_rank(overlap, least_overlap)


def _one_to_one_in_turn(overlap: Tensor, least_overlap: float) -> Tensor:
    """Of one picture, ``[g, n]`` to ``[n]``: looks at few values, and waits for each of them."""
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
    result = torch.full(overlap.shape[1:], BACKGROUND)
    result[list(owner)] = torch.tensor(list(owner.values()), dtype=torch.int64)
    return result


def _one_to_one_by_rank(overlap: Tensor, least_overlap: float) -> Tensor:
    """The same for ``[b, g, n]`` without waiting: g rounds, each gives every picture its best pair.

    An object loses at most g - 1 default boxes to others: its g best are all that can matter.
    """
    _, g, n = overlap.shape
    last_first = torch.arange(n - 1, -1, -1, device=overlap.device)
    rank = _rank(overlap, last_first).masked_fill_(overlap <= least_overlap, _NEVER)
    rank = rank.topk(min(g, n), dim=2).values
    width = rank.shape[2]
    boxes = n - 1 - _tie_breaker(rank)
    objects = torch.arange(g, device=overlap.device)[:, None]
    owner = _no_owner(overlap)
    for _ in range(width):
        best, place = rank.flatten(1).max(dim=1, keepdim=True)  # the first among equals
        j = place // width
        i = torch.where(best == _NEVER, n, n - 1 - _tie_breaker(best))
        owner.scatter_(1, i, j)
        rank.masked_fill_((boxes == i[..., None]) | (objects == j[..., None]), _NEVER)
    return owner[:, :n]


def later_wins(overlap: Tensor, least_overlap: float) -> Tensor:
    """Each object's favourite of ``overlap [b, g, n]``, to the last that wants it: ``[b, n]``."""
    values, favourites = overlap.max(dim=2)
    objects = torch.arange(overlap.shape[1], device=overlap.device).expand_as(favourites)
    favourites = favourites.masked_fill_(values <= least_overlap, overlap.shape[2])
    return _no_owner(overlap).scatter_reduce_(1, favourites, objects, "amax")[:, :-1]


def _top_up(
    matched: Tensor,
    objects: Tensor,
    overlap: Tensor,
    default_boxes: DefaultBoxes,
    rule: MatchingRule,
    most: int,
) -> Tensor:
    """``matched`` with the next best for objects with fewer than ``rule.least_positives``.

    ``most`` is how many an object may lack.
    """
    b, g, n = overlap.shape
    counted = torch.where(matched >= 0, matched, g)
    positives = matched.new_zeros(b, g + 1).scatter_add_(1, counted, torch.ones_like(counted))
    missing = rule.least_positives - positives[:, :g]
    affinity = overlap - default_boxes.centre_distance(objects)
    taken = (overlap <= max(rule.least_overlap, 0.0)).logical_or_((matched >= 0)[:, None])
    affinity.masked_fill_(taken, -torch.inf)
    values, boxes = affinity.topk(min(most, n), dim=2)
    wanted = torch.arange(values.shape[2], device=values.device) < missing[..., None]
    boxes = torch.where(wanted & (values > -torch.inf), boxes, n)
    # A place two objects want goes to the one that fits it better, or to the later of equals.
    rank = _rank(values, torch.arange(g, device=values.device)[:, None])
    best = rank.new_full((b, n + 1), _NEVER)
    best = best.scatter_reduce_(1, boxes.flatten(1), rank.flatten(1), "amax")[:, :n]
    return torch.where(best == _NEVER, matched, _tie_breaker(best))


_NEVER = torch.iinfo(torch.int64).min


def _rank(values: Tensor, tie_breaker: Tensor) -> Tensor:
    """Numbers in the order of float32 ``values``, those with equal ones in that of the other."""
    # A float's bits are in its order as they are, or, below zero, turned round; -0 is made 0.
    bits = (values + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32).add_(tie_breaker)


def _tie_breaker(rank: Tensor) -> Tensor:
    """What was given to ``_rank``."""
    return rank & 0xFFFFFFFF


def _no_owner(overlap: Tensor) -> Tensor:
    """Int64 ``[b, n + 1]``: the last place takes what is to be written nowhere."""
    b, _, n = overlap.shape
    return torch.full((b, n + 1), BACKGROUND, device=overlap.device)
