"""The layers between the picture and the deepest feature map, as one chain of steps."""

from collections.abc import Sequence
from typing import NamedTuple

from multibox.importers.caffe.graph import CONVOLUTIONS, NORMS, Blob, Layer
from multibox.importers.caffe.layers import Convolution, Pooling, convolution, pooling
from multibox.importers.caffe.shapes import Shapes


class ConvolutionStep(NamedTuple):
    """A convolution, the norm behind it, and whether a ReLU follows."""

    layer: Layer
    parameters: Convolution
    norms: tuple[Layer, ...]
    activated: bool
    output: Blob


class PoolingStep(NamedTuple):
    """A max pooling."""

    layer: Layer
    parameters: Pooling
    output: Blob


Step = ConvolutionStep | PoolingStep


def follow(deepest: Blob, data: Blob, shapes: Shapes) -> list[Step]:
    """The steps that lead from ``data`` to ``deepest``.

    Raises: InputError when another kind of layer, a branch or another input is on the way.
    """
    if deepest is data:
        raise data.maker.refused("heads read the picture itself")
    steps: list[Step] = []
    blob = deepest
    while blob is not data:
        step, blob = _step(blob, data, shapes)
        steps.append(step)
    return steps[::-1]


def _step(output: Blob, data: Blob, shapes: Shapes) -> tuple[Step, Blob]:
    """The step that makes ``output``, and the blob it reads."""
    layer = output.maker
    if layer.type == "Pooling":
        return PoolingStep(layer, pooling(layer), output), layer.input
    activated = layer.type == "ReLU"
    if activated:
        slope = layer.parameters.relu_param.negative_slope
        if slope:
            raise layer.refused(f"negative_slope {slope:g} is not supported, only 0")
        layer = _behind(layer, data)
    norms: list[Layer] = []
    while layer.type in NORMS:
        norms.append(layer)
        layer = _behind(layer, data)
    if layer.type not in CONVOLUTIONS:
        raise layer.refused(
            "is not supported between the picture and the feature maps; supported are VGG-16 and "
            "MobileNetV1 made of Convolution, BatchNorm, Scale, ReLU and max Pooling"
        )
    channels, _, _ = shapes.map(layer.input)
    read = convolution(layer, channels)
    return ConvolutionStep(layer, read, tuple(reversed(norms)), activated, output), layer.input


def _behind(layer: Layer, data: Blob) -> Layer:
    if layer.input is data:
        raise layer.refused("stands where the first convolution is expected")
    return layer.input.maker


def expect_convolution(steps: Sequence[Step], index: int, wanted: Convolution, what: str) -> None:
    """Raise InputError unless step ``index`` is that convolution (with or without bias) and a ReLU.

    ``what`` names it in the network that was expected.
    """
    if index >= len(steps):
        raise steps[-1].layer.refused(f"is the last layer of the chain, but {what} is missing")
    step = steps[index]
    if isinstance(step, PoolingStep):
        raise step.layer.refused(f"stands where {what} is expected")
    # The bias may be there or not: without one it is zero, or the norm's.
    for name, field in _FIELDS.items():
        found, right = getattr(step.parameters, field), getattr(wanted, field)
        if found != right:
            raise step.layer.refused(f"{name} is {_said(found)}, but {what} has {_said(right)}")
    if not step.activated:
        raise step.layer.refused("has no ReLU behind it before its feature map is read")


# Caffe's name and ours.
_FIELDS = {
    "num_output": "outputs",
    "kernel_size": "kernel",
    "stride": "stride",
    "pad": "pad",
    "dilation": "dilation",
    "group": "groups",
}


def _said(value: int | tuple[int, int]) -> str:
    if isinstance(value, tuple):
        return str(value[0]) if value[0] == value[1] else f"{value[0]}x{value[1]}"
    return str(value)


def wanted_convolution(
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    pad: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Convolution:
    """Parameters of a square convolution, for comparison."""
    return Convolution(
        outputs,
        (kernel, kernel),
        (stride, stride),
        (pad, pad),
        (dilation, dilation),
        groups,
        bias=True,
    )
