import unicodedata

import pytest
from label_files import (
    boxes_of,
    by_name,
    names_of,
    reasons,
    voc_object,
    write_list,
    write_picture,
    write_voc,
    write_xml,
)

from multibox.data import available_splits, open_data
from multibox.data.voc_xml import read_annotation
from multibox.errors import InputError

CAT = voc_object("cat", (3, 4, 20, 25))
DOG = voc_object("dog", (1, 1, 40, 30), difficult=1)
UTF16_DOCTYPE = "<?xml version='1.0' encoding='utf-16'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"


def test_single_folder(tmp_path):
    write_voc(
        tmp_path, {"a": [CAT, DOG], "b c": [], "d": [DOG]}, {"train": ["a", "b c"], "val": ["d"]}
    )
    data = open_data(tmp_path, split="train")
    assert (data.names, data.split, data.layout) == (("cat", "dog"), "train", "VOC folder")
    assert not data.problems
    assert not data.notes
    sample = by_name(data)["a"]
    assert boxes_of(sample) == [[2, 3, 20, 25], [0, 0, 40, 30]]  # 1-based inclusive -> continuous
    assert sample.difficult.tolist() == [False, True]
    assert (sample.width, sample.height, sample.id) == (40, 30, "JPEGImages/a.jpg")
    assert boxes_of(by_name(data)["b c"]) == []
    assert open_data(tmp_path, split="valid").names == ("cat", "dog")  # of the whole data set


def test_devkit_of_two_years(tmp_path):
    write_voc(tmp_path / "VOC2007", {"a": [CAT]}, {"train": ["a"], "val": ["a"], "test": ["a"]})
    write_voc(tmp_path / "VOC2012", {"b": [DOG]}, {"train": ["b"], "val": ["b"]})
    data = open_data(tmp_path, split="train")
    assert data.layout == "VOC devkit (VOC2007, VOC2012)"
    assert [sample.image.stem for sample in data.samples] == ["a", "b"]
    assert len(open_data(tmp_path, split="test")) == 1
    assert data.notes == ("split test is in VOC2007 only",)
    assert len(open_data(tmp_path)) == 2  # every picture once


def test_a_year_whose_test_is_unlabelled_does_not_poison_the_other(tmp_path):
    write_voc(tmp_path / "VOC2007", {"a": [CAT]}, {"trainval": ["a"], "test": ["a"]})
    write_voc(tmp_path / "VOC2012", {"b": [DOG]}, {"trainval": ["b"], "test": ["x"]})
    write_picture(tmp_path / "VOC2012" / "JPEGImages" / "x.jpg")
    data = open_data(tmp_path, split="test")
    assert [sample.image.stem for sample in data.samples] == ["a"]
    assert "VOC2012/ImageSets/Main/test.txt left out: no picture is labelled" in data.notes


def test_lists_of_one_class_are_no_splits(tmp_path):
    write_voc(tmp_path, {"a": [CAT], "b": [DOG]}, {"train": ["a"], "val": ["b"]})
    main = tmp_path / "ImageSets" / "Main"
    write_list(main / "cat_train.txt", ["a  1", "b -1"])
    write_list(main / "my_own.txt", ["a"])
    assert set(available_splits(tmp_path)) == {"train", "val", "my_own"}


def test_a_name_that_ends_in_1_is_not_a_class_list(tmp_path):
    write_voc(tmp_path, {"photo 1": [CAT], "photo 0": []}, {"train": ["photo 1", "photo 0"]})
    assert len(open_data(tmp_path, split="all")) == 2


def test_listed_names_may_have_suffix_and_folder(tmp_path):
    write_voc(
        tmp_path,
        {"a.v2": [CAT], "b": [DOG]},
        {"train": ["a.v2.jpg", "JPEGImages/b.jpg"], "val": ["b"]},
    )
    assert sorted(by_name(open_data(tmp_path, split="train"))) == ["a.v2", "b"]


def test_listed_picture_without_xml_is_kept_and_said_and_without_picture_left_out(tmp_path):
    write_voc(tmp_path, {"a": [CAT]}, {"train": ["a", "unlabelled", "gone"], "val": ["a"]})
    write_picture(tmp_path / "JPEGImages" / "unlabelled.jpg")
    data = open_data(tmp_path, split="train")
    assert sorted(by_name(data)) == ["a", "unlabelled"]
    assert reasons(data) == [
        ("unlabelled.jpg", None, "no annotation file", "kept as pictures without objects"),
        ("train.txt: gone", None, "picture not found", "left out"),
    ]


def test_no_lists_gives_a_seeded_split(tmp_path):
    write_voc(tmp_path, {f"{i}": [CAT] for i in range(10)}, {})
    assert available_splits(tmp_path) == ("train", "val", "test")
    assert len(open_data(tmp_path, split="train")) == 8
    assert open_data(tmp_path, split="train", seed=1).notes[0].endswith("seed 1")


