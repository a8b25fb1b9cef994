"""What a reference is: somebody else's way from pictures to raw outputs and detections."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class RawOutputs(NamedTuple):
    """Outputs before any post-processing, in our order of default boxes and coordinates.

    ``class_logits [b, n, classes + 1]``, background first; ``box_offsets [b, n, 4]`` as
    ``ssd.box_coder`` codes them (x, y, width, height, divided by the variances).
    """

    class_logits: Floats
    box_offsets: Floats


class Found(NamedTuple):
    """One picture's detections: ``boxes [m, 4]`` corners in 0..1, ``scores [m]``, ``labels [m]``.

    Labels count from 0, background not among them.
    """

    boxes: Floats
    scores: Floats
    labels: npt.NDArray[np.int64]


class Reference(Protocol):
    """An implementation that is not ours, loaded with the original file."""

    @property
    def name(self) -> str:
        """What it is, with its version: "torchvision 0.29.2"."""

    def raw(self, images: npt.NDArray[np.uint8]) -> RawOutputs:
        """Outputs for RGB pictures ``[b, h, w, 3]`` of the network's input size."""

    def detect(self, images: npt.NDArray[np.uint8]) -> list[Found] | None:
        """Its own detections for the same pictures; None where it has no post-processing."""
