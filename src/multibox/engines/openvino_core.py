"""The one ``openvino.Core`` of a process."""

from functools import cache
from typing import Any


@cache
def openvino_core() -> Any:
    """OpenVINO's entry, kept for as long as the process lives.

    Its CPU plugin puts a signal stack of its own in the place of the process's and takes it back
    when it is freed. Of two plugins freed in the order they were made, the second would put the
    first one's back, which is no more, and the next Ctrl-C would be a segmentation fault.

    Raises: ImportError where OpenVINO is not installed.
    """
    import openvino

    return openvino.Core()
