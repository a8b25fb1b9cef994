"""The parts of TensorFlow's GraphDef that a frozen graph uses, as a protobuf schema made here.

Field numbers are those of tensorflow/core/framework: graph.proto, node_def.proto, attr_value.proto,
tensor.proto, tensor_shape.proto. Fields that are not listed are skipped when a file is read.
"""

from functools import cache
from typing import Any

from multibox.protobuf_schema import Schema

_MESSAGES = {
    "Dim": ("size 1 int64",),
    "Shape": ("dim 2 Dim*", "unknown_rank 3 bool"),
    "Tensor": (
        "dtype 1 int32",
        "shape 2 Shape",
        "content 4 bytes",
        "float_val 5 float*",
        "double_val 6 double*",
        "int_val 7 int32*",
        "string_val 8 bytes*",
        "int64_val 10 int64*",
        "bool_val 11 bool*",
        "half_val 13 int32*",
    ),
    "List": ("i 3 int64*",),
    "Attr": (
        "list 1 List",
        "s 2 bytes",
        "i 3 int64",
        "f 4 float",
        "b 5 bool",
        "type 6 int32",
        "shape 7 Shape",
        "tensor 8 Tensor",
    ),
    # A map on the wire is a repeated message of key and value.
    "NamedAttr": ("key 1 bytes", "value 2 Attr"),
    "Node": ("name 1 bytes", "op 2 bytes", "input 3 bytes*", "attr 5 NamedAttr*"),
    "Library": ("function 1 bytes*",),
    "Graph": ("node 1 Node*", "library 2 Library"),
}


@cache
def graph_message() -> Any:
    """The class of a GraphDef message."""
    return Schema("tensorflow", _MESSAGES).message("Graph")
