"""Extra feature layers (paper section 2.1, "Multi-scale feature maps for detection", figure 2).

They follow the base network and get smaller one after another, so that objects of every size have
a map that fits them. SSDLite's: Sandler 2018, section 6.2.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from multibox.card import ExtraKind, ExtraLayer

Norm = Callable[[int], nn.Module]


def batch_norm(epsilon: float) -> Norm:
    """BatchNorm as SSDLite's published training sets it: slow statistics."""
    return partial(nn.BatchNorm2d, eps=epsilon, momentum=0.03)


def extra_layer(kind: ExtraKind, depth: int, layer: ExtraLayer, norm: Norm) -> nn.Sequential:
    """``[b, depth, h, w]`` to ``[b, layer.channels, h', w']``, one of figure 2's conv8_2, ...

    1x1 to ``squeeze`` channels, then 3x3 with a stride. SSDLite's is 1x1, depthwise 3x3 with a
    stride, 1x1.
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
