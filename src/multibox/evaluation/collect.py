"""The labelled objects and the detections of a whole data set as flat arrays.

Boxes become float64 here, before any arithmetic, so that an overlap of exactly one half stays one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from multibox.boxes import area
from multibox.data.files import name_key
from multibox.data.samples import Sample
from multibox.detections import Detections


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """What there is to find: ``n`` labelled objects in the order of the pictures.

    ``images [n]`` index the pictures and never decrease, ``labels [n]`` index the class names,
    ``boxes [n, 4]`` are corners in pixels, ``areas [n]`` the sizes by which COCO sorts objects into
    small, medium and large, pixels; ``ignored [n]`` marks difficult and crowd objects.
    """

    images: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64]
    ignored: npt.NDArray[np.bool_]

    @classmethod
    def collect(cls, samples: Sequence[Sample]) -> "Objects":
        """The objects of all ``samples``."""
        return cls(
            images=_image_indices([len(s.labels) for s in samples]),
            labels=_joined([s.labels for s in samples], np.int64),
            boxes=_joined([s.boxes for s in samples], np.float64).reshape(-1, 4),
            areas=_joined(
                [area(s.boxes.astype(np.float64)) if s.areas is None else s.areas for s in samples],
                np.float64,
            ),
            ignored=_joined([s.difficult | s.crowd for s in samples], np.bool_),
        )

    def of_class(self, label: int) -> "Objects":
        """The objects of one class."""
        kept = self.labels == label
        return Objects(
            self.images[kept], self.labels[kept], self.boxes[kept], self.areas[kept],
            self.ignored[kept],
        )  # fmt: skip

    def countable(self, classes: int) -> npt.NDArray[np.int64]:
        """``[classes]``: the objects of each class that count as missed when not found."""
        return np.bincount(self.labels[~self.ignored], minlength=classes)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a detector found: ``n`` detections in the order of the pictures.

    ``images [n]`` index the pictures and never decrease, ``labels [n]`` index the *data's* class
    names, ``boxes [n, 4]`` are corners in pixels, ``scores [n]`` lie in 0..1.
    """

    images: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    @classmethod
    def collect(cls, detections: Sequence[Detections], names: Sequence[str]) -> "Found":
        """The detections whose class, matched by ``name_key``, is among ``names``."""
        index = {name_key(name): i for i, name in enumerate(names)}
        images = _image_indices([len(d) for d in detections])
        labels = _joined(
            [
                np.array([index.get(name_key(n), -1) for n in d.names], np.int64)[d.labels]
                for d in detections
            ],
            np.int64,
        )
        boxes = _joined([d.boxes for d in detections], np.float64).reshape(-1, 4)
        scores = _joined([d.scores for d in detections], np.float64)
        known = labels >= 0
        return cls(images[known], labels[known], boxes[known], scores[known])

    def of_class(self, label: int) -> "Found":
        """The detections of one class."""
        kept = self.labels == label
        return Found(self.images[kept], self.labels[kept], self.boxes[kept], self.scores[kept])


def _image_indices(counts: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _joined(arrays: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate(arrays).astype(dtype) if arrays else np.empty(0, dtype)
