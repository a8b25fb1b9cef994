"""How large an input may be before it is refused, unread: all limits in one place.

They are far beyond honest files and below what would fill a machine's memory. The environment
variable ``MULTIBOX_LIMITS`` multiplies them all: ``MULTIBOX_LIMITS=4 multibox train ...``.
"""

import math
import os

from multibox.errors import InputError

_VARIABLE = "MULTIBOX_LIMITS"


def _factor() -> float:
    text = os.environ.get(_VARIABLE, "1")
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < math.inf:
        raise InputError(f"{_VARIABLE}={text}: must be a number above 0, such as 4")
    return factor


_FACTOR = _factor()


def _limit(usual: int) -> int:
    return max(1, int(usual * _FACTOR))


PICTURE_PIXELS = _limit(100_000_000)
"""Pixels of a picture: 300 MB as RGB."""
PICTURE_BYTES_A_PIXEL = 8
"""Bytes for each of these pixels that a picture's file and its decoding may take together."""
LABEL_BYTES = _limit(10_000_000)
"""Bytes of the label file of one picture (VOC XML, YOLO text)."""
OBJECTS = _limit(100_000)
"""Objects in the label file of one picture (VOC XML, YOLO text)."""
XML_DEPTH = _limit(50)
"""Elements in each other, in a VOC XML or the XML of an exported model."""
YAML_BYTES = _limit(200_000)
"""Bytes of a data YAML, which takes up to fifteen seconds a megabyte to parse."""
CLASSES = _limit(100_000)
"""Classes that a data YAML may count without naming them (``nc``)."""
LIST_BYTES = _limit(100_000_000)
"""Bytes of a list of pictures or of class names."""
COCO_BYTES = _limit(600_000_000)
"""Bytes of a COCO JSON (COCO's own largest has 470 MB); parsed, it takes several times as much."""
CHECKPOINT_BYTES = _limit(4_000_000_000)
"""Bytes of a checkpoint or an exported model (SSD512 on VGG-16 has 100 MB)."""
PROTOTXT_BYTES = _limit(4 << 20)
"""Bytes of a Caffe network's prototxt; the longest published ones have some hundred kilobytes."""
CAFFEMODEL_BYTES = _limit(1 << 30)
"""Bytes of a caffemodel (SSD512 on VGG-16 has 110 MB)."""
GRAPH_BYTES = _limit(1 << 30)
"""Bytes of a frozen TensorFlow graph."""
GRAPH_ELEMENTS = _limit(1 << 25)
"""Numbers that a frozen graph makes of few: its constants that are one number repeated, and what
its operations compute, each of them together."""

PROTOBUF_BYTES = (1 << 31) - 1
"""Where protobuf itself ends: no caffemodel, frozen graph or ONNX file is larger."""


def too_large(what: str, size: int, limit: int) -> str:
    """The end of an error line: what is too large, the limit, and how to raise it."""
    return f"{what} of {size:,} bytes{beyond(size, limit)}"


def beyond(size: float, limit: float) -> str:
    """The end of an error line about something of ``size``: the limit, and how to raise it."""
    return (
        f", more than the limit of {limit:,}: remove it, split it, or raise the limits: "
        f"{_VARIABLE}={math.ceil(_FACTOR * size / limit)}"
    )
