import json
import unicodedata

import pytest
from label_files import boxes_of, by_name, names_of, reasons, write_coco, write_picture

from multibox.data import available_splits, open_data
from multibox.errors import InputError

ANIMALS = [(90, "Hund & Katze", "animal"), (7, "猫", "animal"), (18, "dog", "animal")]


def write_official(root, pictures="{split}"):
    for split, width in (("train2017", 40), ("val2017", 50)):
        for name in ("1.jpg", "2 b.jpg"):  # the same names in both splits
            write_picture(root / pictures.format(split=split) / name, width)
        write_coco(
            root / "annotations" / f"instances_{split}.json",
            [(5, "1.jpg"), (6, "2 b.jpg")],
            [(5, 18, [1, 2, 10, 20], {}), (5, 90, [0, 0, 40, 30], {"iscrowd": 1})],
            ANIMALS,
        )
    (root / "annotations" / "captions_val2017.json").write_text('{"images": [], "annotations": []}')
    (root / "annotations" / "person_keypoints_val2017.json").write_text(
        '{"images": [], "annotations": [], "categories": []}'
    )
    return root


@pytest.mark.parametrize("pictures", ["{split}", "images/{split}"])
def test_official_layout(tmp_path, pictures):
    root = write_official(tmp_path, pictures)
    data = open_data(root, split="train")
    assert data.split == "train2017"
    assert data.names == ("猫", "dog", "Hund & Katze")  # in the order of the ids
    sample = by_name(data)["1"]
    assert boxes_of(sample) == [[1, 2, 11, 22], [0, 0, 40, 30]]
    assert sample.labels.tolist() == [1, 2]
    assert sample.crowd.tolist() == [False, True]
    assert len(by_name(data)["2 b"].boxes) == 0
    assert {s.width for s in open_data(root, split="validation").samples} == {50}
    assert available_splits(root) == ("train2017", "val2017")


@pytest.mark.parametrize("folder", ["", "images", "pictures of mine"])
def test_a_lone_file_with_its_pictures_nearby(tmp_path, folder):
    file = write_coco(
        tmp_path / "labels of mine.json",
        [(i, f"{i}.jpg") for i in range(10)],
        [(i, 0, [1, 1, 5, 5], {}) for i in range(10)],
        [(0, "x", "")],
    )
    for i in range(10):
        write_picture(tmp_path / folder / f"{i}.jpg")
    data = open_data(file, split="train")
    assert (len(data), len(open_data(file, split="val"))) == (8, 1)
    assert len(open_data(tmp_path, split="all")) == 10


def test_the_file_itself_is_only_its_split_and_val_is_held_out(tmp_path):
    root = write_official(tmp_path)
    file = root / "annotations" / "instances_train2017.json"
    assert available_splits(file) == ("train2017", "val")
    with pytest.raises(InputError, match="val2017"):
        open_data(root / "annotations" / "instances_val2017.json", split="train")


def test_roboflow_leaves_its_group_category_out(tmp_path):
    for split in ("train", "valid", "test"):
        write_picture(tmp_path / split / f"a_{split}.jpg")
        write_coco(
            tmp_path / split / "_annotations.coco.json",
            [(0, f"a_{split}.jpg")],
            [(0, 1, [1, 1, 5, 5], {})] if split == "train" else [],
            [(0, "cells", "none"), (1, "RBC", "cells"), (2, "WBC", "cells")],
        )
    data = open_data(tmp_path, split="train")
    assert data.names == ("RBC", "WBC")
    assert names_of(data, data.samples[0]) == ["RBC"]
    assert open_data(tmp_path, split="val").split == "valid"
    assert open_data(tmp_path, split="test").names == data.names


def test_a_used_or_self_named_group_stays(tmp_path):
    write_picture(tmp_path / "1.jpg")
    write_coco(
        tmp_path / "a.json",
        [(1, "1.jpg")],
        [(1, 2, [1, 1, 5, 5], {})],
        [(1, "person", "person"), (2, "cell", "none"), (3, "red cell", "cell")],
    )
    assert open_data(tmp_path).names == ("person", "cell", "red cell")


