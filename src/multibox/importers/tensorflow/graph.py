"""A frozen TensorFlow graph: nodes by name, the edges between them, and the constants in it."""

import math
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from multibox import limits
from multibox.errors import InputError
from multibox.importers.tensorflow.schema import graph_message

Array = npt.NDArray[Any]

# DataType of tensorflow/core/framework/types.proto, and where TensorProto keeps loose values.
TYPES: dict[int, tuple[type[np.generic], str]] = {
    1: (np.float32, "float_val"),
    2: (np.float64, "double_val"),
    3: (np.int32, "int_val"),
    9: (np.int64, "int64_val"),
    10: (np.bool_, "bool_val"),
    19: (np.float16, "half_val"),
}
_PASSED_THROUGH = frozenset(("Identity", "StopGradient", "CheckNumerics", "Snapshot"))


class Output(NamedTuple):
    """One output of a node: "Postprocessor/Decode/unstack" and 2."""

    node: str
    port: int = 0


class Node(NamedTuple):
    """An operation, what flows into it (control edges left out) and its attributes."""

    name: str
    op: str
    inputs: tuple[Output, ...]
    attributes: dict[str, Any]

    def integer(self, attribute: str, default: int = 0) -> int:
        """A whole number, a DataType or a flag."""
        value = self.attributes.get(attribute)
        if value is None:
            return default
        return int(value.b or value.type or value.i)

    def integers(self, attribute: str) -> tuple[int, ...]:
        """A list of whole numbers; empty where there is none."""
        value = self.attributes.get(attribute)
        return () if value is None else tuple(value.list.i)

    def number(self, attribute: str, default: float) -> float:
        """A float, as the shortest decimal that its 32 bits stand for."""
        value = self.attributes.get(attribute)
        return default if value is None else float(str(np.float32(value.f)))

    def text(self, attribute: str, default: str) -> str:
        """A string."""
        value = self.attributes.get(attribute)
        return default if value is None else value.s.decode("utf-8", "replace")


class Graph:
    """The graph in a file.

    Raises: InputError when the file is no GraphDef, is cut short, or has an edge from nowhere.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes = {node.name: node for node in _read_nodes(path)}
        self._check_repeated()
        self._users: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes.values():
            for name in {source.node for source in node.inputs}:
                if name not in self.nodes:
                    raise self.refusal(f"{node.name!r} takes {name!r}, which is not there: damaged")
                self._users[name].append(node)

    def _check_repeated(self) -> None:
        """A constant may say that it is one number a million times, in a few bytes."""
        made = 0
        for node in self.nodes.values():
            value = node.attributes.get("value")
            if value is not None and value.HasField("tensor"):
                sides = [max(dim.size, 0) for dim in value.tensor.shape.dim]
                made += 0 if value.tensor.content else min(math.prod(sides), 1 << 62)
        if made > limits.GRAPH_ELEMENTS:
            what = limits.beyond(made, limits.GRAPH_ELEMENTS)
            raise self.refusal(f"constants of {made:,} repeated numbers{what}")

    def refusal(self, reason: str) -> InputError:
        """An error to raise about this file."""
        return InputError(f"{self.path}: {reason[:500]}")  # the names of its nodes may be long

    def source(self, output: Output) -> Output:
        """Where a value comes from, seen through operations that hand it on unchanged."""
        for _ in range(len(self.nodes)):
            node = self.nodes[output.node]
            if node.op not in _PASSED_THROUGH or not node.inputs:
                break
            output = node.inputs[0]
        return output

    def input(self, node: Node, index: int) -> Output:
        """The source of a node's input."""
        if index >= len(node.inputs):
            raise self.refusal(f"{node.name!r} ({node.op}) lacks an input: damaged")
        return self.source(node.inputs[index])

    def behind(self, *names: str) -> Iterator[Node]:
        """Every node that depends on one of those named, each once, the nearest first."""
        seen = set(names)
        level = list(names)
        while level:
            users = {user.name: user for name in level for user in self._users.get(name, ())}
            level = [name for name in users if name not in seen]
            seen.update(level)
            yield from (users[name] for name in level)

    def before(self, name: str) -> Iterator[Node]:
        """A node and every other that it depends on, each once."""
        seen: set[str] = set()
        left = [name]
        while left:
            name = left.pop()
            if name in seen:
                continue
            seen.add(name)
            yield self.nodes[name]
            left += [source.node for source in self.nodes[name].inputs]

    def is_fixed(self, output: Output) -> bool:
        """Whether a value depends on constants alone."""
        return output.node not in self._moving

    @cached_property
    def _moving(self) -> frozenset[str]:
        """The nodes that depend on the picture, or on weights that are not in the file."""
        sources = [n.name for n in self.nodes.values() if not n.inputs and n.op != "Const"]
        return frozenset((*sources, *(node.name for node in self.behind(*sources))))

    def constant(self, output: Output) -> Array | None:
        """The value of a Const node, or None where the output is of another kind.

        Raises: InputError when its bytes do not fill its shape.
        """
        node = self.nodes[self.source(output).node]
        value = node.attributes.get("value")
        if node.op != "Const" or value is None or value.tensor.dtype not in TYPES:
            return None
        try:
            return _array(value.tensor)
        except (ValueError, OverflowError) as error:
            raise self.refusal(f"the constant {node.name!r} is damaged: {error}") from None


