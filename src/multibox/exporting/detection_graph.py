"""Decoding and suppression as standard ONNX operators, put behind a network's raw outputs.

The same steps as ``ssd.postprocess``: scores, boxes, the best ``top_k`` of each class, suppression
class by class, the best ``keep`` of each picture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from multibox.card import ModelCard
from multibox.default_boxes import default_boxes

SCORES, BOXES = "scores", "boxes"
"""The tensors between network and suppression: ``[batch, n, classes + 1]`` (background first),
``[batch, n, 4]`` corners."""


class _Builder:
    """Collects nodes and constants; every call returns the name of what it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        name = f"detect/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def __call__(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        return self.several(operator, *inputs, names=(name,), **attributes)[0]

    def several(
        self, operator: str, *inputs: str, names: Sequence[str], **attributes: Any
    ) -> list[str]:
        number = len(self.nodes)
        outputs = [name or f"detect/{operator}_{number}_{i}" for i, name in enumerate(names)]
        self.nodes.append(
            helper.make_node(
                operator, inputs, outputs, name=f"detect/{operator}_{number}", **attributes
            )
        )
        return outputs


def add_detection(model: onnx.ModelProto, card: ModelCard) -> None:
    """Append decoding and suppression to ``model``, in place; its outputs become the contract's.

    ``num_detections [batch, 1]`` int32, ``detection_boxes [batch, k, 4]`` in 0..1,
    ``detection_scores [batch, k]``, ``detection_classes [batch, k]`` int32. What stands behind the
    first ``num_detections`` of a picture is 0.
    """
    build = _Builder()
    _scores(build, card)
    _decode(build, card)
    rows, scores, boxes = _candidates(build, card)
    remaining = _suppress(build, card, rows, scores)
    _best(build, card, remaining, boxes)
    model.graph.node.extend(build.nodes)
    model.graph.initializer.extend(build.constants)
    del model.graph.output[:]
    k = min(card.postprocessing.keep, len(card.names) * _per_class(card))
    outputs: tuple[tuple[str, int, list[str | int]], ...] = (
        ("num_detections", TensorProto.INT32, ["batch", 1]),
        ("detection_boxes", TensorProto.FLOAT, ["batch", k, 4]),
        ("detection_scores", TensorProto.FLOAT, ["batch", k]),
        ("detection_classes", TensorProto.INT32, ["batch", k]),
    )
    for name, dtype, shape in outputs:
        model.graph.output.append(helper.make_tensor_value_info(name, dtype, shape))


def _per_class(card: ModelCard) -> int:
    return min(card.postprocessing.top_k, card.default_boxes.count)


def _scores(build: _Builder, card: ModelCard) -> None:
    if card.postprocessing.scores == "softmax":
        build("Softmax", "class_logits", name=SCORES, axis=2)
    else:
        build("Sigmoid", "class_logits", name=SCORES)


def _decode(build: _Builder, card: ModelCard) -> None:
    """Offsets to corner boxes, as ``ssd.box_coder.decode``."""
    anchors = default_boxes(card.default_boxes)
    variances = np.array(card.default_boxes.variances, np.float32)
    centre, sides = anchors[:, :2], anchors[:, 2:]
    shift = build("Slice", "box_offsets", *(build.ints(i) for i in (0, 2, 2)))
    log_ratio = build("Slice", "box_offsets", *(build.ints(i) for i in (2, 4, 2)))
    shift = build("Mul", shift, build.constant(variances[:2] * sides, np.float32))
    middle = build("Add", shift, build.constant(centre, np.float32))
    log_ratio = build("Mul", log_ratio, build.constant(variances[2:], np.float32))
    largest = card.postprocessing.largest_log_ratio
    if largest is not None:
        log_ratio = build("Min", log_ratio, build.constant(largest, np.float32))
    half = build("Mul", build("Exp", log_ratio), build.constant(sides / 2, np.float32))
    corners = (build("Sub", middle, half), build("Add", middle, half))
    before = card.postprocessing.clip == "before"
    boxes = build("Concat", *corners, name="" if before else BOXES, axis=2)
    if before:
        _clip(build, boxes, name=BOXES)


def _candidates(build: _Builder, card: ModelCard) -> tuple[str, str, str]:
    """The best of each class: boxes ``[b * classes, k, 4]``, scores ``[b * classes, 1, k]``.

    And the same boxes by picture, ``[b, classes * k, 4]``.
    """
    classes, k = len(card.names), _per_class(card)
    by_class = build("Slice", SCORES, *(build.ints(i) for i in (1, classes + 1, 2)))
    by_class = build("Transpose", by_class, perm=[0, 2, 1])
    values, places = build.several(
        "TopK", by_class, build.ints(k), names=("", ""), axis=2, largest=1, sorted=1
    )
    places = build("Reshape", places, build.ints(-1, classes * k, 1))
    boxes = build("GatherND", BOXES, places, batch_dims=1)
    rows = build("Reshape", boxes, build.ints(-1, k, 4))
    return rows, build("Reshape", values, build.ints(-1, 1, k)), boxes


def _suppress(build: _Builder, card: ModelCard, rows: str, scores: str) -> str:
    """The candidates' scores by picture, ``[b, classes * k]``; 0 for what is suppressed."""
    k = _per_class(card)
    settings = card.postprocessing
    selected = build(
        "NonMaxSuppression",
        rows,
        scores,
        build.ints(k),
        build.constant([settings.iou_threshold], np.float32),
        build.constant([settings.score_threshold], np.float32),
    )
    where = build("Gather", selected, build.ints(0, 2), axis=1)
    flat = build("Reshape", scores, build.ints(-1, k))
    nothing = build("Mul", flat, build.constant(0, np.float32))
    remaining = build("ScatterND", nothing, where, build("GatherND", flat, where))
    return build("Reshape", remaining, build.ints(-1, len(card.names) * k))


def _best(build: _Builder, card: ModelCard, remaining: str, boxes: str) -> None:
    """The contract's outputs: the best of each picture over all classes."""
    k = _per_class(card)
    keep = min(card.postprocessing.keep, len(card.names) * k)
    _, which = build.several(
        "TopK",
        remaining,
        build.ints(keep),
        names=("detection_scores", ""),
        axis=1,
        largest=1,
        sorted=1,
    )
    found = build("Greater", "detection_scores", build.constant(0, np.float32))
    found = build("Cast", found, to=TensorProto.INT32)
    build("ReduceSum", found, build.ints(1), name="num_detections", keepdims=1)
    classes = build("Cast", build("Div", which, build.ints(k)), to=TensorProto.INT32)
    build("Mul", classes, found, name="detection_classes")
    taken = build("GatherND", boxes, build("Unsqueeze", which, build.ints(2)), batch_dims=1)
    mask = build("Unsqueeze", build("Cast", found, to=TensorProto.FLOAT), build.ints(2))
    clipped = taken if card.postprocessing.clip == "before" else _clip(build, taken)
    build("Mul", clipped, mask, name="detection_boxes")


def _clip(build: _Builder, boxes: str, name: str = "") -> str:
    return build(
        "Clip", boxes, build.constant(0, np.float32), build.constant(1, np.float32), name=name
    )
