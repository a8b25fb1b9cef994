"""YOLO against a parser of twenty lines, and what its reader refuses or leaves aside."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import boxes_of, by_name, reasons, write_list, write_picture

from multibox import limits
from multibox.data import open_data
from multibox.data.yolo import label_file, read_picture, recognise
from multibox.errors import InputError

NAMES = {0: "cat", 1: "dog", 7: "犬"}


def by_hand(text: str) -> list[tuple[int, str, list[float]]]:
    """(line, class, corners) of every line that is a box, by the format's description alone."""
    found = []
    lines = [line for line in text.splitlines() if line.strip()]
    for place, line in enumerate(lines):
        try:
            index, *rest = [float(token) for token in line.split()]
        except ValueError:
            continue
        if index not in NAMES:
            continue
        if len(rest) in (4, 5):
            x, y, w, h = rest[:4]
            box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        elif len(rest) >= 6 and len(rest) % 2 == 0:
            box = [min(rest[::2]), min(rest[1::2]), max(rest[::2]), max(rest[1::2])]
        else:
            continue
        found.append((place, NAMES[int(index)], box))
    return found


number = st.one_of(
    st.floats(0, 1).map(repr), st.sampled_from(["0", "1", ".5", "5e-1", "+0.25", "1e-400", "00.5"])
)
token = st.one_of(number, st.sampled_from(["7", "3", "-1", "1e2"]))
line = st.one_of(
    st.tuples(st.sampled_from(["0", "1", "7", "1.0", "2", "-1"]), *[number] * 4).map(" ".join),
    st.lists(token, max_size=12).map("\t".join),
)
text = st.lists(line, max_size=8).flatmap(
    lambda lines: st.sampled_from(["\n", "\r\n", "\n\n", " \n "]).map(lambda end: end.join(lines))
)


@given(text)
@settings(max_examples=60, deadline=None)
def test_as_a_parser_by_hand_reads_it(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "by hand"
    picture = folder / "a.png"
    if not picture.exists():
        write_picture(picture)
    labels = folder / "a.txt"
    labels.write_bytes(text.encode())
    read = read_picture(picture, labels, NAMES, folder)
    expected = by_hand(text)
    assert [(item.place, item.name) for item in read.objects] == [e[:2] for e in expected]
    np.testing.assert_allclose(
        np.reshape([item.box for item in read.objects], (-1, 4)),
        np.reshape([box for *_, box in expected], (-1, 4)),
        atol=1e-12,
    )
    # What is no box is said, by its line.
    lines = [line for line in text.splitlines() if line.strip()]
    said = {problem.object for problem in read.problems}
    assert said == set(range(len(lines))) - {place for place, *_ in expected}


def yolo(root: Path, yaml: str, labels: tuple[str, ...] = ("0 .5 .5 .5 .5",)) -> Path:
    for split in ("train", "val"):
        write_picture(root / "images" / split / "a.jpg")
        write_list(root / "labels" / split / "a.txt", labels)
    return write_list(root / "data.yaml", [yaml])


PLACES = "train: images/train\nval: images/val\n"


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        (PLACES + "nc: [1]", "no class names"),
        (PLACES + "nc: {a: b}", "no class names"),
        (PLACES + "nc: -3", "no class names"),
        (PLACES + "nc: 0", "no class names"),
        (PLACES + "nc: " + "9" * 5000, "'names' must be"),
        (PLACES + "nc: 100001", "more than the limit of 100,000 classes"),
        (PLACES + "nc: many", "'names' must be"),
        (PLACES + "names: {0: [a]}", "'names' must be"),
        (PLACES + "names:\n  ? " + "9" * 5000 + "\n  : a", "'names' must be"),
        (PLACES + "names: &a [*a]", "not a readable YAML"),
        (PLACES + "names: *unknown", "not a readable YAML"),
        (PLACES + "names: [a]\n? [b]\n: c", "not a readable YAML"),
        ("train: {images: train}\nnames: [a]", "no pictures where it says"),
        ("train: [[images/train]]\nnames: [a]", "'train' must be a folder or a list of folders"),
        ("train: ''\nval: null\ntest: ~\nnames: [a]", "no pictures where it says"),
        ("train: " + "x" * 5000 + "\nnames: [a]", "no pictures where it says"),
        ("train: '\\0'\nnames: [a]", "no pictures where it says"),
        ("--- {train: a, names: [b]}\n--- {}", "not a readable YAML"),
        ("- train\n- val", "not a YOLO data file"),
        ("", "not a YOLO data file"),
    ],
)
def test_a_yaml_that_is_wrong_is_one_line(tmp_path: Path, yaml: str, said: str) -> None:
    file = yolo(tmp_path, yaml)
    with pytest.raises(InputError, match=said) as caught:
        open_data(file)
    line = str(caught.value)
    assert line.startswith(str(file))
    assert "\n" not in line
    assert len(line) < 1000


