"""The twelve COCO figures against pycocotools."""

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from multibox.data.samples import Sample
from multibox.detections import Detections
from multibox.errors import InputError
from multibox.evaluation import evaluate_detections
from multibox.evaluation.coco import FIGURES, coco_figures
from multibox.evaluation.collect import Found, Objects


def xywh(box: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = box.tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def pycocotools_figures(
    detections: list[Detections],
    samples: list[Sample],
    names: tuple[str, ...],
    areas: np.ndarray | None = None,
) -> tuple[dict[str, float], list[float | None]]:
    objects, found = [], []
    for i, (sample, per_image) in enumerate(zip(samples, detections, strict=True)):
        for k, box in enumerate(sample.boxes):
            w, h = xywh(box)[2:]
            area = w * h if areas is None else float(areas[len(objects)])
            objects.append(
                {
                    "id": len(objects) + 1, "image_id": 100 + i, "bbox": xywh(box), "area": area,
                    "category_id": int(sample.labels[k]) + 7,
                    "iscrowd": int(sample.crowd[k] or sample.difficult[k]),
                }
            )  # fmt: skip
        for k, box in enumerate(per_image.boxes):
            found.append(
                {
                    "image_id": 100 + i, "bbox": xywh(box), "score": float(per_image.scores[k]),
                    "category_id": names.index(per_image.names[per_image.labels[k]]) + 7,
                }
            )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 100 + i} for i in range(len(samples))],
            "categories": [{"id": i + 7, "name": n} for i, n in enumerate(names)],
            "annotations": objects,
        }
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    per_class = [
        None if (precision[:, :, k] < 0).any() else precision[:, :, k].mean()
        for k in range(len(names))
    ]
    return dict(zip(FIGURES, evaluator.stats, strict=True)), per_class


@pytest.mark.parametrize(
    "options",
    [
        {"images": 60, "classes": 5},
        {"images": 40, "grid": 20.0, "score_levels": 5},
        {"images": 25, "grid": 0.37, "crowd": 0.4},
        {"images": 20, "classes": 40, "difficult": 0.5},
    ],
)
def test_the_twelve_figures_equal_pycocotools(
    scene: Callable, options: dict, capfd: pytest.CaptureFixture[str]
) -> None:
    for seed in range(2):
        detections, samples, names = scene(seed, **options)
        capfd.readouterr()
        measured = evaluate_detections(detections, samples, names, metric="coco")
        assert capfd.readouterr() == ("", "")
        figures, per_class = pycocotools_figures(detections, samples, names)
        assert measured.coco == pytest.approx(figures, abs=1e-12)
        assert measured.map == measured.coco["AP"]
        assert list(measured.per_class.values()) == [
            ap if ap is None else pytest.approx(ap, abs=1e-12) for ap in per_class
        ]


def test_more_than_100_detections_of_a_picture_are_cut(scene: Callable) -> None:
    detections, samples, names = scene(3, images=6, classes=2, objects=30, strays=500)
    assert max(np.bincount(d.labels).max() for d in detections) > 100
    measured = evaluate_detections(detections, samples, names, metric="coco")
    assert measured.coco == pytest.approx(
        pycocotools_figures(detections, samples, names)[0], abs=1e-12
    )


def test_sizes_go_by_the_labelled_areas(scene: Callable) -> None:
    # COCO's areas are those of the outlines, smaller than the boxes.
    detections, samples, names = scene(4)
    objects = Objects.collect(samples)
    outlines = objects.areas * np.random.default_rng(0).uniform(0.1, 1, len(objects.areas))
    measured = coco_figures(
        Found.collect(detections, names),
        replace(objects, areas=outlines),
        range(len(names)),
        len(samples),
    )
    expected, _ = pycocotools_figures(detections, samples, names, outlines)
    by_boxes, _ = pycocotools_figures(detections, samples, names)
    assert measured.figures == pytest.approx(expected, abs=1e-12)
    assert abs(expected["APs"] - by_boxes["APs"]) > 0.01


def sample(boxes: list, labels: list, **flags: list) -> Sample:
    return Sample.of(Path("x.jpg"), boxes, labels, width=200, height=200, **flags)


def found(boxes: list, labels: list, names: tuple[str, ...] = ("a", "b")) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.5, np.float32),
        np.array(labels, np.int64), names, 200, 200,
    )  # fmt: skip


def test_by_hand() -> None:
    # A medium object found exactly; a second class found by half: IoU 0.5 only.
    box, half = [0, 0, 40, 40], [0, 0, 40, 20]
    measured = evaluate_detections(
        [found([box, half], [0, 1])], [sample([box, box], [0, 1])], ("a", "b"), metric="coco"
    )
    assert measured.per_class == pytest.approx({"a": 1.0, "b": 0.1})
    assert measured.coco == pytest.approx(
        {
            "AP": 0.55, "AP50": 1, "AP75": 0.5, "APs": -1, "APm": 0.55, "APl": -1,
            "AR1": 0.55, "AR10": 0.55, "AR100": 0.55, "ARs": -1, "ARm": 0.55, "ARl": -1,
        }
    )  # fmt: skip
    recall, precision = measured.curves["b"]
    assert recall[[0, -1]].tolist() == [0, 1]
    assert precision.tolist() == [1] * 101


def test_nothing_found_is_zero() -> None:
    measured = evaluate_detections(
        [found([], [])], [sample([[0, 0, 50, 50]], [0])], ("a",), metric="coco"
    )
    assert measured.map == 0
    assert measured.coco["AR100"] == 0


def test_nothing_to_find_is_undefined() -> None:
    crowd = sample([[0, 0, 50, 50]], [0], crowd=[True])
    measured = evaluate_detections([found([[0, 0, 50, 50]], [0])], [crowd], ("a",), metric="coco")
    assert measured.map is None
    assert measured.per_class == {"a": None}
    assert measured.coco == dict.fromkeys(FIGURES, -1.0)


def test_detections_within_a_crowd_or_a_difficult_object_do_not_count() -> None:
    inside, group, single = [110, 110, 130, 130], [100, 100, 200, 200], [0, 0, 50, 50]
    for flag in ("crowd", "difficult"):
        flagged = sample([group, single], [0, 0], **{flag: [True, False]})
        measured = evaluate_detections(
            [found([inside, inside, single], [0, 0, 0])], [flagged], ("a",), metric="coco"
        )
        assert measured.map == 1


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(InputError, match=r"multibox\[train\]"):
        evaluate_detections([], [], (), metric="coco")
