"""A small detector with answers like a trained one's, as a checkpoint and as exported files."""

import sys
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from foreign_weights import pictures, randomise, settle_norms, spread_heads
from torch import nn

from multibox import zoo
from multibox.card import CARD_KEY, ModelCard, PostProcessing
from multibox.engines.openvino_core import openvino_core
from multibox.exporting.detection_graph import add_detection
from multibox.exporting.network import network_graph
from multibox.ssd.model import SSD

NAMES = tuple(f"class {i}" for i in range(6))
SIZE = (64, 96)
Scores = Literal["softmax", "sigmoid"]


def card(scores: Scores = "softmax") -> ModelCard:
    new = zoo.new_card("ssdlite320_mobilenet_v2", NAMES, image_size=SIZE)
    settings = PostProcessing(scores=scores, top_k=40, keep=50)
    return new.model_copy(update={"postprocessing": settings})


def images(count: int, seed: int = 3) -> np.ndarray:
    return pictures(count, *SIZE, seed=seed)


@cache
def detector(scores: Scores = "softmax") -> SSD:
    """Some hundred pairs of class and box pass the threshold, and many overlap."""
    if scores == "sigmoid":
        model = SSD(card(scores))
        model.load_state_dict(detector().state_dict())
        return model.eval()
    torch.manual_seed(0)
    model = SSD(card(scores))
    randomise(model)
    inputs = torch.from_numpy(images(8, seed=1))
    settle_norms(model, lambda: model(inputs))
    spread_heads(
        [_last(head) for head in model.heads.classes],
        [_last(head) for head in model.heads.boxes],
        len(NAMES) + 1,
        lambda: model(inputs),
        background=6.0,
    )
    return model


def _last(head: nn.Module) -> nn.Conv2d:
    return [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)][-1]


@cache
def onnx_bytes(scores: Scores = "softmax", *, nms: bool = True) -> bytes:
    model = onnx.ModelProto()
    model.CopyFrom(_network())
    if nms:
        add_detection(model, card(scores))
    model.metadata_props.add(key=CARD_KEY, value=card(scores).model_dump_json())
    return model.SerializeToString()


@cache
def _network() -> onnx.ModelProto:
    return network_graph(detector())


def write_onnx(path: Path, scores: Scores = "softmax", *, nms: bool = True) -> Path:
    path.write_bytes(onnx_bytes(scores, nms=nms))
    return path


def write_openvino(path: Path, scores: Scores = "softmax", *, nms: bool = True) -> Path:
    import openvino

    model = openvino_core().read_model(onnx_bytes(scores, nms=nms))
    model.set_rt_info(card(scores).model_dump_json(), CARD_KEY)
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


if __name__ == "__main__":
    write_onnx(Path(sys.argv[1]))
