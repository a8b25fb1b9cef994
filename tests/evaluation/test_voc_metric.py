"""VOC average precision against a slow reference in exact fractions, and by hand."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multibox.data.samples import Sample
from multibox.detections import Detections
from multibox.evaluation import evaluate_detections
from multibox.evaluation.voc import RankedHits, area_under_curve, eleven_point

HALF = Fraction(1, 2)


def exact_iou(a: list[float], b: list[float]) -> Fraction:
    ax0, ay0, ax1, ay1, bx0, by0, bx1, by1 = map(Fraction, [*a, *b])
    width = max(Fraction(0), min(ax1, bx1) - max(ax0, bx0))
    height = max(Fraction(0), min(ay1, by1) - max(ay0, by0))
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - width * height
    return width * height / union if union else Fraction(0)


def reference_ap(
    detections: list[Detections], samples: list[Sample], label: int, metric: str, iou: Fraction
) -> Fraction | None:
    """One class, one detection at a time, every number a fraction."""
    to_find = 0
    for sample in samples:
        for k in range(len(sample.labels)):
            if sample.labels[k] == label and not sample.difficult[k] and not sample.crowd[k]:
                to_find += 1
    if to_find == 0:
        return None

    ranking = []
    for i, per_image in enumerate(detections):
        for k in range(len(per_image)):
            if per_image.labels[k] == label:
                ranking.append((-float(per_image.scores[k]), i, k))
    ranking.sort()

    taken = set()
    tp = fp = 0
    points = []  # (recall, precision) after each detection that counts
    for _, i, k in ranking:
        sample = samples[i]
        best, best_iou = None, Fraction(-1)
        for g in range(len(sample.labels)):
            if sample.labels[g] == label:
                overlap = exact_iou(detections[i].boxes[k].tolist(), sample.boxes[g].tolist())
                if overlap > best_iou:
                    best, best_iou = g, overlap
        if best is not None and best_iou >= iou:
            if sample.difficult[best] or sample.crowd[best]:
                continue
            if (i, best) in taken:
                fp += 1
            else:
                taken.add((i, best))
                tp += 1
        else:
            fp += 1
        points.append((Fraction(tp, to_find), Fraction(tp, tp + fp)))

    if metric == "voc07":
        total = Fraction(0)
        for level in (Fraction(j, 10) for j in range(11)):
            total += max((p for r, p in points if r >= level), default=Fraction(0))
        return total / 11
    total, previous = Fraction(0), Fraction(0)
    for recall in sorted({r for r, _ in points}):
        total += (recall - previous) * max(p for r, p in points if r >= recall)
        previous = recall
    return total


def assert_equals_reference(
    detections: list[Detections], samples: list[Sample], names: tuple[str, ...], iou: float = 0.5
) -> None:
    for metric in ("voc07", "voc"):
        measured = evaluate_detections(detections, samples, names, metric=metric, iou=iou)
        expected = [
            reference_ap(detections, samples, label, metric, Fraction(iou))
            for label in range(len(names))
        ]
        for name, ap in zip(names, expected, strict=True):
            assert (measured.per_class[name] is None) == (ap is None)
            if ap is not None:
                assert measured.per_class[name] == pytest.approx(float(ap), abs=1e-12)
        known = [ap for ap in expected if ap is not None]
        mean = float(sum(known) / len(known)) if known else None
        assert measured.map == (mean if mean is None else pytest.approx(mean, abs=1e-12))


@pytest.mark.parametrize(
    "options",
    [
        {"images": 80, "classes": 5},
        {"images": 60, "grid": 20.0, "score_levels": 5},
        {"images": 60, "grid": 0.37},
        {"images": 12, "classes": 1, "objects": 20, "strays": 40},
        {"images": 40, "difficult": 0.9, "crowd": 0.5, "classes": 8},
    ],
)
def test_random_pictures_agree_with_the_reference(scene: Callable, options: dict) -> None:
    for seed in range(3):
        assert_equals_reference(*scene(seed, **options))


@pytest.mark.parametrize("iou", [0.25, 0.75, 1.0])
def test_other_overlap_thresholds(scene: Callable, iou: float) -> None:
    assert_equals_reference(*scene(7, grid=10.0), iou=iou)


small = st.integers(0, 4)
box = st.builds(lambda x, y, w, h: [x, y, x + w + 1, y + h + 1], small, small, small, small)
labelled = st.tuples(box, st.integers(0, 1), st.booleans(), st.booleans())
detected = st.tuples(box, st.integers(0, 1), st.sampled_from([0.25, 0.5, 0.75]))
picture = st.tuples(st.lists(labelled, max_size=5), st.lists(detected, max_size=6))


@settings(max_examples=150, deadline=None)
@given(st.lists(picture, max_size=4))
def test_tiny_grids_full_of_ties_agree_with_the_reference(pictures: list) -> None:
    names = ("a", "b")
    samples = [
        Sample.of(
            Path("x.jpg"), [o[0] for o in objects], [o[1] for o in objects], width=9, height=9,
            difficult=[o[2] for o in objects], crowd=[o[3] for o in objects],
        )
        for objects, _ in pictures
    ]  # fmt: skip
    detections = []
    for _, found in pictures:
        found = sorted(found, key=lambda d: -d[2])
        detections.append(
            Detections(
                np.array([d[0] for d in found], np.float32).reshape(-1, 4),
                np.array([d[2] for d in found], np.float32),
                np.array([d[1] for d in found], np.int64), names, 9, 9,
            )
        )  # fmt: skip
    if pictures:
        assert_equals_reference(detections, samples, names)


def one_class(found: list, objects: list, difficult: list | None = None) -> dict[str, float | None]:
    """AP by metric of one picture; ``found`` holds (score, box)."""
    sample = Sample.of(
        Path("x.jpg"), objects, [0] * len(objects), width=99, height=99, difficult=difficult
    )
    detection = Detections(
        np.array([b for _, b in found], np.float32).reshape(-1, 4),
        np.array([s for s, _ in found], np.float32),
        np.zeros(len(found), np.int64), ("cell",), 99, 99,
    )  # fmt: skip
    return {
        metric: evaluate_detections([detection], [sample], ("cell",), metric=metric).map
        for metric in ("voc07", "voc")
    }


A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [70, 70, 80, 80]


def test_one_of_two_found_then_a_mistake() -> None:
    # Precision 1 up to recall 0.5: the levels 0 .. 0.5 are six of eleven.
    assert one_class([(0.9, A), (0.8, FAR)], [A, B]) == pytest.approx(
        {"voc07": 6 / 11, "voc": 0.5}, abs=1e-15
    )


def test_a_mistake_before_the_second_object() -> None:
    # Ranks: hit, miss, hit -> precision 1, 1/2, 2/3.
    assert one_class([(0.9, A), (0.8, FAR), (0.7, B)], [A, B]) == pytest.approx(
        {"voc07": (6 + 5 * 2 / 3) / 11, "voc": 0.5 + 0.5 * 2 / 3}, abs=1e-15
    )


def test_the_second_box_on_an_object_is_wrong() -> None:
    assert one_class([(0.9, A), (0.8, A), (0.7, B)], [A, B])["voc"] == pytest.approx(
        0.5 + 0.5 * 2 / 3
    )


def test_the_most_overlapped_object_counts_even_when_it_is_taken() -> None:
    # The second box overlaps its neighbour by more than 0.5 as well, but A by more.
    neighbour = [2, 0, 12, 10]
    assert one_class([(0.9, A), (0.8, [0.5, 0, 10.5, 10])], [A, neighbour])["voc"] == 0.5


def test_of_two_objects_overlapped_equally_the_first_counts() -> None:
    assert one_class([(0.9, A)], [A, A], [False, True])["voc"] == 1
    assert one_class([(0.9, A)], [A, A], [True, False])["voc"] == 0


def test_every_box_on_a_difficult_object_is_left_out() -> None:
    found = [(0.9, B), (0.8, B), (0.7, A)]
    assert one_class(found, [A, B], [False, True]) == pytest.approx({"voc07": 1, "voc": 1})


def test_only_difficult_objects_give_no_ap() -> None:
    assert one_class([(0.9, A)], [A], [True]) == {"voc07": None, "voc": None}


def test_nothing_found_is_zero() -> None:
    assert one_class([], [A]) == {"voc07": 0, "voc": 0}


def test_an_overlap_of_exactly_one_half_is_enough() -> None:
    assert one_class([(0.9, [0, 0, 10, 5])], [A])["voc"] == 1
    assert one_class([(0.9, [0, 0, 10, 4.999])], [A])["voc"] == 0


def test_empty_boxes_overlap_nothing() -> None:
    assert one_class([(0.9, [5, 5, 5, 5])], [[5, 5, 5, 5]])["voc"] == 0


def test_equal_scores_keep_the_order_of_the_pictures() -> None:
    def found(boxes: list) -> Detections:
        n = len(boxes)
        return Detections(
            np.array(boxes, np.float32), np.full(n, 0.5, np.float32), np.zeros(n, np.int64),
            ("cell",), 99, 99,
        )  # fmt: skip

    samples = [Sample.of(Path("x.jpg"), [A], [0], width=99, height=99)] * 2
    first_right = evaluate_detections(
        [found([A, FAR]), found([FAR, FAR])], samples, ("cell",), metric="voc"
    )
    first_wrong = evaluate_detections(
        [found([FAR, FAR]), found([FAR, A])], samples, ("cell",), metric="voc"
    )
    assert first_right.map == 0.5
    assert first_wrong.map == 0.5 * 1 / 4


@pytest.mark.parametrize("countable", range(1, 60))
def test_a_recall_level_is_reached_in_integers(countable: int) -> None:
    """All hits: precision 1 as far as the objects go, so AP counts the levels that are reached."""
    for found in range(countable + 1):
        ranked = RankedHits(np.ones(found, bool), countable)
        levels = sum(10 * found >= j * countable for j in range(11)) if found else 0
        assert eleven_point(ranked) == pytest.approx(levels / 11, abs=1e-15)
        assert area_under_curve(ranked) == pytest.approx(found / countable, abs=1e-15)
