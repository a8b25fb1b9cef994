"""Several data sets read as one: '+' in DATA, ids, splits, class names."""

from pathlib import Path

import pytest
from label_files import (
    by_name,
    names_of,
    voc_object,
    write_coco,
    write_picture,
    write_voc,
)

from multibox.data import available_splits, open_data
from multibox.data.merging import data_paths, display_name, is_data_path
from multibox.errors import InputError

CAT = voc_object("cat", (2, 3, 12, 13))
DOG = voc_object("dog", (1, 1, 9, 9))
HARD_DOG = voc_object("dog", (5, 5, 20, 20), difficult=1)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """Two years of VOC with pictures of the same names, VOC2012 without a test split."""
    write_voc(
        tmp_path / "VOCdevkit" / "VOC2007",
        {"000001": [CAT], "000002": [DOG, HARD_DOG], "000003": [DOG]},
        {"train": ["000001"], "val": ["000002"], "trainval": ["000001", "000002"],
         "test": ["000003"]},
    )  # fmt: skip
    write_voc(
        tmp_path / "VOCdevkit" / "VOC2012",
        {"000001": [DOG], "000002": [CAT]},
        {"train": ["000001"], "val": ["000002"], "trainval": ["000001", "000002"]},
    )
    return tmp_path / "VOCdevkit"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    for split, names in (("train2017", "ab"), ("val2017", "c")):
        for name in names:
            write_picture(root / split / f"{name}.jpg")
        write_coco(
            root / "annotations" / f"instances_{split}.json",
            [(i, f"{name}.jpg") for i, name in enumerate(names)],
            [(i, 7, [1, 2, 10, 10], {}) for i in range(len(names))],
            [(7, "cat", "animal"), (9, "teddy bear", "toy")],
        )
    return root


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """Without splits: ten pictures of a dog."""
    root = tmp_path / "yolo"
    for i in range(10):
        write_picture(root / "images" / f"{i}.jpg")
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "classes.txt").write_text("dog\n")
    return root


def test_two_years_in_one_argument_are_the_devkit(devkit: Path) -> None:
    joined = f"{devkit / 'VOC2007'}+{devkit / 'VOC2012'}"
    for split in ("train", "val", "trainval", "test"):
        whole, merged = open_data(devkit, split=split), open_data(joined, split=split)
        assert [sample.id for sample in merged.samples] == [sample.id for sample in whole.samples]
        assert merged.names == whole.names == ("cat", "dog")
        for one, other in zip(merged.samples, whole.samples, strict=True):
            assert one.boxes.tolist() == other.boxes.tolist()
            assert one.labels.tolist() == other.labels.tolist()
            assert one.difficult.tolist() == other.difficult.tolist()
    assert len(open_data(joined, split="trainval")) == 4
    assert "split test is in VOC2007 only" in merged.notes


def test_what_lies_beside_the_first_is_found_there(devkit: Path) -> None:
    merged = open_data(f"{devkit / 'VOC2007'}+VOC2012", split="trainval")
    assert [sample.id for sample in merged.samples] == [
        "VOC2007/JPEGImages/000001.jpg",
        "VOC2007/JPEGImages/000002.jpg",
        "VOC2012/JPEGImages/000001.jpg",
        "VOC2012/JPEGImages/000002.jpg",
    ]
    assert merged.root == devkit


