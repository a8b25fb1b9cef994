"""Weights of torchvision's ``ssd300_vgg16`` and ``ssdlite320_mobilenet_v3_large``.

torchvision differs from the paper (torchvision/models/detection/ssd.py, anchor_utils.py): COCO's
default boxes for every data set, of which it cuts widths and heights alone to the picture; decoded
sides of at most 62.5 times their default box's; boxes cut to the picture before suppression.
A state dict does not say the epsilon of its norms: it is 0.001 everywhere in SSDLite, both in the
published weights and where torchvision starts from an ImageNet backbone.
"""

from collections.abc import Iterator, Sequence
from math import log
from pathlib import Path

import numpy as np

from multibox.card import ModelCard, PostProcessing
from multibox.errors import InputError
from multibox.importers.imported import Array, Foreign, Imported
from multibox.importers.names import class_names
from multibox.importers.state_dict import read_state_dict
from multibox.zoo import new_card

_PROJECT = "torchvision's ssd300_vgg16 or ssdlite320_mobilenet_v3_large"
_VGG, _LITE = "ssd300_vgg16", "ssdlite320_mobilenet_v3_large"
_CLASSES, _BOXES = "head.classification_head.module_list.", "head.regression_head.module_list."

# Theirs, ours, outputs, inputs, kernel side.
_VGG_BACKBONE = (
    ("features.0", "features.0", 64, 3, 3), ("features.2", "features.2", 64, 64, 3),
    ("features.5", "features.5", 128, 64, 3), ("features.7", "features.7", 128, 128, 3),
    ("features.10", "features.10", 256, 128, 3), ("features.12", "features.12", 256, 256, 3),
    ("features.14", "features.14", 256, 256, 3), ("features.17", "features.17", 512, 256, 3),
    ("features.19", "features.19", 512, 512, 3), ("features.21", "features.21", 512, 512, 3),
    ("extra.0.1", "features.24", 512, 512, 3), ("extra.0.3", "features.26", 512, 512, 3),
    ("extra.0.5", "features.28", 512, 512, 3), ("extra.0.7.1", "fc6", 1024, 512, 3),
    ("extra.0.7.3", "fc7", 1024, 1024, 1),
)  # fmt: skip
_VGG_MAPS = (512, 1024, 512, 256, 256, 256)

# MobileNetV3-Large (Howard 2019, table 1), blocks 1 to 15: kernel, expansion, outputs, squeeze of
# the squeeze-and-excitation. The reduced tail halves the outputs and expansions of the last three.
_BLOCKS = (
    (3, 16, 16, 0), (3, 64, 24, 0), (3, 72, 24, 0), (5, 72, 40, 24), (5, 120, 40, 32),
    (5, 120, 40, 32), (3, 240, 80, 0), (3, 200, 80, 0), (3, 184, 80, 0), (3, 184, 80, 0),
    (3, 480, 112, 120), (3, 672, 112, 168), (5, 672, 160, 168), (5, 960, 160, 240),
    (5, 960, 160, 240),
)  # fmt: skip
_REDUCED_TAIL = ((5, 672, 80, 168), (5, 480, 80, 120), (5, 480, 80, 120))
# The block in whose middle the first feature map is taken; torchvision cuts its backbone there.
_CUT = 13


