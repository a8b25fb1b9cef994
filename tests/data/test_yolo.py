import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import boxes_of, by_name, reasons, write_list, write_picture

from multibox.data import available_splits, open_data
from multibox.data.yolo import read_picture
from multibox.errors import InputError

HALF = "0 0.5 0.5 0.5 0.5"  # [10, 7.5, 30, 22.5] of 40 x 30


def write_yolo(root, yaml, splits=("train", "val"), images="images/{}", labels="labels/{}"):
    for split in splits:
        for name in ("a b", "c"):
            write_picture(root / images.format(split) / f"{name}.jpg")
        write_list(root / labels.format(split) / "a b.txt", [HALF, "", "1 0.25 0.5 0.5 1"])
    return write_list(root / "data.yaml", [yaml])


def test_folder_with_yaml(tmp_path):
    file = write_yolo(
        tmp_path, "path: .\ntrain: images/train\nval: images/val\nnames:\n  1: 猫 x\n  0: no"
    )
    for path in (tmp_path, file):
        data = open_data(path, split="train")
        assert data.names == ("no", "猫 x")  # not False, as YAML would have it
        sample = by_name(data)["a b"]
        assert boxes_of(sample) == [[10, 7.5, 30, 22.5], [0, 0, 20, 30]]
        assert sample.labels.tolist() == [0, 1]
        assert len(by_name(data)["c"].boxes) == 0  # no text file: no objects
        assert not data.problems
        assert data.layout == "YOLO (data.yaml)"


@pytest.mark.parametrize(
    "yaml",
    [
        "path: ../datasets/mine\ntrain: images/train\nval: images/val",
        "train: ../images/train\nval: ../images/val",
        "train: /content/mine/images/train\nval: /content/mine/images/val",
        "path: /nowhere\ntrain: [images/train]\nval: [images/val]\ntest: null",
        "train: lists/train.txt\nval: lists/val.txt\ntest:",
    ],
)
def test_places_that_are_not_quite_where_the_yaml_says(tmp_path, yaml):
    write_yolo(tmp_path, yaml + "\nnc: 2\nnames: [x, 'y']")
    for split in ("train", "val"):
        lines = [f"../images/{split}/{name}.jpg" for name in ("a b", "c")]
        write_list(tmp_path / "lists" / f"{split}.txt", lines)
    assert [len(s.boxes) for s in open_data(tmp_path, split="val").samples] == [2, 0]
    assert set(available_splits(tmp_path)) == {"train", "val"}


def test_roboflow(tmp_path):
    write_yolo(
        tmp_path,
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: ['x', 'y']",
        ("train", "valid"),
        "{}/images",
        "{}/labels",
    )
    data = open_data(tmp_path, split="valid")
    assert [len(s.boxes) for s in data.samples] == [2, 0]
    assert "test: ../test/images does not exist and is left out" in data.notes


def test_only_the_last_images_folder_is_mirrored(tmp_path):
    root = tmp_path / "images" / "mine"
    write_yolo(root, "train: images/train\nval: images/val\nnames: [x, y]")
    assert sum(len(s.boxes) for s in open_data(root, split="train").samples) == 2


def test_val_that_is_train_is_followed_and_said(tmp_path):
    write_yolo(tmp_path, "train: images/train\nval: images/train\nnames: [x, y]")
    train, val = (open_data(tmp_path, split=split) for split in ("train", "val"))
    assert [s.id for s in train.samples] == [s.id for s in val.samples]
    assert "data.yaml names the same pictures for train and val" in train.notes


def test_train_alone_is_held_out(tmp_path):
    write_yolo(tmp_path, "train: images/train\nnames: [x, y]")
    train, val = (open_data(tmp_path, split=split) for split in ("train", "val"))
    assert (len(train), len(val)) == (1, 1)
    assert "held out" in train.notes[0]


@pytest.mark.parametrize("names_at", ["classes.txt", "labels/classes.txt", "obj.names"])
def test_folder_without_yaml(tmp_path, names_at):
    write_yolo(tmp_path, "x: 1", ("train", "val"))
    (tmp_path / "data.yaml").unlink()
    write_list(tmp_path / names_at, ["ein Wort", "zwei"])
    data = open_data(tmp_path, split="val")
    assert data.names == ("ein Wort", "zwei")
    assert [len(s.boxes) for s in data.samples] == [2, 0]


def test_text_files_beside_the_pictures(tmp_path):
    for i in range(5):
        write_picture(tmp_path / f"{i}.png")
        write_list(tmp_path / f"{i}.txt", [HALF])
    write_list(tmp_path / "classes.txt", ["x"])
    assert len(open_data(tmp_path, split="train")) == 3
    assert sum(len(s.boxes) for s in open_data(tmp_path).samples) == 5


