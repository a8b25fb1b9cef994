"""What every engine does: a batch of resized pictures in, detections in 0..1 out."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class RawDetections(NamedTuple):
    """Detections of b pictures, padded to k rows; the first ``num[i]`` rows of picture i count.

    ``num [b]`` integers; ``boxes [b, k, 4]`` float32 (x0, y0, x1, y1) in fractions of the
    picture, 0..1; ``scores [b, k]`` float32 in 0..1; ``classes [b, k]`` integers, 0 being the
    card's first name (the background is not among them).
    """

    num: npt.NDArray[np.integer]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.integer]


class Engine(Protocol):
    """Runs one network, its postprocessing included."""

    @property
    def name(self) -> str:
        """The engine's name as ``--engine`` takes it."""

    def __call__(self, images: npt.NDArray[np.uint8]) -> RawDetections:
        """Detect in ``images [b, h, w, 3]``: RGB, of the size that the model card states."""
