"""Where in a graph the detector's parts are: heads, feature maps, normalised picture.

Nothing is looked up by its name: the parts are known by what flows into and out of them.
"""

from typing import NamedTuple

import numpy as np

from multibox.importers.tensorflow.evaluate import NotComputable, evaluate
from multibox.importers.tensorflow.graph import Array, Graph, Node, Output
from multibox.importers.tensorflow.layers import Layer, ends_in_convolution, read_layer

Colour = tuple[float, float, float]

_LARGEST_SIDE = 4096


class Heads(NamedTuple):
    """The raw outputs, and for every feature map the layers that predict them."""

    class_logits: Output
    box_encodings: Output
    scores: Node
    """The operation that makes scores of logits."""
    classes: tuple[tuple[Layer, ...], ...]
    boxes: tuple[tuple[Layer, ...], ...]
    maps: tuple[Output, ...]


def find_heads(graph: Graph) -> Heads:
    """The two concatenations of every map's predictions, and what predicts.

    One runs into exponentials, which decode sides of boxes, the other into sigmoids or a softmax.

    Raises: InputError where there are none, or their layers are of another kind than SSD's.
    """
    boxes, classes, scores = None, None, None
    for node in graph.nodes.values():
        if node.op != "ConcatV2" or not _joins_convolutions(graph, node):
            continue
        behind: dict[str, Node] = {}
        for user in graph.behind(node.name):
            behind.setdefault(user.op, user)
        if "Exp" in behind and boxes is None:
            boxes = node
        elif ("Sigmoid" in behind or "Softmax" in behind) and classes is None:
            classes, scores = node, behind.get("Sigmoid", behind.get("Softmax"))
    if boxes is None or classes is None or scores is None:
        raise graph.refusal(_without_heads(graph))
    of_classes, class_maps = _predictors(graph, classes)
    of_boxes, box_maps = _predictors(graph, boxes)
    if class_maps != box_maps:
        raise graph.refusal("its boxes and classes are predicted from different feature maps")
    return Heads(Output(classes.name), Output(boxes.name), scores, of_classes, of_boxes, box_maps)


def _joins_convolutions(graph: Graph, node: Node) -> bool:
    return len(node.inputs) > 1 and all(
        graph.nodes[_before_reshape(graph, node, i).node].op in ("BiasAdd", "Conv2D", "Add")
        and graph.nodes[graph.input(node, i).node].op == "Reshape"
        for i in range(len(node.inputs) - 1)
    )


def _before_reshape(graph: Graph, node: Node, index: int) -> Output:
    """An input of a node, through the reshape that makes rows of boxes of it."""
    output = graph.input(node, index)
    before = graph.nodes[output.node]
    return graph.input(before, 0) if before.op == "Reshape" else output


def _predictors(
    graph: Graph, node: Node
) -> tuple[tuple[tuple[Layer, ...], ...], tuple[Output, ...]]:
    """For every map, a convolution or a depthwise one before a 1x1, and the map.

    No feature map of a MobileNet comes from a depthwise layer: such a layer is the head's.
    """
    heads, maps = [], []
    for i in range(len(node.inputs) - 1):
        head: tuple[Layer, ...] = (read_layer(graph, _before_reshape(graph, node, i)),)
        if ends_in_convolution(graph, head[0].source):
            before = read_layer(graph, head[0].source)
            if before.depthwise:
                head = (before, *head)
        heads.append(head)
        maps.append(head[0].source)
    return tuple(heads), tuple(maps)


def _without_heads(graph: Graph) -> str:
    """Why there may be no heads in a graph."""
    ops = {node.op for node in graph.nodes.values()}
    if ops & {"VariableV2", "Variable", "VarHandleOp", "ReadVariableOp"}:
        return "is not frozen: its weights are in a checkpoint beside it; freeze it first"
    if "TFLite_Detection_PostProcess" in ops:
        return "was made for TFLite: give the frozen_inference_graph.pb of the same training"
    if ops & {"PartitionedCall", "StatefulPartitionedCall", "While"}:
        return "calls functions, as TensorFlow 2 does: only graphs frozen by TensorFlow 1 are read"
    if "CropAndResize" in ops:
        return "crops regions for a second stage (Faster R-CNN): only SSD is imported"
    return "has no SSD heads (boxes that are decoded, classes that are scored)"


class Picture(NamedTuple):
    """The network's input: the tensor that the picture comes in, and how it is normalised."""

    output: Output
    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    half_pixel_centres: bool


def find_picture(graph: Graph, network_input: Output) -> Picture:
    """The resized picture behind the sums and products that normalise it.

    Raises: InputError where it is not resized to a fixed size, or by another rule than bilinear.
    """
    output = network_input
    for _ in range(6):
        node = graph.nodes[output.node]
        moving = [i for i, source in enumerate(node.inputs) if not graph.is_fixed(source)]
        if node.op not in ("Mul", "Sub", "Add", "AddV2", "RealDiv") or len(moving) != 1:
            break
        output = graph.input(node, moving[0])
    mean, std = _normalisation(graph, output, network_input)
    resizers = [n for n in graph.before(output.node) if n.op.startswith("Resize")]
    if len(resizers) != 1 or resizers[0].op != "ResizeBilinear":
        found = ", ".join(node.op for node in resizers) or "no resizing"
        raise graph.refusal(f"has {found} before the network: only ResizeBilinear is imported")
    resize = resizers[0]
    size = graph.constant(graph.input(resize, 1))
    if size is None or size.shape != (2,) or not ((size > 0) & (size <= _LARGEST_SIDE)).all():
        raise graph.refusal(
            "resizes pictures to a size that depends on them (keep_aspect_ratio_resizer): only "
            "a fixed size is imported"
        )
    if resize.integer("align_corners"):
        raise graph.refusal("resizes pictures with align_corners, which is not imported")
    return Picture(
        output,
        (int(size[0]), int(size[1])),
        mean,
        std,
        bool(resize.integer("half_pixel_centers")),
    )


def _normalisation(graph: Graph, picture: Output, network_input: Output) -> tuple[Colour, Colour]:
    """Mean and std from what becomes of black and of white."""
    levels = np.array([0.0, 255.0], np.float32).reshape(2, 1, 1, 1).repeat(3, axis=3)
    try:
        (result,) = evaluate(graph, [network_input], {picture: levels})
        black, white = np.asarray(result, np.float64).reshape(2, 3)
    except (NotComputable, ValueError) as error:
        raise graph.refusal(f"normalises pictures in an unknown way: {error}") from None
    std = 255 / (white - black)
    mean = -black * std
    if not np.isfinite([mean, std]).all() or not (std > 0).all():
        raise graph.refusal("normalises pictures in an unknown way")
    # The graph's own constant is 2 / 255 in 32 bits.
    return _colour(mean), _colour(std)


def _colour(values: Array) -> Colour:
    red, green, blue = (round(float(value), 4) for value in values)
    return red, green, blue
