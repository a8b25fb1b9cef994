"""The importer: from the two files to arrays under our names and a card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from multibox.card import Architecture, ModelCard
from multibox.errors import InputError
from multibox.importers.caffe.chain import follow
from multibox.importers.caffe.files import read_caffemodel, read_prototxt
from multibox.importers.caffe.graph import Blob, Layer, Phase, build_graph, takes_part
from multibox.importers.caffe.levels import Level, head_convolution, in_order, pair_levels
from multibox.importers.caffe.outputs import find_outputs
from multibox.importers.caffe.priors import default_box_spec
from multibox.importers.caffe.settings import postprocessing, preprocessing
from multibox.importers.caffe.shapes import Shapes
from multibox.importers.caffe.trunks import (
    common_epsilon,
    extra_card,
    recognise,
    trunk_arrays,
)
from multibox.importers.caffe.weights import Weights
from multibox.importers.imported import Array, Imported
from multibox.importers.names import class_names

# SSD512 has 24,564.
_MOST_BOXES = 2_000_000


def read(path: Path, names: Sequence[str] | None, prototxt: Path) -> Imported:
    """Weights of ``path`` (.caffemodel) for the network that ``prototxt`` describes.

    The prototxt may be one for deployment or testing (with a DetectionOutput layer) or one for
    training (with a MultiBoxLoss layer). What it says about default boxes, variances, colours and
    thresholds is in the card; ``card.origin`` says what it left open.

    Raises: InputError, one line, when a file is damaged or of another kind, the network is not SSD
    on VGG-16 or MobileNetV1, has a setting that is not supported, or the two files do not fit.
    """
    network = read_prototxt(prototxt)
    phase, kind = _end(network, prototxt)
    layers = build_graph(network, phase, prototxt)
    shapes = Shapes(layers)
    (end,) = [layer for layer in layers if layer.type == kind]
    outputs = find_outputs(end, shapes)
    found = pair_levels(outputs, shapes)
    data = _data(found)
    channels, *sides = shapes.map(data)
    if channels != 3:
        raise data.maker.refused(f"gives {channels} channels, expected 3")
    image = (sides[0], sides[1])
    deepest = max((level.map for level in found), key=lambda blob: blob.depth)
    trunk = recognise(follow(deepest, data, shapes), shapes)
    levels = in_order(found, trunk.taps, trunk.backbone)

    boxes = default_box_spec(
        [level.prior for level in levels], [shapes.map(level.map)[1:] for level in levels], image
    )
    if boxes.count > _MOST_BOXES:
        raise end.refused(f"{boxes.count} default boxes are more than can be handled")
    pixels, pixels_remark = preprocessing(data.maker, image, trunk.backbone)
    settings, settings_remark = postprocessing(outputs, trunk.backbone, boxes.count)
    extra_kind, extras = extra_card(trunk)
    if phase == "TEST":
        _check_statistics(layers)
    epsilon = common_epsilon(trunk)

    weights = Weights(read_caffemodel(path), path)
    arrays = trunk_arrays(trunk, weights, shapes, epsilon)
    arrays |= _head_arrays(levels, weights, shapes)
    card = ModelCard(
        model=_zoo_name(trunk.backbone, levels),
        names=class_names(outputs.classes - 1, names, path),
        architecture=Architecture(
            backbone=trunk.backbone,
            extras=extras,
            extra_kind=extra_kind,
            heads=tuple(level.kind for level in levels),
            norm_epsilon=epsilon,
            backbone_norm_epsilon=epsilon if trunk.norm_places else None,
        ),
        preprocessing=pixels,
        default_boxes=boxes,
        postprocessing=settings,
        origin="; ".join(
            part
            for part in (
                f"Caffe: {path.name} with {prototxt.name}",
                pixels_remark,
                settings_remark,
            )
            if part
        ),
    )
    return Imported(arrays, card, weights.unused)


def _end(network: Any, path: Path) -> tuple[Phase, str]:
    """The phase whose network ends in a detection layer, and that layer's type."""
    ends: tuple[tuple[Phase, str], ...] = (("TEST", "DetectionOutput"), ("TRAIN", "MultiBoxLoss"))
    for phase, kind in ends:
        of_kind = [one for one in network.layer if one.type == kind and takes_part(one, phase)]
        if len(of_kind) > 1:
            listed = ", ".join(repr(one.name) for one in of_kind[:8])
            raise InputError(f"{path}: has several {kind} layers ({listed}), expected one")
        if of_kind:
            return phase, kind
    raise InputError(
        f"{path}: has no DetectionOutput layer for testing and no MultiBoxLoss layer for training: "
        "not the prototxt of an SSD"
    )


def _data(levels: Sequence[Level]) -> Blob:
    """The pictures: what every PriorBox layer reads beside its feature map."""
    data = levels[0].prior.inputs[1]
    for level in levels:
        if level.prior.inputs[1] is not data:
            raise level.prior.refused(
                f"reads {level.prior.inputs[1].name!r} as its picture, but "
                f"{levels[0].prior.name!r} reads {data.name!r}"
            )
    if data.maker.inputs:
        raise data.maker.refused(
            "makes the blob that PriorBox layers read as their picture: expected an input"
        )
    return data


def _check_statistics(layers: Sequence[Layer]) -> None:
    """Raise InputError where a network for testing would normalise by the batch at hand."""
    for layer in layers:
        said = layer.parameters.batch_norm_param
        of_batch = said.HasField("use_global_stats") and not said.use_global_stats
        if layer.type == "BatchNorm" and of_batch:
            raise layer.refused("use_global_stats false is not supported when testing")


def _head_arrays(levels: Sequence[Level], weights: Weights, shapes: Shapes) -> dict[str, Array]:
    """Arrays of the heads, and of the L2 norm."""
    arrays: dict[str, Array] = {}
    for i, level in enumerate(levels):
        channels, _, _ = shapes.map(level.map)
        for part, head in (("classes", level.class_head), ("boxes", level.box_head)):
            read = head_convolution(head, shapes)
            named = weights.plain(head.convolution, read, head.norms, channels)
            arrays |= {f"heads.{part}.{i}.{name}": array for name, array in named.items()}
        if level.normalise is not None:
            arrays["backbone.l2norm.scale"] = _l2_scale(level.normalise, channels, weights)
    return arrays


def _l2_scale(layer: Layer, channels: int, weights: Weights) -> Array:
    if layer.parameters.norm_param.channel_shared:
        return np.repeat(weights.take(layer, 0, ()), channels)
    return weights.take(layer, 0, (channels,))


def _zoo_name(backbone: str, levels: Sequence[Level]) -> str:
    if backbone == "mobilenet_v1":
        return "ssd300_mobilenet_v1"
    return "ssd512_vgg16" if len(levels) > 6 else "ssd300_vgg16"
