"""A prototxt executed literally, layer by layer in the file's order, from Caffe's definitions.

It shares the reading of the two files with the importer, and nothing else: no graph, no mapping to
our networks, no card.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Array = npt.NDArray[Any]
Layer = Any  # a LayerParameter message

_SCORES = ("Softmax", "Sigmoid")


class Execution:
    """The blobs of one picture after the layers of a phase have run; in place means in place.

    ``depths`` counts, for every default box that a blob holds, the layers below its feature map.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        weights: Mapping[str, Sequence[Array]],
        data: str,
        picture: Tensor,
        *,
        scores: bool,
    ) -> None:
        self.blobs: dict[str, Tensor] = {data: picture}
        self.depths: dict[str, Array] = {}
        below = {data: 0}
        for layer in layers:
            bottoms = list(layer.bottom)
            runs = layer.type in _RULES or layer.type == "Concat"
            if not runs or not all(name in self.blobs for name in bottoms):
                continue
            inputs = [self.blobs[name] for name in bottoms]
            if layer.type == "Concat":
                output = self._concat(layer, inputs)
            elif layer.type in _SCORES and not scores:
                output = inputs[0]
            else:
                output = _RULES[layer.type](layer, inputs, weights.get(layer.name, ()))
            for top in layer.top:
                self.blobs[top] = output
                below[top] = 1 + max(below[name] for name in bottoms)
            if layer.type == "PriorBox":
                boxes = output.shape[2] // 4
                self.depths[layer.top[0]] = np.full(boxes, below[bottoms[0]])

    def _concat(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        said = layer.concat_param
        if all(name in self.depths for name in layer.bottom):
            self.depths[layer.top[0]] = np.concatenate([self.depths[n] for n in layer.bottom])
        old_name = said.HasField("concat_dim") and not said.HasField("axis")
        return torch.cat(inputs, dim=said.concat_dim if old_name else said.axis)


def layers_of(network: Any, phase: int) -> list[Layer]:
    """The layers whose rules let them take part in ``phase`` (0 training, 1 testing)."""

    def holds(rule: Any) -> bool:
        return (not rule.HasField("phase") or rule.phase == phase) and not rule.stage

    return [
        layer
        for layer in network.layer
        if (any(map(holds, layer.include)) if layer.include else not any(map(holds, layer.exclude)))
    ]


def end_of(network: Any) -> tuple[list[Layer], Layer]:
    """The layers up to the detection layer of testing, else of training, and that layer."""
    for phase, kind in ((1, "DetectionOutput"), (0, "MultiBoxLoss")):
        layers = layers_of(network, phase)
        for layer in layers:
            if layer.type == kind:
                return layers, layer
    raise ValueError("the network has no detection layer")


Blobs = Sequence[Array]


def _sides(said: Any, name: str, default: int) -> tuple[int, int]:
    """A parameter for both sides: kernel_h and kernel_w, or kernel_size once or twice."""
    by_side = name.removesuffix("_size")
    if by_side != "dilation" and any(said.HasField(f"{by_side}_{side}") for side in "hw"):
        return getattr(said, f"{by_side}_h"), getattr(said, f"{by_side}_w")
    value = getattr(said, name)
    values = [value] if isinstance(value, int) else list(value) or [default]
    return values[0], values[-1]


def _convolution(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    said = layer.convolution_param
    kernel = torch.from_numpy(blobs[0])
    depthwise = layer.type != "Convolution" and not said.HasField("group")
    return F.conv2d(
        inputs[0],
        kernel,
        torch.from_numpy(blobs[1]).flatten() if said.bias_term else None,
        stride=_sides(said, "stride", 1),
        padding=_sides(said, "pad", 0),
        dilation=_sides(said, "dilation", 1),
        groups=inputs[0].shape[1] if depthwise else said.group,
    )


def _pooling(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    """torch's ceil mode is Caffe's: up, without a window that begins in the padding."""
    said = layer.pooling_param
    return F.max_pool2d(
        inputs[0],
        _sides(said, "kernel_size", 0),
        _sides(said, "stride", 1),
        _sides(said, "pad", 0),
        ceil_mode=True,
    )


def _relu(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    return F.leaky_relu(inputs[0], layer.relu_param.negative_slope)


def _per_channel(values: Array) -> Tensor:
    return torch.from_numpy(values.reshape(1, -1, 1, 1))


def _batch_norm(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    mean, variance, count = blobs
    by = 0.0 if count.item() == 0 else 1 / count.item()
    epsilon: float = layer.batch_norm_param.eps
    deviation = (_per_channel(variance * by) + epsilon).sqrt()
    return (inputs[0] - _per_channel(mean * by)) / deviation


def _scale(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    scaled = inputs[0] * _per_channel(blobs[0])
    return scaled + _per_channel(blobs[1]) if layer.scale_param.bias_term else scaled


def _bias(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    return inputs[0] + _per_channel(blobs[0])


def _normalize(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    said = layer.norm_param
    axes = (1, 2, 3) if said.across_spatial else (1,)
    epsilon: float = said.eps
    length = (inputs[0].pow(2).sum(axes, keepdim=True) + epsilon).pow(0.5)
    return inputs[0] / length * _per_channel(blobs[0])


def _permute(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    order = list(layer.permute_param.order)
    return inputs[0].permute(order + [axis for axis in range(4) if axis not in order])


def _flatten(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    return inputs[0].flatten(layer.flatten_param.axis, layer.flatten_param.end_axis)


def _reshape(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    said, old = layer.reshape_param, list(inputs[0].shape)
    start = said.axis if said.axis >= 0 else len(old) + said.axis + 1
    end = len(old) if said.num_axes == -1 else start + said.num_axes
    new = [old[start + i] if dim == 0 else dim for i, dim in enumerate(said.shape.dim)]
    return inputs[0].reshape(old[:start] + new + old[end:])


def _softmax(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    return inputs[0].softmax(layer.softmax_param.axis)


def _sigmoid(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    return inputs[0].sigmoid()


def _same(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    return inputs[0]


def _prior_box(layer: Layer, inputs: list[Tensor], blobs: Blobs) -> Tensor:
    """``[1, 2, 4 n]``: corners, then variances, in single precision as Caffe computes them."""
    said = layer.prior_box_param
    rows, columns = inputs[0].shape[2:]
    height, width = said.img_h or said.img_size, said.img_w or said.img_size
    if not (height and width):
        height, width = inputs[1].shape[2:]
    step_h, step_w = said.step_h or said.step, said.step_w or said.step
    if not (step_h and step_w):
        step_h, step_w = height / rows, width / columns
    ratios = [1.0]
    for ratio in said.aspect_ratio:
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if said.flip else [ratio]
    boxes = []
    for row in range(rows):
        for column in range(columns):
            cx, cy = (column + said.offset) * step_w, (row + said.offset) * step_h
            for i, least in enumerate(map(int, said.min_size)):
                sides = [(least, least)]
                if said.max_size:
                    middle = (least * int(said.max_size[i])) ** 0.5
                    sides.append((middle, middle))
                sides += [(least * r**0.5, least / r**0.5) for r in ratios[1:]]
                boxes += [(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2) for w, h in sides]
    corners = torch.tensor(boxes, dtype=torch.float64) / torch.tensor(
        [width, height, width, height]
    )
    if said.clip:
        corners = corners.clamp(0, 1)
    variances = list(said.variance) or [0.1]
    spread = torch.tensor(variances * 4 if len(variances) == 1 else variances)
    return torch.stack([corners.float().flatten(), spread.repeat(len(boxes))])[None]


_RULES: dict[str, Callable[[Layer, list[Tensor], Blobs], Tensor]] = {
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "Convolution": _convolution,
    "ConvolutionDepthwise": _convolution,
    "DepthwiseConvolution": _convolution,
    "Dropout": _same,
    "Flatten": _flatten,
    "Normalize": _normalize,
    "Permute": _permute,
    "Pooling": _pooling,
    "PriorBox": _prior_box,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Scale": _scale,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Split": _same,
}
