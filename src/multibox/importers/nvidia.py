"""Weights of NVIDIA's SSD300 on ResNet-50 and ResNet-34, and of MLPerf's on ResNet-34.

NVIDIA/DeepLearningExamples, PyTorch/Detection/SSD, grew out of mlcommons/training,
single_stage_detector/ssd. Facts of both: the heads' channels run value by value, and box by box
within a value; default boxes are COCO's, cut to 0..1 as centres and sides; their evaluation takes
scores above 0.05, the best 200 of every class, suppresses from an IoU of 0.5 on (at exactly 0.5 we
keep) and keeps the best 200. Pictures are resized by Pillow, which averages like ``area`` where it
makes them smaller. NVIDIA's extra layers have norms, MLPerf's have biases.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from multibox.card import ModelCard
from multibox.errors import InputError
from multibox.importers.backbone_layers import resnet
from multibox.importers.imported import Array, Foreign, Imported
from multibox.importers.layers import Layers, expect, foreground_classes
from multibox.importers.names import class_names
from multibox.importers.state_dict import read_state_dict
from multibox.zoo import new_card

PROJECT = "NVIDIA/DeepLearningExamples"
_MLPERF = "mlcommons/training"
_SUPPORTED = "NVIDIA's SSD300 on ResNet-50 or ResNet-34, MLPerf's on ResNet-34"
_CLASSES = "conf.0.weight"


def read(path: Path, names: Sequence[str] | None) -> Imported:
    """The detector in a checkpoint of those projects, for the classes ``names`` where given.

    Raises: InputError when the file cannot be read or holds something else.
    """
    return convert(read_state_dict(path), path, names)


def convert(arrays: Mapping[str, Array], path: Path, names: Sequence[str] | None) -> Imported:
    """The arrays of those projects' state dicts under our names.

    Raises: InputError when the arrays are of something else; ``path`` is for the message.
    """
    arrays = _without_wrapper(arrays)
    expect(arrays, (_CLASSES, "additional_blocks.0.0.weight"), path, PROJECT, _SUPPORTED)
    names = class_names(foreground_classes(arrays, _CLASSES, 4, path), names, path)
    if "model.layer1.0.weight" in arrays:
        return _mlperf(arrays, path, names)
    return _nvidia(arrays, path, names)


def _nvidia(arrays: Mapping[str, Array], path: Path, names: tuple[str, ...]) -> Imported:
    stem = "feature_extractor.feature_extractor"
    expect(arrays, (f"{stem}.0.weight", f"{stem}.6.5.conv1.weight"), path, PROJECT, _SUPPORTED)
    if f"{stem}.6.6.conv1.weight" in arrays:
        raise InputError(f"{path}: a ResNet deeper than 50 layers; supported are {_SUPPORTED}")
    bottleneck = f"{stem}.6.0.conv3.weight" in arrays
    backbone = "resnet50" if bottleneck else "resnet34"
    card = _card(backbone, names, PROJECT)
    card = card.model_copy(
        update={"architecture": card.architecture.model_copy(update={"extra_kind": "conv-norm"})}
    )
    layers = Layers(Foreign(arrays, path, PROJECT))
    depth = resnet(layers, stem, [f"{stem}.{i}" for i in (4, 5, 6)], bottleneck=bottleneck)
    before = depth
    for i, layer in enumerate(card.architecture.extras):
        ours, theirs = f"extras.{i}", f"additional_blocks.{i}"
        layers.conv(f"{ours}.0", f"{theirs}.0", layer.squeeze, before, 1)
        layers.norm(f"{ours}.1", f"{theirs}.1", layer.squeeze)
        layers.conv(f"{ours}.3", f"{theirs}.3", layer.channels, layer.squeeze, layer.kernel)
        layers.norm(f"{ours}.4", f"{theirs}.4", layer.channels)
        before = layer.channels
    return _with_heads(layers, card, depth)


def _mlperf(arrays: Mapping[str, Array], path: Path, names: tuple[str, ...]) -> Imported:
    card = _card("resnet34", names, _MLPERF)
    layers = Layers(Foreign(arrays, path, _MLPERF))
    stages = ["model.layer1.4", "model.layer1.5", "model.layer2.0"]
    depth = resnet(layers, "model.layer1", stages, bottleneck=False)
    extras = [(f"additional_blocks.{i}.0", f"additional_blocks.{i}.2") for i in range(5)]
    layers.plain_extras(card.architecture, depth, extras)
    return _with_heads(layers, card, depth)


def _card(backbone: str, names: Sequence[str], project: str) -> ModelCard:
    card = new_card(f"ssd300_{backbone}", names, box_set="coco")
    return card.model_copy(
        update={
            "preprocessing": card.preprocessing.model_copy(update={"interpolation": "area"}),
            "origin": f"{project}, SSD300 on {backbone}, {len(names)} classes",
        }
    )


def _with_heads(layers: Layers, card: ModelCard, depth: int) -> Imported:
    depths = (depth, *(layer.channels for layer in card.architecture.extras))
    layers.heads(card, depths, "conf.{}", "loc.{}")
    for i, level in enumerate(card.default_boxes.levels):
        for head in (f"heads.classes.{i}", f"heads.boxes.{i}"):
            for part in ("weight", "bias"):
                name = f"{head}.{part}"
                layers.arrays[name] = _box_by_box(layers.arrays[name], level.boxes_per_cell)
    return Imported(layers.arrays, card, layers.foreign.unused)


def _box_by_box(array: Array, boxes: int) -> Array:
    """Channels (value, box) to ours, (box, value)."""
    by_value = array.reshape(-1, boxes, *array.shape[1:])
    return np.ascontiguousarray(by_value.swapaxes(0, 1)).reshape(array.shape)


def _without_wrapper(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Without what the names begin with, if anything.

    Some of NVIDIA's checkpoints were saved from within a container ("module.1.").
    """
    marker = "additional_blocks.0.0.weight"
    prefix = next((n.removesuffix(marker) for n in arrays if n.endswith(f".{marker}")), "")
    return {name.removeprefix(prefix): array for name, array in arrays.items()}
