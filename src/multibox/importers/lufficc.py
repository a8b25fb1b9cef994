"""Weights of lufficc/SSD: SSD300 and SSD512 on VGG-16, SSDLite320 on MobileNetV2.

Facts of that project (ssd/config/defaults.py, configs/, ssd/modeling/): default boxes are cut to
0..1 as centres and sides; SSD512 for VOC ends at 537.65 pixels where the paper has 537.6; every
default box goes into suppression, 100 detections a picture come out. Its MobileNetV2 is tapped
behind block 13 and subtracts VGG's means.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from multibox.card import (
    Architecture,
    DefaultBoxSpec,
    ExtraLayer,
    ModelCard,
    PostProcessing,
    Preprocessing,
)
from multibox.default_boxes import spec_from_sizes
from multibox.importers.backbone_layers import mobilenet_v2, vgg16
from multibox.importers.imported import Array, Foreign, Imported
from multibox.importers.layers import Layers, expect, foreground_classes
from multibox.importers.names import class_names
from multibox.importers.state_dict import read_state_dict
from multibox.importers.vgg_cards import depths, vgg_card
from multibox.zoo import BoxSet

PROJECT = "lufficc/SSD"
_SUPPORTED = "SSD300 or SSD512 on VGG-16, SSDLite320 on MobileNetV2"
_CLASSES = "box_head.predictor.cls_headers.{}"
_BOXES = "box_head.predictor.reg_headers.{}"

_LITE_EXTRAS = (
    ExtraLayer(squeeze=256, channels=512),
    ExtraLayer(squeeze=128, channels=256),
    ExtraLayer(squeeze=128, channels=256),
    ExtraLayer(squeeze=64, channels=64),
)
_LITE_DEPTHS = (96, 1280, 512, 256, 256, 64)


def read(path: Path, names: Sequence[str] | None) -> Imported:
    """The detector in a ``.pth`` file of that project, for the classes ``names`` where given.

    Raises: InputError when the file cannot be read or holds something else.
    """
    return convert(read_state_dict(path), path, names)


def convert(arrays: Mapping[str, Array], path: Path, names: Sequence[str] | None) -> Imported:
    """The arrays of that project's state dict under our names.

    Raises: InputError when the arrays are of something else; ``path`` is for the message.
    """
    if "backbone.vgg.0.weight" in arrays:
        return _vgg(arrays, path, names)
    return _mobilenet_v2(arrays, path, names)


def _vgg(arrays: Mapping[str, Array], path: Path, names: Sequence[str] | None) -> Imported:
    first = f"{_CLASSES.format(0)}.weight"
    expect(arrays, ("backbone.l2_norm.weight", first), path, PROJECT, _SUPPORTED)
    classes = foreground_classes(arrays, first, 4, path)
    side = 512 if "backbone.extras.8.weight" in arrays else 300
    box_set: BoxSet = "coco" if classes == 80 else "voc"
    boxes = f"{box_set.upper()}'s default boxes for {classes} classes"
    card = vgg_card(
        f"ssd{side}_vgg16",
        class_names(classes, names, path),
        box_set,
        origin=f"{PROJECT}, vgg_ssd{side}, with {boxes}",
        postprocessing=_postprocessing(24564 if side == 512 else 8732),
    )
    if side == 512 and box_set == "voc":
        card = card.model_copy(update={"default_boxes": _last_size(card.default_boxes, 537.65)})
    layers = Layers(Foreign(arrays, path, PROJECT))
    vgg16(layers, "backbone.vgg")
    scale = layers.foreign.take("backbone.l2_norm.weight", (512,))
    layers.arrays["backbone.l2norm.scale"] = scale
    extras = [
        (f"backbone.extras.{2 * i}", f"backbone.extras.{2 * i + 1}")
        for i in range(len(card.architecture.extras))
    ]
    layers.plain_extras(card.architecture, 1024, extras)
    layers.heads(card, depths(card), _CLASSES, _BOXES)
    return Imported(layers.arrays, card, layers.foreign.unused)


def _mobilenet_v2(arrays: Mapping[str, Array], path: Path, names: Sequence[str] | None) -> Imported:
    # torchvision's MobileNetV3 and the EfficientNets have no block of that name.
    first = f"{_CLASSES.format(0)}.conv.3.weight"
    block = "backbone.features.1.conv.0.0.weight"
    expect(arrays, (block, "backbone.extras.0.conv.0.0.weight", first), path, PROJECT, _SUPPORTED)
    classes = foreground_classes(arrays, first, 6, path)
    card = _lite_card(class_names(classes, names, path))
    layers = Layers(Foreign(arrays, path, PROJECT))
    mobilenet_v2(layers, "backbone.features", nested=True)
    for i, (depth, layer) in enumerate(zip(_LITE_DEPTHS[1:-1], _LITE_EXTRAS, strict=True)):
        layers.inverted_residual(
            f"extras.{i}", f"backbone.extras.{i}.conv", depth, layer, nested=True
        )
    layers.heads(card, _LITE_DEPTHS, _CLASSES, _BOXES, separable_part=".conv")
    return Imported(layers.arrays, card, layers.foreign.unused)


def _lite_card(names: tuple[str, ...]) -> ModelCard:
    size = (320, 320)
    boxes = spec_from_sizes(
        size,
        [(side, side) for side in (20, 10, 5, 3, 2, 1)],
        (60, 105, 150, 195, 240, 285, 330),
        [(2.0, 3.0)] * 6,
        steps=(16, 32, 64, 107, 160, 320),
    ).model_copy(update={"clip": "centre-size"})
    return ModelCard(
        model="ssdlite320_mobilenet_v2",
        names=names,
        architecture=Architecture(
            backbone="mobilenet_v2_block13",
            extras=_LITE_EXTRAS,
            extra_kind="inverted-residual",
            heads=(*("separable",) * 5, "conv1x1"),
            norm_epsilon=1e-5,
        ),
        preprocessing=Preprocessing(
            image_size=size, mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0)
        ),
        default_boxes=boxes,
        postprocessing=_postprocessing(boxes.count),
        origin=f"{PROJECT}, mobilenet_v2_ssd320, {len(names)} classes",
    )


def _postprocessing(default_boxes: int) -> PostProcessing:
    return PostProcessing(score_threshold=0.01, iou_threshold=0.45, top_k=default_boxes, keep=100)


def _last_size(spec: DefaultBoxSpec, largest: float) -> DefaultBoxSpec:
    last = spec.levels[-1].model_copy(update={"max_size": largest})
    return spec.model_copy(update={"levels": (*spec.levels[:-1], last)})
