"""Box geometry against exact fractions and torchvision."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from multibox import boxes

whole = st.integers(-20, 20)
integer_boxes = st.lists(st.tuples(whole, whole, whole, whole), max_size=8)


def exact_iou(a: tuple[int, ...], b: tuple[int, ...]) -> Fraction:
    """Counted in unit squares."""

    def cells(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    union = cells(a) | cells(b)
    return Fraction(len(cells(a) & cells(b)), len(union)) if union else Fraction(0)


def array(rows: list[tuple[int, ...]], dtype: type = np.float32) -> np.ndarray:
    return np.array(rows, dtype).reshape(-1, 4)


@given(integer_boxes, integer_boxes)
def test_iou_counts_unit_squares(a: list[tuple[int, ...]], b: list[tuple[int, ...]]) -> None:
    a, b = ([box for box in each if box[0] <= box[2] and box[1] <= box[3]] for each in (a, b))
    result = boxes.iou(array(a), array(b))
    assert result.shape == (len(a), len(b))
    expected = [[float(exact_iou(p, q)) for q in b] for p in a]
    np.testing.assert_allclose(result, np.array(expected).reshape(result.shape), rtol=1e-6)


def test_iou_equals_torchvision() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4) for n in (50, 70))
    theirs = torchvision.ops.box_iou(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(boxes.iou(a, b), theirs.numpy(), rtol=1e-12)


def test_area_of_an_inverted_box_is_zero() -> None:
    assert boxes.area(array([(0, 0, 2, 3), (5, 0, 2, 3), (5, 5, 2, 3)])).tolist() == [6, 0, 0]


def test_two_empty_boxes_have_iou_zero_without_a_warning() -> None:
    empty = array([(1, 1, 1, 1)])
    with np.errstate(all="raise"):
        assert boxes.iou(empty, empty).tolist() == [[0]]


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((0, 0, 4, 4), True),
        ((-9, 0, 13, 4), True),  # only the centre counts
        ((2, 0, 6, 4), False),  # a centre on the edge is outside
        ((-2, 0, 2, 4), False),
        ((0, 2, 4, 6), False),
        ((4, 4, 8, 8), False),
    ],
)
def test_centre_inside_is_strict(box: tuple[int, ...], inside: bool) -> None:
    window = np.array([0, 0, 4, 4], np.float32)
    assert boxes.centre_inside(array([box]), window).tolist() == [inside]