def test_relative_paths(devkit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(devkit)
    merged = open_data("VOC2007+VOC2012", split="trainval")
    assert len({sample.id for sample in merged.samples}) == 4
    monkeypatch.chdir(devkit / "VOC2012")
    mixed = open_data(["../VOC2007", devkit / "VOC2012"], split="trainval")
    assert len({sample.id for sample in mixed.samples}) == 4


def test_a_sequence_of_paths_is_the_same(devkit: Path) -> None:
    listed = open_data([devkit / "VOC2007", str(devkit / "VOC2012")], split="all")
    assert len(listed) == 5
    assert len({sample.id for sample in listed.samples}) == 5


def test_pictures_of_equal_names_keep_their_own_labels(devkit: Path) -> None:
    merged = open_data(f"{devkit / 'VOC2007'}+VOC2012", split="train")
    assert [names_of(merged, sample) for sample in merged.samples] == [["cat"], ["dog"]]


@pytest.mark.parametrize("name", ["a+b", "c++", "+", "a++b"])
def test_an_existing_path_with_a_plus_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    folder = write_voc(tmp_path / name, {"1": [CAT]}, {"train": ["1"]})
    write_voc(tmp_path / "other", {"1": [DOG]}, {"train": ["1"]})
    assert data_paths(str(folder)) == (folder,)
    assert data_paths(f"{folder}+{tmp_path / 'other'}") == (folder, tmp_path / "other")
    assert data_paths(f"{tmp_path / 'other'}+{folder}") == (tmp_path / "other", folder)
    assert len(open_data(f"{folder}+other", split="all")) == 2


@pytest.mark.parametrize(
    ("joined", "message"),
    [
        ("{0}/VOC2007+VOC2021", "nor is 'VOC2021' among the data sets joined by +"),
        ("{0}/VOC2007+", "nor is 'what follows the last +'"),
        ("{0}/nothing+{0}/VOC2007", "no such file or folder"),
        ("{0}/nothing", "no such file or folder: check the path"),
        ("{0}/VOC2007+{0}/VOC2007", "is given twice"),
        ("{0}/VOC2007+{0}/VOC2012/../VOC2007", "is given twice"),
        ("{0}+{0}/VOC2007", "name each data set once"),
    ],
)
def test_wrong_paths_are_one_line(joined: str, message: str, devkit: Path) -> None:
    with pytest.raises(InputError) as error:
        open_data(joined.format(devkit))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_three_formats_at_once(devkit: Path, coco: Path, yolo: Path) -> None:
    joined = f"{devkit / 'VOC2007'}+{coco}+{yolo}"
    train = open_data(joined, split="train")
    # One of VOC, two of COCO's train2017, eight of the ten undivided ones.
    assert [sample.id.split("/")[0] for sample in train.samples] == (
        ["VOCdevkit"] + ["coco"] * 2 + ["yolo"] * 8
    )
    assert train.names == ("cat", "dog", "teddy bear")
    assert names_of(train, by_name(train)["a"]) == ["cat"]
    dogs = [sample for sample in train.samples if sample.id.startswith("yolo")]
    assert {tuple(names_of(train, sample)) for sample in dogs} == {("dog",)}
    assert len(open_data(joined, split="val")) == 1 + 1 + 1
    assert train.layout.startswith("VOC folder + COCO (")
    assert train.layout.endswith(" + YOLO (classes.txt)")
    assert len(open_data(joined)) == 3 + 3 + 10
    assert set(available_splits(joined)) == {"train", "val", "trainval", "test"}


def test_classes_that_differ_are_said(devkit: Path, coco: Path, yolo: Path) -> None:
    notes = open_data(f"{devkit / 'VOC2007'}+{coco}").notes
    assert (
        "VOCdevkit/VOC2007 labels nothing as teddy bear: what it shows of this is learned as "
        "background"
    ) in notes
    assert any(note.startswith("coco labels nothing as dog:") for note in notes)
    assert not any(
        "labels nothing" in note for note in open_data(f"{devkit}/VOC2007+VOC2012").notes
    )


def test_spellings_that_look_alike_are_said(tmp_path: Path) -> None:
    for folder, name in (("one", "Traffic light"), ("two", "traffic_light"), ("three", "cat")):
        label = voc_object(name, (1, 1, 9, 9))
        write_voc(tmp_path / folder, {"1": [label]}, {"train": ["1"]})
    notes = open_data(f"{tmp_path}/one+two+three").notes
    alike = [note for note in notes if "different classes" in note]
    [note] = alike
    assert note == (
        "'Traffic light' and 'traffic_light' are different classes: give them one spelling if "
        "they mean the same"
    )


def test_names_are_the_same_in_any_unicode_form(tmp_path: Path) -> None:
    for folder, name in (("one", "caf\u00e9"), ("two", "cafe\u0301")):
        label = voc_object(name, (1, 1, 9, 9))
        write_voc(tmp_path / folder, {"1": [label]}, {"train": ["1"], "val": ["1"]})
    merged = open_data(f"{tmp_path}/one+two", split="train")
    assert len(merged.names) == 1
    assert [sample.labels.tolist() for sample in merged.samples] == [[0], [0]]
    assert not any("labels nothing" in note or "different" in note for note in merged.notes)


def test_a_part_with_trainval_alone_is_learned_too(devkit: Path, tmp_path: Path) -> None:
    pictures = {str(i): [CAT] for i in range(10)}
    write_voc(tmp_path / "VOCdevkit" / "more", pictures, {"trainval": list(pictures)})
    merged = f"{devkit / 'VOC2007'}+more"
    assert len(open_data(merged, split="train")) == 1 + 9
    assert len(open_data(merged, split="val")) == 1 + 1
    assert len(open_data(merged, split="trainval")) == 2 + 10


def test_a_part_to_train_on_and_one_to_judge_by(tmp_path: Path) -> None:
    write_voc(tmp_path / "one", {"1": [CAT], "2": [CAT]}, {"train": ["1", "2"]})
    write_voc(tmp_path / "two", {"1": [CAT]}, {"test": ["1"], "valid": ["1"]})
    merged = f"{tmp_path}/one+two"
    assert [sample.id for sample in open_data(merged, split="train").samples] == [
        "one/JPEGImages/1.jpg",
        "one/JPEGImages/2.jpg",
    ]
    assert len(open_data(merged, split="val")) == 1


def test_splits_of_one_kind_within_a_part_stay_apart(tmp_path: Path) -> None:
    write_voc(tmp_path / "one", {"1": [CAT], "2": [CAT]}, {"train2007": ["1"], "train2012": ["2"]})
    write_voc(tmp_path / "two", {"1": [CAT]}, {"train": ["1"]})
    assert {"train2007", "train2012", "train"} <= set(available_splits(f"{tmp_path}/one+two"))


def test_a_picture_in_two_of_the_sets_is_said(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg")
    for name in ("one", "two"):
        write_coco(
            tmp_path / f"{name}.json", [(1, "a.jpg")], [(1, 1, [1, 2, 9, 9], {})], [(1, name, "")]
        )
    merged = open_data(f"{tmp_path}/one.json+two.json")
    assert len({sample.id for sample in merged.samples}) == 2
    shared = [note for note in merged.notes if note.startswith("pictures in several")]
    assert shared == [
        f"pictures in several of the data sets, labelled in each: 1 ({tmp_path / 'a.jpg'})"
    ]


def test_what_is_a_path_and_what_is_not(devkit: Path) -> None:
    samples = open_data(devkit).samples
    assert is_data_path("a+b")
    assert is_data_path(devkit)
    assert is_data_path([devkit, "b"])
    assert not is_data_path(samples)
    assert not is_data_path([])


def test_the_name_of_a_merged_set(devkit: Path) -> None:
    assert display_name(data_paths(f"{devkit}/VOC2007+VOC2012")) == "VOC2007+VOC2012"
