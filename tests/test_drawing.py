"""Drawings, judged by their pixels."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multibox import drawing
from multibox.detections import Detections
from multibox.drawing import class_colour, contact_sheet, draw_boxes, draw_detections, to_ascii


def grey(height: int = 240, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def detections(boxes, names=("cat", "dog"), labels=None, width=320, height=240) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, n, dtype=np.float32),
        np.array(labels if labels is not None else [0] * n, np.int64),
        names,
        width,
        height,
    )


def has_colour(image: np.ndarray, colour) -> bool:
    return bool((image == colour).all(axis=-1).any())


@pytest.fixture(params=["unicode font", "ascii font"])
def font(request, monkeypatch):
    if request.param == "ascii font":
        monkeypatch.setattr(drawing, "_font", lambda: None)
    elif drawing._font() is None:
        pytest.skip("this OpenCV has no unicode font")


def test_boxes_have_their_classes_colours_and_the_original_is_untouched(font):
    image = grey()
    before = image.copy()
    drawn = draw_detections(
        image, detections([[20, 60, 120, 200], [180, 60, 300, 220]], labels=[0, 1])
    )
    np.testing.assert_array_equal(image, before)
    assert drawn.shape == image.shape
    for x0, x1, label in ((20, 120, 0), (180, 300, 1)):
        for x, y in ((x0, 150), (x1, 150), ((x0 + x1) // 2, 60)):
            assert tuple(drawn[y, x]) == class_colour(label)
    assert (drawn[100:180, 30:110] == 128).all()  # boxes are outlines


def test_nothing_found_draws_nothing():
    np.testing.assert_array_equal(draw_detections(grey(), detections([])), grey())


def test_the_label_is_written_above_the_box_on_its_colour(font):
    drawn = draw_detections(grey(), detections([[50, 100, 250, 200]]))
    above = drawn[88:99, 52:95]
    ground = (above == class_colour(0)).all(axis=-1)
    ink = (above > 190).all(axis=-1)
    assert ground.mean() > 0.3
    assert ink.sum() > 20


def test_other_names_and_scores_give_other_labels(font):
    pictures = [
        draw_boxes(grey(), np.array([[50, 100, 250, 200]]), [text], [(255, 0, 0)])
        for text in ("cat 0.93", "cat 0.98", "dog 0.93", "")
    ]
    for a, b in itertools.combinations(pictures, 2):
        assert (a != b).any()


@pytest.mark.skipif(drawing._font() is None, reason="this OpenCV has no unicode font")
def test_letters_of_many_scripts_are_not_question_marks():
    def label(text: str) -> bytes:
        return draw_boxes(grey(), np.array([[9, 99, 250, 200]]), [text], [(0, 0, 0)]).tobytes()

    for text in ("собака", "Köter", "σκύλος", "猫", "고양이"):
        assert label(text) != label("?" * len(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat 0.93", "cat 0.93"),
        ("Kůň", "Kun"),
        ("猫 a", "? a"),
        ("a\tb\n", "a?b?"),
        ("Straße", "Stra?e"),
    ],
)
def test_the_ascii_font_drops_accents_and_marks_the_rest(text, expected):
    assert to_ascii(text) == expected


coordinates = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 5.0, 1e30])
)


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.lists(st.tuples(coordinates, coordinates, coordinates, coordinates), max_size=5),
    st.text(max_size=12),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_boxes_and_texts_can_be_drawn(height, width, boxes, text, dashed):
    array = np.array(boxes, np.float32).reshape(-1, 4)
    texts, colours = [text] * len(boxes), [(1, 2, 3)] * len(boxes)
    drawn = draw_boxes(grey(height, width), array, texts, colours, dashed=dashed)
    assert drawn.shape == (height, width, 3)
    assert drawn.dtype == np.uint8


@pytest.mark.parametrize(
    "box", [[0, 0, 60, 50], [280, 0, 320, 40], [290, 220, 320, 240], [0, 200, 40, 240]]
)
def test_labels_stay_inside_the_picture(font, box):
    """In a corner of the picture the whole label is seen, as many pixels as in the middle."""
    colour = (10, 200, 30)

    def ink(at) -> int:
        drawn = draw_boxes(grey(), np.array([at]), ["zebra 0.93"], [colour])
        return int((drawn.max(axis=-1) == 0).sum())

    assert ink(box) == pytest.approx(ink([100, 100, 140, 140]), rel=0.05)


def test_labels_of_equal_boxes_do_not_cover_each_other(font):
    boxes = np.array([[50, 100, 250, 200]] * 3)
    colours = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
    drawn = draw_boxes(grey(), boxes, ["one", "two", "three"], colours)
    areas = [int((drawn == colour).all(axis=-1).sum()) for colour in colours]
    assert min(areas) > 150


def test_lines_grow_with_the_picture():
    def thickness(scale: int) -> int:
        box = np.array([[20, 20, 100, 100]]) * scale
        drawn = draw_boxes(grey(120 * scale, 160 * scale), box, [""], [(255, 0, 0)])
        return int((drawn[60 * scale, : 60 * scale] == (255, 0, 0)).all(axis=-1).sum())

    assert thickness(1) == 1
    assert thickness(10) >= 4


def test_dashes_leave_gaps():
    box = np.array([[10, 10, 300, 200]])
    whole = draw_boxes(grey(), box, [""], [(255, 0, 0)])
    dashed = draw_boxes(grey(), box, [""], [(255, 0, 0)], dashed=True)
    full, part = ((each == (255, 0, 0)).all(axis=-1).sum() for each in (whole, dashed))
    assert 0.35 < part / full < 0.65


def test_colours_are_fixed_and_far_apart():
    assert class_colour(0) == class_colour(0) == (255, 64, 38)
    colours = [np.array(class_colour(index)) for index in range(20)]
    assert min(np.abs(a - b).sum() for a, b in itertools.combinations(colours, 2)) >= 40


def test_a_sheet_shows_every_picture_in_its_proportions():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    shapes = [(60, 80), (60, 80), (200, 100), (60, 80), (30, 200)]
    pictures = [np.full((*s, 3), c, np.uint8) for s, c in zip(shapes, colours, strict=True)]
    sheet = contact_sheet(pictures, columns=2, width=640)
    assert sheet.shape[1] == 640
    for (height, width), colour in zip(shapes, colours, strict=True):
        rows, columns = np.nonzero((sheet == colour).all(axis=-1))
        seen = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert seen[0] / seen[1] == pytest.approx(height / width, rel=0.05)


def test_sheets_of_no_and_of_one_picture():
    assert contact_sheet([], columns=3, width=100).shape[1] == 100
    assert has_colour(contact_sheet([grey()], columns=4, width=100), (128, 128, 128))
