"""MULTIBOX_LIMITS reaches every limit that the documentation names, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from multibox import limits

PAGE = Path(__file__).parents[1] / "docs" / "trust.md"
RAISED = {
    "PICTURE_PIXELS", "LABEL_BYTES", "OBJECTS", "XML_DEPTH", "YAML_BYTES", "CLASSES", "LIST_BYTES",
    "COCO_BYTES", "CHECKPOINT_BYTES", "PROTOTXT_BYTES", "CAFFEMODEL_BYTES", "GRAPH_BYTES",
    "GRAPH_ELEMENTS",
}  # fmt: skip
FIXED = {"PROTOBUF_BYTES", "PICTURE_BYTES_A_PIXEL"}


def run(code: str, factor: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"MULTIBOX_LIMITS": factor},
        capture_output=True,
        text=True,
    )


NUMBERS = """
import json
from multibox import limits
public = {name: n for name, n in vars(limits).items() if name.isupper() and name[0] != "_"}
print(json.dumps(public))
"""


def of_module(factor: str) -> dict[str, int]:
    done = run(NUMBERS, factor)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_limit_is_multiplied() -> None:
    usual, raised, lowered = of_module("1"), of_module("4"), of_module("0.5")
    assert set(usual) == RAISED | FIXED
    for name in RAISED:
        assert raised[name] == 4 * usual[name], name
        assert lowered[name] == usual[name] // 2, name
    for name in FIXED:
        assert raised[name] == usual[name]
    assert min(of_module("1e-300").values()) == 1  # not nothing


@pytest.mark.parametrize("factor", ["0", "-1", "inf", "nan", "x", ""])
def test_a_factor_without_sense_is_one_line(factor: str) -> None:
    done = run("import multibox.limits", factor)
    assert done.returncode != 0
    assert f"MULTIBOX_LIMITS={factor}: must be a number above 0" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("size", [11, 20, 21, 1000])
def test_the_remedy_in_the_line_is_enough(size: int) -> None:
    line = limits.too_large("a thing", size, 10)
    found = re.search(r"MULTIBOX_LIMITS=(\d+)$", line)
    assert found
    assert 10 * (int(found[1]) - 1) < size <= 10 * int(found[1])


READ = """
import sys
from pathlib import Path
from multibox.checkpoints import load
from multibox.data.voc_xml import read_annotation
from multibox.engines.exported import read_exported
from multibox.errors import InputError
from multibox.imaging import read_image
from multibox.importers.caffe.files import read_caffemodel, read_prototxt
from multibox.importers.tensorflow.graph import Graph
readers = {
    ".prototxt": read_prototxt, ".caffemodel": read_caffemodel, ".pb": Graph, ".png": read_image,
    ".safetensors": load, ".onnx": read_exported, ".xml": read_annotation,
}
for path in map(Path, sys.argv[1:]):
    try:
        readers[path.suffix](path)
        print(path, "was read")
    except InputError as error:
        print(error)
"""
LARGEST = {
    ".prototxt": limits.PROTOTXT_BYTES,
    ".caffemodel": limits.CAFFEMODEL_BYTES,
    ".pb": limits.GRAPH_BYTES,
    ".png": limits.PICTURE_PIXELS * limits.PICTURE_BYTES_A_PIXEL,
    ".safetensors": limits.CHECKPOINT_BYTES,
    ".onnx": limits.CHECKPOINT_BYTES,
    ".xml": limits.LABEL_BYTES,
}


def read(factor: str, *paths: Path) -> list[str]:
    """What reading each of the files ends with, one line each."""
    done = run(READ, factor, *map(str, paths))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for path, line in zip(paths, lines, strict=True):
        assert line.startswith(str(path))
    return lines


def hollow(path: Path, size: int) -> Path:
    """A file that takes no place on the disk."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_files_are_refused_by_the_limit_and_by_a_lower_one(tmp_path: Path) -> None:
    """A smaller one is refused as well, for what is in it."""
    over = [hollow(tmp_path / f"over{suffix}", most + 1) for suffix, most in LARGEST.items()]
    small = [hollow(tmp_path / f"small{suffix}", 100_000) for suffix in LARGEST]
    for factor, paths, refused in (("1", over, True), ("1e-5", small, True), ("1", small, False)):
        for line in read(factor, *paths):
            assert ("more than the limit" in line) is refused, line
            assert "MULTIBOX_LIMITS" in line or not refused


def test_depth_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "deep.xml"
    path.write_text(f"<annotation>{'<a>' * 120}{'</a>' * 120}</annotation>")
    for factor, said in (("1", "than 50 elements"), ("2", "than 100 elements"), ("3", "was read")):
        assert said in read(factor, path)[0]


def test_what_protobuf_cannot_hold_is_not_promised_by_a_higher_limit(tmp_path: Path) -> None:
    size = limits.PROTOBUF_BYTES + 1
    for line in read("8", hollow(tmp_path / "a.caffemodel", size), hollow(tmp_path / "a.pb", size)):
        assert "too many for any" in line
        assert "MULTIBOX_LIMITS" not in line


def test_the_documentation_names_the_numbers_that_hold() -> None:
    page = PAGE.read_text()
    table = page[page.index("| What | Limit |") : page.index("`MULTIBOX_LIMITS=4")]
    for number in (
        f"{limits.PICTURE_PIXELS:,} pixels",
        f"{limits.PICTURE_PIXELS * limits.PICTURE_BYTES_A_PIXEL // 10**6} MB",
        f"{limits.LABEL_BYTES // 10**6} MB",
        f"{limits.OBJECTS:,} objects",
        f"{limits.XML_DEPTH} elements",
        f"{limits.YAML_BYTES // 1000} kB",
        f"{limits.CLASSES:,}",
        f"{limits.LIST_BYTES // 10**6} MB",
        f"{limits.COCO_BYTES // 10**6} MB",
        f"{limits.CHECKPOINT_BYTES // 10**9} GB",
        f"{limits.PROTOTXT_BYTES >> 20} MiB",
        f"{limits.CAFFEMODEL_BYTES >> 30} GiB",
        f"{limits.GRAPH_ELEMENTS // 10**6} million",
    ):
        assert number in table, number
