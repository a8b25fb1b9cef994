"""Asking a graph what it computes: its nodes carried out one by one, in NumPy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from multibox import limits
from multibox.importers.tensorflow.graph import TYPES, Array, Graph, Node, Output

Operation = Callable[[Node, Sequence[Array]], Array | Sequence[Array]]


class NotComputable(Exception):
    """A value depends on something that is not given, or on an operation unknown here."""


def evaluate(
    graph: Graph,
    wanted: Sequence[Output],
    given: Mapping[Output, Array],
    *,
    shapes: Mapping[Output, tuple[int, ...]] | None = None,
    operations: Mapping[str, Operation] | None = None,
    most: float = limits.GRAPH_ELEMENTS,
) -> list[Array]:
    """The values of ``wanted``, where the values of ``given`` are what they are.

    ``shapes`` answer the graph's questions for the shape of values that are not known themselves.
    ``operations`` are carried out beside those of :data:`OPERATIONS`. ``most`` is how many numbers
    they may make in all.

    Raises: NotComputable with the node's name and the reason.
    """
    known = OPERATIONS if operations is None else {**OPERATIONS, **operations}
    values = {graph.source(output): (value,) for output, value in given.items()}
    fed = {output: value[0] for output, value in values.items()}
    sizes = {graph.source(output): shape for output, shape in (shapes or {}).items()}
    done: dict[str, tuple[Array, ...]] = {}
    made = 0

    def value(output: Output) -> Array:
        if output in fed:
            return fed[output]
        results = done[output.node]
        if output.port >= len(results):
            raise NotComputable(f"{output.node!r} has no output {output.port}")
        return results[output.port]

    waiting = [graph.source(output) for output in wanted]
    begun: set[str] = set()
    while waiting:
        output = waiting[-1]
        node = graph.nodes[output.node]
        if output in fed or node.name in done:
            waiting.pop()
            continue
        inputs = [graph.source(source) for source in node.inputs]
        if node.op == "Shape" and inputs and inputs[0] in sizes:
            done[node.name] = (np.array(sizes[inputs[0]], np.int32),)
            continue
        missing = [source for source in inputs if source not in fed and source.node not in done]
        if not missing:
            results = _carry_out(graph, node, [value(source) for source in inputs], known)
            done[node.name] = results
            made += 0 if node.op == "Const" else sum(result.size for result in results)
            if made > most:
                raise NotComputable(f"{node.name!r} ({node.op}): more than {most:,} numbers")
        elif node.name in begun:
            raise NotComputable(f"{node.name!r} depends on itself")
        else:
            begun.add(node.name)
            waiting += missing
    return [value(graph.source(output)) for output in wanted]


def fixed_value(graph: Graph, output: Output) -> Array:
    """A value that depends on constants alone, as float32.

    Raises: InputError where it cannot be computed or is not finite.
    """
    try:
        (value,) = evaluate(graph, [output], {})
    except NotComputable as error:
        raise graph.refusal(f"has an operation that is not known: {error}") from None
    if not np.isfinite(value).all():
        raise graph.refusal(f"{output.node!r} has values that are not finite: damaged")
    return value.astype(np.float32)


def _carry_out(
    graph: Graph, node: Node, inputs: Sequence[Array], operations: Mapping[str, Operation]
) -> tuple[Array, ...]:
    constant = graph.constant(Output(node.name))
    if constant is not None:
        return (constant,)
    if node.op not in operations:
        raise NotComputable(f"{node.name!r} is a {node.op}")
    try:
        with np.errstate(all="ignore"):
            result = operations[node.op](node, inputs)
    except (ValueError, IndexError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise NotComputable(f"{node.name!r} ({node.op}): {error}") from None
    return tuple(result) if isinstance(result, list | tuple) else (np.asarray(result),)


def _at_most(count: float) -> None:
    if not 0 <= count <= limits.GRAPH_ELEMENTS:
        raise ValueError(f"{count} elements")


def _binary(function: Callable[[Any, Any], Any]) -> Operation:
    def operation(node: Node, inputs: Sequence[Array]) -> Array:
        first, second = inputs
        _at_most(float(np.prod(np.broadcast_shapes(first.shape, second.shape), dtype=float)))
        return np.asarray(function(first, second))

    return operation


def _unary(function: Callable[[Any], Any]) -> Operation:
    return lambda node, inputs: np.asarray(function(inputs[0]))


def _strided_slice(node: Node, inputs: Sequence[Array]) -> Array:
    value, *ends = inputs
    begin, end, stride = (part.tolist() for part in ends)
    if node.integer("ellipsis_mask"):
        raise ValueError("has an ellipsis")
    index: list[Any] = []
    for i in range(len(begin)):
        bit = 1 << i
        if node.integer("new_axis_mask") & bit:
            index.append(None)
        elif node.integer("shrink_axis_mask") & bit:
            index.append(begin[i])
        else:
            first = None if node.integer("begin_mask") & bit else begin[i]
            last = None if node.integer("end_mask") & bit else end[i]
            index.append(slice(first, last, stride[i]))
    return np.asarray(value[tuple(index)])


def _slice(node: Node, inputs: Sequence[Array]) -> Array:
    value, begin, size = inputs
    return value[
        tuple(
            slice(b, None if s < 0 else b + s)
            for b, s in zip(begin.tolist(), size.tolist(), strict=True)
        )
    ]


def _range(node: Node, inputs: Sequence[Array]) -> Array:
    start, limit, delta = inputs
    _at_most(abs(float((limit - start) / delta)))
    return np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _tile(node: Node, inputs: Sequence[Array]) -> Array:
    value, times = inputs
    _at_most(value.size * float(np.prod(times, dtype=float)))
    return np.tile(value, times.tolist())


def _fill(node: Node, inputs: Sequence[Array]) -> Array:
    shape, value = inputs
    _at_most(float(np.prod(shape, dtype=float)))
    return np.full(shape.tolist(), value)


def _unpack(node: Node, inputs: Sequence[Array]) -> list[Array]:
    return list(np.moveaxis(inputs[0], node.integer("axis"), 0))


def _squeeze(node: Node, inputs: Sequence[Array]) -> Array:
    return np.squeeze(inputs[0], node.integers("squeeze_dims") or None)


def _concat(node: Node, inputs: Sequence[Array]) -> Array:
    *values, axis = inputs
    return np.concatenate(values, int(axis))


OPERATIONS: dict[str, Operation] = {
    "Add": _binary(np.add),
    "AddV2": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "RealDiv": _binary(np.divide),
    "Minimum": _binary(np.minimum),
    "Maximum": _binary(np.maximum),
    "Exp": _unary(np.exp),
    "Sqrt": _unary(np.sqrt),
    "Rsqrt": _unary(lambda x: 1 / np.sqrt(x)),
    "Neg": _unary(np.negative),
    "Rank": _unary(lambda x: np.int32(x.ndim)),
    "Shape": _unary(lambda x: np.array(x.shape, np.int32)),
    "Size": _unary(lambda x: np.int32(x.size)),
    "ZerosLike": _unary(np.zeros_like),
    "Cast": lambda node, inputs: inputs[0].astype(TYPES[node.integer("DstT")][0]),
    "ConcatV2": _concat,
    "ExpandDims": lambda node, inputs: np.expand_dims(inputs[0], int(inputs[1])),
    "Fill": _fill,
    "GatherV2": lambda node, inputs: np.take(inputs[0], inputs[1], int(inputs[2])),
    "Pack": lambda node, inputs: np.stack(inputs, node.integer("axis")),
    "Range": _range,
    "Reshape": lambda node, inputs: inputs[0].reshape(inputs[1].tolist()),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "Transpose": lambda node, inputs: inputs[0].transpose(inputs[1].tolist()),
    "Unpack": _unpack,
}
"""What an operation of that name makes of a node and its inputs: one value, or a list of them."""
