"""Protobuf messages from a few lines of text, for the formats whose own packages are too much.

Only the listed fields are looked at; a message that is written again keeps the others as they were.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto


class Schema:
    """Messages made at run time.

    ``messages`` lists the fields of each as "name number type" and, where it is not nothing,
    "= default"; a star after the type marks a repeated field. ``enums`` are values by name.
    """

    def __init__(
        self,
        package: str,
        messages: Mapping[str, Sequence[str]],
        enums: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self._package = f"multibox.{package}"
        self._messages = messages
        self._enums = enums or {}
        file = descriptor_pb2.FileDescriptorProto(
            name=f"multibox_{package}.proto", package=self._package
        )
        for enum_name, values in self._enums.items():
            enum = file.enum_type.add(name=enum_name)
            for value, number in values.items():
                enum.value.add(name=value, number=number)
        for name, fields in messages.items():
            file.message_type.add(name=name).field.extend(self._field(text) for text in fields)
        # A pool of its own, so that a program that has the real messages can use both.
        self._pool = descriptor_pool.DescriptorPool()
        self._pool.AddSerializedFile(file.SerializeToString())

    def message(self, name: str) -> Any:
        """The class of the message ``name``."""
        descriptor = self._pool.FindMessageTypeByName(f"{self._package}.{name}")
        return message_factory.GetMessageClass(descriptor)

    def _field(self, text: str) -> descriptor_pb2.FieldDescriptorProto:
        declared, _, default = text.partition(" = ")
        name, number, kind = declared.split()
        repeated, kind = kind.endswith("*"), kind.rstrip("*")
        field = _Field(name=name, number=int(number))
        field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        if kind in self._messages or kind in self._enums:
            field.type = _Field.TYPE_ENUM if kind in self._enums else _Field.TYPE_MESSAGE
            field.type_name = f".{self._package}.{kind}"
        else:
            field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")
        if default:
            field.default_value = default
        return field