def read(path: Path, names: Sequence[str] | None) -> Imported:
    """torchvision's weights under our names, and the card of the detector it makes of them.

    Which detector it is, the form of its tail and the number of classes follow from the arrays.
    ``names`` are the classes without the background.

    Raises: InputError when the file cannot be read or is not of either detector.
    """
    arrays = {
        name: array
        for name, array in read_state_dict(path).items()
        if not name.endswith(".num_batches_tracked")
    }
    foreign = Foreign(arrays, path, _PROJECT)
    if "backbone.scale_weight" in foreign:
        card = _vgg_card(class_names(_classes(arrays, path, "0.bias", 4), names, path))
        ours = dict(_vgg(foreign, card))
    elif f"{_BOXES}0.1.bias" in foreign:
        card = _lite_card(class_names(_classes(arrays, path, "0.1.bias", 6), names, path))
        tail = arrays.get("backbone.features.1.3.0.weight")
        if tail is not None and tail.shape[0] == 480:
            reduced = card.architecture.model_copy(
                update={"backbone": "mobilenet_v3_large_reduced"}
            )
            card = card.model_copy(update={"architecture": reduced})
        ours = dict(_lite(foreign, card))
    else:
        raise InputError(
            f"{path}: is not the state dict of {_PROJECT}: the detectors of torchvision that can "
            "be imported"
        )
    return Imported(ours, card, foreign.unused)


def _classes(arrays: dict[str, Array], path: Path, name: str, boxes: int) -> int:
    """The number of classes without the background, from a head's biases."""
    bias = arrays.get(_CLASSES + name)
    if bias is None or bias.ndim != 1 or len(bias) % boxes or len(bias) < 2 * boxes:
        shape = "missing" if bias is None else f"of the shape {tuple(bias.shape)}"
        raise InputError(
            f"{path}: {_CLASSES + name!r} is {shape}, which fits no number of classes: damaged, "
            "or of a variant that is not supported"
        )
    return len(bias) // boxes - 1


def _vgg_card(names: Sequence[str]) -> ModelCard:
    red, green, blue = (255 * mean for mean in (0.48235, 0.45882, 0.40784))
    colours = ((red, green, blue), (1.0, 1.0, 1.0))
    card = new_card(_VGG, names, box_set="coco", normalisation=colours)
    return _as_torchvision(card, PostProcessing(top_k=400, keep=200))


def _lite_card(names: Sequence[str]) -> ModelCard:
    settings = PostProcessing(score_threshold=0.001, iou_threshold=0.55, top_k=300, keep=300)
    return _as_torchvision(new_card(_LITE, names), settings)


def _as_torchvision(card: ModelCard, settings: PostProcessing) -> ModelCard:
    habits = {"clip": "before", "largest_log_ratio": log(1000 / 16)}
    return card.model_copy(
        update={
            "default_boxes": card.default_boxes.model_copy(update={"clip": "sides"}),
            "postprocessing": settings.model_copy(update=habits),
            "origin": f"torchvision {card.model}",
        }
    )


Named = Iterator[tuple[str, Array]]


def _vgg(foreign: Foreign, card: ModelCard) -> Named:
    yield "backbone.l2norm.scale", foreign.take("backbone.scale_weight", (512,))
    for theirs, ours, outputs, inputs, kernel in _VGG_BACKBONE:
        shape = (outputs, inputs, kernel, kernel)
        yield from _conv(foreign, f"backbone.{theirs}", f"backbone.{ours}", shape)
    depth = _VGG_MAPS[1]
    for i, layer in enumerate(card.architecture.extras):
        theirs, ours = f"backbone.extra.{i + 1}", f"extras.{i}"
        first, second = (layer.squeeze, depth, 1, 1), (layer.channels, layer.squeeze, 3, 3)
        yield from _conv(foreign, f"{theirs}.0", f"{ours}.0", first)
        yield from _conv(foreign, f"{theirs}.2", f"{ours}.2", second)
        depth = layer.channels
    for theirs, ours, i, boxes_values in _heads(card):
        shape = (boxes_values, _VGG_MAPS[i], 3, 3)
        yield from _conv(foreign, theirs, ours, shape)


