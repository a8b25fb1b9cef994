"""What a graph does between raw outputs and detections, as the card's post-processing."""

import numpy as np

from multibox.card import PostProcessing
from multibox.importers.tensorflow.detector import Heads
from multibox.importers.tensorflow.evaluate import NotComputable, Operation, evaluate, fixed_value
from multibox.importers.tensorflow.graph import Array, Graph, Node, Output


def _softmax(x: Array) -> Array:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


SCORES: dict[str, Operation] = {
    "Sigmoid": lambda node, inputs: _sigmoid(inputs[0]),
    "Softmax": lambda node, inputs: _softmax(inputs[0]),
}
"""What makes scores of logits."""


def read_postprocessing(graph: Graph, heads: Heads, boxes: int, outputs: int) -> PostProcessing:
    """Thresholds and limits of a detector with ``boxes`` default boxes and ``outputs`` scores each.

    TensorFlow limits what suppression keeps of each class, not what goes in: all boxes do. The
    card has no such limit: where there are several classes, that of all of them alone holds.

    Raises: InputError where the graph has no suppression, or scores in another way.
    """
    _check_scores(graph, heads, boxes, outputs)
    nodes = [node for node in graph.behind(heads.box_encodings.node) if _suppresses(node)]
    if not nodes:
        raise graph.refusal("ends without non-maximum suppression: only whole detectors are read")
    found = {_thresholds(graph, node) for node in nodes}
    if len(found) > 1:
        raise graph.refusal("suppresses its classes by different thresholds")
    score_threshold, iou_threshold, of_each_class = found.pop()
    of_all = _least_limit(graph, nodes)
    keep = of_each_class if of_all is None else of_all
    if outputs == 2:
        keep = min(keep, of_each_class)
    if not (0 <= score_threshold <= 1 and 0 <= iou_threshold <= 1 and keep > 0):
        raise graph.refusal("has thresholds outside 0 to 1, or keeps nothing: damaged")
    return PostProcessing(
        scores="sigmoid" if heads.scores.op == "Sigmoid" else "softmax",
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
        top_k=boxes,
        keep=keep,
        clip="before" if _clips_before(graph, heads, nodes[0]) else "after",
    )


def _check_scores(graph: Graph, heads: Heads, boxes: int, outputs: int) -> None:
    """Refuse logits that are scaled, and a background that does not come first."""
    logits = np.random.default_rng(0).normal(size=(1, boxes, outputs)).astype(np.float32)
    scores = Output(heads.scores.name)
    try:
        (theirs,) = evaluate(graph, [scores], {heads.class_logits: logits}, operations=SCORES)
    except NotComputable as error:
        raise graph.refusal(f"makes scores in an unknown way: {error}") from None
    expected = np.asarray(SCORES[heads.scores.op](heads.scores, [logits]))
    if theirs.size != expected.size or not np.allclose(
        theirs.reshape(expected.shape), expected, atol=1e-5
    ):
        raise graph.refusal("scales its class scores before they are compared")
    for node in graph.behind(scores.node):
        if node.op in ("Slice", "StridedSlice"):
            try:
                (kept,) = evaluate(
                    graph, [Output(node.name)], {heads.class_logits: logits}, operations=SCORES
                )
            except NotComputable:
                continue
            if kept.shape == expected[..., 1:].shape and np.allclose(kept, expected[..., 1:]):
                return
    raise graph.refusal("has no background among its classes, or not as the first")


def _suppresses(node: Node) -> bool:
    return node.op.startswith("NonMaxSuppression") and node.op[-1] in "n2345"


def _thresholds(graph: Graph, node: Node) -> tuple[float, float, int]:
    """Score threshold, IoU threshold and the most boxes kept, of one suppression."""
    first = node.op == "NonMaxSuppression"
    iou = node.number("iou_threshold", 0.5) if first else _number(graph, node, 3)
    inside = node.op[-1] in "345"
    score = _number(graph, node, 4) if inside else _filter_before(graph, node)
    if node.op.endswith("V5") and _number(graph, node, 5) > 0:
        raise graph.refusal("lowers the scores of overlapping boxes (soft NMS)")
    most = _limit(graph, graph.nodes[graph.input(node, 2).node])
    if most is None:
        raise graph.refusal("keeps a number of boxes that depends on the picture")
    return score, iou, most


def _number(graph: Graph, node: Node, index: int) -> float:
    source = graph.input(node, index)
    if not graph.is_fixed(source):
        value = graph.constant(source)
        if value is None:
            raise graph.refusal(f"{node.name!r} has a threshold that depends on the picture")
    else:
        value = fixed_value(graph, source)
    if value.size != 1:
        raise graph.refusal(f"{node.name!r} has a threshold for every box")
    return float(str(np.float32(value.reshape(()))))


def _filter_before(graph: Graph, node: Node) -> float:
    """The scores that boxes must pass before suppressions that have no threshold themselves."""
    left, seen = [graph.input(node, 1)], 0
    while left and seen < 50:
        before = graph.nodes[left.pop(0).node]
        seen += 1
        if before.op == "Greater":
            return _number(graph, before, 1)
        left += [graph.source(source) for source in before.inputs]
    return 0.0


def _limit(graph: Graph, node: Node) -> int | None:
    """The constant that a number of boxes is at most; None where there is none."""
    candidates = [Output(node.name)]
    if node.op == "Minimum":
        candidates = [graph.source(source) for source in node.inputs]
    for output in candidates:
        value = graph.constant(output)
        if value is not None and value.size == 1 and value.dtype.kind == "i":
            return int(value.reshape(()))
    return None


def _least_limit(graph: Graph, suppressions: list[Node]) -> int | None:
    """The most detections of a picture: the least of the limits behind suppression."""
    names = [node.name for node in suppressions]
    limits = [
        limit
        for node in graph.behind(*names)
        if node.op == "Minimum" and (limit := _limit(graph, node)) is not None
    ]
    return min(limits, default=None)


def _clips_before(graph: Graph, heads: Heads, suppression: Node) -> bool:
    """Whether decoded boxes are cut to the window on their way to suppression."""
    decoded = [n.name for n in graph.behind(heads.box_encodings.node) if n.op == "Exp"]
    behind = {node.name for node in graph.behind(*decoded)}
    way = graph.before(graph.input(suppression, 0).node)
    return any(node.op == "Maximum" and node.name in behind for node in way)
