"""Heads and extra feature layers (paper section 2.1; SSDLite: Sandler 2018 section 6.2)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from multibox.card import ExtraLayer

_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)


def extra_layer(depth: int, layer: ExtraLayer) -> nn.Sequential:
    """1x1 to ``squeeze`` channels, then 3x3 with a stride (conv8_1 and conv8_2, ...)."""
    return nn.Sequential(
        nn.Conv2d(depth, layer.squeeze, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(
            layer.squeeze, layer.channels, layer.kernel, stride=layer.stride, padding=layer.padding
        ),
        nn.ReLU(inplace=True),
    )


def separable_extra_layer(depth: int, layer: ExtraLayer) -> nn.Sequential:
    """1x1, depthwise 3x3 with a stride, 1x1, each with BatchNorm and ReLU6."""
    return nn.Sequential(
        *_conv_norm(depth, layer.squeeze, 1),
        *_conv_norm(
            layer.squeeze, layer.squeeze, layer.kernel,
            stride=layer.stride, padding=layer.padding, groups=layer.squeeze,
        ),
        *_conv_norm(layer.squeeze, layer.channels, 1),
    )  # fmt: skip


def predictor(depth: int, outputs: int) -> nn.Conv2d:
    """A 3x3 convolution: one small kernel a value."""
    return nn.Conv2d(depth, outputs, 3, padding=1)


def separable_predictor(depth: int, outputs: int) -> nn.Sequential:
    """Depthwise 3x3 with BatchNorm and ReLU6, then 1x1."""
    return nn.Sequential(
        *_conv_norm(depth, depth, 3, padding=1, groups=depth), nn.Conv2d(depth, outputs, 1)
    )


def _conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False
    )
    return conv, _norm(outputs), nn.ReLU6(inplace=True)


class Heads(nn.Module):
    """For every default box of every feature map, class scores and box offsets.

    A head's channels run box by box within a cell, and value by value within a box.
    """

    def __init__(
        self,
        depths: Sequence[int],
        boxes_per_cell: Sequence[int],
        outputs: int,
        predict: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.classes = nn.ModuleList(
            predict(depth, boxes * outputs)
            for depth, boxes in zip(depths, boxes_per_cell, strict=True)
        )
        self.boxes = nn.ModuleList(
            predict(depth, boxes * 4) for depth, boxes in zip(depths, boxes_per_cell, strict=True)
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
