"""The figures of a comparison, on outputs and detections made by hand."""

import numpy as np
import pytest

from multibox.parity.compare import Parity, compare
from multibox.parity.reference import Found, RawOutputs


def raw(logit: float = 1.0, offset: float = 2.0) -> RawOutputs:
    return RawOutputs(np.full((1, 3, 2), logit, np.float32), np.full((1, 3, 4), offset, np.float32))


def found(*entries: tuple[list[float], float, int]) -> Found:
    boxes, scores, labels = zip(*entries, strict=True) if entries else ([], [], [])
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
    )


def compared(theirs: Found, ours: Found) -> Parity:
    return compare("somebody", raw(), raw(), (100, 200), [theirs], [ours])


def test_raw_outputs() -> None:
    parity = compare("somebody", raw(), raw(1.5, 1.75), (100, 200))
    assert (parity.class_logits, parity.box_offsets, parity.magnitude) == (0.5, 0.25, 2.0)
    assert parity.detections is None
    assert not parity.agrees
    assert compare("somebody", raw(), raw(1.001), (100, 200)).agrees
    assert "class scores 0.5, box offsets 0.25" in parity.lines()[1]


def test_other_shapes_and_numbers_that_are_none_do_not_agree() -> None:
    fewer = RawOutputs(*(values[:, :2] for values in raw()))
    assert not compare("somebody", raw(), fewer, (100, 200)).agrees
    assert not compare("somebody", raw(), raw(float("nan")), (100, 200)).agrees


def test_a_box_and_score_moved() -> None:
    parity = compared(
        found(([0.1, 0.1, 0.5, 0.5], 0.9, 0)), found(([0.1, 0.13, 0.51, 0.5], 0.75, 0))
    )
    assert (parity.detections, parity.lost, parity.gained) == (1, 0, 0)
    assert parity.boxes == pytest.approx(3)  # down: 0.03 of 100; across: 0.01 of 200
    assert parity.scores == pytest.approx(0.15)


def test_another_order_changes_nothing() -> None:
    a, b = ([0.1, 0.1, 0.5, 0.5], 0.9, 0), ([0.12, 0.1, 0.5, 0.5], 0.9, 0)
    parity = compared(found(a, b), found(b, a))
    assert (parity.lost, parity.gained, parity.boxes) == (0, 0, 0)


def test_another_class_is_lost_and_gained() -> None:
    box = [0.1, 0.1, 0.5, 0.5]
    parity = compared(found((box, 0.9, 0)), found((box, 0.9, 1)))
    assert (parity.lost, parity.gained) == (1, 1)


def test_far_away_is_lost_and_gained() -> None:
    parity = compared(found(([0, 0, 0.2, 0.2], 0.9, 0)), found(([0.5, 0.5, 0.7, 0.7], 0.9, 0)))
    assert (parity.lost, parity.gained, parity.boxes) == (1, 1, 0)


def test_boxes_without_area_are_paired() -> None:
    line = found(([0.3, 0, 0.6, 0], 0.9, 0))
    assert (compared(line, line).lost, compared(line, line).gained) == (0, 0)


def test_nothing_found() -> None:
    parity = compared(found(), found(([0, 0, 1, 1], 0.5, 0)))
    assert (parity.detections, parity.lost, parity.gained) == (0, 0, 1)
    assert compared(found(), found()).lines()[2].startswith("0 detections, 0 lost, 0 gained")
