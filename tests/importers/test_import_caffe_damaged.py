"""Caffe files that are damaged, of another kind, or do not fit together: one clear line each."""

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from caffe_files import Net, tagged, varint
from caffe_refusals import mobilenet, refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multibox.errors import InputError
from multibox.importers.caffe import read


def with_blob(change: Callable[[Net], None]) -> Net:
    net = mobilenet()
    change(net)
    return net


def drop(net: Net) -> None:
    net.layer("conv3").blobs = []


def shorten(net: Net) -> None:
    net.layer("conv3/scale").blobs.pop()


def transpose(net: Net) -> None:
    net.layer("conv2").blobs[0] = net.layer("conv2").blobs[0].transpose(1, 0, 2, 3)


def poison(net: Net) -> None:
    net.layer("conv2").blobs[0] = np.full_like(net.layer("conv2").blobs[0], np.nan)


WEIGHTS = {
    "missing": (drop, "'conv3' is not there"),
    "too few": (shorten, "'conv3/scale' has no blob 1"),
    "another shape": (transpose, r"'conv2': blob 0 has the shape \(64, 128, 1, 1\)"),
    "not finite": (poison, "'conv2'.*not finite"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_do_not_fit_are_named(name: str, tmp_path: Path) -> None:
    change, said = WEIGHTS[name]
    model, prototxt = with_blob(change).save(tmp_path)
    assert re.search(said, refusal(model, prototxt))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    model, prototxt = mobilenet().save(tmp_path)
    for files in ((pipe, prototxt), (model, pipe), (model, Path("/dev/zero"))):
        assert "is not a regular file" in refusal(*files)


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    model, prototxt = mobilenet().save(tmp_path)
    prototxt.write_bytes(b"\xef\xbb\xbf" + prototxt.read_bytes().replace(b"\n", b"\r\n"))
    assert read(model, None, prototxt).card.default_boxes.count > 0


@cache
def good() -> tuple[bytes, str]:
    net = mobilenet()
    return net.caffemodel(), net.prototxt()


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "no layer with weights"),
    "text": (lambda: good()[1].encode(), "not a caffemodel"),
    "pickle": (lambda: b"\x80\x04\x95" + b"K\x01" * 50 + b".", "not a caffemodel"),
    "cut short": (lambda: good()[0][:-1000], "cut short"),
    "old layers": (lambda: tagged(2, tagged(4, b"conv1")), "upgrade_net_proto_binary"),
    "twice": (lambda: good()[0] * 2, "two layers named"),
    "nested": (lambda: nested(), "not a caffemodel"),
    "a giant shape": (
        lambda: tagged(100, tagged(1, b"c") + tagged(7, tagged(7, tagged(1, varint(2**60) * 2)))),
        "makes no sense",
    ),
    "an endless name": (
        lambda: tagged(100, tagged(1, b"x" * 10**6) + tagged(7, b"")), "1000000 characters",
    ),
    "a name that is not text": (
        lambda: tagged(100, tagged(1, b"\xff\xfe") + tagged(7, tagged(5, bytes(4)))),
        "not a caffemodel|makes no sense|values",
    ),
}  # fmt: skip


def nested() -> bytes:
    data = b""
    for _ in range(2000):
        data = tagged(100, data)
    return b"\x0b" * 100_000 + data


@pytest.mark.parametrize("name", FILES)
def test_other_files_than_a_caffemodel(name: str, tmp_path: Path) -> None:
    make, said = FILES[name]
    model, prototxt = tmp_path / "net.caffemodel", tmp_path / "net.prototxt"
    model.write_bytes(make())
    prototxt.write_text(good()[1])
    assert re.search(said, refusal(model, prototxt))


TEXTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "no layers"),
    "a caffemodel": (lambda: good()[0][:100_000], "not text"),
    "prose": (lambda: b"Dear reader, this is no network.", "not a Caffe prototxt"),
    "old layers": (lambda: b"layers { name: 'a' type: CONVOLUTION }", "upgrade_net_proto_text"),
    "a solver": (lambda: b"net: 'train.prototxt'\nbase_lr: 0.01\n", "no layers"),
    "nested": (lambda: b"a { " * 50_000, "not a Caffe prototxt"),
    "nested lists": (lambda: b"layer { x: " + b"[" * 50_000, "not a Caffe prototxt"),
    "too long": (lambda: b"#" * (5 * 2**20), "more than the limit of 4,194,304"),
    "cut short": (lambda: good()[1].encode()[:5000], "not a Caffe prototxt"),
    "a type of two lines": (
        lambda: good()[1].replace("ReLU", "Re\\nLU", 1).encode(), r"the name 'Re\\nLU'",
    ),
    "an endless name": (lambda: b"layer { name: '" + b"x" * 10**6 + b"' }", "200 at most"),
    "number too large": (
        lambda: b"layer { convolution_param { num_output: 99999999999 } }", "not a Caffe prototxt",
    ),
    "unknown name for a number": (
        lambda: b"layer { pooling_param { pool: MEDIAN } }", "not a Caffe prototxt",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_other_files_than_a_prototxt(name: str, tmp_path: Path) -> None:
    make, said = TEXTS[name]
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_bytes(make())
    assert re.search(said, refusal(tmp_path / "absent.caffemodel", prototxt))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    prototxt = tmp_path / "net.prototxt"
    assert "cannot be read" in refusal(tmp_path / "net.caffemodel", prototxt)
    prototxt.write_text(good()[1])
    assert "cannot be read" in refusal(tmp_path / "net.caffemodel", prototxt)
    assert "cannot be read" in refusal(tmp_path, prototxt)


def survives(model: Path, prototxt: Path) -> bool:
    """Imported, or refused with one line: nothing else may come out."""
    try:
        read(model, None, prototxt)
    except InputError as error:
        said = str(error)
    else:
        return True
    assert "\n" not in said
    return False


fuzzed = settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@fuzzed
@given(st.data())
def test_damaged_caffemodels(tmp_path: Path, data: st.DataObject) -> None:
    model, prototxt = tmp_path / "net.caffemodel", tmp_path / "net.prototxt"
    prototxt.write_text(good()[1])
    # The small messages at the end of the file: there a flipped byte hits structure.
    content = bytearray(good()[0])
    where = data.draw(st.integers(1, 3000))
    if data.draw(st.booleans()):
        del content[-where:]
        model.write_bytes(content)
        assert not survives(model, prototxt)
    else:
        content[-where] ^= data.draw(st.integers(1, 255))
        model.write_bytes(content)
        survives(model, prototxt)


@fuzzed
@given(st.data())
def test_prototxts_with_lines_missing_or_words_exchanged(
    tmp_path: Path, data: st.DataObject
) -> None:
    prototxt = tmp_path / "net.prototxt"
    lines = good()[1].split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        i = data.draw(st.integers(0, len(lines) - 1))
        how = data.draw(st.sampled_from(["delete", "swap", "word"]))
        if how == "delete":
            del lines[i]
        elif how == "swap":
            j = data.draw(st.integers(0, len(lines) - 1))
            lines[i], lines[j] = lines[j], lines[i]
        else:
            new = data.draw(st.sampled_from(["0", "-1", "1e30", "nan", "99999", '"data"', "x"]))
            lines[i] = re.sub(r"(?<=: )\S+", new, lines[i], count=1)
    prototxt.write_text("\n".join(lines))
    survives(tmp_path / "absent.caffemodel", prototxt)


@fuzzed
@given(st.binary(max_size=200))
def test_noise(tmp_path: Path, noise: bytes) -> None:
    model, prototxt = tmp_path / "net.caffemodel", tmp_path / "net.prototxt"
    prototxt.write_bytes(noise)
    model.write_bytes(noise)
    assert not survives(model, prototxt)
    prototxt.write_text(good()[1])
    assert not survives(model, prototxt)
