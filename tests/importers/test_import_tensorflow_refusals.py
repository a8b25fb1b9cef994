"""What is no SSD on MobileNet, or is damaged, is refused in one line."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_graphs import Form, frozen_graph

from multibox.errors import InputError
from multibox.importers.tensorflow import read

SMALL = Form(backbone="mobilenet_v1", lite=False, image_size=(64, 64), classes=2, splat=True)


@pytest.fixture(scope="module")
def graph() -> Any:
    return frozen_graph(SMALL)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs") / "graph.pb"


def copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def node(message: Any, name: str) -> Any:
    return next(n for n in message.node if n.name == name.encode())


def attribute(of: Any, key: str) -> Any:
    return next(a for a in of.attr if a.key == key.encode()).value


def refused(path: Path, content: bytes, names: list[str] | None = None) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read(path, names)
    line = str(error.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def ops(kind: str, message: Any) -> list[Any]:
    return [n for n in message.node if n.op == kind.encode()]


def rename(message: Any, old: str, new: str) -> None:
    for one in ops(old, message):
        one.op = new.encode()


def unfreeze(message: Any) -> None:
    for one in message.node:
        if one.name.endswith(b"/weights"):
            one.op = b"VariableV2"


def quantise(message: Any) -> None:
    for one in message.node:
        if one.name.endswith(b"/weights") and one.op == b"Const":
            fake = message.node.add(name=one.name + b"_fake", op=b"FakeQuantWithMinMaxVars")
            fake.input.append(b"image_tensor")
            for user in message.node:
                if user.op == b"Conv2D" and user.input[1] == one.name:
                    user.input[1] = fake.name


def crop(message: Any) -> None:
    rename(message, "Exp", "Tanh")
    message.node.add(name=b"crop", op=b"CropAndResize")


def ring(message: Any) -> None:
    """The first convolution takes the last feature map."""
    for one in ops("Conv2D", message):
        if one.name.endswith(b"Conv2d_0/Conv2D"):
            one.input[0] = b"FeatureExtractor/layer_3_3x3/Relu6"


def ring_of_identities(message: Any) -> None:
    for one in ops("Sub", message):
        if one.name == b"Preprocessor/sub":
            one.op = b"Identity"
            del one.input[:]
            one.input.append(one.name)


def ring_of_anchors(message: Any) -> None:
    node(message, "MultipleGridAnchorGenerator/1/heights").input[0] = (
        b"MultipleGridAnchorGenerator/1/half_h"
    )


def moved_anchors(message: Any) -> None:
    """A centre of the second map moves: no longer the same boxes in every cell."""
    shape = node(message, "MultipleGridAnchorGenerator/0/zeros")
    tensor = attribute(shape, "value").tensor
    values = np.frombuffer(tensor.content, np.float32).copy()
    values[5] = 0.25
    tensor.content = values.tobytes()


def other_size(message: Any) -> None:
    node(message, "Preprocessor/map/Resize").input[1] = b"Preprocessor/map/Squeeze"


def not_finite(message: Any) -> None:
    one = next(n for n in message.node if n.name.endswith(b"Conv2d_4_pointwise/weights"))
    tensor = attribute(one, "value").tensor
    tensor.float_val[0] = float("nan")


def huge(message: Any) -> None:
    one = next(n for n in message.node if n.name.endswith(b"Conv2d_4_pointwise/weights"))
    attribute(one, "value").tensor.shape.dim[0].size = 1 << 40


def no_suppression(message: Any) -> None:
    rename(message, "NonMaxSuppressionV3", "Unknown")


def scaled_logits(message: Any) -> None:
    tensor = attribute(node(message, "Postprocessor/scale_logits/y"), "value").tensor
    tensor.content = np.float32(3).tobytes()


def other_thresholds(message: Any) -> None:
    name = "Postprocessor/map/while/MultiClassNonMaxSuppression/1/iou_threshold"
    attribute(node(message, name), "value").tensor.content = np.float32(0.3).tobytes()


def no_epsilon(message: Any) -> None:
    for one in ops("FusedBatchNorm", message):
        attribute(one, "epsilon").f = 0


def negative_variance(message: Any) -> None:
    name = b"13_depthwise/BatchNorm/moving_variance"
    one = next(n for n in message.node if n.name.endswith(name))
    attribute(one, "value").tensor.float_val[0] = -1


def boxes_in_one_place(message: Any) -> None:
    steps = node(message, "MultipleGridAnchorGenerator/0/y/mul/y")
    attribute(steps, "value").tensor.content = np.float32(0).tobytes()


def bias_behind_a_bias(message: Any) -> None:
    one = next(n for n in ops("FusedBatchNorm", message) if b"Conv2d_5_depthwise" in n.name)
    one.op = b"BiasAdd"
    del one.input[2:]
    message.node.add(name=b"more", op=b"BiasAdd").input.extend(
        [one.name, b"BoxPredictor_1/ClassPredictor/biases"]
    )
    for user in ops("Relu6", message):
        if user.input[0] == one.name:
            user.input[0] = b"more"


def inception(message: Any) -> None:
    one = next(n for n in ops("Relu6", message) if b"Conv2d_7_pointwise" in n.name)
    one.op = b"ConcatV2"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (unfreeze, "not frozen"),
        (quantise, "8-bit"),
        (crop, "Faster R-CNN"),
        (lambda m: rename(m, "ResizeBilinear", "ResizeArea"), "ResizeArea"),
        (lambda m: rename(m, "Exp", "Square"), "no SSD heads"),
        (lambda m: rename(m, "Relu6", "Elu"), "where a MobileNet has convolutions"),
        (inception, "ConcatV2"),
        (other_size, "keep_aspect_ratio_resizer"),
        (moved_anchors, "same in every cell"),
        (ring, "layers form a ring"),
        (ring_of_identities, "no resizing"),
        (ring_of_anchors, "depends on itself"),
        (boxes_in_one_place, "same in every cell"),
        (no_epsilon, "usable detector"),
        (negative_variance, "not positive"),
        (bias_behind_a_bias, "does not fit"),
        (not_finite, "not finite"),
        (huge, "more than the limit"),
        (no_suppression, "without non-maximum suppression"),
        (scaled_logits, "scales its class scores"),
        (other_thresholds, "different thresholds"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_refused_in_one_line(
    graph: Any, path: Path, damage: Callable[[Any], None], reason: str
) -> None:
    message = copy(graph)
    damage(message)
    assert reason in refused(path, message.SerializeToString())


def test_other_widths(path: Path) -> None:
    half = frozen_graph(Form(**{**SMALL.__dict__, "width": 0.5}))
    assert "to 16 channels" in refused(path, half.SerializeToString())


def test_corner_aligned_resizing(path: Path) -> None:
    aligned = frozen_graph(Form(**{**SMALL.__dict__, "resize": {"align_corners": True}}))
    assert "align_corners" in refused(path, aligned.SerializeToString())


def test_a_wrong_number_of_names(graph: Any, path: Path) -> None:
    assert "2 classes" in refused(path, graph.SerializeToString(), ["person"])
    assert "two classes" in refused(path, graph.SerializeToString(), ["cat", "cat"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no nodes"),
        (b"\x08\x01\x12\x00", "no nodes"),
        (b"PK\x03\x04" + bytes(64), "is no TensorFlow graph"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(64), "TFLite"),
    ],
)
def test_other_files(path: Path, content: bytes, reason: str) -> None:
    assert reason in refused(path, content)


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SavedModel"):
        read(tmp_path, None)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.pb", None)


def survives(path: Path, content: bytes) -> None:
    """It is imported or refused; nothing else may happen."""
    path.write_bytes(content)
    with suppress(InputError):
        read(path, None)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_truncated_files_are_refused(graph: Any, path: Path, part: int) -> None:
    content = graph.SerializeToString()
    refused(path, content[: part * (len(content) - 1) // 10_000])


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 9_999), st.integers(1, 255)), min_size=1, max_size=5))
def test_flipped_bytes_never_break_it(graph: Any, path: Path, flips: list[tuple[int, int]]) -> None:
    content = bytearray(graph.SerializeToString())
    for place, change in flips:
        content[place * len(content) // 10_000] ^= change
    survives(path, bytes(content))


@settings(max_examples=15)
@given(st.data())
def test_rewired_graphs_never_break_it(graph: Any, path: Path, data: st.DataObject) -> None:
    message = copy(graph)
    nodes = st.integers(0, len(message.node) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        one, other = (message.node[data.draw(nodes)] for _ in range(2))
        what = data.draw(st.sampled_from(["input", "op", "drop", "attribute"]))
        if what == "input" and one.input:
            one.input[data.draw(st.integers(0, len(one.input) - 1))] = other.name
        elif what == "op":
            one.op = other.op
        elif what == "drop" and one.input:
            del one.input[-1]
        elif what == "attribute":
            del one.attr[:]
            one.attr.extend(other.attr)
    survives(path, message.SerializeToString())
