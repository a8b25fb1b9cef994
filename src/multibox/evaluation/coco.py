"""COCO's twelve figures, computed by faster-coco-eval: the same numbers as pycocotools."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from multibox.boxes import area
from multibox.errors import InputError
from multibox.evaluation.collect import Found, Objects

FIGURES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl",
    "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
IOU_RANGE = "0.50:0.95"
RECALL_LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True, eq=False)
class CocoResult:
    """The twelve figures by name, and per class AP and the precision at IoU 0.5.

    ``figures`` lie in 0..1, or are -1 where nothing defines them (no object of that size).
    ``per_class`` maps a label to its AP, None without objects to find; ``precision`` maps it to the
    precision ``[101]`` at the recalls ``RECALL_LEVELS``, IoU 0.5, for those that have one.
    """

    figures: dict[str, float]
    per_class: dict[int, float | None]
    precision: dict[int, npt.NDArray[np.float64]]


def coco_figures(found: Found, objects: Objects, labels: Sequence[int], images: int) -> CocoResult:
    """Measure ``found`` against ``objects`` over the classes ``labels`` of ``images`` pictures.

    Ignored objects, the crowds and the difficult ones, are given to the library as ``iscrowd``,
    the only mark by which COCO's rules leave an object out: missing it costs nothing, and
    detections that lie in it (intersection over the *detection's* area) count neither way. An
    object is small, medium or large by its ``areas``, a detection by the area of its box.
    Raises InputError when faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise InputError(
            'the metric "coco" needs faster-coco-eval: pip install "multibox[train]"'
        ) from error
    if not labels or not images:
        return CocoResult(dict.fromkeys(FIGURES, -1.0), dict.fromkeys(labels), {})

    shared = {
        "info": {},
        "images": [{"id": i + 1} for i in range(images)],
        "categories": [{"id": label + 1, "name": str(label)} for label in labels],
    }
    truth = _annotations(objects, area=objects.areas, iscrowd=objects.ignored.astype(int))
    results = _annotations(found, area=area(found.boxes), score=found.scores)
    evaluator = COCOeval_faster(
        COCO({**shared, "annotations": truth}),
        COCO({**shared, "annotations": results}),
        iouType="bbox",
        print_function=_silent,
    )
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()

    # [IoU thresholds, recalls, classes, sizes, most detections an image]; -1: undefined
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    per_class: dict[int, float | None] = dict.fromkeys(labels)
    curves: dict[int, npt.NDArray[np.float64]] = {}
    for k, label in enumerate(sorted(labels)):
        if (precision[:, :, k] > -1).all():
            per_class[label] = float(precision[:, :, k].mean())
            curves[label] = precision[0, :, k]
    figures = dict(zip(FIGURES, map(float, evaluator.stats), strict=True))
    return CocoResult(figures, per_class, curves)


def _annotations(items: Objects | Found, **columns: npt.NDArray[Any]) -> list[dict[str, Any]]:
    """COCO annotations. All ids start at 1: the library takes an id of 0 for "not matched"."""
    corners, sides = items.boxes[:, :2], np.clip(items.boxes[:, 2:] - items.boxes[:, :2], 0, None)
    table = {
        "id": np.arange(1, len(items.labels) + 1),
        "image_id": items.images + 1,
        "category_id": items.labels + 1,
        "bbox": np.concatenate([corners, sides], axis=1),
        **columns,
    }
    rows = zip(*(column.tolist() for column in table.values()), strict=True)
    return [dict(zip(table, row, strict=True)) for row in rows]


def _silent(*_: object) -> None:
    """Stand in for ``print``."""
