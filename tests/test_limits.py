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
from multibox.errors import InputError
kind, path = sys.argv[1], Path(sys.argv[2])
try:
    if kind == "prototxt":
        from multibox.importers.caffe.files import read_prototxt as read
    elif kind == "caffemodel":
        from multibox.importers.caffe.files import read_caffemodel as read
    elif kind == "graph":
        from multibox.importers.tensorflow.graph import Graph as read
    elif kind == "picture":
        from multibox.imaging import read_image as read
    elif kind == "checkpoint":
        from multibox.checkpoints import load as read
    elif kind == "exported":
        from multibox.engines.exported import read_exported as read
    else:
        from multibox.data.voc_xml import read_annotation as read
    read(path)
    print("read")
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("kind", "suffix", "limit"),
    [
        ("prototxt", ".prototxt", limits.PROTOTXT_BYTES),
        ("caffemodel", ".caffemodel", limits.CAFFEMODEL_BYTES),
        ("graph", ".pb", limits.GRAPH_BYTES),
        ("picture", ".png", limits.PICTURE_PIXELS * limits.PICTURE_BYTES_A_PIXEL),
        ("checkpoint", ".safetensors", limits.CHECKPOINT_BYTES),
        ("exported", ".onnx", limits.CHECKPOINT_BYTES),
        ("xml", ".xml", limits.LABEL_BYTES),
    ],
)
def test_a_hollow_file_is_refused_by_the_limit_and_by_a_lower_one(
    tmp_path: Path, kind: str, suffix: str, limit: int
) -> None:
    """Files that take no place on the disk; a smaller one is refused for what is in it."""
    path = tmp_path / f"hollow{suffix}"
    cases = (("1", limit + 1, True), ("1e-5", 100_000, True), ("1", 100_000, False))
    for factor, size, refused in cases:
        with path.open("wb") as file:
            file.truncate(size)
        line = run(READ, factor, kind, str(path)).stdout
        assert line.startswith(str(path))
        assert line.count("\n") == 1
        assert ("more than the limit" in line) is refused
        assert "MULTIBOX_LIMITS" in line or not refused


def test_depth_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "deep.xml"
    path.write_text(f"<annotation>{'<a>' * 120}{'</a>' * 120}</annotation>")
    assert "more than 50 elements" in run(READ, "1", "xml", str(path)).stdout
    assert "more than 100 elements" in run(READ, "2", "xml", str(path)).stdout
    assert run(READ, "3", "xml", str(path)).stdout == "read\n"


def test_what_protobuf_cannot_hold_is_not_promised_by_a_higher_limit(tmp_path: Path) -> None:
    path = tmp_path / "hollow"
    with path.open("wb") as file:
        file.truncate(limits.PROTOBUF_BYTES + 1)
    for kind in ("caffemodel", "graph"):
        line = run(READ, "8", kind, str(path)).stdout
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
