"""Heads and extra feature layers (paper section 2.1; SSDLite: Sandler 2018 section 6.2)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from multibox.card import ExtraKind, ExtraLayer, HeadKind

Norm = Callable[[int], nn.Module]


def batch_norm(epsilon: float) -> Norm:
    """BatchNorm as SSDLite's published training sets it: slow statistics."""
    return partial(nn.BatchNorm2d, eps=epsilon, momentum=0.03)


def extra_layer(kind: ExtraKind, depth: int, layer: ExtraLayer, norm: Norm) -> nn.Sequential:
    """1x1 to ``squeeze`` channels, then 3x3 with a stride (conv8_1 and conv8_2, ...).

    SSDLite's is 1x1, depthwise 3x3 with a stride, 1x1.
    """
    if kind == "conv":
        return nn.Sequential(
            nn.Conv2d(depth, layer.squeeze, 1),
            nn.ReLU(inplace=True),
            _strided(layer, layer.channels, bias=True),
            nn.ReLU(inplace=True),
        )
    if kind == "conv-norm":
        return nn.Sequential(
            nn.Conv2d(depth, layer.squeeze, 1, bias=False),
            norm(layer.squeeze),
            nn.ReLU(inplace=True),
            _strided(layer, layer.channels),
            norm(layer.channels),
            nn.ReLU(inplace=True),
        )
    separable = [
        nn.Conv2d(depth, layer.squeeze, 1, bias=False),
        norm(layer.squeeze),
        nn.ReLU6(inplace=True),
        _strided(layer, layer.squeeze, groups=layer.squeeze),
        norm(layer.squeeze),
        nn.ReLU6(inplace=True),
        nn.Conv2d(layer.squeeze, layer.channels, 1, bias=False),
        norm(layer.channels),
    ]
    if kind == "separable":
        separable.append(nn.ReLU6(inplace=True))
    return nn.Sequential(*separable)


def _strided(layer: ExtraLayer, channels: int, *, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(
        layer.squeeze,
        channels,
        layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        groups=groups,
        bias=bias,
    )


def predictor(kind: HeadKind, depth: int, outputs: int, norm: Norm) -> nn.Module:
    """A 3x3 convolution, one small kernel a value; SSDLite's is depthwise 3x3, then 1x1."""
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
    """For every default box of every feature map, class scores and box offsets.

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
        """Class logits ``[b, n, outputs]`` (background first) and box offsets ``[b, n, 4]``."""
        logits = [
            _by_box(head(x), self.outputs) for head, x in zip(self.classes, maps, strict=True)
        ]
        offsets = [_by_box(head(x), 4) for head, x in zip(self.boxes, maps, strict=True)]
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)


def _by_box(x: Tensor, values: int) -> Tensor:
    """``[b, boxes * values, h, w]`` to ``[b, h * w * boxes, values]``; a view for channels-last."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)