def test_the_picture_is_found_by_stem_then_by_file_name(tmp_path):
    write_picture(tmp_path / "JPEGImages" / "a.PNG")
    write_picture(tmp_path / "JPEGImages" / "elsewhere.jpg")
    write_xml(tmp_path / "Annotations" / "a.xml", CAT, file_name="wrong.jpg")
    write_xml(tmp_path / "Annotations" / "b.xml", DOG, file_name="C:\\pictures\\elsewhere.bmp")
    write_list(tmp_path / "ImageSets" / "Main" / "train.txt", ["a", "b"])
    data = open_data(tmp_path, split="all")
    assert [sample.id for sample in data.samples] == [
        "JPEGImages/a.PNG",
        "JPEGImages/elsewhere.jpg",
    ]


def test_of_two_suffixes_the_file_name_decides(tmp_path):
    for suffix in (".jpg", ".png"):
        write_picture(tmp_path / "JPEGImages" / f"a{suffix}")
    write_xml(tmp_path / "Annotations" / "a.xml", CAT, file_name="a.png")
    assert open_data(tmp_path).samples[0].image.name == "a.png"


def test_odd_names_survive(tmp_path):
    names = ["  Rotes Blutkörperchen ", "猫 & <犬>", "Cat", "cat", "Ångström"]
    decomposed = unicodedata.normalize("NFD", "Ångström")
    objects = [voc_object(name, (1, 1, 9, 9)) for name in [*names, decomposed]]
    write_voc(tmp_path, {"bild mit ümläut 猫": objects, "b": [CAT]}, {"train": [
        unicodedata.normalize("NFD", "bild mit ümläut 猫")], "val": ["b"]})  # fmt: skip
    data = open_data(tmp_path, split="train")
    assert len(data.names) == 5
    assert [unicodedata.normalize("NFC", name) for name in data.names] == [
        "Cat", "Rotes Blutkörperchen", "cat", "Ångström", "猫 & <犬>",
    ]  # fmt: skip
    labels = data.samples[0].labels
    assert labels[4] == labels[5]  # one class in two unicode forms
    assert names_of(data, data.samples[0])[0] == "Rotes Blutkörperchen"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (("12.5", "1e1", " 20 ", "25"), [11.5, 9, 20, 25]),
        (("0", "0", "40", "30"), [0, 0, 40, 30]),  # floored at 0, silently
        (("7", "8", "7", "8"), "box without area"),
        (("20", "8", "7", "18"), "box inverted, its corners exchanged"),
        (("x", "8", "7", "18"), "box is not four numbers"),
        (("nan", "8", "7", "18"), "box is not four numbers"),
        (("60", "8", "70", "18"), "box outside the picture"),
    ],
)
def test_coordinates(tmp_path, box, expected):
    write_voc(tmp_path, {"a": [CAT, voc_object("cat", box)]}, {})
    data = open_data(tmp_path)
    if isinstance(expected, str):
        assert reasons(data) == [("a.xml", 1, expected, "dropped")]
        assert len(data.samples[0].boxes) == 1
    else:
        assert boxes_of(data.samples[0])[1] == expected
        assert not data.problems


def test_parts_are_not_objects_and_broken_objects_are_said(tmp_path):
    head = "<part><name>head</name><bndbox><xmin>30</xmin></bndbox></part>"
    write_voc(
        tmp_path,
        {
            "a": [
                voc_object("person", (3, 4, 20, 25), extra=head),
                "<object><name>x</name></object>",
                voc_object(" ", (1, 1, 5, 5)),
            ]
        },
        {},
    )
    data = open_data(tmp_path)
    assert data.names == ("person",)
    assert boxes_of(data.samples[0]) == [[2, 3, 20, 25]]
    assert [reason for _, _, reason, _ in reasons(data)] == [
        "object without a bndbox",
        "object without a name",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<annotation><object>", "not a readable XML"),
        (b"", "not a readable XML"),
        (b"\x00\xff\x12", "not a readable XML"),
        (b"<?xml version='1.0' encoding='klingon'?><annotation/>", "not a readable XML"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>", "DOCTYPE"),
        (UTF16_DOCTYPE.encode("utf-16"), "DOCTYPE"),
        (
            b"<annotation>" + b" " * 10_000_001 + b"</annotation>",
            "more than the limit of 10,000,000",
        ),
    ],
    ids=["cut", "empty", "binary", "encoding", "doctype", "utf16-doctype", "large"],
)
def test_a_file_that_cannot_be_parsed_is_one_clear_error(tmp_path, content, message):
    write_voc(tmp_path, {"a": [CAT]}, {"train": ["a"]})
    (tmp_path / "Annotations" / "a.xml").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        open_data(tmp_path)
    assert "a.xml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_deeply_nested_xml_does_no_harm(tmp_path):
    path = tmp_path / "deep.xml"
    path.write_bytes(b"<annotation>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</annotation>")
    with pytest.raises(InputError, match="more than 50 elements in each other"):
        read_annotation(path)