def test_names_are_found_in_the_other_unicode_form_and_by_their_last_part(tmp_path):
    write_picture(tmp_path / "images" / unicodedata.normalize("NFC", "ä.jpg"))
    write_picture(tmp_path / "images" / "b.jpg")
    write_coco(
        tmp_path / "a.json",
        [(1, unicodedata.normalize("NFD", "ä.jpg")), (2, "C:\\old\\b.jpg")],
        [(1, 1, [1, 1, 5, 5], {})],
        [(1, "x", "")],
    )
    assert len(open_data(tmp_path)) == 2


def test_broken_annotations_are_dropped_with_file_picture_and_place(tmp_path):
    write_picture(tmp_path / "1.jpg")
    write_coco(
        tmp_path / "a.json",
        [(1, "1.jpg"), (2, "gone.jpg")],
        [
            (1, 1, [1, 1, 5, 5], {}),
            (1, 1, None, {"segmentation": [[1, 1, 5, 5, 9, 9]]}),
            (1, 1, [1, 1, 5], {}),
            (1, 1, [1, 1, float("nan"), 5], {}),
            (1, 1, [1, 1, 0, 5], {}),
            (1, 1, [30, 20, 30, 5], {}),
            (1, 8, [1, 1, 5, 5], {}),
            (9, 1, [1, 1, 5, 5], {}),
            (1, None, [1, 1, 5, 5], {}),
            (1, 1, [1, 1, 10**400, 5], {}),
        ],
        [(0, "zero", ""), (1, "x", "")],
    )
    data = open_data(tmp_path)
    assert boxes_of(data.samples[0]) == [[1, 1, 6, 6], [30, 20, 40, 25]]
    assert reasons(data) == [
        ("a.json", 7, "annotation of an image that is not listed", "dropped"),
        ("a.json: 1.jpg", 1, "segmentation without a bbox", "dropped"),
        ("a.json: 1.jpg", 2, "box is not four numbers", "dropped"),
        ("a.json: 1.jpg", 6, "category id that is not listed", "dropped"),
        ("a.json: 1.jpg", 8, "category id that is not listed", "dropped"),
        ("a.json: 1.jpg", 3, "box is not four numbers", "dropped"),
        ("a.json: 1.jpg", 4, "box without area", "dropped"),
        ("a.json: 1.jpg", 5, "box reaches outside the picture", "clipped"),
        ("a.json: 1.jpg", 9, "box is not four numbers", "dropped"),
        ("a.json: gone.jpg", None, "picture not found", "left out"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b"[]",
        b'{"images": 1, "annotations": [], "categories": []}',
        b'{"images": [1], "annotations": [], "categories": []}',
    ],
)
def test_a_file_that_is_no_coco_file_is_one_clear_error(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json") as caught:
        open_data(file)
    assert "\n" not in str(caught.value)


def test_which_file_is_asked_where_it_is_not_clear(tmp_path):
    for name in ("one.json", "two.json"):
        write_coco(tmp_path / name, [], [], [(1, "x", "")])
    with pytest.raises(InputError, match=r"one\.json, two\.json"):
        open_data(tmp_path)
    (tmp_path / "one.json").rename(tmp_path / "my_train.json")
    (tmp_path / "two.json").rename(tmp_path / "old-train.json")
    with pytest.raises(InputError, match="both labels of split 'train'"):
        open_data(tmp_path)


def test_ids_agree_between_files_that_list_different_categories(tmp_path):
    for split, category in (("train", (3, "c", "")), ("val", (2, "b", ""))):
        write_picture(tmp_path / split / "1.jpg")
        write_coco(
            tmp_path / f"{split}.json",
            [(1, "1.jpg")],
            [(1, category[0], [1, 1, 5, 5], {})],
            [category],
        )
    train, val = (open_data(tmp_path, split=split) for split in ("train", "val"))
    assert train.names == val.names == ("b", "c")
    assert (train.samples[0].labels[0], val.samples[0].labels[0]) == (1, 0)


def test_images_without_a_stated_size_are_fine(tmp_path):
    write_picture(tmp_path / "1.jpg")
    file = write_coco(tmp_path / "a.json", [(1, "1.jpg")], [], [(1, "x", "")])
    content = json.loads(file.read_text())
    del content["images"][0]["width"]
    file.write_text(json.dumps(content))
    assert not open_data(file).problems


def test_other_json_files_and_rarer_splits(tmp_path):
    root = write_official(tmp_path)
    (root / "empty.json").write_bytes(b"")
    (root / "settings.json").write_text('{"hello": 1}')
    write_picture(root / "images" / "3.jpg")
    write_coco(
        root / "annotations" / "instances_minival2014.json",
        [(1, "3.jpg")], [(1, 7, [1, 1, 5, 5], {})], ANIMALS,
    )  # fmt: skip
    assert set(available_splits(root)) == {"train2017", "val2017", "minival2014"}
    assert len(open_data(root, split="minival")) == 1


@pytest.mark.parametrize("folder", ["JPEGImages", "jpegimages"])
def test_pictures_in_a_folder_named_as_in_voc(tmp_path, folder):
    write_picture(tmp_path / folder / "1.jpg")
    write_coco(
        tmp_path / "annotations" / "instances_train.json",
        [(1, "1.jpg")], [(1, 1, [1, 1, 5, 5], {})], [(1, "x", "")],
    )  # fmt: skip
    data = open_data(tmp_path, split="train")
    assert data.layout == "COCO (annotations/instances_train.json)"
    assert boxes_of(data.samples[0]) == [[1, 1, 6, 6]]


def test_ids_may_be_text_and_numbers_written_in_several_ways(tmp_path):
    images = [("img_a", "a"), ("7.0", "b"), (7.0, "c"), ("8", "d"), (9, "e"), ("1_0", "f")]
    for _, name in images:
        write_picture(tmp_path / f"{name}.jpg")
    write_coco(
        tmp_path / "a.json",
        [(id, f"{name}.jpg") for id, name in [*images, (10, "gone")]],
        [
            ("img_a", "c1", [1, 0, 5, 5], {}),
            ("7.0", "c1", [2, 0, 5, 5], {}),
            (7, 3, [3, 0, 5, 5], {}),
            (8, "3", [4, 0, 5, 5], {}),
            ("9", 20.0, [5, 0, 5, 5], {}),
            ("1_0", "a1", [6, 0, 5, 5], {}),
        ],
        [("c1", "text", ""), (20, "twenty", ""), ("a1", "first text", ""), ("3", "three", "")],
    )
    data = open_data(tmp_path)
    assert data.names == ("three", "twenty", "first text", "text")
    found = {
        stem: (boxes_of(sample)[0][0], *names_of(data, sample))
        for stem, sample in by_name(data).items()
    }
    assert found == {
        "a": (1, "text"), "b": (2, "text"), "c": (3, "three"), "d": (4, "three"),
        "e": (5, "twenty"), "f": (6, "first text"),
    }  # fmt: skip
    assert reasons(data) == [("a.json: gone.jpg", None, "picture not found", "left out")]


def test_of_images_with_one_id_the_first_wins_and_those_without_are_left_out(tmp_path):
    names = ("first", "again", "none", "empty", "half")
    for name in names:
        write_picture(tmp_path / f"{name}.jpg")
    write_coco(
        tmp_path / "a.json",
        [(id, f"{n}.jpg") for id, n in zip((1, "1", None, "", 1.5), names, strict=True)],
        [(1, 1, [1, 1, 5, 5], {}), (None, 1, [1, 1, 5, 5], {}), ([1], 1, [1, 1, 5, 5], {})],
        [(1, "x", "")],
    )
    data = open_data(tmp_path)
    assert {stem: boxes_of(sample) for stem, sample in by_name(data).items()} == {
        "first": [[1, 1, 6, 6]]
    }
    assert reasons(data) == [
        ("a.json: again.jpg", None, "image with the id of another", "left out"),
        ("a.json: none.jpg", None, "image without an id", "left out"),
        ("a.json: empty.jpg", None, "image without an id", "left out"),
        ("a.json: half.jpg", None, "image without an id", "left out"),
        ("a.json", 1, "annotation of an image that is not listed", "dropped"),
        ("a.json", 2, "annotation of an image that is not listed", "dropped"),
    ]
