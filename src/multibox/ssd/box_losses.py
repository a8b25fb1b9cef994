"""What a predicted box costs, from its offsets alone.

IoU and GIoU do not change when all boxes are moved and stretched together, so that those of a
prediction and its object are computed in the frame of their default box: the unit square around 0,
where offsets l decode to the centre (l_cx, l_cy) and the sides (exp l_w, exp l_h).
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BoxLoss = Literal["smooth_l1", "giou"]

# A side this many times as long as its default box's is far off; exp of more overflows.
_LARGEST_LOG_RATIO = math.log(1000 / 16)


class Overlap(NamedTuple):
    """IoU and GIoU of pairs of boxes, each ``[...]``."""

    iou: Tensor
    giou: Tensor


def regression_loss(
    offsets: Tensor, wanted: Tensor, kind: BoxLoss, variances: Sequence[float] | Tensor
) -> Tensor:
    """The loss of predicted ``offsets [..., 4]`` against g-hat, ``wanted [..., 4]``: ``[...]``.

    "smooth_l1" is the paper's sum over the four offsets (equation 2); "giou" is 1 - GIoU of the
    two boxes (Rezatofighi et al. 2019), between 0 and 2. Computed in float32.
    """
    if kind == "smooth_l1":
        return F.smooth_l1_loss(offsets.float(), wanted, reduction="none", beta=1.0).sum(dim=-1)
    return 1 - overlap(offsets, wanted, variances).giou


def overlap(offsets: Tensor, wanted: Tensor, variances: Sequence[float] | Tensor) -> Overlap:
    """How well boxes with ``offsets [..., 4]`` fit those with ``wanted [..., 4]``.

    Both are relative to the same default boxes and divided by ``variances``.
    """
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = (
        _edges(offsets, variances),
        _edges(wanted, variances),
    )
    width = torch.minimum(ax1, bx1) - torch.maximum(ax0, bx0)
    height = torch.minimum(ay1, by1) - torch.maximum(ay0, by0)
    intersection = width.clamp(min=0) * height.clamp(min=0)
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - intersection
    hull_width = torch.maximum(ax1, bx1) - torch.minimum(ax0, bx0)
    hull_height = torch.maximum(ay1, by1) - torch.minimum(ay0, by0)
    hull = hull_width * hull_height
    iou = intersection / union
    return Overlap(iou, iou - (hull - union) / hull)


def _edges(offsets: Tensor, variances: Sequence[float] | Tensor) -> tuple[Tensor, ...]:
    """x0, y0, x1, y1 in the frame of the default box."""
    if not isinstance(variances, Tensor):
        variances = torch.tensor(variances, device=offsets.device)
    cx, cy, log_w, log_h = (offsets.float() * variances).unbind(-1)
    half_w = log_w.clamp(max=_LARGEST_LOG_RATIO).exp() / 2
    half_h = log_h.clamp(max=_LARGEST_LOG_RATIO).exp() / 2
    return cx - half_w, cy - half_h, cx + half_w, cy + half_h
