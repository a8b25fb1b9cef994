import numpy as np
import pytest
from label_files import (
    boxes_of,
    names_of,
    voc_object,
    write_coco,
    write_list,
    write_picture,
    write_voc,
    write_xml,
)

from multibox.data import available_splits, open_data
from multibox.data.open import read_labels
from multibox.errors import InputError


@pytest.fixture
def voc(tmp_path):
    objects = [voc_object(name, (2, 3, 20, 25)) for name in ("cat", "dog", "Große Katze")]
    write_voc(tmp_path, {"a": objects, "b": objects[:1]}, {"train": ["a", "b"], "val": ["b"]})
    return tmp_path


def test_classes_restrict_and_order(voc):
    data = open_data(voc, split="train", classes=["Große Katze", "cat"])
    assert data.names == ("Große Katze", "cat")
    assert names_of(data, data.samples[0]) == ["cat", "Große Katze"]
    only = open_data(voc, split="train", classes=["dog"])
    assert [len(sample.boxes) for sample in only.samples] == [1, 0]  # pictures stay


def test_unknown_class_names_the_nearest(voc):
    with pytest.raises(InputError, match="did you mean 'Große Katze'"):
        open_data(voc, classes=["Grosse Katze"])


def test_unknown_split_names_what_there_is(voc):
    with pytest.raises(InputError, match="'train', 'val'"):
        open_data(voc, split="test")


def test_none_and_all_give_every_picture_once(voc):
    assert [s.id for s in open_data(voc).samples] == [
        s.id for s in open_data(voc, split="all").samples
    ]
    assert len(open_data(voc)) == 2
    assert open_data(voc).split == "all"


def three_layouts(root):
    """One object labelled in three formats at once."""
    write_picture(root / "images" / "train" / "a.png")
    write_list(root / "labels" / "train" / "a.txt", ["0 0.275 0.4 0.45 0.6"])
    write_list(root / "data.yaml", ["train: images/train", "names: [yolo]"])
    write_coco(
        root / "annotations" / "instances_train.json",
        [(1, "a.png")], [(1, 1, [2, 3, 18, 18], {})], [(1, "coco", "")],
    )  # fmt: skip
    write_xml(root / "xml" / "a.xml", voc_object("voc", (3, 4, 20, 21)))


def test_several_layouts_one_order_and_the_file_chooses(tmp_path):
    three_layouts(tmp_path)
    by_folder, by_yaml = open_data(tmp_path), open_data(tmp_path / "data.yaml")
    by_json = open_data(tmp_path / "annotations" / "instances_train.json")
    assert by_folder.names == by_json.names == ("coco",)
    assert by_yaml.names == ("yolo",)
    assert by_folder.notes[0] == (
        "read as COCO (annotations/instances_train.json); also there: YOLO (data.yaml), "
        "pictures with VOC XML files"
    )
    assert not any("also there" in note for note in by_yaml.notes)


def test_the_three_readers_agree_on_one_object(tmp_path):
    three_layouts(tmp_path)
    coco, yolo = open_data(tmp_path), open_data(tmp_path / "data.yaml")
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "annotations" / "instances_train.json").unlink()
    voc = open_data(tmp_path)
    assert boxes_of(coco.samples[0]) == [[2, 3, 20, 21]]
    for data in (yolo, voc):
        np.testing.assert_allclose(data.samples[0].boxes, coco.samples[0].boxes, atol=1e-5)


def test_a_single_inner_folder_is_looked_into(tmp_path):
    write_voc(
        tmp_path / "unpacked" / "VOCdevkit" / "VOC2007",
        {"a": [voc_object("x", (1, 1, 9, 9))]}, {"trainval": ["a"]},
    )  # fmt: skip
    data = open_data(tmp_path)
    assert data.layout == "VOC devkit (VOC2007)"
    assert data.root == tmp_path / "unpacked" / "VOCdevkit"


def test_linked_folders_are_followed(voc, tmp_path_factory):
    other = tmp_path_factory.mktemp("linked")
    for name in ("Annotations", "JPEGImages", "ImageSets"):
        (other / name).symlink_to(voc / name, target_is_directory=True)
    (voc / "JPEGImages" / "loop").symlink_to(voc / "JPEGImages", target_is_directory=True)
    assert len(open_data(other, split="train")) == 2


def test_exif_rotation_through_a_whole_format(tmp_path):
    write_picture(tmp_path / "a.jpg", 40, 30, orientation=6)
    write_xml(tmp_path / "a.xml", voc_object("x", (1, 1, 10, 5)), size=(40, 30))
    data = open_data(tmp_path)
    assert (data.samples[0].width, data.samples[0].height) == (30, 40)
    assert boxes_of(data.samples[0]) == [[25, 0, 30, 10]]
    assert [p.reason for p in data.problems] == ["labels made before the EXIF rotation"]


@pytest.mark.parametrize("name", ["", "missing", "notes.md", "a.json"])
def test_what_is_no_data_set_is_one_clear_error(tmp_path, name):
    (tmp_path / "notes.md").write_text("hello")
    (tmp_path / "a.json").write_text('{"hello": 1}')
    for ask in (open_data, available_splits):
        with pytest.raises(InputError) as caught:
            ask(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_labelled_object_and_no_readable_picture(tmp_path):
    write_picture(tmp_path / "a.jpg")
    write_xml(tmp_path / "a.xml")
    with pytest.raises(InputError, match="no labelled objects"):
        open_data(tmp_path)
    write_xml(tmp_path / "a.xml", voc_object("x", (1, 1, 9, 9)))
    (tmp_path / "a.jpg").write_bytes(b"broken")
    with pytest.raises(InputError, match="no readable picture"):
        open_data(tmp_path)


def test_labels_read_once_open_every_split(voc):
    labelled = read_labels(voc)
    (voc / "Annotations" / "a.xml").unlink()  # no longer needed
    assert labelled.splits == ("train", "val")
    train, val = labelled.open("train", classes=["dog"]), labelled.open("validation")
    assert [len(sample.boxes) for sample in train.samples] == [1, 0]
    assert (val.split, val.names, len(val)) == ("val", ("Große Katze", "cat", "dog"), 1)
    assert len(labelled.open()) == 2
