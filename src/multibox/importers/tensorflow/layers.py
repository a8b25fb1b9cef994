"""Convolution layers of a graph, read from their last operation backwards."""

from typing import NamedTuple

import numpy as np

from multibox.importers.tensorflow.evaluate import fixed_value
from multibox.importers.tensorflow.graph import Array, Graph, Node, Output

_CONVOLUTIONS = {"Conv2D": False, "DepthwiseConv2dNative": True}
_NORMS = frozenset(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"))
_ACTIVATIONS = {"Relu": "relu", "Relu6": "relu6"}
_MOST_LAYERS = 200


class Norm(NamedTuple):
    """Batch normalisation: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``."""

    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    epsilon: float


class Layer(NamedTuple):
    """A convolution with what follows it; ``kernel`` is ``[out, in / groups, h, w]``."""

    name: str
    source: Output
    kernel: Array
    depthwise: bool
    stride: int
    norm: Norm | None
    bias: Array
    activation: str | None
    shortcut: Output | None
    """What is added to the result (MobileNetV2's inverted residual)."""

    @property
    def channels(self) -> int:
        """Of the result."""
        return int(self.kernel.shape[0])

    @property
    def kind(self) -> str:
        """In words: "depthwise 3x3 to 576 channels, stride 2"."""
        depthwise = "depthwise " if self.depthwise else ""
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        rows, columns = self.kernel.shape[2:]
        return f"{depthwise}{rows}x{columns} to {self.channels} channels{stride}"


def read_chain(graph: Graph, last: Output, first: Output | None = None) -> list[Layer]:
    """The layers that lead to ``last`` from ``first``, in their order.

    Without ``first``, as far back as there are convolutions.

    Raises: InputError where something else than convolutions is between them.
    """
    layers: list[Layer] = []
    output = graph.source(last)
    while output != first:
        if first is None and not ends_in_convolution(graph, output):
            break
        if len(layers) == _MOST_LAYERS:
            raise graph.refusal("its layers form a ring, or are too many: damaged")
        layers.append(read_layer(graph, output))
        output = layers[-1].source
    return layers[::-1]


def read_layer(graph: Graph, output: Output) -> Layer:
    """The layer whose result is ``output``.

    Raises: InputError where it is no convolution, or one of a kind that no detector read here has.
    """
    node = graph.nodes[graph.source(output).node]
    activation = _ACTIVATIONS.get(node.op)
    if activation:
        node = _before(graph, node)
    shortcut = None
    if node.op in ("Add", "AddV2") and _constant_side(graph, node) is None:
        node, shortcut = _residual(graph, node)
    name = node.name
    scale, shift = np.ones(1, np.float32), np.zeros(1, np.float32)
    norm = None
    while node.op not in _CONVOLUTIONS:
        if node.op in _NORMS and node.name == name:
            norm = _read_norm(graph, node)
            node = _before(graph, node)
            continue
        side = _constant_side(graph, node)
        # Normalisation comes last, and beside it there is neither a bias nor a factor.
        if norm is not None or side is None:
            raise graph.refusal(_unexpected(graph, name, node))
        # Normalisation that was folded, or written out as a product and a sum.
        constant = fixed_value(graph, node.inputs[side]).reshape(-1)
        if len({constant.size, scale.size, shift.size} - {1}) > 1:
            raise graph.refusal(f"{node.name!r} does not fit what is behind it: damaged")
        if node.op == "Mul":
            scale = scale * constant
        else:
            shift = shift + scale * constant
        node = graph.nodes[graph.input(node, 1 - side).node]
    kernel = _read_kernel(graph, node)
    channels = kernel.shape[0]
    for values in norm[:4] if norm else (scale, shift):
        if values.size not in (1, channels) or not np.isfinite(values).all():
            raise graph.refusal(f"{name!r} does not fit its convolution, or is not finite: damaged")
    if norm is not None and not (norm.variance + norm.epsilon > 0).all():
        raise graph.refusal(f"{name!r} normalises by variances that are not positive: damaged")
    return Layer(
        name=node.name,
        source=graph.input(node, 0),
        kernel=kernel * scale.reshape(-1, 1, 1, 1),
        depthwise=_CONVOLUTIONS[node.op],
        stride=_stride(graph, node),
        norm=norm,
        bias=np.broadcast_to(shift.reshape(-1), channels).astype(np.float32),
        activation=activation,
        shortcut=shortcut,
    )


def _before(graph: Graph, node: Node) -> Node:
    return graph.nodes[graph.input(node, 0).node]


def ends_in_convolution(graph: Graph, output: Output) -> bool:
    """Whether a value comes from a layer, not from the picture."""
    node = graph.nodes[output.node]
    return _convolution_before(graph, output) is not None or node.op in ("Add", "AddV2")


def _convolution_before(graph: Graph, output: Output) -> Node | None:
    """The convolution that a layer without a shortcut begins with; None for anything else."""
    for _ in range(6):
        node = graph.nodes[output.node]
        if node.op in _CONVOLUTIONS:
            return node
        side = _constant_side(graph, node)
        if node.op not in _NORMS | _ACTIVATIONS.keys() and side is None:
            return None
        output = graph.input(node, 0 if side is None else 1 - side)
    return None


def _constant_side(graph: Graph, node: Node) -> int | None:
    """Which input of a product or sum is constant; None for other operations."""
    if node.op not in ("Add", "AddV2", "BiasAdd", "Mul") or len(node.inputs) != 2:
        return None
    return next((side for side in (1, 0) if graph.is_fixed(node.inputs[side])), None)


def _residual(graph: Graph, node: Node) -> tuple[Node, Output]:
    """The end of the longer of two ways that meet in a sum, and where the shorter one comes from.

    An inverted residual adds its input, which its own three layers also start from.
    """
    sides = [graph.input(node, side) for side in (0, 1)]
    for long, short in (sides, sides[::-1]):
        output = long
        for _ in range(3):
            convolution = _convolution_before(graph, output)
            if convolution is None:
                break
            output = graph.input(convolution, 0)
            if output == short:
                return graph.nodes[long.node], short
    raise graph.refusal(f"{node.name!r} adds what no inverted residual adds: not a MobileNet")


def _read_norm(graph: Graph, node: Node) -> Norm:
    values = [_constant(graph, node, index) for index in (1, 2, 3, 4)]
    gamma, beta, mean, variance = values
    return Norm(gamma, beta, mean, variance, node.number("epsilon", 1e-4))


def _read_kernel(graph: Graph, node: Node) -> Array:
    kernel = _constant(graph, node, 1)
    data_format = node.text("data_format", "NHWC")
    padding = node.text("padding", "")
    dilated = any(value != 1 for value in node.integers("dilations"))
    # A 1x1 window needs no padding.
    padded = padding == "SAME" or (padding == "VALID" and kernel.shape[:2] == (1, 1))
    if kernel.ndim != 4 or data_format != "NHWC" or not padded or dilated:
        raise graph.refusal(
            f"the convolution {node.name!r} has {kernel.ndim} axes, layout {data_format}, padding "
            f"{padding or 'none'}{', gaps' if dilated else ''}: only NHWC with SAME padding is read"
        )
    if node.op == "Conv2D":
        return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), np.float32)
    rows, columns, inputs, times = kernel.shape
    return np.ascontiguousarray(
        kernel.transpose(2, 3, 0, 1).reshape(inputs * times, 1, rows, columns), np.float32
    )


def _constant(graph: Graph, node: Node, index: int) -> Array:
    source = graph.nodes[graph.input(node, index).node]
    if not graph.is_fixed(Output(source.name)):
        raise graph.refusal(_unexpected(graph, node.name, source))
    return fixed_value(graph, Output(source.name))


def _unexpected(graph: Graph, name: str, node: Node) -> str:
    before = graph.nodes[graph.source(Output(node.name)).node]
    if before.op.startswith("Fake"):
        return "was trained for 8-bit arithmetic (FakeQuant), which is not imported"
    if before.op in ("VariableV2", "VarHandleOp", "ReadVariableOp", "Variable"):
        return "is not frozen: its weights are in a checkpoint beside it; freeze it first"
    return f"{name!r} comes from {before.name!r} ({before.op}), where a MobileNet has convolutions"


def _stride(graph: Graph, node: Node) -> int:
    strides = node.integers("strides") or (1, 1, 1, 1)
    if len(strides) != 4 or strides[1] != strides[2] or not 1 <= strides[1] <= 32:
        raise graph.refusal(f"the convolution {node.name!r} has strides of {strides}")
    return strides[1]
