"""A tiny detector as a checkpoint and as an exported file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from multibox import zoo
from multibox.benchmarking.spread_weights import spread_checkpoint
from multibox.card import CARD_KEY

CARD = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"], image_size=(64, 64))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "tiny.safetensors"
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    spread_checkpoint(CARD, image, path, passing=50)
    return path


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw outputs from a picture's mean colour: what PyTorch's exporter takes long to write."""
    n, outputs = CARD.default_boxes.count, len(CARD.names) + 1
    rng = np.random.default_rng(0)

    def constant(name: str, array: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(array, name)

    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
    ]
    constants = [constant("axes", np.array([1, 2], np.int64))]
    for name, values in (("class_logits", outputs), ("box_offsets", 4)):
        weights = rng.normal(0, 0.01, (3, n * values)).astype(np.float32)
        constants += [
            constant(f"{name}_weights", weights),
            constant(f"{name}_shape", np.array([-1, n, values], np.int64)),
        ]
        nodes += [
            helper.make_node("MatMul", ["mean", f"{name}_weights"], [f"{name}_flat"]),
            helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [name]),
        ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 64, 64, 3])],
        [
            helper.make_tensor_value_info("class_logits", TensorProto.FLOAT, ["batch", n, outputs]),
            helper.make_tensor_value_info("box_offsets", TensorProto.FLOAT, ["batch", n, 4]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {CARD_KEY: CARD.model_dump_json()})
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def small_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multibox.benchmarking.peak._SHAPES", ((32, 10),))
    monkeypatch.setattr("multibox.benchmarking.peak._SECONDS", 0)