@pytest.mark.parametrize(
    "yaml",
    [
        PLACES + "names: !!python/object/apply:os.system [echo]",
        PLACES + "names: [cat, !!python/name:os.system '']",
    ],
)
def test_tags_are_never_carried_out(tmp_path: Path, yaml: str) -> None:
    data = open_data(yolo(tmp_path, yaml))
    assert data.names[0] in ("echo", "cat")


@pytest.mark.parametrize(
    ("count", "said"),
    [
        *((count, False) for count in ("1", "1.0", "nan", "1e999", "x", "9" * 5000, "[1]")),
        ("2", True),
        ("-7", True),
    ],
)
def test_a_count_that_differs_from_the_names_is_a_note(
    tmp_path: Path, count: str, said: bool
) -> None:
    data = open_data(yolo(tmp_path, f"{PLACES}names: [cat]\nnc: {count}"))
    assert data.names == ("cat",)
    assert any("the names count" in note for note in data.notes) is said


@pytest.mark.parametrize("place", ["..", "../..", "/", "images/../.."])
def test_a_folder_around_the_data_set_is_not_taken_for_its_pictures(
    tmp_path: Path, place: str
) -> None:
    """The whole disk would be searched for pictures; without the dots it is the YAML's own."""
    write_picture(tmp_path / "private.jpg")
    file = yolo(tmp_path / "deep" / "set", f"train: {place}\nval: images/val\nnames: [cat]")
    data = open_data(file)
    assert {sample.image.parents[2] for sample in data.samples} == {file.parent}


def test_the_folder_of_the_yaml_itself_may_be_named(tmp_path: Path) -> None:
    data = open_data(yolo(tmp_path, "train: .\nnames: [cat]"))
    assert sorted(sample.id for sample in data.samples) == [
        "images/train/a.jpg",
        "images/val/a.jpg",
    ]


def test_lists_lead_to_no_file_outside(tmp_path: Path) -> None:
    outside = write_picture(tmp_path / "outside.jpg")
    root = tmp_path / "set"
    write_list(
        root / "train.txt",
        ["images/train/a.jpg", "../outside.jpg", str(outside), "a" * 5000, "./images//val/a.jpg"],
    )
    data = open_data(yolo(root, "train: train.txt\nval: images/val\nnames: [cat]"), split="train")
    assert {os.path.normpath(sample.id) for sample in data.samples} == {
        "images/train/a.jpg",
        "images/val/a.jpg",
    }
    missing = [problem for problem in data.problems if problem.reason == "picture not found"]
    assert len(missing) == 3


def test_half_a_unicode_pair_in_a_name(tmp_path: Path) -> None:
    data = open_data(yolo(tmp_path, PLACES + 'names: ["\\uD83D cat"]'))
    assert data.names == ("� cat",)


