"""Heads (paper section 2.1, "Convolutional predictors for detection").

A feature map of m x n cells with p channels and k default boxes a cell is looked at by 3x3 kernels
of p channels, (classes + 4) k of them. SSDLite's heads: Sandler 2018, section 6.2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from multibox.card import HeadKind
from multibox.ssd.extra_layers import Norm


def predictor(kind: HeadKind, depth: int, outputs: int, norm: Norm) -> nn.Module:
    """A 3x3 convolution, one small kernel for each of ``outputs`` values of a cell.

    SSDLite's is depthwise 3x3, then 1x1.
    """
    if kind == "conv3x3":
        return nn.Conv2d(depth, outputs, 3, padding=1)
    if kind == "conv1x1":
        return nn.Conv2d(depth, outputs, 1)
    return nn.Sequential(
        nn.Conv2d(depth, depth, 3, padding=1, groups=depth, bias=False),
        norm(depth),
        nn.ReLU6(inplace=True),
        nn.Conv2d(depth, outputs, 1),
    )


class Heads(nn.Module):
    """For every default box of every feature map, class scores c and box offsets l.

    A head's channels run box by box within a cell, and value by value within a box.
    """

    def __init__(
        self,
        kinds: Sequence[HeadKind],
        depths: Sequence[int],
        boxes_per_cell: Sequence[int],
        outputs: int,
        norm: Norm,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        maps = list(zip(kinds, depths, boxes_per_cell, strict=True))
        self.classes = nn.ModuleList(
            predictor(kind, depth, boxes * outputs, norm) for kind, depth, boxes in maps
        )
        self.boxes = nn.ModuleList(
            predictor(kind, depth, boxes * 4, norm) for kind, depth, boxes in maps
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits c ``[b, n, outputs]`` (background first) and box offsets l ``[b, n, 4]``."""
        logits = [
            _by_box(head(x), self.outputs) for head, x in zip(self.classes, maps, strict=True)
        ]
        offsets = [_by_box(head(x), 4) for head, x in zip(self.boxes, maps, strict=True)]
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)


def _by_box(x: Tensor, values: int) -> Tensor:
    """``[b, boxes * values, h, w]`` to ``[b, h * w * boxes, values]``; a view for channels-last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)
