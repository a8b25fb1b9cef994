"""What the parameters of convolutions and poolings say, with Caffe's several ways to say it."""

from typing import Any, NamedTuple

from multibox.importers.caffe.graph import Layer

Pair = tuple[int, int]


class Convolution(NamedTuple):
    """A convolution's parameters, pairs down and across."""

    outputs: int
    kernel: Pair
    stride: Pair
    pad: Pair
    dilation: Pair
    groups: int
    bias: bool


class Pooling(NamedTuple):
    """A pooling's parameters, pairs down and across."""

    kernel: Pair
    stride: Pair
    pad: Pair


def convolution(layer: Layer, channels: int) -> Convolution:
    """The parameters of a convolution that reads ``channels`` channels.

    Raises: InputError when they contradict each other.
    """
    said = layer.parameters.convolution_param
    per_channel = layer.type != "Convolution" and not said.HasField("group")
    read = Convolution(
        outputs=said.num_output or (channels if layer.type != "Convolution" else 0),
        kernel=_pair(layer, said, "kernel_size", "kernel", 0),
        stride=_pair(layer, said, "stride", "stride", 1),
        pad=_pair(layer, said, "pad", "pad", 0),
        dilation=_pair(layer, said, "dilation", None, 1),
        groups=channels if per_channel else said.group,
        bias=said.bias_term,
    )
    if min(read.outputs, *read.kernel, *read.stride, *read.dilation, read.groups) < 1:
        raise layer.refused(
            "num_output, kernel_size, stride, dilation and group must be at least 1"
        )
    if channels % read.groups or read.outputs % read.groups:
        raise layer.refused(
            f"group {read.groups} does not divide {channels} inputs and {read.outputs} outputs"
        )
    if said.axis != 1:
        raise layer.refused(f"axis {said.axis} is not supported, only 1")
    return read


def pooling(layer: Layer) -> Pooling:
    """The parameters of a max pooling.

    Raises: InputError when it is of another kind.
    """
    said = layer.parameters.pooling_param
    if said.pool != 0 or said.global_pooling:
        raise layer.refused("only max pooling with a window is supported")
    read = Pooling(
        kernel=_pair(layer, said, "kernel_size", "kernel", 0),
        stride=_pair(layer, said, "stride", "stride", 1),
        pad=_pair(layer, said, "pad", "pad", 0),
    )
    if min(*read.kernel, *read.stride) < 1:
        raise layer.refused("kernel_size and stride must be at least 1")
    return read


def _pair(layer: Layer, said: Any, name: str, by_side: str | None, default: int) -> Pair:
    """One number for both sides, a number for each, or fields ending in _h and _w."""
    if by_side is not None and (said.HasField(f"{by_side}_h") or said.HasField(f"{by_side}_w")):
        return getattr(said, f"{by_side}_h"), getattr(said, f"{by_side}_w")
    value = getattr(said, name)
    if isinstance(value, int):
        return value, value
    if len(value) > 2:
        raise layer.refused(f"{name} has {len(value)} values, expected one or two")
    values = list(value) or [default]
    return values[0], values[-1]