def read_lines_as_boxes(tmp_path, lines, **options):
    write_list(tmp_path / "a.txt", lines)
    path = write_picture(tmp_path / "a.png")
    return read_picture(path, tmp_path / "a.txt", {0: "x", 2: "z"}, tmp_path, **options)


def test_line_kinds(tmp_path):
    read = read_lines_as_boxes(
        tmp_path,
        [
            HALF,
            "2 0.5 0.5 0.5 0.5 0.93",  # a score
            "0 0.1 0.2 0.3 0.8 0.2 0.9",  # a triangle
            "0.0 0.1 0.1 0.4 0.1 0.4 0.6 0.1 0.6",  # an oriented box
            "1 0.5 0.5 0.5 0.5",
            "9 0.5 0.5 0.5 0.5",
            "x 0.5 0.5 0.5 0.5",
            "0 0.5 0.5",
            "0 0.5 oops 0.5 0.5",
        ],
    )
    np.testing.assert_allclose(
        [o.box for o in read.objects[:4]],
        [[0.25, 0.25, 0.75, 0.75]] * 2 + [[0.1, 0.2, 0.3, 0.9], [0.1, 0.1, 0.4, 0.6]],
    )
    assert [o.name for o in read.objects[:2]] == ["x", "z"]
    assert [(p.object, p.reason) for p in read.problems] == [
        (4, "class index that has no name"),
        (5, "class index that has no name"),
        (6, "class index that has no name"),
        (7, "box is not four numbers"),
    ]
    assert np.isnan(read.objects[-1].box).any()


def test_key_points_follow_the_box(tmp_path):
    line = HALF + " 0.1 0.1 2 0.9 0.9 2"
    read = read_lines_as_boxes(tmp_path, [line], key_points=True)
    assert read.objects[0].box == (0.25, 0.25, 0.75, 0.75)


unit = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(unit, unit, unit, unit), max_size=6))
def test_corners_written_as_yolo_come_back(tmp_path_factory, corners):
    folder = tmp_path_factory.getbasetemp() / "round-trip"
    folder.mkdir(exist_ok=True)
    wanted = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    lines = [f"0 {(a + c) / 2!r} {(b + d) / 2!r} {c - a!r} {d - b!r}" for a, b, c, d in wanted]
    read = read_lines_as_boxes(folder, lines)
    np.testing.assert_allclose(
        np.reshape([o.box for o in read.objects], (-1, 4)), np.reshape(wanted, (-1, 4)), atol=1e-12
    )


def test_missing_pictures_of_a_list_are_left_out(tmp_path):
    write_yolo(tmp_path, "train: train.txt\nval: images/val\nnames: [x, y]")
    write_list(tmp_path / "train.txt", ["./images/train/c.jpg", "images/train/gone.jpg"])
    data = open_data(tmp_path, split="train")
    assert len(data) == 1
    assert reasons(data) == [("gone.jpg", None, "picture not found", "left out")]


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: [", "not a readable YAML"),
        ("[" * 1500, "not a readable YAML"),
        ("just text", "not a YOLO data file"),
        ("train: images/train\nnames: 5", "'names' must be"),
        ("train: images/train\nnames: {a: b}", "'names' must be"),
        ("train: images/train\nnames: []", "no class names"),
        ("train: nowhere\nnames: [x]", "no pictures where it says"),
    ],
)
def test_a_wrong_yaml_is_one_clear_error(tmp_path, yaml, message):
    file = write_yolo(tmp_path, yaml)
    with pytest.raises(InputError, match=message) as caught:
        open_data(file)
    assert "data.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_may_be_missing_or_disagree_with_nc(tmp_path):
    write_yolo(tmp_path, "train: images/train\nval: images/val\nnc: 2")
    assert open_data(tmp_path).names == ("class_0", "class_1")
    write_yolo(tmp_path, "train: images/train\nval: images/val\nnc: 7\nnames: [x, y]")
    data = open_data(tmp_path)
    assert data.names == ("x", "y")
    assert "data.yaml says nc: 7 and has 2 names: the names count" in data.notes


def test_a_label_file_that_is_no_text_is_an_error(tmp_path):
    write_yolo(tmp_path, "train: images/train\nval: images/val\nnames: [x, y]")
    (tmp_path / "labels" / "train" / "c.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match=r"c\.txt: not UTF-8"):
        open_data(tmp_path)


def test_entries_may_be_pictures_and_empty_folders_are_said(tmp_path):
    yaml = "train: [images/train/c.jpg, images/val]\nval: nothing\nnames: [x, y]"
    write_yolo(tmp_path, yaml)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "broken.yaml").write_text("{")
    data = open_data(tmp_path, split="all")
    assert len(data) == 3
    assert any("val: no pictures in" in note for note in data.notes)
    assert any("held out" in note for note in data.notes)
