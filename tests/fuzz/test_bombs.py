"""Small or hollow files that would fill the memory: refused before they do, in one clear line."""

import json
import os
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from multibox import checkpoints, limits, zoo
from multibox.data import DataSet, open_data
from multibox.errors import InputError
from multibox.imaging import read_image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from label_files import voc_object, write_coco, write_list, write_picture, write_voc

GIGABYTE = 1 << 30


def png(width: int, height: int, rows: int, bits: int = 8) -> bytes:
    """A grey picture that claims a size and has some of its rows, all black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(1)
    row = bytes(1 + width * bits // 8)
    data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    size = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )  # fmt: skip


def hollow(path: Path, beginning: bytes = b"", size: int = GIGABYTE) -> Path:
    """A file of that size which takes no place on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(beginning)
        file.truncate(size)
    return path


def voc(folder: Path) -> Path:
    objects = [voc_object("cat", (3, 4, 20, 18))]
    return write_voc(folder / "data", {"a": objects, "b": objects}, {"train": ["a"]})


def huge_picture(folder: Path) -> Path:
    path = folder / "huge.png"
    path.write_bytes(png(50_000, 50_000, 3))
    return path


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


def refused(read: Callable[[], object], expected: str) -> str:
    """The one line; within five seconds, and a hundred megabytes beyond the most before.

    Where a data set is still good for something without the file, the line is one of its problems.
    """
    before, began = peak(), time.process_time()
    try:
        data = read()
    except InputError as error:
        said = [str(error)]
    else:
        assert isinstance(data, DataSet)
        said = [*data.notes, *(problem.reason for problem in data.problems)]
    assert time.process_time() - began < 5
    assert peak() - before < 100 << 20
    (line,) = [line for line in said if expected in line]
    assert "\n" not in line
    assert len(line) < 2_000
    return line


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize(("bomb", "expected"), DATA_BOMBS)
def test_a_data_set_that_is_a_bomb(
    tmp_path: Path, bomb: Callable[[Path], Path], expected: str
) -> None:
    place = bomb(tmp_path)
    refused(lambda: open_data(place), expected)


def test_a_picture_of_50_000_by_50_000(tmp_path: Path) -> None:
    path = huge_picture(tmp_path)
    line = refused(lambda: read_image(path), "more than the limit of 100,000,000")
    assert "max_pixels" in line
    assert "MULTIBOX_LIMITS" in line


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
