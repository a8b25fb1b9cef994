"""Where a detector is wrong: objects it missed, and what it took for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from multibox.boxes import area, iou
from multibox.data.files import name_key
from multibox.data.samples import DataSet, Sample
from multibox.detections import Detections
from multibox.drawing import class_colour, contact_sheet, draw_boxes
from multibox.evaluation.collect import Found
from multibox.imaging import Image, read_image, write_image

_COUNT = 16
_COLUMNS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Mistakes:
    """Of one picture: the indices of the objects that were missed, and the wrong detections.

    ``severity`` (0..1) is that of the worst of them: a wrong detection's score, or the side of a
    missed object, as if it were a square, in fractions of the picture's.
    """

    picture: int
    missed: tuple[int, ...]
    wrong: Found
    severity: float


def find_mistakes(
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    names: Sequence[str],
    *,
    score: float = 0.5,
    overlap: float = 0.5,
) -> list[Mistakes]:
    """The pictures with mistakes, the worst first, equally bad ones in the data's order.

    Judged are the detections of ``samples`` with at least ``score``, by VOC's rules: best first,
    each against the object of its class that it overlaps most; below an IoU of ``overlap`` it is
    wrong, and where that object is already found. Difficult objects and crowds may be found or
    not; objects of classes that the detector does not know are passed over. ``names`` are the
    classes of the samples' labels; the detections' are matched by name.
    """
    found = Found.collect([each.above(score) for each in detections], names)
    ends = np.searchsorted(found.images, np.arange(len(samples) + 1))
    known = {name_key(name) for each in detections for name in each.names}
    labels = [label for label, name in enumerate(names) if name_key(name) in known]
    judged = [
        _judge(
            picture,
            sample,
            np.isin(sample.labels, labels) & ~(sample.difficult | sample.crowd),
            _rows(found, slice(*ends[picture : picture + 2])),
            overlap,
        )
        for picture, sample in enumerate(samples)
    ]
    wrong = [each for each in judged if each.missed or len(each.wrong.scores)]
    return sorted(wrong, key=lambda each: -each.severity)


def draw_mistakes(
    path: Path, dataset: DataSet, detections: Sequence[Detections], *, score: float = 0.5
) -> int:
    """Write a sheet of the pictures with the worst mistakes; returns how many pictures have some.

    Missed objects are dashed, wrong detections drawn through. Nothing is written without mistakes.
    """
    mistakes = find_mistakes(detections, dataset.samples, dataset.names, score=score)
    if mistakes:
        drawn = [_drawn(each, dataset) for each in mistakes[:_COUNT]]
        write_image(path, contact_sheet(drawn, _COLUMNS))
    return len(mistakes)


def _judge(
    picture: int,
    sample: Sample,
    countable: npt.NDArray[np.bool_],
    found: Found,
    overlap: float,
) -> Mistakes:
    ious = iou(found.boxes, sample.boxes.astype(np.float64))
    reached: set[int] = set()
    wrong = []
    for k in np.argsort(-found.scores, kind="stable").tolist():
        own = np.where(sample.labels == found.labels[k], ious[k], -1)
        nearest = int(own.argmax()) if len(own) else -1
        if nearest < 0 or own[nearest] < overlap:
            wrong.append(k)
        elif countable[nearest]:
            if nearest in reached:
                wrong.append(k)
            reached.add(nearest)
    missed = tuple(i for i in np.flatnonzero(countable).tolist() if i not in reached)
    sides = np.sqrt(area(sample.boxes[list(missed)]) / (sample.width * sample.height))
    errors = _rows(found, np.array(wrong, np.int64))
    worst = float(max(errors.scores.max(initial=0), sides.max(initial=0)))
    return Mistakes(picture, missed, errors, min(worst, 1.0))


def _rows(found: Found, rows: slice | npt.NDArray[np.int64]) -> Found:
    return Found(found.images[rows], found.labels[rows], found.boxes[rows], found.scores[rows])


def _drawn(mistakes: Mistakes, dataset: DataSet) -> Image:
    sample, names = dataset.samples[mistakes.picture], dataset.names
    missed = sample.labels[list(mistakes.missed)].tolist()
    image = draw_boxes(
        read_image(sample.image),
        sample.boxes[list(mistakes.missed)],
        [f"missed {names[label]}" for label in missed],
        [class_colour(label) for label in missed],
        dashed=True,
    )
    wrong = mistakes.wrong
    labels = wrong.labels.tolist()
    return draw_boxes(
        image,
        wrong.boxes,
        [f"{names[i]} {score:.2f}" for i, score in zip(labels, wrong.scores, strict=True)],
        [class_colour(label) for label in labels],
    )
