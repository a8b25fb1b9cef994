"""Habits of other frameworks, put into a built network: norm epsilon, activation, padding."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class TensorflowConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME does: an odd pixel goes to the end.

    The output is ceil(side / stride) cells wide and high, whatever ``padding`` says.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``[b, c, h, w]`` to ``[b, c', ceil(h / stride), ceil(w / stride)]``."""
        pads: list[int] = []
        for side, kernel, stride, dilation in zip(
            input.shape[:-3:-1],
            self.kernel_size[::-1],
            self.stride[::-1],
            self.dilation[::-1],
            strict=True,
        ):
            field = dilation * (kernel - 1) + 1
            total = max((-(-side // stride) - 1) * stride + field - side, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(
            F.pad(input, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


def set_norm_epsilon(network: nn.Module, epsilon: float | None) -> None:
    """Give every BatchNorm this epsilon, in place; None leaves them as they are."""
    for layer in network.modules():
        if epsilon is not None and isinstance(layer, nn.BatchNorm2d):
            layer.eps = epsilon


def set_activation(network: nn.Module, activation: Literal["relu", "relu6"] | None) -> None:
    """Put this in the place of every ReLU and ReLU6; None leaves them as they are."""
    kind = {"relu": nn.ReLU, "relu6": nn.ReLU6, None: None}[activation]
    for module in network.modules():
        for name, layer in module.named_children():
            if kind is not None and isinstance(layer, nn.ReLU | nn.ReLU6):
                setattr(module, name, kind(inplace=True))


def pad_as_tensorflow(network: nn.Module) -> None:
    """Pad every convolution with a stride as TensorFlow's SAME does, in place.

    Without a stride, and with an odd kernel, SAME is symmetric.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv2d and max(layer.stride) > 1:
            # The same parameters under the same names; only forward differs.
            layer.__class__ = TensorflowConv2d
