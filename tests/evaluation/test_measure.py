"""Classes by name, what stands outside the mean, the JSON contract, running a detector."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from multibox.data.samples import DataSet, Sample
from multibox.detections import Detections
from multibox.errors import InputError
from multibox.evaluation import evaluate_detections, evaluate_model
from multibox.evaluation.coco import FIGURES

BOX = [0, 0, 50, 50]


def found(labels: list[int], names: tuple[str, ...]) -> Detections:
    """The same box for each label."""
    n = len(labels)
    return Detections(
        np.array([BOX] * n, np.float32).reshape(-1, 4), np.full(n, 0.5, np.float32),
        np.array(labels, np.int64), names, 100, 100,
    )  # fmt: skip


def sample(labels: list[int], difficult: list[bool] | None = None) -> Sample:
    return Sample.of(
        Path("x.jpg"), [BOX] * len(labels), labels, width=100, height=100, difficult=difficult
    )


@pytest.mark.parametrize("metric", ["voc07", "voc", "coco"])
def test_classes_match_by_name(metric: str) -> None:
    # The model numbers its classes otherwise, knows one more, and lacks "emu" and "cat".
    model = ("zebra", "dog", "cow")
    data = ("cat", "cow", "dog", "emu")
    measured = evaluate_detections(
        [found([2, 0], model), found([1], model)],
        [sample([1, 3]), sample([2, 0], [False, True])],
        data,
        metric=metric,
    )
    assert measured.per_class == pytest.approx({"cat": None, "cow": 1.0, "dog": 1.0, "emu": None})
    assert measured.map == pytest.approx(1)
    assert set(measured.curves) == {"cow", "dog"}
    assert measured.notes == (
        'no objects to find in the data, left out of the mean: "cat"',
        'unknown to the model, left out of the mean: "cat", "emu"',
    )


@pytest.mark.parametrize("metric", ["voc07", "voc", "coco"])
def test_a_known_class_that_is_never_found_counts_as_zero(metric: str) -> None:
    names = ("cat", "dog")
    measured = evaluate_detections([found([0], names)], [sample([0, 1])], names, metric=metric)
    assert measured.per_class == pytest.approx({"cat": 1.0, "dog": 0.0})
    assert measured.map == pytest.approx(0.5)
    assert measured.notes == ()


@pytest.mark.parametrize("metric", ["voc07", "voc", "coco"])
def test_classes_match_in_any_unicode_form_and_are_called_as_in_the_data(metric: str) -> None:
    data = (unicodedata.normalize("NFC", "Café"), "dog")
    model = ("dog ", unicodedata.normalize("NFD", "Café"))
    assert data[0] != model[1]
    measured = evaluate_detections([found([1, 0], model)], [sample([0, 1])], data, metric=metric)
    assert measured.per_class == pytest.approx({data[0]: 1.0, "dog": 1.0})
    assert list(measured.per_class) == list(data)
    assert measured.notes == ()


def test_results_of_models_with_different_names_may_be_mixed() -> None:
    measured = evaluate_detections(
        [found([0], ("cat",)), found([1], ("dog", "cat"))],
        [sample([0]), sample([0])],
        ("cat", "dog"),
        metric="voc",
    )
    assert measured.per_class == {"cat": 1, "dog": None}


@pytest.mark.parametrize("metric", ["voc07", "voc", "coco"])
def test_no_pictures(metric: str) -> None:
    measured = evaluate_detections([], [], ("cat",), metric=metric)
    assert (measured.map, measured.images, measured.per_class) == (None, 0, {"cat": None})


def test_json_of_the_voc_metrics() -> None:
    names = ("cat", "dög", "emu")
    measured = evaluate_detections(
        [found([0, 1], names)], [sample([0, 1])], names, metric="voc07", split="test"
    )
    assert json.loads(json.dumps(measured.to_dict())) == {
        "metric": "voc07",
        "iou": 0.5,
        "map": 1.0,
        "per_class": {"cat": 1.0, "dög": 1.0, "emu": None},
        "images": 1,
        "split": "test",
    }


def test_json_of_the_coco_metric() -> None:
    measured = evaluate_detections([found([0], ("a",))], [sample([0])], ("a",), metric="coco")
    written = json.loads(json.dumps(measured.to_dict()))
    assert list(written) == ["metric", "iou", "map", "per_class", "images", "split", "coco"]
    assert written["iou"] == "0.50:0.95"
    assert tuple(written["coco"]) == FIGURES
    assert written["map"] == written["coco"]["AP"]


def test_wrong_calls_are_said_in_one_line() -> None:
    with pytest.raises(InputError, match="1 results for 2 pictures"):
        evaluate_detections([found([], ("a",))], [sample([])] * 2, ("a",), metric="voc")
    with pytest.raises(InputError, match="choose voc07, voc or coco"):
        evaluate_detections([], [], ("a",), metric="voc12")
    for iou in (0, 1.5, float("nan")):
        with pytest.raises(InputError, match="iou is"):
            evaluate_detections([], [], ("a",), metric="voc", iou=iou)


class FakeDetector:
    """Gives back the detections prepared for each file, and remembers how it was called."""

    def __init__(self, by_file: dict[Path, Detections]) -> None:
        self.by_file = by_file
        self.batches: list[int] = []

    def __call__(self, images: list, *, score: float) -> list[Detections]:
        self.batches.append(len(images))
        return [self.by_file[image].above(score) for image in images]


def test_a_model_is_measured_in_batches_over_all_pictures(scene: Callable, tmp_path: Path) -> None:
    detections, samples, names = scene(5, images=21)
    detector = FakeDetector({s.image: d for s, d in zip(samples, detections, strict=True)})
    dataset = DataSet(samples, names, "val", tmp_path, "VOC")
    progress: list[tuple[int, int]] = []
    measured, result = evaluate_model(
        detector, dataset, metric="voc", batch_size=8,
        on_progress=lambda done, total: progress.append((done, total)),
    )  # fmt: skip
    assert detector.batches == [8, 8, 5]
    assert progress == [(8, 21), (16, 21), (21, 21)]
    assert [len(d) for d in result] == [len(d) for d in detections]
    assert measured.split == "val"
    alone = evaluate_detections(detections, samples, names, metric="voc", split="val")
    assert measured.to_dict() == alone.to_dict()

    _, confident = evaluate_model(detector, dataset, metric="voc", score=0.5)
    assert [len(d) for d in confident] == [int((d.scores >= 0.5).sum()) for d in detections]
    with pytest.raises(InputError, match="batch_size is 0"):
        evaluate_model(detector, dataset, metric="voc", batch_size=0)
