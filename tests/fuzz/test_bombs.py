"""Small or hollow files that would fill the memory: refused before they do, in one clear line."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_bombs import hollow, peak, refused

from multibox import checkpoints, limits, zoo
from multibox.data import open_data
from multibox.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).parents[1] / "importers"))

from label_files import voc_object, write_coco, write_list, write_picture, write_voc


def voc(folder: Path) -> Path:
    objects = [voc_object("cat", (3, 4, 20, 18))]
    return write_voc(folder / "data", {"a": objects, "b": objects}, {"train": ["a"]})


def billion_laughs(folder: Path) -> Path:
    entities = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(10))
    text = f'<!DOCTYPE a [<!ENTITY l0 "ha">{entities}]><annotation>&l10;</annotation>'
    (voc(folder) / "Annotations" / "a.xml").write_text(text)
    return folder / "data"


def external_entity(folder: Path) -> Path:
    secret = folder / "secret.txt"
    secret.write_text("cat")
    text = f'<!DOCTYPE a [<!ENTITY s SYSTEM "{secret.as_uri()}">]><annotation>&s;</annotation>'
    (voc(folder) / "Annotations" / "a.xml").write_text(text)
    return folder / "data"


def deep_xml(folder: Path) -> Path:
    (voc(folder) / "Annotations" / "a.xml").write_text("<annotation>" + "<a>" * 3_000_000)
    return folder / "data"


def xml_of_a_gigabyte(folder: Path) -> Path:
    hollow(voc(folder) / "Annotations" / "a.xml", b"<annotation>")
    return folder / "data"


def list_of_a_gigabyte(folder: Path) -> Path:
    hollow(voc(folder) / "ImageSets" / "Main" / "train.txt", b"a\n")
    return folder / "data"


def coco(folder: Path, text: str) -> Path:
    write_picture(folder / "data" / "train" / "a.jpg")
    path = folder / "data" / "annotations" / "instances_train.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return folder / "data"


def deep_json(folder: Path) -> Path:
    nested = "[" * 1_000_000
    return coco(folder, f'{{"images": [], "annotations": [], "categories": {nested}')


def long_numbers(folder: Path) -> Path:
    return coco(folder, f'{{"images": [{"9" * 5_000_000}], "annotations": [], "categories": []}}')


def coco_of_a_gigabyte(folder: Path) -> Path:
    root = coco(folder, "")
    hollow(root / "annotations" / "instances_train.json", b'{"images" "annotations" "categories"')
    return root


def yolo(folder: Path, yaml: str) -> Path:
    write_picture(folder / "data" / "images" / "train" / "a.jpg")
    (folder / "data" / "data.yaml").write_text(yaml)
    return folder / "data" / "data.yaml"


def yaml_aliases(folder: Path) -> Path:
    """Twenty lists, each of ten times the one before: 10^20 names when they are written out."""
    lists = "".join(f"l{i + 1}: &l{i + 1} [{', '.join([f'*l{i}'] * 10)}]\n" for i in range(20))
    return yolo(folder, f"l0: &l0 ha\n{lists}train: images/train\nnames: *l20\n")


def yaml_aliases_as_folders(folder: Path) -> Path:
    lists = "".join(f"l{i + 1}: &l{i + 1} [{', '.join([f'*l{i}'] * 10)}]\n" for i in range(20))
    return yolo(folder, f"l0: &l0 ha\n{lists}train: *l20\nnames: [cat]\n")


def deep_yaml(folder: Path) -> Path:
    return yolo(folder, "train: images/train\nnames: " + "[" * 100_000)


def many_classes(folder: Path) -> Path:
    return yolo(folder, "train: images/train\nnc: 99999999999\n")


def yaml_of_a_gigabyte(folder: Path) -> Path:
    return hollow(yolo(folder, ""), b"names: [cat]\ntrain: images/train\n")


def yolo_labels_of_a_gigabyte(folder: Path) -> Path:
    hollow(folder / "data" / "labels" / "train" / "a.txt", b"0 .5 .5 .1 .1\n")
    return yolo(folder, "train: images/train\nnames: [cat]\n")


def class_names_of_a_gigabyte(folder: Path) -> Path:
    write_picture(folder / "data" / "a.jpg")
    write_list(folder / "data" / "a.txt", ["0 .5 .5 .1 .1"])
    hollow(folder / "data" / "classes.txt", b"cat\n")
    return folder / "data"


def hollow_checkpoint(folder: Path) -> Path:
    """A header that is right about a terabyte of zeros."""
    card = zoo.new_card("ssdlite320_mobilenet_v2", ["cat"]).model_dump_json()
    size = 1 << 40
    array = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"multibox": card}, "a": array}).encode()
    start = struct.pack("<Q", len(header)) + header
    return hollow(folder / "huge.safetensors", start, len(start) + size)


DATA_BOMBS: list[tuple[Callable[[Path], Path], str]] = [
    (billion_laughs, "DOCTYPE"),
    (external_entity, "DOCTYPE"),
    (deep_xml, "more than 50 elements in each other"),
    (xml_of_a_gigabyte, "more than the limit"),
    (list_of_a_gigabyte, "more than the limit"),
    (deep_json, "not a readable JSON"),
    (long_numbers, "not a readable JSON"),
    (coco_of_a_gigabyte, "more than the limit"),
    (yaml_aliases, "'names' must be"),
    (yaml_aliases_as_folders, "'train' must be"),
    (deep_yaml, "not a readable YAML"),
    (many_classes, "class"),
    (yaml_of_a_gigabyte, "more than the limit"),
    (yolo_labels_of_a_gigabyte, "more than the limit"),
    (class_names_of_a_gigabyte, "more than the limit"),
]


@pytest.mark.parametrize(("bomb", "expected"), DATA_BOMBS)
def test_a_data_set_that_is_a_bomb(
    tmp_path: Path, bomb: Callable[[Path], Path], expected: str
) -> None:
    place = bomb(tmp_path)
    refused(lambda: open_data(place), expected)


def test_a_picture_with_too_many_objects(tmp_path: Path) -> None:
    place = yolo(tmp_path, "train: images/train\nnames: [cat]\n")
    labels = write_list(tmp_path / "data" / "labels" / "train" / "a.txt", ["0"] * 100_001)
    line = refused(lambda: open_data(place), "100,001 lines, more than the limit of 100,000")
    assert str(labels) in line
    objects = "<object/>" * 100_001
    root = voc(tmp_path / "voc")
    (root / "Annotations" / "a.xml").write_text(f"<annotation>{objects}</annotation>")
    refused(lambda: open_data(root), "100,001 objects, more than the limit of 100,000")


def test_as_many_objects_as_a_picture_may_have(tmp_path: Path) -> None:
    """All pairs of them would be ten thousand million."""
    place = yolo(tmp_path, "train: images/train\nnames: [cat]\n")
    rows = [f"0 .5 .5 .{i % 900 + 100} .5" for i in range(30_000)]
    write_list(tmp_path / "data" / "labels" / "train" / "a.txt", rows)
    before = peak()
    assert len(open_data(place).samples[0].boxes) == 30_000
    assert peak() - before < 200 << 20


def test_a_checkpoint_of_a_terabyte(tmp_path: Path) -> None:
    path = hollow_checkpoint(tmp_path)
    refused(lambda: checkpoints.load(path), "more than the limit")


READ_WITH_LIMITS = """
import sys
from multibox.data import open_data
print(len(open_data(sys.argv[1])))
"""


def test_limits_can_be_raised(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "data", {"a": [voc_object("cat", (3, 4, 20, 18))]}, {})
    xml = root / "Annotations" / "a.xml"
    xml.write_text(xml.read_text() + " " * limits.LABEL_BYTES)
    line = refused(lambda: open_data(root), "more than the limit")
    assert line.endswith("MULTIBOX_LIMITS=2")
    for factor, answer in (("2", "1\n"), ("half", ""), ("-1", "")):
        done = subprocess.run(
            [sys.executable, "-c", READ_WITH_LIMITS, root],
            env=os.environ | {"MULTIBOX_LIMITS": factor},
            capture_output=True,
            text=True,
        )
        assert done.stdout == answer
        assert answer or "must be a number above 0" in done.stderr


def test_names_never_become_paths(tmp_path: Path) -> None:
    """Neither a class nor a picture's name in a label leads out of the data set."""
    write_picture(tmp_path / "secret.jpg")
    objects = [voc_object("../../secret", (3, 4, 20, 18))]
    root = write_voc(tmp_path / "data", {"a": objects, "b": objects}, {"train": ["a"]})
    data = open_data(root)
    assert data.names == ("../../secret",)
    shared = write_coco(
        tmp_path / "coco" / "annotations" / "instances_train.json",
        [(1, "../../secret.jpg")], [(1, 1, [1, 2, 3, 4], {})], [(1, "cat", "")],
    ).parents[1]  # fmt: skip
    with pytest.raises(InputError, match="no readable picture"):
        open_data(shared)
