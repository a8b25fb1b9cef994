"""Detectors as files that other tools run: ONNX and OpenVINO, whole or without suppression.

``multibox.export`` is this package and, as the verb's name in Python, a function: calling the
package calls ``export.export``.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from multibox.export.export import export

        return export(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
