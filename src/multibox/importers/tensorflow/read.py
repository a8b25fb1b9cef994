"""A frozen graph to arrays under our names and the card that explains them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pydantic import ValidationError

from multibox.card import Architecture, ExtraKind, ExtraLayer, HeadKind, ModelCard, Preprocessing
from multibox.default_boxes import Grid
from multibox.importers.imported import Imported
from multibox.importers.names import class_names
from multibox.importers.tensorflow.arrays import Arrays
from multibox.importers.tensorflow.boxes import Boxes, Decoder, read_boxes
from multibox.importers.tensorflow.detector import Heads, Picture, find_heads, find_picture
from multibox.importers.tensorflow.graph import Graph
from multibox.importers.tensorflow.layers import Layer, read_chain
from multibox.importers.tensorflow.mobilenets import recognise
from multibox.importers.tensorflow.suppression import read_postprocessing

_MOST_BOXES = 1 << 20
# By the windows of their convolutions, and which are depthwise.
_EXTRA_KINDS: dict[tuple[tuple[int, bool], ...], ExtraKind] = {
    ((1, False), (3, False)): "conv-norm",
    ((1, False), (3, True), (1, False)): "separable",
}
_HEAD_KINDS: dict[tuple[tuple[int, bool], ...], HeadKind] = {
    ((1, False),): "conv1x1",
    ((3, False),): "conv3x3",
    ((3, True), (1, False)): "separable",
}
_MODELS = {"mobilenet_v1": "ssd300_mobilenet_v1", "mobilenet_v2": "ssdlite300_mobilenet_v2"}


def read(path: Path, names: Sequence[str] | None) -> Imported:
    """The detector in a ``frozen_inference_graph.pb`` of ssd_mobilenet_v1, _v2 or ssdlite_.._v2.

    Everything is read from the graph: feature maps, channels, default boxes, the order of a box's
    four values, normalisation, thresholds. ``names`` are the classes', background not among them.

    Raises: InputError for files of another kind, other detectors, and damaged graphs.
    """
    graph = Graph(path)
    try:
        return _read(graph, names)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise graph.refusal(f"does not make a usable detector: {reason}") from None


def _read(graph: Graph, names: Sequence[str] | None) -> Imported:
    heads = find_heads(graph)
    parts = [read_chain(graph, heads.maps[0])]
    parts += [read_chain(graph, after, before) for before, after in pairwise(heads.maps)]
    if len(parts) < 2 or not parts[0]:
        raise graph.refusal("has a single feature map: not an SSD on MobileNet")
    network = recognise(graph, parts[0], parts[1])
    picture = find_picture(graph, parts[0][0].source)

    boxes_per_cell = [head[-1].channels // 4 for head in heads.boxes]
    outputs = _outputs(graph, heads, boxes_per_cell)
    boxes = _boxes(graph, heads, picture, parts, boxes_per_cell)
    architecture = _architecture(graph, heads, parts, network.name)
    card = ModelCard(
        model=_MODELS[network.name],
        names=class_names(outputs - 1, names, graph.path),
        architecture=architecture,
        preprocessing=Preprocessing(
            image_size=picture.image_size,
            mean=picture.mean,
            std=picture.std,
            interpolation="linear" if picture.half_pixel_centres else "linear-corner",
        ),
        default_boxes=boxes.spec,
        postprocessing=read_postprocessing(graph, heads, boxes.spec.count, outputs),
        origin=f"TensorFlow object detection, frozen graph {graph.path.name}",
    )
    arrays = Arrays(graph, architecture)
    arrays.add_backbone(network, (*parts[0], *parts[1]))
    arrays.add_extras(parts[2:])
    arrays.add_heads(heads, boxes.channels)
    return Imported(arrays.by_name, card)


def _outputs(graph: Graph, heads: Heads, boxes_per_cell: Sequence[int]) -> int:
    """The number of class scores of a box, background among them."""
    counts = set()
    for classes, boxes, per_cell in zip(heads.classes, heads.boxes, boxes_per_cell, strict=True):
        if per_cell == 0 or boxes[-1].channels % 4 or classes[-1].channels % per_cell:
            raise graph.refusal(f"{classes[-1].name!r} and its boxes do not fit together: damaged")
        counts.add(classes[-1].channels // per_cell)
    if len(counts) != 1 or min(counts) < 2:
        raise graph.refusal(f"its feature maps predict {sorted(counts)} classes: damaged")
    return counts.pop()


def _boxes(
    graph: Graph,
    heads: Heads,
    picture: Picture,
    parts: Sequence[Sequence[Layer]],
    boxes_per_cell: Sequence[int],
) -> Boxes:
    grids: list[Grid] = []
    rows, columns = picture.image_size
    shapes = dict.fromkeys((picture.output, parts[0][0].source), (1, rows, columns, 3))
    for part, output in zip(parts, heads.maps, strict=True):
        for layer in part:
            rows, columns = -(-rows // layer.stride), -(-columns // layer.stride)
        grids.append((rows, columns))
        shapes[output] = (1, rows, columns, part[-1].channels)
    count = sum(r * c * k for (r, c), k in zip(grids, boxes_per_cell, strict=True))
    if count > _MOST_BOXES:
        raise graph.refusal(f"has {count} default boxes: too many")
    decoder = Decoder(graph, heads.box_encodings, count, shapes)
    return read_boxes(graph, decoder, picture.image_size, grids, boxes_per_cell)


def _architecture(
    graph: Graph, heads: Heads, parts: Sequence[Sequence[Layer]], backbone: str
) -> Architecture:
    layers = [layer for chain in (*parts, *heads.classes, *heads.boxes) for layer in chain]
    activations = {layer.activation for layer in layers} - {None}
    kinds = {_EXTRA_KINDS.get(_kind(part)) for part in parts[2:]}
    head_kinds = [_HEAD_KINDS.get(_kind(head)) for head in (*heads.classes, *heads.boxes)]
    strides = [layer.stride for part in parts[2:] for layer in part if layer.kernel.shape[2] == 1]
    known = [kind for kind in head_kinds[: len(parts)] if kind is not None]
    if len(activations) != 1 or len(kinds) > 1 or None in kinds or max(strides, default=1) > 1:
        raise graph.refusal("has extra feature layers or activations of an unknown kind")
    if len(known) != len(parts) or known != head_kinds[len(parts) :]:
        raise graph.refusal("has heads of an unknown kind")
    return Architecture(
        backbone=backbone,
        extras=tuple(
            ExtraLayer(
                squeeze=part[0].channels,
                channels=part[-1].channels,
                kernel=3,
                stride=max(layer.stride for layer in part),
                padding=1,
            )
            for part in parts[2:]
        ),
        extra_kind=kinds.pop() if kinds else "separable",
        heads=tuple(known),
        backbone_norm_epsilon=_epsilon([*parts[0], *parts[1]]),
        norm_epsilon=_epsilon(layers),
        activation=activations.pop(),
        padding="tensorflow",
    )


def _kind(part: Sequence[Layer]) -> tuple[tuple[int, bool], ...]:
    return tuple(
        (rows if rows == columns else 0, layer.depthwise)
        for layer in part
        for rows, columns in [layer.kernel.shape[2:]]
    )


def _epsilon(layers: Sequence[Layer]) -> float:
    """That of the last normalised layer; 1e-3, the usual one, where all were folded."""
    return next((layer.norm.epsilon for layer in reversed(layers) if layer.norm), 1e-3)
