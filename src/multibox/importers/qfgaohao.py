"""Weights of qfgaohao/pytorch-ssd: vgg16-ssd, mb1-ssd and mb2-ssd-lite.

Facts of that project (vision/ssd/): default boxes are cut to 0..1 as centres and sides, and are
VOC's whatever the classes; conv4_3 goes through a BatchNorm; MobileNets see (value - 127) / 128.
Suppression takes the best 200 of every class and adds 0.00001 to the area of a union, so that
boxes a hair over the threshold survive there; it keeps everything, where we keep 200 a picture.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from multibox.card import Architecture, ExtraLayer, ModelCard, PostProcessing, Preprocessing
from multibox.default_boxes import spec_from_sizes
from multibox.importers.backbone_layers import mobilenet_v1, mobilenet_v2, vgg16
from multibox.importers.imported import Array, Foreign, Imported
from multibox.importers.layers import Layers, expect, foreground_classes
from multibox.importers.names import class_names
from multibox.importers.state_dict import read_state_dict
from multibox.importers.vgg_cards import depths, vgg_card

PROJECT = "qfgaohao/pytorch-ssd"
_SUPPORTED = "vgg16-ssd, mb1-ssd or mb2-ssd-lite"
_CLASSES, _BOXES = "classification_headers.{}", "regression_headers.{}"
_POSTPROCESSING = PostProcessing(score_threshold=0.01, iou_threshold=0.45, top_k=200, keep=200)

_V1_EXTRAS = (
    ExtraLayer(squeeze=256, channels=512),
    *(ExtraLayer(squeeze=128, channels=256) for _ in range(3)),
)
_V1_DEPTHS = (512, 1024, 512, 256, 256, 256)
_V2_EXTRAS = (
    ExtraLayer(squeeze=256, channels=512),
    ExtraLayer(squeeze=128, channels=256),
    ExtraLayer(squeeze=128, channels=256),
    ExtraLayer(squeeze=64, channels=64),
)
_V2_DEPTHS = (576, 1280, 512, 256, 256, 64)


def read(path: Path, names: Sequence[str] | None) -> Imported:
    """The detector in a ``.pth`` file of that project, for the classes ``names`` where given.

    Raises: InputError when the file cannot be read or holds something else.
    """
    return convert(read_state_dict(path), path, names)


def convert(arrays: Mapping[str, Array], path: Path, names: Sequence[str] | None) -> Imported:
    """The arrays of that project's state dict under our names.

    Raises: InputError when the arrays are of something else; ``path`` is for the message.
    """
    if "source_layer_add_ons.0.weight" in arrays:
        return _vgg(arrays, path, names)
    if "base_net.1.conv.0.weight" in arrays:
        return _mobilenet_v2(arrays, path, names)
    return _mobilenet_v1(arrays, path, names)


def _vgg(arrays: Mapping[str, Array], path: Path, names: Sequence[str] | None) -> Imported:
    first = f"{_CLASSES.format(0)}.weight"
    expect(arrays, ("base_net.0.weight", first), path, PROJECT, _SUPPORTED)
    classes = foreground_classes(arrays, first, 4, path)
    card = vgg_card(
        "ssd300_vgg16",
        class_names(classes, names, path),
        "voc",
        origin=f"{PROJECT}, vgg16-ssd, {classes} classes",
        postprocessing=_POSTPROCESSING,
    )
    architecture = card.architecture.model_copy(update={"backbone": "vgg16_batchnorm"})
    card = card.model_copy(update={"architecture": architecture})
    layers = Layers(Foreign(arrays, path, PROJECT))
    vgg16(layers, "base_net")
    layers.norm("backbone.norm", "source_layer_add_ons.0", 512)
    layers.plain_extras(architecture, 1024, _extras(architecture))
    layers.heads(card, depths(card), _CLASSES, _BOXES)
    return Imported(layers.arrays, card, layers.foreign.unused)


def _mobilenet_v1(arrays: Mapping[str, Array], path: Path, names: Sequence[str] | None) -> Imported:
    first = f"{_CLASSES.format(0)}.weight"
    expect(arrays, ("base_net.13.3.weight", first), path, PROJECT, _SUPPORTED)
    classes = foreground_classes(arrays, first, 6, path)
    architecture = Architecture(
        backbone="mobilenet_v1",
        extras=_V1_EXTRAS,
        extra_kind="conv",
        heads=("conv3x3",) * 6,
    )
    card = _mobile_card(
        "ssd300_mobilenet_v1", architecture, class_names(classes, names, path), "mb1-ssd"
    )
    layers = Layers(Foreign(arrays, path, PROJECT))
    mobilenet_v1(layers, "base_net")
    layers.plain_extras(architecture, 1024, _extras(architecture))
    layers.heads(card, _V1_DEPTHS, _CLASSES, _BOXES)
    return Imported(layers.arrays, card, layers.foreign.unused)


def _mobilenet_v2(arrays: Mapping[str, Array], path: Path, names: Sequence[str] | None) -> Imported:
    first = f"{_CLASSES.format(0)}.3.weight"
    expect(arrays, ("base_net.0.0.weight", first), path, PROJECT, _SUPPORTED)
    classes = foreground_classes(arrays, first, 6, path)
    architecture = Architecture(
        backbone="mobilenet_v2",
        extras=_V2_EXTRAS,
        extra_kind="inverted-residual",
        heads=(*("separable",) * 5, "conv1x1"),
        norm_epsilon=1e-5,
    )
    card = _mobile_card(
        "ssdlite300_mobilenet_v2", architecture, class_names(classes, names, path), "mb2-ssd-lite"
    )
    layers = Layers(Foreign(arrays, path, PROJECT))
    mobilenet_v2(layers, "base_net", nested=False)
    for i, (depth, layer) in enumerate(zip(_V2_DEPTHS[1:-1], _V2_EXTRAS, strict=True)):
        layers.inverted_residual(f"extras.{i}", f"extras.{i}.conv", depth, layer, nested=False)
    layers.heads(card, _V2_DEPTHS, _CLASSES, _BOXES)
    return Imported(layers.arrays, card, layers.foreign.unused)


def _mobile_card(
    model: str, architecture: Architecture, names: tuple[str, ...], variant: str
) -> ModelCard:
    """3,000 default boxes, six a cell (vision/ssd/config/mobilenetv1_ssd_config.py)."""
    size = (300, 300)
    boxes = spec_from_sizes(
        size,
        [(side, side) for side in (19, 10, 5, 3, 2, 1)],
        (60, 105, 150, 195, 240, 285, 330),
        [(2.0, 3.0)] * 6,
        steps=(16, 32, 64, 100, 150, 300),
    ).model_copy(update={"clip": "centre-size"})
    return ModelCard(
        model=model,
        names=names,
        architecture=architecture,
        preprocessing=Preprocessing(
            image_size=size, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)
        ),
        default_boxes=boxes,
        postprocessing=_POSTPROCESSING,
        origin=f"{PROJECT}, {variant}, {len(names)} classes",
    )


def _extras(architecture: Architecture) -> list[tuple[str, str]]:
    return [(f"extras.{i}.0", f"extras.{i}.2") for i in range(len(architecture.extras))]
