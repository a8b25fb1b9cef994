"""Weights of torchvision's ``ssd300_vgg16`` and ``ssdlite320_mobilenet_v3_large``.

torchvision differs from the paper (torchvision/models/detection/ssd.py, anchor_utils.py): COCO's
default boxes for every data set, of which it cuts widths and heights alone to the picture; decoded
sides of at most 62.5 times their default box's; boxes cut to the picture before suppression.
A state dict does not say the epsilon of its norms: it is 0.001 everywhere in SSDLite, both in the
published weights and where torchvision starts from an ImageNet backbone.
"""

from collections.abc import Sequence
from math import log
from pathlib import Path

from multibox.card import ModelCard, PostProcessing
from multibox.errors import InputError
from multibox.importers.imported import Array, Foreign, Imported
from multibox.importers.layers import Layers
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
    arrays = read_state_dict(path)
    layers = Layers(Foreign(arrays, path, _PROJECT))
    if "backbone.scale_weight" in arrays:
        card = _vgg_card(class_names(_classes(arrays, path, "0.bias", 4), names, path))
        _vgg(layers, card)
    elif f"{_BOXES}0.1.bias" in arrays:
        card = _lite_card(class_names(_classes(arrays, path, "0.1.bias", 6), names, path))
        tail = arrays.get("backbone.features.1.3.0.weight")
        if tail is not None and tail.shape[0] == 480:
            reduced = card.architecture.model_copy(
                update={"backbone": "mobilenet_v3_large_reduced"}
            )
            card = card.model_copy(update={"architecture": reduced})
        _lite(layers, card)
    else:
        raise InputError(
            f"{path}: is not the state dict of {_PROJECT}: the detectors of torchvision that can "
            "be imported"
        )
    return Imported(layers.arrays, card, layers.foreign.unused)


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
            "preprocessing": card.preprocessing.model_copy(update={"fractions": True}),
            "default_boxes": card.default_boxes.model_copy(update={"clip": "sides"}),
            "postprocessing": settings.model_copy(update=habits),
            "origin": f"torchvision {card.model}",
        }
    )


def _vgg(layers: Layers, card: ModelCard) -> None:
    layers.arrays["backbone.l2norm.scale"] = layers.foreign.take("backbone.scale_weight", (512,))
    for theirs, ours, outputs, inputs, kernel in _VGG_BACKBONE:
        layers.conv(f"backbone.{ours}", f"backbone.{theirs}", outputs, inputs, kernel, bias=True)
    extras = [
        (f"backbone.extra.{i}.0", f"backbone.extra.{i}.2")
        for i in range(1, len(card.architecture.extras) + 1)
    ]
    layers.plain_extras(card.architecture, _VGG_MAPS[1], extras)
    layers.heads(card, _VGG_MAPS, _CLASSES + "{}", _BOXES + "{}")


def _lite(layers: Layers, card: ModelCard) -> None:
    _conv_norm(layers, "backbone.features.0", "backbone.features.0.0", 16, 3, 3)
    reduced = card.architecture.backbone.endswith("reduced")
    blocks = (*_BLOCKS[:-3], *_REDUCED_TAIL) if reduced else _BLOCKS
    depth = 16
    for i, (kernel, expansion, outputs, squeeze) in enumerate(blocks, start=1):
        shapes = [(expansion, 1, kernel), (outputs, expansion, 1)]
        if expansion != depth:
            shapes.insert(0, (expansion, depth, 1))
        if squeeze:
            shapes.insert(-1, (squeeze, expansion, 1))
        for part, shape in enumerate(shapes):
            ours, theirs = f"backbone.features.{i}.block.{part}", _block_part(i, part)
            if squeeze and part == len(shapes) - 2:
                layers.conv(f"{ours}.fc1", f"{theirs}.fc1", *shape, bias=True)
                layers.conv(f"{ours}.fc2", f"{theirs}.fc2", expansion, squeeze, 1, bias=True)
            else:
                _conv_norm(layers, ours, theirs, *shape)
        depth = outputs
    _conv_norm(layers, "backbone.features.16", "backbone.features.1.3", 6 * depth, depth, 1)

    maps = [672, 6 * depth]
    for i, layer in enumerate(card.architecture.extras):
        squeeze = layer.squeeze
        for part, shape in enumerate(
            [(squeeze, maps[-1], 1), (squeeze, 1, 3), (layer.channels, squeeze, 1)]
        ):
            # Ours counts convolution, norm and activation one by one.
            _conv_norm(layers, f"extras.{i}", f"backbone.extra.{i}.{part}", *shape, first=3 * part)
        maps.append(layer.channels)
    for i, level in enumerate(card.default_boxes.levels):
        for ours, theirs, values in (
            (f"heads.classes.{i}", f"{_CLASSES}{i}", len(card.names) + 1),
            (f"heads.boxes.{i}", f"{_BOXES}{i}", 4),
        ):
            _conv_norm(layers, ours, f"{theirs}.0", maps[i], 1, 3)
            outputs = level.boxes_per_cell * values
            layers.conv(f"{ours}.3", f"{theirs}.1", outputs, maps[i], 1, bias=True)


def _block_part(i: int, part: int) -> str:
    """Where torchvision's detector keeps a part of a MobileNet's block."""
    if i < _CUT:
        return f"backbone.features.0.{i}.block.{part}"
    if i > _CUT:
        return f"backbone.features.1.{i - _CUT}.block.{part}"
    # The expansion ends the first half; the rest of the block begins the second.
    return f"backbone.features.0.{i}" if part == 0 else f"backbone.features.1.0.{part}"


def _conv_norm(
    layers: Layers,
    ours: str,
    theirs: str,
    outputs: int,
    inputs: int,
    kernel: int,
    *,
    first: int = 0,
) -> None:
    """A convolution without bias and the norm behind it, ours from place ``first`` on."""
    layers.conv(f"{ours}.{first}", f"{theirs}.0", outputs, inputs, kernel)
    layers.norm(f"{ours}.{first + 1}", f"{theirs}.1", outputs)