def _lite(foreign: Foreign, card: ModelCard) -> Named:
    theirs, ours = "backbone.features", "backbone.features"
    yield from _conv_norm(foreign, f"{theirs}.0.0", f"{ours}.0", (16, 3, 3, 3))
    reduced = card.architecture.backbone.endswith("reduced")
    blocks = (*_BLOCKS[:-3], *_REDUCED_TAIL) if reduced else _BLOCKS
    depth = 16
    for i, (kernel, expansion, outputs, squeeze) in enumerate(blocks, start=1):
        shapes = [(expansion, 1, kernel, kernel), (outputs, expansion, 1, 1)]
        if expansion != depth:
            shapes.insert(0, (expansion, depth, 1, 1))
        if squeeze:
            shapes.insert(-1, (squeeze, expansion, 1, 1))
        for part, shape in enumerate(shapes):
            source, target = _block_part(i, part), f"{ours}.{i}.block.{part}"
            if squeeze and part == len(shapes) - 2:
                back = (expansion, squeeze, 1, 1)
                yield from _conv(foreign, f"{source}.fc1", f"{target}.fc1", shape)
                yield from _conv(foreign, f"{source}.fc2", f"{target}.fc2", back)
            else:
                yield from _conv_norm(foreign, source, target, shape)
        depth = outputs
    yield from _conv_norm(foreign, f"{theirs}.1.3", f"{ours}.16", (6 * depth, depth, 1, 1))

    maps = [672, 6 * depth]
    for i, layer in enumerate(card.architecture.extras):
        squeeze = layer.squeeze
        shapes = [(squeeze, maps[-1], 1, 1), (squeeze, 1, 3, 3), (layer.channels, squeeze, 1, 1)]
        for part, shape in enumerate(shapes):
            # Ours counts convolution, norm and activation one by one.
            source, target = f"backbone.extra.{i}.{part}", f"extras.{i}.{3 * part}"
            yield from _conv_norm(foreign, source, target, shape, f"extras.{i}.{3 * part + 1}")
        maps.append(layer.channels)
    for source, target, i, outputs in _heads(card):
        depthwise, pointwise = (maps[i], 1, 3, 3), (outputs, maps[i], 1, 1)
        yield from _conv_norm(foreign, f"{source}.0", f"{target}.0", depthwise, f"{target}.1")
        yield from _conv(foreign, f"{source}.1", f"{target}.3", pointwise)


def _block_part(i: int, part: int) -> str:
    """Where torchvision's detector keeps a part of a MobileNet's block."""
    if i < _CUT:
        return f"backbone.features.0.{i}.block.{part}"
    if i > _CUT:
        return f"backbone.features.1.{i - _CUT}.block.{part}"
    # The expansion ends the first half; the rest of the block begins the second.
    return f"backbone.features.0.{i}" if part == 0 else f"backbone.features.1.0.{part}"


def _heads(card: ModelCard) -> Iterator[tuple[str, str, int, int]]:
    """Their name, our name, feature map and outputs of every head."""
    for i, level in enumerate(card.default_boxes.levels):
        yield (
            f"{_CLASSES}{i}",
            f"heads.classes.{i}",
            i,
            level.boxes_per_cell * (len(card.names) + 1),
        )
        yield f"{_BOXES}{i}", f"heads.boxes.{i}", i, level.boxes_per_cell * 4


def _conv(foreign: Foreign, theirs: str, ours: str, shape: tuple[int, ...]) -> Named:
    yield f"{ours}.weight", foreign.take(f"{theirs}.weight", shape)
    yield f"{ours}.bias", foreign.take(f"{theirs}.bias", shape[:1])


def _conv_norm(
    foreign: Foreign, theirs: str, ours: str, shape: tuple[int, ...], our_norm: str | None = None
) -> Named:
    """A convolution without bias, and the norm behind it ("....0" and "....1" at torchvision)."""
    conv, norm = (ours, our_norm) if our_norm else (f"{ours}.0", f"{ours}.1")
    yield f"{conv}.weight", foreign.take(f"{theirs}.0.weight", shape)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{norm}.{part}", foreign.take(f"{theirs}.1.{part}", shape[:1])
    yield f"{norm}.num_batches_tracked", np.zeros((), np.int64)
