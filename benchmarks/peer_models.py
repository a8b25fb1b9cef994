"""The same weights for torchvision and for multibox, and the files that the engines run."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import detection

from multibox.benchmarking.spread_weights import (
    last_convolution,
    randomise,
    settle_norms,
    spread_heads,
)
from multibox.card import CARD_KEY, ModelCard, PostProcessing
from multibox.checkpoints import Checkpoint
from multibox.detections import Detections
from multibox.imaging import Image, to_network_input
from multibox.importers import torchvision as importer
from multibox.ssd.model import SSD

THRESHOLD = 0.01
PASSING = 500
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "SSD300-VGG16": detection.ssd300_vgg16,
    "SSDLite320-MobileNetV3": detection.ssdlite320_mobilenet_v3_large,
}


class Twins(NamedTuple):
    """One detector with the same weights: torchvision's module, and ours as a checkpoint."""

    module: nn.Module
    checkpoint: Checkpoint


class Peer(NamedTuple):
    """One detector: torchvision's module, our card, and ONNX files by what they hold.

    ``bare`` ends with the raw outputs, ``whole`` with detections; both by precision.
    """

    name: str
    module: nn.Module
    card: ModelCard
    bare: dict[str, Path]
    whole: dict[str, Path]


def make_twins(name: str, picture: Image, folder: Path) -> Twins:
    """Random weights of 91 classes with which about 500 boxes of ``picture`` pass the threshold."""
    module = _build(name)
    _spread(module, picture)
    torch.save(module.state_dict(), folder / f"{name}.pth")
    return _twins(module, folder / f"{name}.pth")


def load_twins(name: str, folder: Path) -> Twins:
    """The twins that ``make_twins`` left in ``folder``."""
    module = _build(name)
    module.load_state_dict(torch.load(folder / f"{name}.pth", weights_only=True))
    return _twins(module, folder / f"{name}.pth")


def _build(name: str) -> nn.Module:
    return BUILDERS[name](
        weights=None, weights_backbone=None, num_classes=91, score_thresh=THRESHOLD
    )


def _twins(module: nn.Module, weights: Path) -> Twins:
    imported = importer.read(weights, None)
    settings = imported.card.postprocessing.model_copy(update={"score_threshold": THRESHOLD})
    card = imported.card.model_copy(update={"postprocessing": settings})
    return Twins(module, Checkpoint(imported.arrays, card, weights))


def make_peer(name: str, picture: Image, folder: Path) -> Peer:
    """The twins of ``name``, and ours in 32 and 8 bits as the engines take it."""
    # Not needed for twins alone, nor always installed where these are compared.
    import onnx

    from multibox.exporting.detection_graph import add_detection
    from multibox.exporting.network import network_graph
    from multibox.exporting.quantise import quantise

    module, checkpoint = make_twins(name, picture, folder)
    card = checkpoint.card
    ours = SSD(card)
    ours.load_state_dict({key: torch.from_numpy(array) for key, array in checkpoint.arrays.items()})
    graphs = {"fp32": network_graph(ours.eval())}
    # By the picture itself: nobody asks how accurate random weights are.
    graphs["int8"] = quantise(graphs["fp32"], [to_network_input(picture, card.preprocessing)])
    bare = {key: folder / f"{name} bare {key}.onnx" for key in graphs}
    whole = {key: folder / f"{name} {key}.onnx" for key in graphs}
    for precision, graph in graphs.items():
        onnx.save(graph, bare[precision])
        add_detection(graph, card)
        onnx.helper.set_model_props(graph, {CARD_KEY: card.model_dump_json()})
        onnx.save(graph, whole[precision])
    return Peer(name, module, card, bare, whole)


def as_torchvision_takes_it(picture: Image) -> Tensor:
    """A decoded picture as torchvision's detectors want it, ``[3, h, w]`` in 0..1."""
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def raw_outputs(module: nn.Module, picture: Image) -> dict[str, Tensor]:
    """What torchvision's network puts out, before its postprocessing."""
    images, _ = module.transform([as_torchvision_takes_it(picture)])
    return module.head(list(module.backbone(images.tensors).values()))


def _spread(module: nn.Module, picture: Image) -> None:
    randomise(module)
    images, _ = module.transform([as_torchvision_takes_it(picture)])
    # Mirror images of one picture are several, for the statistics of norms.
    mirrored = torch.cat([images.tensors.flip(axes) for axes in ((), (2,), (3,), (2, 3))])
    settle_norms(module, lambda: module.head(list(module.backbone(mirrored).values())))
    spread_heads(
        [last_convolution(head) for head in module.head.classification_head.module_list],
        [last_convolution(head) for head in module.head.regression_head.module_list],
        lambda: raw_outputs(module, picture)["cls_logits"][0],
        PostProcessing(score_threshold=THRESHOLD),
        PASSING,
    )


def check_agreement(theirs: dict[str, Tensor], ours: Detections) -> None:
    """Both must have found the same; their resizing differs, so scores do a little."""
    assert len(theirs["scores"]) == len(ours.scores), "not the same number of detections"
    difference = np.abs(theirs["scores"].numpy() - ours.scores).max()
    assert difference < 0.05, f"scores differ by {difference:.3f}"
