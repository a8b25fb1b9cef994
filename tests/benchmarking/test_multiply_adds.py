from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from multibox.benchmarking import multiply_adds
from multibox.engines.openvino_core import openvino_core

# 12 x 12 x 3 -> convolution to 8 channels at stride 2 -> depthwise -> as a matrix, times 8 x 5.
BY_HAND = 6 * 6 * 8 * (3 * 9) + 6 * 6 * 8 * 9 + 36 * 8 * 5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.ones(shape, np.float32), name)

    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "a"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["y", "b"], ["z"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["z", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "c"], ["out"]),
    ]
    constants = [
        weights("a", 8, 3, 3, 3),
        weights("b", 8, 1, 3, 3),
        weights("c", 8, 5),
        numpy_helper.from_array(np.array([-1, 36, 8], np.int64), "shape"),
    ]
    graph = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 12, 12, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 36, 5])],
        constants,
    )
    path = tmp_path / "counted.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_of_onnx(file: Path) -> None:
    assert multiply_adds.of_onnx(file, np.zeros((1, 12, 12, 3), np.uint8)) == BY_HAND


def test_of_openvino(file: Path) -> None:
    openvino = pytest.importorskip("openvino")
    openvino.save_model(openvino_core().read_model(file), file.with_suffix(".xml"))
    assert multiply_adds.of_openvino(file.with_suffix(".xml")) == BY_HAND
