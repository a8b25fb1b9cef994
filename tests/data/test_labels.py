from math import inf, nan

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import write_picture

from multibox.data import DataSet, Problem, problems_summary
from multibox.data.labels import LabelledObject, LabelledPicture, read_samples, upright_boxes

# How a viewer turns the stored picture upright, by cv2 alone.
TURNS = {
    1: lambda m: m,
    2: lambda m: cv2.flip(m, 1),
    3: lambda m: cv2.rotate(m, cv2.ROTATE_180),
    4: lambda m: cv2.flip(m, 0),
    5: cv2.transpose,
    6: lambda m: cv2.rotate(m, cv2.ROTATE_90_CLOCKWISE),
    7: lambda m: cv2.flip(cv2.transpose(m), -1),
    8: lambda m: cv2.rotate(m, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


@given(
    orientation=st.sampled_from(sorted(TURNS)),
    xs=st.lists(st.integers(0, 17), min_size=2, max_size=2, unique=True).map(sorted),
    ys=st.lists(st.integers(0, 11), min_size=2, max_size=2, unique=True).map(sorted),
)
def test_turned_box_bounds_the_turned_mask(orientation, xs, ys):
    mask = np.zeros((11, 17), np.uint8)
    mask[ys[0] : ys[1], xs[0] : xs[1]] = 1
    turned = np.argwhere(TURNS[orientation](mask))
    (y0, x0), (y1, x1) = turned.min(0), turned.max(0) + 1
    box = upright_boxes(np.array([[xs[0], ys[0], xs[1], ys[1]]], float), orientation, 17, 11)
    assert box.tolist() == [[x0, y0, x1, y1]]


def test_cv2_itself_reads_the_orientations_as_the_turns_above(tmp_path):
    # Guards the oracle: what cv2 does with the tag when it decodes a file.
    path = write_picture(tmp_path / "a.jpg", 16, 8, orientation=6)
    assert cv2.imread(str(path)).shape[:2] == TURNS[6](np.zeros((8, 16))).shape


@pytest.mark.parametrize("orientation", [0, 9])
def test_unknown_orientation_is_refused(orientation):
    with pytest.raises(ValueError, match="orientation"):
        upright_boxes(np.zeros((1, 4)), orientation, 4, 4)


def read_one(path, *boxes, names=("a",), size=None, unit=False):
    objects = [LabelledObject(i, "a", box) for i, box in enumerate(boxes)]
    picture = LabelledPicture(path, "id", "labels.xml", objects, size, unit)
    samples, problems = read_samples([picture], names)
    return samples[0], [(p.object, p.reason, p.action) for p in problems]


@pytest.fixture
def picture(tmp_path):
    return write_picture(tmp_path / "a.jpg", 40, 30)


@pytest.mark.parametrize(
    ("box", "kept", "said"),
    [
        ((1, 2, 3, 4), [1, 2, 3, 4], None),
        ((0, 0, 40, 30), [0, 0, 40, 30], None),
        ((-1, 0, 41, 31), [0, 0, 40, 30], None),  # rounding, not worth a word
        ((-1.5, 2, 3, 4), [0, 2, 3, 4], "clipped"),
        ((30, 20, 400, 25), [30, 20, 40, 25], "clipped"),
        ((39.5, 5, 45, 10), None, "dropped"),  # half a pixel would remain
        ((50, 5, 60, 10), None, "dropped"),
        ((-9, -9, -3, -3), None, "dropped"),
        ((5, 5, 5, 9), None, "dropped"),
        ((9, 5, 5, 9), None, "dropped"),
        ((nan, 5, 9, 9), None, "dropped"),
        ((1, 5, inf, 9), None, "dropped"),
        ((1e300, 5, 2e300, 9), None, "dropped"),
        ((3.2, 5, 3.7, 9), [3.2, 5, 3.7, 9], None),  # thin, but inside
    ],
)
def test_wrong_boxes_are_mended_or_dropped_and_said(picture, box, kept, said):
    sample, problems = read_one(picture, (1, 1, 2, 2), box)
    expected = [[1, 1, 2, 2]] + ([kept] if kept else [])
    np.testing.assert_allclose(sample.boxes, expected, rtol=1e-6)
    assert [(place, action) for place, _, action in problems] == ([(1, said)] if said else [])


@given(st.lists(st.tuples(*[st.floats(width=32)] * 4), max_size=8), st.booleans())
def test_whatever_the_numbers_boxes_end_inside_with_area(tmp_path_factory, boxes, unit):
    path = tmp_path_factory.getbasetemp() / "inside.png"
    if not path.exists():
        write_picture(path, 40, 30)
    sample, problems = read_one(path, *boxes, unit=unit)
    assert (sample.boxes >= 0).all()
    assert (sample.boxes <= [40, 30, 40, 30]).all()
    assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
    assert len(sample.boxes) + sum(action == "dropped" for *_, action in problems) == len(boxes)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_in_the_stored_frame_are_turned_upright(tmp_path, orientation):
    path = write_picture(tmp_path / "a.jpg", 40, 30, orientation)
    stored = (1.0, 2.0, 11.0, 22.0)
    sample, problems = read_one(path, stored, size=(40, 30))
    assert (sample.width, sample.height) == (30, 40)
    mask = np.zeros((30, 40), np.uint8)
    mask[2:22, 1:11] = 1
    turned = np.argwhere(TURNS[orientation](mask))
    expected = [*turned.min(0)[::-1], *(turned.max(0)[::-1] + 1)]
    assert sample.boxes.tolist() == [expected]
    assert problems == [(None, "labels made before the EXIF rotation", "boxes turned")]


def test_labels_in_the_upright_frame_stay(tmp_path):
    path = write_picture(tmp_path / "a.jpg", 40, 30, orientation=6)
    sample, problems = read_one(path, (1, 2, 11, 22), size=(30, 40))
    assert sample.boxes.tolist() == [[1, 2, 11, 22]]
    assert not problems


@pytest.mark.parametrize("size", [(0, 0), (30, 40), (400, 300)])
def test_a_wrong_stated_size_is_said_and_the_picture_rules(picture, size):
    sample, problems = read_one(picture, (1, 2, 11, 22), size=size)
    assert (sample.width, sample.height) == (40, 30)
    assert sample.boxes.tolist() == [[1, 2, 11, 22]]
    assert [reason for _, reason, _ in problems] == ["size in the label differs"]


def test_missing_and_unreadable_pictures_are_left_out(tmp_path, picture):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    pictures = [LabelledPicture(p, str(p), "l.xml") for p in (None, broken, picture)]
    samples, problems = read_samples(pictures, ["a"])
    assert [sample.image for sample in samples] == [picture]
    assert [(p.file, p.reason) for p in problems] == [
        ("l.xml", "picture not found"),
        (str(broken), "picture cannot be read"),
    ]


def test_summary_groups_by_reason_and_shows_first_examples(tmp_path):
    problems = [Problem(str(tmp_path / f"{i}.xml"), i, "outside", "clipped") for i in range(5)]
    problems.insert(0, Problem(str(tmp_path / "z.xml"), None, "no file", "kept"))
    data = DataSet([], (), "train", tmp_path, "VOC", problems=tuple(problems))
    assert problems_summary(data) == [
        "outside: 5 clipped (0.xml object 0, 1.xml object 1, 2.xml object 2, …)",
        "no file: 1 kept (z.xml)",
    ]
