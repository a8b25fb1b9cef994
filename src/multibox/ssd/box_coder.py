"""Boxes to regression targets and back (paper section 2.2, "Training objective", below equation 2).

Of an object g and its default box d:

    g-hat_cx = (g_cx - d_cx) / d_w    g-hat_w = log(g_w / d_w)
    g-hat_cy = (g_cy - d_cy) / d_h    g-hat_h = log(g_h / d_h)

each then divided by a variance, which is Caffe's and not in the paper.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def encode(boxes: Tensor, default_boxes: Tensor, variances: Sequence[float] | Tensor) -> Tensor:
    """g-hat: the offsets that take ``default_boxes`` (d) to ``boxes`` (g).

    ``boxes [..., 4]`` are corners (x0, y0, x1, y1), ``default_boxes [..., 4]`` are
    (cx, cy, w, h), both in the same unit; sides must be positive. Returns ``[..., 4]``:
    centre offsets in default-box sides and log size ratios, each divided by its variance.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    sides = boxes[..., 2:] - boxes[..., :2]
    g_hat = torch.cat(
        [
            (centre - default_boxes[..., :2]) / default_boxes[..., 2:],
            torch.log(sides / default_boxes[..., 2:]),
        ],
        dim=-1,
    )
    if not isinstance(variances, Tensor):
        variances = g_hat.new_tensor(variances)
    return g_hat / variances


def decode(
    offsets: Tensor,
    default_boxes: Tensor,
    variances: Sequence[float] | Tensor,
    *,
    largest_log_ratio: float | None = None,
) -> Tensor:
    """The inverse of :func:`encode`, for predicted ``offsets`` (l): corner boxes ``[..., 4]``.

    They are in the unit of ``default_boxes [..., 4]`` (cx, cy, w, h).

    ``largest_log_ratio`` bounds the logarithm of a side's ratio to its default box (torchvision:
    log(1000 / 16)); the paper and Caffe have no bound.
    """
    if not isinstance(variances, Tensor):
        variances = offsets.new_tensor(variances)
    scaled = offsets * variances
    centre = default_boxes[..., :2] + scaled[..., :2] * default_boxes[..., 2:]
    log_ratio = scaled[..., 2:]
    if largest_log_ratio is not None:
        log_ratio = log_ratio.clamp(max=largest_log_ratio)
    half = default_boxes[..., 2:] * torch.exp(log_ratio) / 2
    return torch.cat([centre - half, centre + half], dim=-1)
