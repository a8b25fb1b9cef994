"""What ``gpu.py`` measures, for how long, and where it writes the figures."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from gpu_timing import Clock
from multibox.imaging import Image


@dataclass(frozen=True)
class Plan:
    """The same for every part; it goes from process to process."""

    folder: Path
    """Of the run: weights and pictures."""
    data: Path | None
    results: Path
    deadline: float
    """In seconds since the epoch, as the processes share no other clock."""
    device: str
    batch_sizes: tuple[int, ...]
    """The ones that matter most first."""
    torchvision_sizes: tuple[int, ...]
    compiled_sizes: tuple[int, ...]
    profiled_size: int
    training_batches: dict[str, int]
    jpegs: int
    seconds: float
    """For each figure."""
    training_seconds: float
    warm_up: int
    least: int
    """Calls before the clock starts, and calls at least."""
    peak_side: int

    @classmethod
    def for_gpu(cls, **where: Any) -> Self:
        return cls(
            device="cuda",
            batch_sizes=(1, 64, 128, 8, 32),
            torchvision_sizes=(1, 64),
            compiled_sizes=(1, 64),
            profiled_size=64,
            training_batches={"SSD300-VGG16": 64, "SSDLite320-MobileNetV3": 128},
            jpegs=256,
            seconds=1.5,
            training_seconds=12,
            warm_up=3,
            least=5,
            peak_side=8192,
            **where,
        )

    @classmethod
    def rehearsal(cls, **where: Any) -> Self:
        return cls(
            device="cpu",
            batch_sizes=(1, 2),
            torchvision_sizes=(1,),
            compiled_sizes=(1,),
            profiled_size=1,
            training_batches={"SSD300-VGG16": 2, "SSDLite320-MobileNetV3": 2},
            jpegs=6,
            seconds=0.01,
            training_seconds=0.01,
            warm_up=1,
            least=1,
            peak_side=256,
            **where,
        )

    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.time())

    def is_over(self) -> bool:
        return not self.seconds_left()

    def clock(self) -> Clock:
        return Clock(self.device, self.warm_up, self.least, self.is_over)

    def picture(self) -> Image:
        return np.load(self.folder / "picture.npy")

    def pictures(self) -> Path:
        return self.data or self.folder / "jpegs"


class Report:
    """The figures in a file, which is whole at every moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.figures: dict[str, Any] = {"ratios": {}, "skipped": [], "failed": []}
        if path.exists():
            self.figures |= json.loads(path.read_text())

    def section(self, *names: str) -> dict[str, Any]:
        """The dictionary of that name, within the one before it."""
        found = self.figures
        for name in names:
            found = found.setdefault(name, {})
        return found

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(json.dumps(self.figures, indent=2) + "\n")
        os.replace(new, self._path)  # noqa: PTH105
