"""Samples and sets of them, policies as values, and what is kept out of a training."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import write_picture

from multibox.data import DataSet, Sample
from multibox.data.labels import LabelledObject, LabelledPicture, check_objects, read_samples
from multibox.data.policies import CHOICES, KINDS, Policies
from multibox.data.readable import without_unreadable
from multibox.errors import InputError
from multibox.image_headers import ImageHeader


def sample_of(labels: list[int], **more: object) -> Sample:
    boxes = [[i, i, i + 5, i + 6] for i in range(len(labels))]
    return Sample.of(Path("a.jpg"), boxes, labels, width=40, height=30, **more)


def test_what_is_left_out_is_false_and_the_id_is_the_path() -> None:
    sample = sample_of([1, 0])
    assert (sample.boxes.dtype, sample.labels.dtype) == (np.float32, np.int64)
    assert sample.difficult.tolist() == sample.crowd.tolist() == [False, False]
    assert sample.areas is None
    assert sample.id == "a.jpg"
    picture = np.zeros((30, 40, 3), np.uint8)
    assert Sample.of(picture, [], [], width=40, height=30).id == ""
    assert Sample.of(picture, [], [], width=40, height=30).boxes.shape == (0, 4)


@given(st.lists(st.integers(0, 3), max_size=6), st.data())
def test_selecting_takes_every_array_alike(labels: list[int], data: st.DataObject) -> None:
    n = len(labels)
    flags = st.lists(st.booleans(), min_size=n, max_size=n)
    sample = sample_of(
        labels, difficult=data.draw(flags), crowd=data.draw(flags), areas=list(range(n))
    )
    kept = np.array(data.draw(flags), bool)
    by_mask, by_index = sample.select(kept), sample.select(np.flatnonzero(kept))
    for name in ("boxes", "labels", "difficult", "crowd", "areas"):
        expected = [
            value for value, keep in zip(getattr(sample, name).tolist(), kept, strict=True) if keep
        ]
        assert getattr(by_mask, name).tolist() == expected
        assert getattr(by_index, name).tolist() == expected
    assert (by_mask.image, by_mask.id, by_mask.width) == (sample.image, sample.id, 40)


NAMES = ("cat", "dog", "cow")


@given(st.lists(st.integers(0, 2), max_size=6), st.permutations(NAMES), st.integers(1, 3))
def test_restricting_keeps_pictures_and_renames_labels(
    labels: list[int], order: list[str], count: int
) -> None:
    data = DataSet([sample_of(labels), sample_of([])], NAMES, "train", Path(), "test")
    chosen = order[:count]
    part = data.restricted(chosen)
    assert len(part) == len(data) == 2
    assert part.names == tuple(chosen)
    assert [part.names[label] for label in part.samples[0].labels] == [
        NAMES[label] for label in labels if NAMES[label] in chosen
    ]
    kept = [i for i, label in enumerate(labels) if NAMES[label] in chosen]
    np.testing.assert_array_equal(part.samples[0].boxes, data.samples[0].boxes[kept])


def test_restricting_to_an_unknown_class_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"horse|not in tuple"):
        DataSet([], NAMES, "train", Path(), "test").restricted(["horse"])


def test_samples_go_through_worker_processes() -> None:
    sample = sample_of([1, 2], crowd=[True, False])
    again = pickle.loads(pickle.dumps(sample))
    np.testing.assert_array_equal(again.boxes, sample.boxes)
    assert again.crowd.tolist() == [True, False]


# --- boxes that are the same ---------------------------------------------------------------------


def repeated(boxes: list[tuple[float, ...]], names: str = "") -> set[tuple[int, str]]:
    """(place of the later one, what it says) of every box that counts as drawn twice."""
    objects = [LabelledObject(i, names[i] if names else "a", box) for i, box in enumerate(boxes)]
    picture = LabelledPicture(Path("a.jpg"), "a", "a.xml", objects)
    checked = check_objects(picture, ImageHeader("jpeg", 1000, 1000))
    return {
        (fault.object, fault.value) for _, fault in checked.faults if fault.kind == "duplicate-box"
    }


def naive(boxes: list[tuple[float, ...]]) -> set[int]:
    """The places of boxes that overlap an earlier one by 99 in a hundred, pair by pair."""
    later = set()
    for j, (a0, b0, a1, b1) in enumerate(boxes):
        for c0, d0, c1, d1 in boxes[:j]:
            width, height = min(a1, c1) - max(a0, c0), min(b1, d1) - max(b0, d0)
            both = max(width, 0) * max(height, 0)
            if both >= 0.99 * ((a1 - a0) * (b1 - b0) + (c1 - c0) * (d1 - d0) - both):
                later.add(j)
    return later


small = st.integers(0, 3).map(lambda n: n / 4)
box = st.tuples(small, small, st.integers(100, 102), st.integers(100, 102))


@given(st.lists(box, max_size=8))
def test_boxes_drawn_twice_are_those_that_overlap_pair_by_pair(
    boxes: list[tuple[float, ...]],
) -> None:
    assert {place for place, _ in repeated(boxes)} == naive(boxes)


def test_boxes_of_two_classes_are_not_the_same() -> None:
    one = (1, 1, 50, 50)
    assert repeated([one, one], "ab") == set()
    assert repeated([one, one, one], "aba") == {(2, "object 0")}


def test_twenty_thousand_boxes_of_a_class_take_no_memory_to_speak_of() -> None:
    """All pairs would take three gigabytes. So many are the same only where they are equal."""
    boxes = [(i % 500 + 0.0, 1.0, i % 500 + 100.0, 90.0) for i in range(20_000)]
    found = repeated(boxes)
    assert len(found) == 19_500
    assert (500, "object 0") in found
    assert (19_999, "object 499") in found


# --- policies ------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(KINDS), st.none(), max_size=4), st.data())
def test_policies_are_values(kinds: dict[str, None], data: st.DataObject) -> None:
    chosen = {
        kind: data.draw(st.sampled_from([CHOICES[kind].default, *CHOICES[kind].others]))
        for kind in kinds
    }
    first, second = Policies(chosen), Policies(dict(reversed(chosen.items())))
    assert first == second
    assert hash(first) == hash(second)
    assert first == Policies.parse(f"{kind}={policy}" for kind, policy in chosen.items())
    assert first != chosen
    for kind in KINDS:
        assert first.of(kind) == chosen.get(kind, CHOICES[kind].default)


def test_every_kind_has_choices_of_its_own() -> None:
    assert set(CHOICES) == set(KINDS)
    for kind, choice in CHOICES.items():
        assert choice.default not in choice.others, kind
        assert "error" in (choice.default, *choice.others), kind


@pytest.mark.parametrize("text", ["", "=", "=error", "box-outside=", "box-outside", "a=b=c"])
def test_policies_of_another_form_are_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Policies.parse([text])
    assert "\n" not in str(caught.value)


# --- pictures that cannot be read ----------------------------------------------------------------


def test_arrays_are_checked_as_files_are(tmp_path: Path) -> None:
    sound = np.zeros((30, 40, 3), np.uint8)
    strange = np.zeros((30, 40, 7), np.uint8)
    samples = [
        Sample.of(image, [], [], width=40, height=30, id=name)
        for name, image in (("sound", sound), ("strange", strange))
    ]
    data = DataSet(samples, ("cat",), "train", tmp_path, "test")
    left = without_unreadable(data)
    assert [sample.id for sample in left.samples] == ["sound"]
    (problem,) = left.problems
    assert (problem.file, problem.kind) == ("strange", "unreadable-image")
    with pytest.raises(InputError, match="strange"):
        without_unreadable(data, Policies({"unreadable-image": "error"}))


def test_pictures_come_in_their_order_however_many_threads_read_them(tmp_path: Path) -> None:
    pictures = [
        LabelledPicture(write_picture(tmp_path / f"{i}.png", 10 + i, 20), str(i), "labels")
        for i in range(30)
    ]
    samples, problems = read_samples(pictures, ["cat"])
    assert [(sample.id, sample.width) for sample in samples] == [
        (str(i), 10 + i) for i in range(30)
    ]
    assert problems == []
