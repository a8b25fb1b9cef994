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

import cv2
import numpy as np
import pytest

from multibox import checkpoints, limits, zoo
from multibox.data import DataSet, open_data
from multibox.errors import InputError
from multibox.imaging import image_size, read_image
from multibox.importers.tensorflow.evaluate import fixed_value
from multibox.importers.tensorflow.graph import Graph, Output

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
sys.path.insert(0, str(Path(__file__).parents[1] / "importers"))

from label_files import voc_object, write_coco, write_list, write_picture, write_voc
from tensorflow_writer import GraphWriter

GIGABYTE = 1 << 30


def png(width: int, height: int, rows: int, bits: int = 8, kind: int = 0) -> bytes:
    """A picture that claims a size and has some of its rows, all black or transparent.

    ``bits`` are those of a pixel in all; ``kind`` is PNG's colour type, grey if left out.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(1)
    row = bytes(1 + width * bits // 8)
    data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    samples = {0: 1, 2: 3, 6: 4}[kind]
    size = struct.pack(">IIBBBBB", width, height, bits // samples, kind, 0, 0, 0)
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


def test_a_transparent_picture_just_below_the_limit_takes_a_gigabyte_at_most(
    tmp_path: Path,
) -> None:
    """400 kB of PNG: each pixel at its four bytes, and the three of the result."""
    side = 9_990
    (tmp_path / "clear.png").write_bytes(png(side, side, side, 32, kind=6))
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_PEAK, tmp_path / "clear.png"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    white, peak_bytes = map(int, done.stdout.split())
    assert white == 255
    assert peak_bytes < GIGABYTE


READ_AND_PEAK = """
import sys
from pathlib import Path
from multibox.imaging import read_image
print(read_image(sys.argv[1]).min())
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10)
"""


@pytest.mark.parametrize(("bits", "kind"), [(64, 6), (48, 2)])
def test_a_picture_of_16_bits_whose_pixels_are_few_enough_and_whose_bytes_are_not(
    tmp_path: Path, bits: int, kind: int
) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(png(9_990, 9_990, 3, bits, kind))
    line = refused(lambda: read_image(path), "bytes, more than the limit of 800,000,000")
    assert "MULTIBOX_LIMITS" in line


def test_a_picture_file_of_a_gigabyte(tmp_path: Path) -> None:
    path = hollow(tmp_path / "a.jpg", b"\xff\xd8\xff\xe0\xff\xff")
    for read in (read_image, image_size):
        refused(lambda read=read: read(path), "more than the limit of 800,000,000")


def progressive(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG that goes over itself again and again: each scan is some 300 bytes."""
    data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[
        1
    ].tobytes()
    frame = data.index(b"\xff\xc2")
    data = data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def test_a_jpeg_of_a_hundred_thousand_scans(tmp_path: Path) -> None:
    path = tmp_path / "again.jpg"
    path.write_bytes(progressive(8_000, 8_000, 100_000))
    refused(lambda: read_image(path), "too many scans")
    path.write_bytes(progressive(64, 64, 100))
    assert read_image(path).shape == (64, 64, 3)  # a small one may


def test_a_picture_of_blanks(tmp_path: Path) -> None:
    path = tmp_path / "blank.ppm"
    path.write_bytes(b"P6" + b" " * 1_000_000)
    refused(lambda: read_image(path), "damaged PNM header")


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


def graph_of(build: Callable[[GraphWriter], None], path: Path) -> Graph:
    writer = GraphWriter()
    build(writer)
    path.write_bytes(writer.message.SerializeToString())
    return Graph(path)


def hollow_constant(writer: GraphWriter, name: str, *sides: int) -> str:
    writer.const(name, np.zeros(1, np.float32), splat=True)
    shape = writer.message.node[-1].attr[-1].value.tensor.shape
    del shape.dim[:]
    for side in sides:
        shape.dim.add(size=side)
    return name


@pytest.mark.parametrize("sides", [(2**26,), (2**40, 2**40, 2**40), (2**62,) * 90])
def test_a_constant_of_one_number_many_times(tmp_path: Path, sides: tuple[int, ...]) -> None:
    refused(
        lambda: graph_of(lambda writer: hollow_constant(writer, "a", *sides), tmp_path / "a.pb"),
        "repeated numbers, more than the limit of 33,554,432",
    )


def test_many_constants_of_one_number_are_counted_together(tmp_path: Path) -> None:
    def build(writer: GraphWriter) -> None:
        for i in range(100):
            hollow_constant(writer, f"c{i}", 1000, 1000)

    refused(lambda: graph_of(build, tmp_path / "a.pb"), "constants of 100,000,000 repeated")


def test_what_a_graph_computes_is_counted_in_all(tmp_path: Path) -> None:
    """A chain of sums, each of which is kept until the end: 80 MB from some hundred bytes."""

    def build(writer: GraphWriter) -> None:
        last = hollow_constant(writer, "c", 4_000_000)
        for i in range(20):
            last = writer.op("Add", f"sum{i}", last, "c")

    graph = graph_of(build, tmp_path / "a.pb")
    assert fixed_value(graph, Output("sum2")).shape == (4_000_000,)
    before = peak()
    with pytest.raises(InputError, match=r"sum8.*more than 33,554,432 numbers") as caught:
        fixed_value(graph, Output("sum19"))
    assert "\n" not in str(caught.value)
    assert peak() - before < 300 << 20


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
