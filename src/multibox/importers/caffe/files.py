"""The two files of a Caffe network: the prototxt's text and the caffemodel's blobs."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from multibox import limits
from multibox.errors import InputError
from multibox.importers.caffe.schema import message
from multibox.importers.imported import Array

_MOST_VALUES = 2**31
_LONGEST_NAME = 200
_UPGRADE = (
    "is in Caffe's old format of 2014 ({what}): convert it first with Caffe's {tool}, then import"
)


def read_prototxt(path: Path) -> Any:
    """The ``NetParameter`` that the text file describes.

    Raises: InputError when it cannot be read, is not such a text, or has layers of the old format.
    """
    data = _bytes(path, limits.PROTOTXT_BYTES, "a network's prototxt")
    network = message("NetParameter")()
    try:
        text_format.Parse(data.decode("utf-8-sig"), network, allow_unknown_field=True)
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: is not text: --prototxt takes the network's description, the weights are "
            "the other file"
        ) from None
    except text_format.ParseError as error:
        said = re.sub(r"\s+", " ", str(error))[:200]
        raise InputError(f"{path}: is not a Caffe prototxt: {said}") from None
    except (RecursionError, ValueError):
        raise InputError(f"{path}: is not a Caffe prototxt: it cannot be parsed") from None
    if network.layers:
        raise InputError(
            f"{path}: {_UPGRADE.format(what='its layers are called layers', tool=_TEXT_TOOL)}"
        )
    if not network.layer:
        raise InputError(f"{path}: is not a Caffe prototxt: it has no layers")
    for layer in network.layer:
        for name in (layer.name, layer.type, *layer.bottom, *layer.top):
            if len(name) > _LONGEST_NAME or not name.isprintable():
                raise InputError(
                    f"{path}: has the name {name[:_LONGEST_NAME]!r}: expected printable "
                    f"characters, {_LONGEST_NAME} at most"
                )
    return network


_TEXT_TOOL, _BINARY_TOOL = "upgrade_net_proto_text", "upgrade_net_proto_binary"


def read_caffemodel(path: Path) -> dict[str, list[Array]]:
    """The blobs of every layer that has any, by the layer's name, as float32 arrays.

    Raises: InputError when the file is not a caffemodel, is damaged, or of the old format.
    """
    data = _bytes(path, limits.CAFFEMODEL_BYTES, "a caffemodel")
    network = message("NetParameter")()
    try:
        network.ParseFromString(data)
        layers = [(layer.name, layer.blobs) for layer in network.layer]
    except (DecodeError, UnicodeDecodeError, ValueError):
        raise InputError(
            f"{path}: is not a caffemodel, or is cut short: take the .caffemodel file"
        ) from None
    if network.layers:
        what = "its layers are V1LayerParameter messages"
        raise InputError(f"{path}: {_UPGRADE.format(what=what, tool=_BINARY_TOOL)}")
    weights: dict[str, list[Array]] = {}
    for name, blobs in layers:
        if not blobs:
            continue
        if len(name) > _LONGEST_NAME:
            raise InputError(f"{path}: has a layer's name of {len(name)} characters: damaged")
        if name in weights:
            raise InputError(f"{path}: has two layers named {name!r}: which one is meant?")
        weights[name] = [_array(blob, f"{path}: layer {name!r}") for blob in blobs]
    if not weights:
        raise InputError(f"{path}: is not a caffemodel: it has no layer with weights")
    return weights


def _bytes(path: Path, largest: int, what: str) -> bytes:
    try:
        # A pipe waits for ever and a device never ends, whatever size it states.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{path}: is not a regular file: give {what}")
        size = path.stat().st_size
        if size > limits.PROTOBUF_BYTES:
            raise InputError(f"{path}: is not {what}: {size:,} bytes are too many for any")
        if size > largest:
            raise InputError(f"{path}: {limits.too_large(what, size, largest)}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _array(blob: Any, where: str) -> Array:
    shape = tuple(blob.shape.dim)
    if not blob.HasField("shape"):
        shape = (blob.num, blob.channels, blob.height, blob.width)
    count = math.prod(shape)
    if any(side < 0 for side in shape) or count > _MOST_VALUES:
        raise InputError(f"{where}: a blob's shape {shape} makes no sense: damaged")
    values = _values(blob)
    if values is None or len(values) != count:
        found = "no" if values is None else len(values)
        raise InputError(f"{where}: a blob of shape {shape} has {found} values: damaged")
    with np.errstate(over="ignore"):
        return values.astype(np.float32).reshape(shape)


def _values(blob: Any) -> Array | None:
    single, double = b"".join(blob.data), b"".join(blob.double_data)
    if not single and not double:
        # Legal as well: every number a field of its own, which the schema's bytes do not take.
        loose = message("NumbersOneByOne").FromString(blob.SerializeToString())
        return np.array(loose.data or loose.double_data, np.float64)
    kind, data = ("<f4", single) if single else ("<f8", double)
    return np.frombuffer(data, kind) if len(data) % int(kind[2]) == 0 else None
