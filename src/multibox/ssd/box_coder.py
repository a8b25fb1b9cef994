"""Boxes to regression targets and back (paper section 2.2, the g-hat below equation 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def encode(boxes: Tensor, default_boxes: Tensor, variances: Sequence[float]) -> Tensor:
    """Offsets that take ``default_boxes`` to ``boxes``.

    ``boxes [..., 4]`` are corners (x0, y0, x1, y1), ``default_boxes [..., 4]`` are
    (cx, cy, w, h), both in the same unit; sides must be positive. Returns ``[..., 4]``:
    centre offsets in default-box sides and log size ratios, each divided by its variance.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    sides = boxes[..., 2:] - boxes[..., :2]
    offsets = torch.cat(
        [
            (centre - default_boxes[..., :2]) / default_boxes[..., 2:],
            torch.log(sides / default_boxes[..., 2:]),
        ],
        dim=-1,
    )
    return offsets / offsets.new_tensor(variances)


def decode(offsets: Tensor, default_boxes: Tensor, variances: Sequence[float]) -> Tensor:
    """The inverse of :func:`encode`: corner boxes ``[..., 4]`` in the default boxes' unit."""
    scaled = offsets * offsets.new_tensor(variances)
    centre = default_boxes[..., :2] + scaled[..., :2] * default_boxes[..., 2:]
    half = default_boxes[..., 2:] * torch.exp(scaled[..., 2:]) / 2
    return torch.cat([centre - half, centre + half], dim=-1)
