"""A chain of big convolutions as an ONNX file in memory: what engines run at their best."""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from multibox.protobuf_schema import Schema

# The fields of onnx.proto that a small graph needs.
_SCHEMA = Schema(
    "benchmark_onnx",
    {
        "ModelProto": ["ir_version 1 int64", "opset_import 8 Opset*", "graph 7 Graph"],
        "Opset": ["domain 1 string", "version 2 int64"],
        "Graph": [
            "node 1 Node*",
            "name 2 string",
            "initializer 5 Tensor*",
            "input 11 Value*",
            "output 12 Value*",
        ],
        "Node": [
            "input 1 string*",
            "output 2 string*",
            "name 3 string",
            "op_type 4 string",
            "attribute 5 Attribute*",
        ],
        "Attribute": ["name 1 string", "i 3 int64", "ints 8 int64*", "type 20 int32"],
        "Tensor": ["dims 1 int64*", "data_type 2 int32", "name 8 string", "raw_data 9 bytes"],
        "Value": ["name 1 string", "type 2 Type"],
        "Type": ["tensor_type 1 TensorType"],
        "TensorType": ["elem_type 1 int32", "shape 2 Shape"],
        "Shape": ["dim 1 Dim*"],
        "Dim": ["dim_value 1 int64"],
    },
)
_TYPES = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int8): 3}
_INT, _INTS = 2, 7  # types of attributes: a whole number, a list of them
_LAYERS = 2  # what an engine does to its input and output is spread over these

Kind = Literal["float", "int8"]


class Convolutions(NamedTuple):
    """The file's bytes, an input for it ``[1, channels, side, side]``, and its multiply-adds."""

    model: bytes
    example: npt.NDArray[Any]
    multiply_adds: int


def convolutions(channels: int, side: int, kind: Kind) -> Convolutions:
    """3x3 convolutions, as many channels out as in, over ``side`` x ``side`` positions.

    "float" takes and gives float32; "int8" uint8, with int8 weights for each output channel.
    """
    model: Any = _SCHEMA.message("ModelProto")(ir_version=8)
    model.opset_import.add(domain="", version=13)
    graph = model.graph
    graph.name = "convolutions"
    rng = np.random.default_rng(0)
    shape = (channels, channels, 3, 3)
    name = "x0"
    dtype = np.dtype(np.float32 if kind == "float" else np.uint8)
    _value(graph.input, name, dtype, (1, channels, side, side))
    if kind == "int8":
        _constant(graph, "scale", np.array(1 / 32, np.float32))
        _constant(graph, "zero", np.array(128, np.uint8))
        # Sums keep the spread of what goes into them: 74 is that of the weights below.
        same = 1 / (74 * (9 * channels) ** 0.5)
        _constant(graph, "weight_scale", np.full(channels, same, np.float32))
        _constant(graph, "weight_zero", np.zeros(channels, np.int8))
    for i in range(_LAYERS):
        weight, after = f"weight{i}", f"x{i + 1}"
        if kind == "float":
            size = (2 / (9 * channels)) ** 0.5
            _constant(graph, weight, rng.normal(0, size, shape).astype(np.float32))
            _convolve(graph, name, weight, after)
        else:
            _constant(graph, weight, rng.integers(-127, 128, shape).astype(np.int8))
            _node(graph, "DequantizeLinear", (name, "scale", "zero"), f"real{i}")
            inputs = (weight, "weight_scale", "weight_zero")
            _node(graph, "DequantizeLinear", inputs, f"real_weight{i}", axis=0)
            _convolve(graph, f"real{i}", f"real_weight{i}", f"sum{i}")
            _node(graph, "QuantizeLinear", (f"sum{i}", "scale", "zero"), after)
        name = after
    _value(graph.output, name, dtype, (1, channels, side, side))
    example: npt.NDArray[Any] = (
        rng.normal(0, 1, (1, channels, side, side)).astype(np.float32)
        if kind == "float"
        else rng.integers(0, 256, (1, channels, side, side), np.uint8)
    )
    count = _LAYERS * 9 * channels**2 * side**2
    return Convolutions(model.SerializeToString(), example, count)


def _convolve(graph: Any, x: str, weight: str, y: str) -> None:
    _node(graph, "Conv", (x, weight), y, pads=(1, 1, 1, 1))


def _node(
    graph: Any, operator: str, inputs: tuple[str, ...], output: str, **attributes: Any
) -> None:
    node = graph.node.add(op_type=operator, input=inputs, output=[output], name=output)
    for name, value in attributes.items():
        if isinstance(value, int):
            node.attribute.add(name=name, i=value, type=_INT)
        else:
            node.attribute.add(name=name, ints=value, type=_INTS)


def _constant(graph: Any, name: str, array: npt.NDArray[Any]) -> None:
    graph.initializer.add(
        name=name, dims=array.shape, data_type=_TYPES[array.dtype], raw_data=array.tobytes()
    )


def _value(values: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    tensor = values.add(name=name).type.tensor_type
    tensor.elem_type = _TYPES[dtype]
    for size in shape:
        tensor.shape.dim.add(dim_value=size)