def _read_nodes(path: Path) -> Iterator[Node]:
    message = graph_message()()
    if path.is_dir():
        raise InputError(
            f"{path}: is a folder, a SavedModel perhaps: give the frozen graph, a .pb file"
        )
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        size = path.stat().st_size
        if size > limits.PROTOBUF_BYTES:
            raise InputError(f"{path}: is no TensorFlow graph: {size:,} bytes are too many for any")
        if size > limits.GRAPH_BYTES:
            raise InputError(
                f"{path}: {limits.too_large('a frozen graph', size, limits.GRAPH_BYTES)}"
            )
        content = path.read_bytes()
        if content[4:8] == b"TFL3":
            raise InputError(
                f"{path}: is a TFLite file, which has no frozen graph in it: give the "
                "frozen_inference_graph.pb it was made from"
            )
        message.ParseFromString(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except DecodeError:
        raise InputError(
            f"{path}: is no TensorFlow graph (GraphDef), or is cut short: give the whole "
            "frozen_inference_graph.pb"
        ) from None
    if not message.node:
        raise InputError(
            f"{path}: has no nodes: not a frozen TensorFlow graph; a saved_model.pb has to be "
            "frozen first"
        )
    for node in message.node:
        inputs = [_output(name) for name in node.input if not name.startswith(b"^")]
        yield Node(
            _text(node.name),
            _text(node.op),
            tuple(inputs),
            {_text(attr.key): attr.value for attr in node.attr},
        )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _output(name: bytes) -> Output:
    node, _, port = _text(name).rpartition(":")
    if node and port.isdecimal() and len(port) < 5:
        return Output(node, int(port))
    return Output(_text(name))


def _array(tensor: Any) -> Array:
    kind, field = TYPES[tensor.dtype]
    shape = tuple(dim.size for dim in tensor.shape.dim)
    count = math.prod(shape)
    if min(shape, default=0) < 0:
        raise ValueError(f"a shape of {shape}")
    if tensor.content:
        values = np.frombuffer(tensor.content, np.dtype(kind).newbyteorder("<")).astype(kind)
    else:
        values = np.array(getattr(tensor, field), np.uint16 if kind is np.float16 else kind)
        values = values.view(kind)
        # Of equal values at the end, the last is written once.
        if 0 < len(values) < count:
            values = np.concatenate([values, np.full(count - len(values), values[-1])])
        elif not len(values):
            values = np.zeros(count, kind)
    if len(values) != count:
        raise ValueError(f"{len(values)} values for a shape of {shape}")
    return values.reshape(shape)
