"""The figures of a comparison: raw outputs, and detections paired one to one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from multibox.boxes import iou
from multibox.parity.reference import Floats, Found, RawOutputs

# Sums of thousands of float32 products in another order differ by about 1e-6 of their size, and
# fifty layers of them by a hundred times that; a wrong array by far more.
_ROUNDING = 1e-3


class Parity(BaseModel):
    """How far a network is from a reference on fixed pictures; differences are the largest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str = Field(description="what it was compared with, and its version")
    pictures: int
    class_logits: float = Field(description="absolute difference of raw class scores")
    box_offsets: float = Field(description="absolute difference of raw box offsets")
    magnitude: float = Field(description="the largest of the reference's raw values")
    detections: int | None = Field(None, description="what the reference found in all pictures")
    lost: int | None = Field(None, description="found by the reference only")
    gained: int | None = Field(None, description="found by ours only")
    boxes: float | None = Field(None, description="of detected boxes, pixels of the input")
    scores: float | None = Field(None, description="of the scores of detections, 0..1")

    @property
    def agrees(self) -> bool:
        """Whether it is the same network: raw outputs differ by rounding only."""
        return max(self.class_logits, self.box_offsets) <= _ROUNDING * max(1.0, self.magnitude)

    def lines(self) -> list[str]:
        """The report people read."""
        said = [
            f"compared with {self.reference}, {self.pictures} pictures",
            (
                f"largest difference: class scores {self.class_logits:.2g}, "
                f"box offsets {self.box_offsets:.2g}"
            ),
        ]
        if self.detections is not None:
            said.append(
                f"{self.detections} detections, {self.lost} lost, {self.gained} gained; largest "
                f"difference: boxes {self.boxes:.2g} pixels, scores {self.scores:.2g}"
            )
        return said


class _Paired(NamedTuple):
    lost: int
    gained: int
    boxes: float
    scores: float


def compare(
    reference: str,
    theirs: RawOutputs,
    ours: RawOutputs,
    image_size: tuple[int, int],
    found: Sequence[Found] | None = None,
    our_found: Sequence[Found] | None = None,
) -> Parity:
    """Compare raw outputs for the same pictures, and detections where both are given.

    ``image_size`` is the (height, width) in pixels that boxes are scaled to.
    """
    parity = Parity(
        reference=reference,
        pictures=len(theirs.class_logits),
        class_logits=_largest(theirs.class_logits, ours.class_logits),
        box_offsets=_largest(theirs.box_offsets, ours.box_offsets),
        magnitude=float(max(np.abs(values).max(initial=0.0) for values in theirs)),
    )
    if found is None or our_found is None:
        return parity
    pairs = [_pair(a, b, image_size) for a, b in zip(found, our_found, strict=True)]
    return parity.model_copy(
        update={
            "detections": sum(len(one.scores) for one in found),
            "lost": sum(pair.lost for pair in pairs),
            "gained": sum(pair.gained for pair in pairs),
            "boxes": max((pair.boxes for pair in pairs), default=0.0),
            "scores": max((pair.scores for pair in pairs), default=0.0),
        }
    )


def _largest(a: Floats, b: Floats) -> float:
    return float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else float("inf")


def _pair(theirs: Found, ours: Found, image_size: tuple[int, int]) -> _Paired:
    """Each of theirs, best score first, takes the nearest free one of ours with its label.

    Nearest by the largest difference of a coordinate: a box cut to nothing at the picture's edge
    has no IoU. It must be within a pixel, or overlap by half.
    """
    height, width = image_size
    scale = np.array([width, height, width, height], np.float32)
    their_boxes, our_boxes = theirs.boxes * scale, ours.boxes * scale
    overlap = iou(their_boxes, our_boxes)
    free = np.ones(len(ours.scores), bool)
    lost, boxes, scores = 0, 0.0, 0.0
    for i in np.argsort(-theirs.scores, kind="stable"):
        distance = np.abs(our_boxes - their_boxes[i]).max(axis=1, initial=0.0)
        distance[~free | (ours.labels != theirs.labels[i])] = np.inf
        nearest = int(distance.argmin()) if len(distance) else -1
        found = nearest >= 0 and np.isfinite(distance[nearest])
        if not found or (distance[nearest] > 1 and overlap[i, nearest] < 0.5):
            lost += 1
            continue
        free[nearest] = False
        boxes = max(boxes, float(distance[nearest]))
        scores = max(scores, float(abs(theirs.scores[i] - ours.scores[nearest])))
    return _Paired(lost, int(free.sum()), boxes, scores)