def test_a_million_columns_are_one_polygon_or_no_box(tmp_path: Path) -> None:
    rows = ("0 .5 .5 .5 .5", "0 " + "0.25 0.75 " * 100_000 + "0.5 0.5", "0 " + ".5 " * 99_999)
    data = open_data(yolo(tmp_path, PLACES + "names: [cat]", rows))
    np.testing.assert_allclose(
        boxes_of(by_name(data)["a"]), [[10, 7.5, 30, 22.5], [10, 15, 20, 22.5]]
    )
    assert {reason[1:3] for reason in reasons(data)} == {(2, "box is not four numbers")}
    assert all(len(problem.value) <= 60 for problem in data.problems)


def test_more_lines_than_a_picture_can_have_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OBJECTS", 3)
    rows = tuple(f"0 .5 .5 .{i} .{i}" for i in range(1, 5))
    file = yolo(tmp_path, PLACES + "names: [cat]", rows[:3])
    assert len(open_data(file, split="train").samples[0].boxes) == 3
    yolo(tmp_path, PLACES + "names: [cat]", rows)
    with pytest.raises(InputError, match=r"a\.txt: 4 lines, more than the limit of 3: .*=2$"):
        open_data(file)


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("Images/a.b.jpg", "labels/a.b.txt"),
        ("images/x/images/a.jpg", "images/x/labels/a.txt"),
        ("pictures/a.jpg", "pictures/a.txt"),
        ("images.jpg", "images.txt"),
    ],
)
def test_where_labels_are_looked_for(tmp_path: Path, picture: str, labels: str) -> None:
    assert label_file(tmp_path / picture) == tmp_path / labels


def test_labels_beside_the_picture_count_only_where_the_mirrored_file_is_missing(
    tmp_path: Path,
) -> None:
    picture = write_picture(tmp_path / "images" / "a.jpg")
    beside = write_list(tmp_path / "images" / "a.txt", ["0 .5 .5 .1 .1"])
    assert label_file(picture) == beside
    mirrored = write_list(tmp_path / "labels" / "a.txt", ["0 .5 .5 .1 .1"])
    assert label_file(picture) == mirrored


def test_what_is_recognised(tmp_path: Path) -> None:
    file = yolo(tmp_path / "yaml", PLACES + "names: [cat]")
    assert recognise(file) == recognise(tmp_path / "yaml") == "YOLO (data.yaml)"
    assert recognise(tmp_path / "yaml" / "images" / "train" / "a.jpg") is None
    # A classes.txt alone, as LabelImg leaves beside XML files, is not YOLO.
    write_picture(tmp_path / "alone" / "a.jpg")
    write_list(tmp_path / "alone" / "classes.txt", ["cat"])
    assert recognise(tmp_path / "alone") is None
    write_list(tmp_path / "alone" / "a.txt", ["0 .5 .5 .1 .1"])
    assert recognise(tmp_path / "alone") == "YOLO (classes.txt)"


def test_of_several_yamls_the_usual_name_is_read_and_others_are_passed_over(tmp_path: Path) -> None:
    yolo(tmp_path, PLACES + "names: [cat]")
    write_list(tmp_path / "a.yaml", [PLACES + "names: [wrong]"])
    write_list(tmp_path / "b.yml", ["learning_rate: 0.1"])
    write_list(tmp_path / ".hidden.yaml", [PLACES + "names: [hidden]"])
    assert open_data(tmp_path).names == ("cat",)
    (tmp_path / "data.yaml").rename(tmp_path / "z.yaml")
    assert open_data(tmp_path).names == ("wrong",)


def test_a_class_list_is_read_line_by_line(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg")
    write_list(tmp_path / "a.txt", ["0 .5 .5 .1 .1", "2 .5 .5 .2 .2", "3 .5 .5 .3 .3"])
    (tmp_path / "classes.txt").write_bytes("\ufeffcat\r\n\r\n größe \r\ncat\r\n".encode())
    data = open_data(tmp_path)
    assert data.names == ("cat", "größe")
    # Empty lines do not count, and the name that is there twice is one class.
    assert [data.names[label] for label in data.samples[0].labels] == ["cat", "cat"]
    assert [reason[1:3] for reason in reasons(data)] == [
        (None, "class listed twice"),
        (2, "class index that has no name"),
    ]
