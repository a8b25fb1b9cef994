"""Mistakes: against VOC's ranking, which counts the same things, and by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibox.cli import main
from multibox.data import synthetic
from multibox.data.samples import DataSet, Sample
from multibox.detections import Detections
from multibox.evaluation.collect import Found, Objects
from multibox.evaluation.mistakes import draw_mistakes, find_mistakes
from multibox.evaluation.voc import rank_hits

NAMES = ("cat", "dog")
PICTURE = np.full((40, 60, 3), 90, np.uint8)


def labelled(boxes: list[list[float]], labels: list[int], difficult: list[bool]) -> Sample:
    return Sample.of(PICTURE, boxes, labels, width=60, height=40, difficult=difficult)


def detected(boxes: list[list[float]], labels: list[int], scores: list[float]) -> Detections:
    order = np.argsort(-np.array(scores), kind="stable")
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4)[order],
        np.array(scores, np.float32)[order],
        np.array(labels, np.int64)[order],
        ("dog", "cat", "cow"),  # other classes, in another order, than the data's
        60,
        40,
    )


def test_by_hand() -> None:
    cat, dog, far = [0.0, 0, 30, 30], [30.0, 10, 60, 40], [40.0, 0, 50, 8]
    samples = [
        labelled([cat, dog], [0, 1], [False, False]),
        labelled([cat], [0], [False]),
        labelled([cat, far], [0, 0], [True, False]),
        labelled([dog], [1], [False]),
    ]
    detections = [
        # The dog is found; the cat is called a dog; one cow, which the data does not have.
        detected([dog, cat, far], [0, 0, 2], [0.9, 0.6, 0.9]),
        detected([cat, cat], [1, 1], [0.7, 0.8]),  # twice: the second is wrong
        detected([cat], [1], [0.9]),  # difficult: neither right nor wrong
        detected([dog], [0], [0.4]),  # too unsure to count
    ]
    first, second, third, fourth = find_mistakes(detections, samples, NAMES)
    assert [each.picture for each in (first, second, third, fourth)] == [1, 0, 3, 2]
    assert (first.missed, first.wrong.scores.tolist()) == ((), pytest.approx([0.7]))
    assert (second.missed, second.wrong.labels.tolist()) == ((0,), [1])
    assert (third.missed, len(third.wrong.scores)) == ((0,), 0)
    assert (fourth.missed, len(fourth.wrong.scores)) == ((1,), 0)
    assert second.severity == pytest.approx((900 / 2400) ** 0.5)
    assert fourth.severity == pytest.approx((80 / 2400) ** 0.5)


corner = st.integers(0, 5).map(float)
box = st.tuples(corner, corner).map(lambda p: [p[0], p[1], p[0] + 4, p[1] + 4])
objects = st.lists(st.tuples(box, st.integers(0, 1), st.booleans()), max_size=4)
guesses = st.lists(st.tuples(box, st.integers(0, 1), st.sampled_from([0.3, 0.6, 0.8])), max_size=5)


@given(st.lists(st.tuples(objects, guesses), min_size=1, max_size=4))
def test_as_many_as_the_ranking_says(
    pictures: list[
        tuple[list[tuple[list[float], int, bool]], list[tuple[list[float], int, float]]]
    ],
) -> None:
    samples, detections = [], []
    for there, found in pictures:
        samples.append(labelled(*(list(each) for each in zip(*there, strict=True))) if there
                       else labelled([], [], []))  # fmt: skip
        detections.append(detected(*(list(each) for each in zip(*found, strict=True))) if found
                          else detected([], [], []))  # fmt: skip
    mistakes = find_mistakes(detections, samples, NAMES)
    every, all_objects = (
        Found.collect([each.above(0.5) for each in detections], NAMES),
        Objects.collect(samples),
    )
    wrong = missed = 0
    for label in range(2):
        ranked = rank_hits(every.of_class(label), all_objects.of_class(label), 0.5)
        # The ranking takes a difficult object's first detection for a hit, and leaves it out.
        hits = int(ranked.hits.sum())
        wrong += len(ranked.hits) - hits
        missed += ranked.countable - hits
    assert sum(len(each.wrong.scores) for each in mistakes) == wrong
    assert sum(len(each.missed) for each in mistakes) == missed


def test_classes_that_the_detector_does_not_know_are_passed_over() -> None:
    sheep = Sample.of(PICTURE, [[0, 0, 9, 9]], [2], width=60, height=40)
    assert find_mistakes([detected([], [], [])], [sheep], (*NAMES, "sheep")) == []


def test_the_sheet(tmp_path: Path) -> None:
    data = DataSet([labelled([[5, 5, 50, 35]], [0], [False])], NAMES, "val", Path(), "samples")
    path = tmp_path / "mistakes.png"
    right = detected([[5, 5, 50, 35]], [1], [0.9])
    assert draw_mistakes(path, data, [right]) == 0
    assert not path.exists()
    assert draw_mistakes(path, data, [detected([], [], [])]) == 1
    assert cv2.imread(str(path)) is not None


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic.generate(tmp_path / "scenes", images=3, size=(64, 64), splits={"test": 1.0})
    sheet = tmp_path / "sheet.jpg"
    call = ["evaluate", "animals", str(tmp_path / "scenes"), "--mistakes", str(sheet)]
    assert main(call) == 0
    # No object of the scenes is of a class that the detector knows.
    assert "of 3 pictures have mistakes at a score of 0.5" in capsys.readouterr().out
