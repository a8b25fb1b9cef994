"""The machine that a benchmark ran on, as far as it can be told without special rights."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from multibox.benchmarking.report import Machine
from multibox.engines.graph import available_threads

_PACKAGES = ("multibox", "numpy", "opencv-python-headless", "onnxruntime", "openvino", "torch")


def this_machine() -> Machine:
    """Processor, cores, system and the versions of what computes."""
    return Machine(
        processor=_processor(),
        cores=available_threads(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: found for name in _PACKAGES if (found := _version(name))},
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
