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

PICTURE_PIXELS = int(100_000_000 * _FACTOR)
"""Pixels of a picture: 300 MB as RGB."""
LABEL_BYTES = int(10_000_000 * _FACTOR)
"""Bytes of the label file of one picture (VOC XML, YOLO text)."""
YAML_BYTES = int(1_000_000 * _FACTOR)
"""Bytes of a data YAML, which takes some ten seconds a megabyte to parse."""
LIST_BYTES = int(100_000_000 * _FACTOR)
"""Bytes of a list of pictures or of class names."""
COCO_BYTES = int(600_000_000 * _FACTOR)
"""Bytes of a COCO JSON (COCO's own largest has 470 MB); parsed, it takes several times as much."""
CHECKPOINT_BYTES = int(4_000_000_000 * _FACTOR)
"""Bytes of a checkpoint (SSD512 on VGG-16 has 100 MB)."""


def too_large(what: str, size: int, limit: int) -> str:
    """The end of an error line: what is too large, the limit, and how to raise it."""
    return (
        f"{what} of {size:,} bytes, more than the limit of {limit:,}: remove it, split it, or "
        f"raise the limits: {_VARIABLE}={math.ceil(_FACTOR * size / limit)}"
    )
