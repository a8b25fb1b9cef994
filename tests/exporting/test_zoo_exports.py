"""Every detector's file in the engines that are to read it, whole and with any batch."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from foreign_weights import pictures
from spread_detectors import NAMES, spread_engine

from multibox.engines.graph import WHOLE
from multibox.exporting.check import check
from multibox.exporting.detection_graph import add_detection
from multibox.exporting.network import network_graph
from multibox.exporting.onnx_file import OnnxFile
from multibox.exporting.openvino import IrFile
from multibox.ssd.model import SSD
from multibox.zoo import MODELS, new_card

SIDE = 64
# Each has something that the others lack: the length norm and pooling that rounds up; sigmoid
# scores and TensorFlow's padding; squeeze and excitation and hard swish.
QUICK = {
    "ssd300_vgg16",
    "ssdlite300_mobilenet_v2",
    "ssdlite320_mobilenet_v3_small",
}
IN_OPENVINO = {"ssd300_vgg16", "ssdlite320_mobilenet_v3_small"}
CASES = [
    *(pytest.param(name, None, marks=[] if name in QUICK else pytest.mark.slow) for name in MODELS),
    pytest.param("ssd300_vgg16", "timm:resnet18", marks=pytest.mark.slow),
    pytest.param("ssdlite320_mobilenet_v2", "timm:mobilenetv4_conv_small", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "backbone"), CASES)
def test_agrees_with_torch_wherever_it_runs(
    name: str, backbone: str | None, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    card = new_card(name, NAMES, image_size=(SIDE, SIDE), backbone=backbone)
    engine = spread_engine(card)
    assert isinstance(engine.module, SSD)
    graph = network_graph(engine.module)
    add_detection(graph, card)
    file = tmp_path / "model.onnx"
    OnnxFile(graph, file)

    parity, faults = check(file, engine, "fp32", nms=True)
    assert faults == ()
    assert parity.detections is not None
    assert parity.detections > 30
    assert parity.magnitude > 1

    graph = onnx.load(file)
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 18)]
    assert {node.domain for node in graph.graph.node} == {""}
    assert list(tmp_path.iterdir()) == [file]

    images = pictures(3, SIDE, SIDE, seed=7)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    whole = session.run(WHOLE, {"images": images})
    assert whole[0].dtype == whole[3].dtype == np.int32
    assert whole[0].shape == (3, 1)
    for batch in (1, 2):
        part = session.run(WHOLE, {"images": images[:batch]})
        for ours, theirs in zip(part, whole, strict=True):
            np.testing.assert_allclose(ours, theirs[:batch], atol=1e-3)

    network = cv2.dnn.readNetFromONNX(str(file))
    for batch in (1, 3):
        network.setInput(images[:batch], "images")
        outputs = network.forward(network.getUnconnectedOutLayersNames())
        by_name = dict(zip(network.getUnconnectedOutLayersNames(), outputs, strict=True))
        np.testing.assert_array_equal(by_name["num_detections"], whole[0][:batch])
        for ours, theirs in ((by_name[n], w[:batch]) for n, w in zip(WHOLE, whole, strict=True)):
            # Scores that are equal but for rounding may change places.
            assert np.mean(np.isclose(ours, theirs, atol=1e-3)) > 0.98

    if name in IN_OPENVINO:
        IrFile(graph, tmp_path / "model.xml")
        assert check(tmp_path / "model.xml", engine, "fp32", nms=True).faults == ()
