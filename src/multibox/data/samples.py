"""One labelled picture, and a set of them: what every format is read into."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from multibox.data.policies import Kind


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture and its labelled objects.

    ``image`` is a file or an upright RGB array ``[height, width, 3]`` of uint8. ``boxes [n, 4]``
    (float32) are continuous pixel coordinates (x0, y0, x1, y1) of the *upright* picture;
    ``labels [n]`` (int64) index the data set's names. ``difficult [n]`` objects may be missed
    without penalty (VOC); ``crowd [n]`` boxes are regions of many objects (COCO): neither is
    counted as missed, and a crowd is never trained on as one object. ``areas [n]`` are the
    objects' outlines in pixels where the labels tell them (COCO), which sorts them into sizes.
    """

    image: Path | npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_]
    crowd: npt.NDArray[np.bool_]
    width: int
    height: int
    id: str = ""
    areas: npt.NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        image: Path | npt.NDArray[np.uint8],
        boxes: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        width: int,
        height: int,
        difficult: npt.ArrayLike | None = None,
        crowd: npt.ArrayLike | None = None,
        id: str = "",
        areas: npt.ArrayLike | None = None,
    ) -> "Sample":
        """Build a sample from any array-likes; flags left out are False everywhere."""
        box_array = np.asarray(boxes, np.float32).reshape(-1, 4)
        n = len(box_array)
        return cls(
            image=image,
            boxes=box_array,
            labels=np.asarray(labels, np.int64).reshape(n),
            difficult=np.zeros(n, bool) if difficult is None else np.asarray(difficult, bool),
            crowd=np.zeros(n, bool) if crowd is None else np.asarray(crowd, bool),
            width=width,
            height=height,
            id=id or (str(image) if isinstance(image, Path) else ""),
            areas=None if areas is None else np.asarray(areas, np.float64),
        )

    def select(self, kept: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> "Sample":
        """The same picture with some of its objects, by mask or by index."""
        return replace(
            self,
            boxes=self.boxes[kept],
            labels=self.labels[kept],
            difficult=self.difficult[kept],
            crowd=self.crowd[kept],
            areas=None if self.areas is None else self.areas[kept],
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a label that was mended or left out while reading.

    ``object`` counts from 0 within the file. ``kind`` is what the doctor calls it; None for what
    is only mentioned. ``value`` is what stood there, where it is worth showing.
    """

    file: str
    object: int | None
    reason: str
    action: str
    kind: Kind | None = None
    value: str = ""


@dataclass(frozen=True, slots=True)
class DataSet:
    """The samples of one split, the class names of the whole data set, and what was mended."""

    samples: Sequence[Sample]
    names: tuple[str, ...]
    split: str
    root: Path
    layout: str
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.samples)

    def restricted(self, classes: Sequence[str]) -> "DataSet":
        """The same pictures with the objects of some classes only, labelled in their order.

        Raises: ValueError when a class is not among ``names``.
        """
        new_label = np.full(len(self.names), -1, np.int64)
        for new, name in enumerate(classes):
            new_label[self.names.index(name)] = new
        samples = []
        for sample in self.samples:
            kept = sample.select(new_label[sample.labels] >= 0)
            samples.append(replace(kept, labels=new_label[kept.labels]))
        return replace(self, samples=samples, names=tuple(classes))
