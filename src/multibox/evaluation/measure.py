"""Measure a detector, or detections that are already there, on labelled pictures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from multibox.data.files import name_key
from multibox.data.samples import DataSet, Sample
from multibox.detections import Detections
from multibox.errors import InputError
from multibox.evaluation import coco, voc
from multibox.evaluation.collect import Found, Objects
from multibox.evaluation.shares import ALONE, Share, in_order, rounds

Metric = Literal["voc07", "voc", "coco"]

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


class ImageDetector(Protocol):
    """What ``evaluate_model`` needs of a detector: a ``multibox.detector.Detector`` has it."""

    def __call__(
        self, images: list[Path | npt.NDArray[np.uint8]], /, *, score: float
    ) -> list[Detections]:
        """Detect in every picture, keeping what scores at least ``score``."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How well a set of pictures was detected in.

    ``map`` is the mean of the APs in ``per_class`` that are not None (all in 0..1), None when there
    is none; for "coco" it is the figure AP, and ``coco`` holds all twelve. ``notes`` say which
    classes stand outside the mean and why. ``curves`` maps a class to (recall ``[k]``, precision
    ``[k]``) at ``iou``, for "coco" at IoU 0.5.
    """

    metric: Metric
    iou: float | str
    map: float | None
    per_class: dict[str, float | None]
    images: int
    split: str = ""
    coco: dict[str, float] | None = None
    notes: tuple[str, ...] = ()
    curves: dict[str, Curve] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The contents of ``evaluate --json``: ``coco`` only for that metric, no curves."""
        result: dict[str, Any] = {
            "metric": self.metric,
            "iou": self.iou,
            "map": self.map,
            "per_class": dict(self.per_class),
            "images": self.images,
            "split": self.split,
        }
        if self.coco is not None:
            result["coco"] = dict(self.coco)
        return result


def evaluate_detections(
    detections: Sequence[Detections],
    samples: Sequence[Sample],
    names: tuple[str, ...],
    *,
    metric: Metric,
    iou: float = 0.5,
    split: str = "",
) -> Evaluation:
    """Measure ``detections[i]`` against the labels of ``samples[i]``, which index ``names``.

    Classes match by name, in any unicode form, and are called as in ``names``; what was found of a
    class that ``names`` lacks is not judged. A class
    without countable objects, or that the detector does not know, has the AP None, stands outside
    the mean and is named in the notes. ``iou`` in (0, 1] applies to the two VOC metrics.
    Raises InputError when the lengths differ, for an unknown metric or an ``iou`` out of range, and
    when a library that the metric needs is missing.
    """
    if len(detections) != len(samples):
        raise InputError(f"{len(detections)} results for {len(samples)} pictures: give one each")
    if not 0 < iou <= 1:
        raise InputError(f"iou is {iou}: it must lie above 0 and at most at 1")
    objects = Objects.collect(samples)
    found = Found.collect(detections, names)
    model_names = {name_key(name) for d in detections for name in d.names}
    known = [name_key(name) in model_names for name in names]
    countable = objects.countable(len(names))
    judged = [i for i in range(len(names)) if known[i] and countable[i]]

    if metric == "coco":
        evaluation = _coco(found, objects, judged, names, len(samples))
    elif metric in ("voc07", "voc"):
        evaluation = _voc(found, objects, judged, names, metric, iou, len(samples))
    else:
        raise InputError(f'unknown metric "{metric}": choose voc07, voc or coco')
    notes = _notes(
        without_objects=[n for n, c in zip(names, countable, strict=True) if not c],
        unknown=[n for n, k in zip(names, known, strict=True) if not k] if detections else [],
    )
    return replace(evaluation, split=split, notes=notes)


def evaluate_model(
    detector: ImageDetector,
    dataset: DataSet,
    *,
    metric: Metric,
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
    score: float = 0.0,
    share: Share = ALONE,
) -> tuple[Evaluation, list[Detections]]:
    """Run ``detector`` over all pictures of ``dataset`` and measure what it finds.

    ``score`` 0 keeps everything that the detector's own thresholds let through, as average
    precision needs it. ``on_progress(done, total)`` is called after each batch. Where several
    processes have a ``share`` each, every one of them gets the whole result; they call ``detector``
    equally often, which may be without a picture. Raises InputError as ``evaluate_detections``
    does, and whatever ``detector`` raises for a picture.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1")
    found: list[list[Detections]] = []
    total = len(dataset.samples)
    for pictures in rounds(total, batch_size, share):
        found.append(detector([dataset.samples[i].image for i in pictures], score=score))
        if on_progress is not None:
            on_progress(pictures.stop, total)
    detections = in_order(share.gather(found))
    evaluation = evaluate_detections(
        detections, dataset.samples, dataset.names, metric=metric, split=dataset.split
    )
    return evaluation, detections


def _voc(
    found: Found,
    objects: Objects,
    judged: Sequence[int],
    names: Sequence[str],
    metric: Literal["voc07", "voc"],
    iou: float,
    images: int,
) -> Evaluation:
    average_precision = voc.eleven_point if metric == "voc07" else voc.area_under_curve
    per_class: dict[str, float | None] = dict.fromkeys(names)
    curves: dict[str, Curve] = {}
    for label in judged:
        ranked = voc.rank_hits(found.of_class(label), objects.of_class(label), iou)
        per_class[names[label]] = average_precision(ranked)
        curves[names[label]] = (ranked.recall, ranked.precision)
    measured = [ap for ap in per_class.values() if ap is not None]
    mean = math.fsum(measured) / len(measured) if measured else None
    return Evaluation(metric, iou, mean, per_class, images, curves=curves)


def _coco(
    found: Found, objects: Objects, judged: Sequence[int], names: Sequence[str], images: int
) -> Evaluation:
    result = coco.coco_figures(found, objects, judged, images)
    per_class: dict[str, float | None] = dict.fromkeys(names)
    per_class.update((names[label], ap) for label, ap in result.per_class.items())
    return Evaluation(
        "coco",
        coco.IOU_RANGE,
        result.figures["AP"] if judged else None,
        per_class,
        images,
        coco=result.figures,
        curves={
            names[label]: (coco.RECALL_LEVELS, precision)
            for label, precision in result.precision.items()
        },
    )


def _notes(*, without_objects: Sequence[str], unknown: Sequence[str]) -> tuple[str, ...]:
    reasons = {
        "no objects to find in the data": without_objects,
        "unknown to the model": unknown,
    }
    return tuple(
        f"{reason}, left out of the mean: " + ", ".join(f'"{name}"' for name in classes)
        for reason, classes in reasons.items()
        if classes
    )
