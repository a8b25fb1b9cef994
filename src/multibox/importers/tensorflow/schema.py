"""The parts of TensorFlow's GraphDef that a frozen graph uses, as a protobuf schema made here.

Field numbers are those of tensorflow/core/framework: graph.proto, node_def.proto, attr_value.proto,
tensor.proto, tensor_shape.proto. Fields that are not listed are skipped when a file is read.
"""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "multibox.tensorflow"
# Of every message: the fields' names, numbers, kinds; "*" is repeated, a capital is a message.
_MESSAGES = {
    "Dim": ("size 1 int64",),
    "Shape": ("dim 2 *Dim", "unknown_rank 3 bool"),
    "Tensor": (
        "dtype 1 int32",
        "shape 2 Shape",
        "content 4 bytes",
        "float_val 5 *float",
        "double_val 6 *double",
        "int_val 7 *int32",
        "string_val 8 *bytes",
        "int64_val 10 *int64",
        "bool_val 11 *bool",
        "half_val 13 *int32",
    ),
    "List": ("i 3 *int64",),
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
    "Node": ("name 1 bytes", "op 2 bytes", "input 3 *bytes", "attr 5 *NamedAttr"),
    "Library": ("function 1 *bytes",),
    "Graph": ("node 1 *Node", "library 2 Library"),
}


@cache
def graph_message() -> Any:
    """The class of a GraphDef message.

    Its descriptors live in a pool of their own, so that TensorFlow may be loaded beside it.
    """
    # The syntax of proto2: its messages tell a flag that is false from one that is not there.
    file = descriptor_pb2.FileDescriptorProto(name="multibox/tensorflow.proto", package=_PACKAGE)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for line in fields:
            field, number, kind = line.split()
            _add_field(message, field, int(number), kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Graph"))


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
    kind = kind.removeprefix("*")
    if kind[0].isupper():
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
