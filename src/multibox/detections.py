"""The result container: what was found in one picture."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Detection(NamedTuple):
    """One object: its class name, its score in 0..1 and its box (x0, y0, x1, y1) in pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The objects found in one picture, best score first.

    ``boxes [n, 4]`` are continuous pixel coordinates (x0, y0, x1, y1) of the upright picture,
    ``scores [n]`` lie in 0..1 and ``labels [n]`` index ``names``.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        for box, score, label in zip(
            self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
        ):
            yield Detection(self.names[label], score, tuple(box))

    def above(self, score: float) -> "Detections":
        """The detections whose score is at least ``score``."""
        kept = self.scores >= score
        return Detections(
            self.boxes[kept], self.scores[kept], self.labels[kept], self.names,
            self.width, self.height,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Width, height and detections as plain Python values, ready for JSON."""
        return {
            "width": self.width,
            "height": self.height,
            "detections": [{"label": d.label, "score": d.score, "box": list(d.box)} for d in self],
        }