class TestLoose:
    """Pictures and XML files without VOC's folders."""

    def test_side_by_side(self, tmp_path):
        for i in range(10):
            write_picture(tmp_path / f"photo {i}.png")
            write_xml(tmp_path / f"photo {i}.xml", CAT)
        write_picture(tmp_path / "never labelled.png")
        train, val = (open_data(tmp_path, split=split) for split in ("train", "val"))
        assert (len(train), len(val)) == (8, 1)
        assert not {s.id for s in train.samples} & {s.id for s in val.samples}
        assert "no splits in the data" in train.notes[0]
        assert reasons(train) == [
            ("never labelled.png", None, "picture without a label file", "left out")
        ]

    def test_two_folders_of_any_name(self, tmp_path):
        for i in range(3):
            write_picture(tmp_path / "Bilder" / f"{i}.jpg")
            write_xml(tmp_path / "Etiketten" / f"{i}.xml", DOG)
        data = open_data(tmp_path, split="all")
        assert len(data) == 3
        assert data.layout == "pictures with VOC XML files, not divided"

    def test_folders_called_train_and_valid_are_splits(self, tmp_path):
        # The same names in both: each XML belongs to the picture of its own folder.
        for split, width in (("train", 40), ("valid", 50)):
            write_picture(tmp_path / split / "1.jpg", width)
            write_xml(tmp_path / split / "1.xml", CAT, size=(width, 30))
        assert open_data(tmp_path, split="train").samples[0].width == 40
        assert open_data(tmp_path, split="val").samples[0].width == 50
        assert not open_data(tmp_path).problems

    def test_mirrored_trees(self, tmp_path):
        for split, width in (("train", 40), ("val", 50)):
            write_picture(tmp_path / "images" / split / "1.jpg", width)
            write_xml(tmp_path / "annotations" / split / "1.xml", CAT, size=(width, 30))
        assert open_data(tmp_path, split="val").samples[0].width == 50
        assert open_data(tmp_path, split="train").samples[0].width == 40

    def test_xml_of_another_kind_and_hidden_files_are_passed_over(self, tmp_path):
        write_picture(tmp_path / "a.jpg")
        write_xml(tmp_path / "a.xml", CAT)
        (tmp_path / "project.xml").write_text("<project/>")
        (tmp_path / "._a.xml").write_bytes(b"\0")
        data = open_data(tmp_path)
        assert len(data) == 1
        assert [reason for _, _, reason, _ in reasons(data)] == ["not a VOC annotation"]

    def test_what_lies_outside_the_split_folders_is_left_out_and_said(self, tmp_path):
        for place in ("train/a", "val/b", "stray"):
            write_picture(tmp_path / f"{place}.jpg")
            write_xml(tmp_path / f"{place}.xml", CAT)
        data = open_data(tmp_path)
        assert sorted(by_name(data)) == ["a", "b"]
        assert "1 pictures outside the folders 'train', 'val' left out" in data.notes


def test_a_year_without_lists_beside_one_with_is_left_out_and_said(tmp_path):
    write_voc(tmp_path / "VOC2007", {"a": [CAT], "b": [CAT]}, {"train": ["a"], "val": ["b"]})
    write_voc(tmp_path / "VOC2012", {"c": [DOG]}, {})
    data = open_data(tmp_path)
    assert sorted(by_name(data)) == ["a", "b"]
    assert "pictures of VOC2012 left out: no ImageSets/Main there" in data.notes


def test_folders_without_lists_that_are_called_as_splits_are_these(tmp_path):
    for split, names in (("train", "abcdefgh"), ("valid", "ij"), ("test", "k")):
        write_voc(tmp_path / split, {name: [CAT] for name in names}, {})
    assert set(available_splits(tmp_path)) == {"train", "valid", "test"}
    for split, names in (("train", "abcdefgh"), ("val", "ij"), ("test", "k")):
        assert "".join(sorted(by_name(open_data(tmp_path, split=split)))) == names
    assert open_data(tmp_path).notes == ()


def test_lists_win_over_the_name_of_their_folder(tmp_path):
    write_voc(tmp_path / "train", {"a": [CAT], "b": [CAT]}, {"train": ["a"], "val": ["b"]})
    assert sorted(by_name(open_data(tmp_path, split="val"))) == ["b"]
