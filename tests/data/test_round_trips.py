"""Random sets, written in each format by code of their own and read back: nothing gets lost."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given, settings
from random_sets import HEIGHT, WIDTH, WRITERS, RandomSet, Thing, random_sets

from multibox.data import DataSet, open_data
from multibox.data.open import read_labels

SOME = settings(max_examples=12, deadline=None)


@contextmanager
def a_folder() -> Iterator[Path]:
    """A folder for one example of hypothesis, which knows no fixtures."""
    folder = Path(mkdtemp(prefix="round trip ä "))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def found(data: DataSet) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """The objects by the stem of their picture: class names and boxes, in the file's order."""
    return {
        sample.image.stem: [
            (data.names[label], tuple(np.round(box, 3).tolist()))
            for label, box in zip(sample.labels, sample.boxes, strict=True)
        ]
        for sample in data.samples
    }


def expected(data: RandomSet, split: str) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    return {
        stem: [(thing.name, thing.box) for thing in data.pictures[stem]]
        for stem in data.of_split(split)
    }


@pytest.mark.parametrize("format", WRITERS)
@given(data=random_sets())
@SOME
def test_what_was_written_is_read(format: str, data: RandomSet) -> None:
    with a_folder() as folder:
        WRITERS[format](folder, data)
        for split in ("train", "val"):
            read = open_data(folder, split=split)
            assert found(read) == expected(data, split)
            assert not read.problems
            assert {(s.width, s.height) for s in read.samples} == {(WIDTH, HEIGHT)}
        assert set(read.names) == set(data.names)


@pytest.mark.parametrize(("format", "flag"), [("voc", "difficult"), ("coco", "crowd")])
@given(data=random_sets())
@SOME
def test_flags_stay_with_their_objects(format: str, flag: str, data: RandomSet) -> None:
    with a_folder() as folder:
        read = open_data(WRITERS[format](folder, data))
        for sample in read.samples:
            things = data.pictures[sample.image.stem]
            assert getattr(sample, flag).tolist() == [getattr(thing, flag) for thing in things]
            other = sample.crowd if flag == "difficult" else sample.difficult
            assert not other.any()


@given(data=random_sets(flags=False))
@SOME
def test_the_three_formats_say_the_same(data: RandomSet) -> None:
    with a_folder() as folder:
        read = [open_data(write(folder / name, data)) for name, write in WRITERS.items()]
        first, *others = map(found, read)
        assert all(other == first for other in others)
        # VOC has no list of its classes: they are sorted. The others keep the order of their list.
        assert read[0].names == tuple(sorted(data.names, key=lambda name: normalize("NFC", name)))
        assert read[1].names == read[2].names == data.names


@given(data=random_sets(flags=False))
@SOME
def test_merged_formats_hold_each_picture_of_each_part(data: RandomSet) -> None:
    with a_folder() as folder:
        for name, write in WRITERS.items():
            write(folder / name, data)
        merged = open_data([folder / name for name in WRITERS], split="train")
        assert set(merged.names) == set(data.names)
        assert len(merged) == len(WRITERS) * len(data.of_split("train"))
        for name in WRITERS:
            part = [s for s in merged.samples if s.id.startswith(f"{name}/")]
            objects = {s.image.stem: [merged.names[label] for label in s.labels] for s in part}
            assert objects == {
                stem: [thing.name for thing in data.pictures[stem]]
                for stem in data.of_split("train")
            }


@pytest.mark.parametrize("format", WRITERS)
@given(data=random_sets(flags=False))
@settings(max_examples=6, deadline=None)
def test_reading_does_not_depend_on_where_or_in_which_order_files_came(
    format: str, data: RandomSet
) -> None:
    """A copy whose files were created in another order, in another place: the same samples."""
    with a_folder() as folder:
        WRITERS[format](folder / "one", data)
        files = [path for path in sorted((folder / "one").rglob("*")) if path.is_file()]
        for path in reversed(files):
            copy = folder / "another place" / path.relative_to(folder / "one")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        first, second = open_data(folder / "one"), open_data(folder / "another place")
        assert first.names == second.names
        assert [s.id for s in first.samples] == [s.id for s in second.samples]
        for a, b in zip(first.samples, second.samples, strict=True):
            np.testing.assert_array_equal(a.boxes, b.boxes)
            np.testing.assert_array_equal(a.labels, b.labels)


@pytest.mark.parametrize("format", WRITERS)
def test_names_in_another_unicode_form_find_their_pictures(format: str, tmp_path: Path) -> None:
    """Archives and file systems change the form of accented names; the labels keep theirs."""
    composed, decomposed = "größe Å", normalize("NFD", "größe Å")
    thing = Thing("Ångström", (3, 4, 30, 40))
    data = RandomSet(
        ("Ångström",), {composed: (thing,), "b": (thing,)}, {composed: "train", "b": "val"}
    )
    WRITERS[format](tmp_path, data)
    for path in list(tmp_path.rglob(f"*{composed}*")):
        # YOLO goes from the picture to its labels, so that both have to move together.
        if path.suffix == ".png" or format == "yolo":
            path.rename(path.with_name(path.name.replace(composed, decomposed)))
    read = open_data(tmp_path, split="train")
    assert not read.problems
    assert [s.boxes.tolist() for s in read.samples] == [[[3, 4, 30, 40]]]


@pytest.mark.parametrize("format", WRITERS)
@given(data=random_sets(flags=False))
@settings(max_examples=6, deadline=None)
def test_labels_read_once_give_the_same_as_opening_each_split(format: str, data: RandomSet) -> None:
    with a_folder() as folder:
        WRITERS[format](folder, data)
        labelled = read_labels(folder)
        for split in (*labelled.splits, None):
            again = open_data(folder, split=split)
            once = labelled.open(split)
            assert found(once) == found(again)
            assert (once.names, once.split, once.notes) == (again.names, again.split, again.notes)


@pytest.mark.parametrize("format", WRITERS)
@given(data=random_sets(flags=False))
@settings(max_examples=6, deadline=None)
def test_choosing_classes_only_takes_objects_away(format: str, data: RandomSet) -> None:
    with a_folder() as folder:
        WRITERS[format](folder, data)
        whole = found(open_data(folder))
        chosen = data.names[::-1][:2]
        part = open_data(folder, classes=chosen)
        assert part.names == chosen
        assert found(part) == {
            stem: [item for item in objects if item[0] in chosen] for stem, objects in whole.items()
        }
