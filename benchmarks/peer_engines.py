"""One call each: torchvision's detectors, engines bare, and multibox end to end."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from torch import nn

from multibox.detector import Detector
from multibox.engines import open_engine, read_exported
from multibox.engines.openvino_core import openvino_core
from multibox.engines.raw_outputs import BoxDecoder, to_scores
from multibox.engines.suppression import suppress
from multibox.imaging import Image, to_network_input
from peer_models import Peer, as_torchvision_takes_it

Calls = dict[str, Callable[[], Any]]


class _Compiled(nn.Module):
    """torchvision's detector without what torch.compile cannot trace."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = module.backbone, module.head

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = self.head(list(self.backbone(images).values()))
        return outputs["cls_logits"], outputs["bbox_regression"]


def torchvision_calls(peer: Peer, picture: Image, *, compiled: bool) -> Calls:
    """torchvision's own, eager, and with its network compiled."""
    module: Any = peer.module

    def eager() -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return module([as_torchvision_takes_it(picture)])[0]

    if not compiled:
        return {"torchvision eager fp32": eager}
    network = torch.compile(_Compiled(module).eval())
    with torch.no_grad():
        images, _ = module.transform([as_torchvision_takes_it(picture)])
        features = list(module.backbone(images.tensors).values())
    anchors = module.anchor_generator(images, features)

    def run() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            batch, _ = module.transform([as_torchvision_takes_it(picture)])
            logits, offsets = network(batch.tensors)
            outputs = {"cls_logits": logits, "bbox_regression": offsets}
            found = module.postprocess_detections(outputs, anchors, batch.image_sizes)
            size = [picture.shape[:2]]
            return module.transform.postprocess(found, batch.image_sizes, size)[0]

    try:
        run()
    except Exception as error:  # no compiler, most often
        print(f"torch.compile left out: {str(error).splitlines()[0]}")
        return {"torchvision eager fp32": eager}
    return {"torchvision eager fp32": eager, "torchvision compiled fp32": run}


def bare_calls(peer: Peer, picture: Image, threads: int) -> Calls:
    """The network alone on each engine, and OpenCV's with our postprocessing."""
    example = to_network_input(picture, peer.card.preprocessing)[None]
    calls: Calls = {"OpenCV fp32": _opencv(peer, picture, threads)}
    for precision, path in peer.bare.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        calls[f"bare onnxruntime {precision}"] = lambda session=session: session.run(
            None, {"images": example}
        )
        calls[f"bare openvino {precision}"] = _openvino(path, example, threads, "f32")
    calls["bare openvino bf16"] = _openvino(peer.bare["fp32"], example, threads, "bf16")
    return calls


def _openvino(path: Any, example: Image, threads: int, hint: str) -> Callable[[], Any]:
    core = openvino_core()
    network = core.read_model(path)
    network.reshape(example.shape)
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda: request.infer({0: example}, share_inputs=True, share_outputs=True)


def _opencv(peer: Peer, picture: Image, threads: int) -> Callable[[], Any]:
    cv2.setNumThreads(threads)
    network = cv2.dnn.readNetFromONNX(str(peer.bare["fp32"]))
    settings = peer.card.postprocessing
    decode = BoxDecoder(peer.card.default_boxes, settings)

    def run() -> Any:
        network.setInput(to_network_input(picture, peer.card.preprocessing)[None], "images")
        logits, offsets = network.forward(["class_logits", "box_offsets"])
        return suppress(to_scores(np.asarray(logits), settings), offsets, decode, settings)

    return run


def our_calls(peer: Peer, picture: Image, threads: int) -> Calls:
    """multibox end to end: what ``multibox.load(...)(picture)`` does."""
    calls: Calls = {}
    for engine, file, precision in (
        ("onnxruntime", "fp32", "fp32"),
        ("openvino", "fp32", "fp32"),
        ("openvino", "fp32", "bf16"),
        ("onnxruntime", "int8", "fp32"),
        ("openvino", "int8", "fp32"),
    ):
        if file not in peer.whole:
            continue
        opened = read_exported(peer.whole[file])
        detector = Detector(
            open_engine(opened, engine, threads=threads, precision=precision), opened.card
        )
        label = precision if file == "fp32" else file
        calls[f"multibox {engine} {label}"] = lambda detector=detector: detector(picture, score=0)
    return calls
