"""The heads and default boxes of every feature map, brought into the order of the maps."""

from collections.abc import Sequence
from typing import NamedTuple

from multibox.card import HeadKind
from multibox.importers.caffe.graph import Blob, Layer
from multibox.importers.caffe.layers import Convolution, convolution
from multibox.importers.caffe.outputs import Head, Outputs
from multibox.importers.caffe.priors import boxes_per_cell
from multibox.importers.caffe.shapes import Shapes

_KINDS: dict[tuple[int, int], HeadKind] = {(3, 1): "conv3x3", (1, 0): "conv1x1"}


class Level(NamedTuple):
    """One feature map with what predicts from it; ``normalise`` is its L2 norm, if it has one."""

    map: Blob
    normalise: Layer | None
    class_head: Head
    box_head: Head
    prior: Layer
    kind: HeadKind


def pair_levels(outputs: Outputs, shapes: Shapes) -> list[Level]:
    """The levels in the order in which the network joins them.

    Raises: InputError when scores, boxes and default boxes are not of the same maps in one order.
    """
    counts = [len(part) for part in (outputs.class_heads, outputs.box_heads, outputs.priors)]
    if len(set(counts)) != 1:
        raise outputs.layer.refused(
            f"joins {counts[0]} heads for scores, {counts[1]} for boxes and {counts[2]} PriorBox "
            "layers: expected as many of each"
        )
    together = zip(outputs.class_heads, outputs.box_heads, outputs.priors, strict=True)
    return [_level(*one, outputs.classes, shapes) for one in together]


def _level(class_head: Head, box_head: Head, prior: Layer, classes: int, shapes: Shapes) -> Level:
    blob = box_head.map
    if class_head.map is not blob:
        raise class_head.convolution.refused(
            f"reads {class_head.map.name!r}, but {box_head.convolution.name!r}, which stands at "
            f"its place among the boxes, reads {blob.name!r}"
        )
    if len(prior.inputs) != 2:
        raise prior.refused(f"has {len(prior.inputs)} bottoms, expected a feature map and the data")
    source, seen = _before_norm(blob), prior.inputs[0]
    if _before_norm(seen) is not source:
        raise prior.refused(
            f"reads {seen.name!r}, but {box_head.convolution.name!r}, which stands at its place "
            f"among the boxes, reads {blob.name!r}"
        )
    boxes = boxes_per_cell(prior)
    kinds = {_kind(box_head, boxes * 4, shapes), _kind(class_head, boxes * classes, shapes)}
    if len(kinds) != 1:
        raise class_head.convolution.refused(
            f"has another kernel_size than {box_head.convolution.name!r}, which is not supported"
        )
    normalise = None if source is blob else blob.maker
    return Level(source, normalise, class_head, box_head, prior, kinds.pop())


def _before_norm(blob: Blob) -> Blob:
    """An L2 norm keeps the cells, so that either side of it makes the same default boxes."""
    return blob.maker.input if blob.maker.type == "Normalize" else blob


def _kind(head: Head, outputs: int, shapes: Shapes) -> HeadKind:
    layer, read = head.convolution, head_convolution(head, shapes)
    if read.outputs != outputs:
        raise layer.refused(
            f"num_output is {read.outputs}, but the default boxes of a cell need {outputs}"
        )
    window = (read.kernel[0], read.pad[0])
    square = all(a == b for a, b in (read.kernel, read.pad))
    if not square or window not in _KINDS or read.stride != (1, 1):
        raise layer.refused(
            "a head has kernel_size 3 with pad 1, or kernel_size 1 without, and stride 1"
        )
    if read.dilation != (1, 1) or read.groups != 1:
        raise layer.refused("a head has neither dilation nor groups")
    return _KINDS[window]


def head_convolution(head: Head, shapes: Shapes) -> Convolution:
    """The parameters of a head's convolution."""
    return convolution(head.convolution, shapes.map(head.map)[0])


def in_order(levels: Sequence[Level], taps: Sequence[Blob], backbone: str) -> list[Level]:
    """``levels`` by their place among ``taps``, the maps that the network of the card gives.

    Raises: InputError when a map has no heads or two of them, or heads read another map, or an L2
    norm is where the card's network has none.
    """
    by_map: dict[Blob, Level] = {}
    for level in levels:
        head = level.box_head.convolution
        if level.map not in taps:
            raise head.refused(
                f"reads {level.map.name!r}, which is not a feature map that the detector on "
                f"{backbone} has heads for: {', '.join(repr(blob.name) for blob in taps)}"
            )
        if level.map in by_map:
            raise head.refused(f"reads {level.map.name!r}, which has other heads already")
        by_map[level.map] = level
    for place, blob in enumerate(taps):
        if blob not in by_map:
            raise blob.maker.refused(
                f"its feature map {blob.name!r} has no heads, but the detector on {backbone} "
                "reads it"
            )
        normalise = by_map[blob].normalise
        wanted = backbone == "vgg16" and place == 0
        if normalise is None and wanted:
            raise by_map[blob].box_head.convolution.refused(
                f"reads {blob.name!r} without a Normalize layer, which the detector on VGG-16 has"
            )
        if normalise is not None:
            if not wanted:
                raise normalise.refused("is not supported on this feature map")
            _check_l2_norm(normalise)
    return [by_map[blob] for blob in taps]


def _check_l2_norm(layer: Layer) -> None:
    """Raise InputError unless it is the paper's: over the channels of each cell, 1e-10 added."""
    said = layer.parameters.norm_param
    if said.across_spatial:
        unsaid = "" if said.HasField("across_spatial") else " (its default)"
        raise layer.refused(f"across_spatial true{unsaid} is not supported")
    if not 0 <= said.eps <= 1.001e-10:
        raise layer.refused(f"eps {said.eps:g} is not supported, only 1e-10")
