"""SSD, the Single Shot MultiBox Detector: train it, measure it, run it anywhere.

The names below are imported when they are first used, so that ``import multibox`` is quick and
works without PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multibox.detections import Detections
    from multibox.detector import Detector, load
    from multibox.evaluation import Evaluation
    from multibox.evaluation.evaluate import evaluate
    from multibox.exporting.export import export
    from multibox.importing import import_weights
    from multibox.training.train import train

    __version__: str

__all__ = [
    "Detections",
    "Detector",
    "Evaluation",
    "__version__",
    "evaluate",
    "export",
    "import_weights",
    "load",
    "train",
]

_HOMES = {
    "Detections": "multibox.detections",
    "Detector": "multibox.detector",
    "Evaluation": "multibox.evaluation",
    "evaluate": "multibox.evaluation.evaluate",
    "export": "multibox.exporting.export",
    "import_weights": "multibox.importing",
    "load": "multibox.detector",
    "train": "multibox.training.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("multibox")
    if name not in _HOMES:
        raise AttributeError(f"module 'multibox' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
