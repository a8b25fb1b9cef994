"""Where to suppress: in the exported graph, in NumPy, or in PyTorch; one core.

From the raw outputs of a network to the detections of one picture, four ways: the exported graph's
own operators in ONNX Runtime and in OpenVINO; the graph up to the scores and the rest in NumPy,
which is what multibox's engines do; and ``ssd.postprocess``, the PyTorch engine's. They take turns
in one process and have to agree. Weights are random, with about so many boxes above the score
threshold; all pass in a network that has learned nothing.

    python benchmarks/suppression.py [--seconds S]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from multibox.benchmarking.interleave import interleave
from multibox.benchmarking.spread_weights import spread_model
from multibox.card import ModelCard
from multibox.data.synthetic import scene
from multibox.default_boxes import default_boxes
from multibox.engines.openvino_core import openvino_core
from multibox.engines.raw_outputs import BoxDecoder
from multibox.engines.suppression import suppress
from multibox.exporting.detection_graph import SCORES, add_detection
from multibox.imaging import to_network_input
from multibox.ssd.postprocess import postprocess
from multibox.zoo import new_card

CLASSES = tuple(f"class {i}" for i in range(1, 91))
CASES = (
    ("ssdlite320_mobilenet_v3_large", 500),
    ("ssdlite320_mobilenet_v3_large", None),
    ("ssd300_vgg16", 500),
    ("ssd300_vgg16", None),
)
Raw = tuple[np.ndarray, np.ndarray]
Call = Callable[[], Any]


def raw_outputs(card: ModelCard, passing: int | None) -> Raw:
    """Class logits ``[1, n, classes + 1]`` and box offsets ``[1, n, 4]`` of a generated scene."""
    picture = scene(np.random.default_rng(0), (500, 375)).image
    image = to_network_input(picture, card.preprocessing)
    images = torch.from_numpy(np.stack([image, image[:, ::-1]]))
    with torch.inference_mode():
        model = spread_model(card, images, passing or card.default_boxes.count)
        logits, offsets = model(images[:1])
    return logits.numpy(), offsets.numpy()


def detection_file(card: ModelCard, raw: Raw, folder: Path) -> Path:
    """The part of an exported graph behind the raw outputs, with its scores as one output more."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *array.shape[1:]])
        for name, array in zip(("class_logits", "box_offsets"), raw, strict=True)
    ]
    model = helper.make_model(
        helper.make_graph([], "detection", inputs, []),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    add_detection(model, card)
    path = folder / "detection.onnx"
    onnx.save(model, path)
    return path


def scores_file(whole: Path) -> Path:
    """The graph up to its scores alone."""
    path = whole.with_name("scores.onnx")
    onnx.utils.extract_model(whole, path, ["class_logits"], [SCORES])
    return path


def onnxruntime_call(path: Path, inputs: dict[str, np.ndarray]) -> Call:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)


def openvino_call(path: Path, raw: Raw) -> Call:
    core = openvino_core()
    network = core.read_model(path)
    network.reshape({port: array.shape for port, array in zip(network.inputs, raw, strict=True)})
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda: request.infer(dict(enumerate(raw)), share_inputs=True, share_outputs=True)


def calls_of(card: ModelCard, raw: Raw, folder: Path) -> dict[str, Call]:
    whole = detection_file(card, raw, folder)
    logits, offsets = raw
    softmax = onnxruntime_call(scores_file(whole), {"class_logits": logits})
    settings = card.postprocessing
    decode = BoxDecoder(card.default_boxes, settings)
    boxes = torch.from_numpy(default_boxes(card.default_boxes))
    tensors = torch.from_numpy(logits), torch.from_numpy(offsets)

    def in_torch() -> Any:
        with torch.inference_mode():
            return postprocess(*tensors, boxes, card.default_boxes.variances, settings)

    return {
        "graph, onnxruntime": onnxruntime_call(
            whole, {"class_logits": logits, "box_offsets": offsets}
        ),
        "graph, OpenVINO": openvino_call(whole, raw),
        "NumPy": lambda: suppress(softmax()[0], offsets, decode, settings),
        "PyTorch": in_torch,
    }


def check(calls: dict[str, Call]) -> None:
    """Raises: SystemExit when the four do not find the same scores."""
    reference = np.asarray(calls["NumPy"]().scores)
    for name in ("graph, onnxruntime", "graph, OpenVINO", "PyTorch"):
        found = np.asarray(calls[name]()[2])
        if not np.allclose(found, reference, atol=1e-5):
            raise SystemExit(f"{name} and NumPy find different detections")


def timed(call: Call) -> Callable[[], float]:
    def run() -> float:
        start = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - start)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2, help="of each way")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    for name, passing in CASES:
        card = new_card(name, CLASSES)
        raw = raw_outputs(card, passing)
        with tempfile.TemporaryDirectory() as folder:
            calls = calls_of(card, raw, Path(folder))
        check(calls)
        samples = interleave({each: timed(call) for each, call in calls.items()}, seconds)
        print(
            f"\n{name}, {len(CLASSES)} classes, about {passing or 'all'} boxes pass, milliseconds"
        )
        for each, milliseconds in samples.items():
            print(f"{each:<24}{statistics.median(milliseconds):>9.2f}")


if __name__ == "__main__":
    main()
