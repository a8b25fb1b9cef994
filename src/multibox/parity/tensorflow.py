"""References for frozen TensorFlow graphs: TensorFlow itself, or the graph's nodes one by one."""

import importlib
import importlib.util
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from multibox.importers.tensorflow.detector import Heads, Picture, find_heads, find_picture
from multibox.importers.tensorflow.evaluate import NotComputable, Operation, evaluate
from multibox.importers.tensorflow.graph import Array, Graph, Node, Output
from multibox.importers.tensorflow.layers import read_chain
from multibox.parity.reference import Found, RawOutputs, Reference

# FasterRcnnBoxCoder of the object detection API codes (y, x, height, width).
_X_FIRST = (1, 0, 3, 2)
_DETECTIONS = ("num_detections", "detection_boxes", "detection_scores", "detection_classes")


def reference(path: Path) -> Reference:
    """The graph in ``path``, run by TensorFlow where it is installed, else carried out here.

    Neither knows how the graph was imported. Raises: InputError as the importer does.
    """
    if importlib.util.find_spec("tensorflow") is not None:
        return TensorFlow(path)
    return NodeByNode(path)


class TensorFlow:
    """The whole graph in TensorFlow, from uint8 pictures to its own detections."""

    def __init__(self, path: Path) -> None:
        tf = importlib.import_module("tensorflow")
        self.name = f"TensorFlow {tf.__version__}"
        graph = Graph(path)
        self._heads = find_heads(graph)
        self._picture = next(
            (n.name for n in graph.nodes.values() if n.op == "Placeholder" and _takes_bytes(n)),
            None,
        )
        self._resized = _picture(graph, self._heads).output
        self._detections = [f"{name}:0" for name in _DETECTIONS if name in graph.nodes]
        definition = tf.compat.v1.GraphDef.FromString(path.read_bytes())
        with tf.Graph().as_default() as network:
            tf.import_graph_def(definition, name="")
        self._session: Any = tf.compat.v1.Session(graph=network)

    def raw(self, images: npt.NDArray[np.uint8]) -> RawOutputs:
        """Outputs for RGB pictures ``[b, h, w, 3]`` of the network's input size."""
        if self._picture is None:
            feed: dict[str, Any] = {_tensor(self._resized): images.astype(np.float32)}
        else:
            # Of the right size already: the graph's own resizing changes nothing.
            feed = {f"{self._picture}:0": images}
        wanted = [_tensor(self._heads.class_logits), _tensor(self._heads.box_encodings)]
        return _raw(*self._session.run(wanted, feed))

    def detect(self, images: npt.NDArray[np.uint8]) -> list[Found] | None:
        """The graph's own detections, of pictures of any one size; None where it takes files."""
        if self._picture is None or len(self._detections) != len(_DETECTIONS):
            return None
        results = self._session.run(self._detections, {f"{self._picture}:0": images})
        found = []
        for number, boxes, scores, classes in zip(*results, strict=True):
            kept = slice(int(number))
            # Corners are y0, x0, y1, x1; classes count from 1.
            found.append(
                Found(boxes[kept][:, _X_FIRST], scores[kept], classes[kept].astype(int) - 1)
            )
        return found


class NodeByNode:
    """The graph's nodes from the resized picture to the raw outputs, each as TensorFlow defines it.

    Suppression is not carried out: it has no detections of its own.
    """

    name = "the graph itself, node by node"

    def __init__(self, path: Path) -> None:
        self._graph = Graph(path)
        self._heads = find_heads(self._graph)
        self._picture = _picture(self._graph, self._heads).output

    def raw(self, images: npt.NDArray[np.uint8]) -> RawOutputs:
        """Outputs for RGB pictures ``[b, h, w, 3]`` of the network's input size.

        Raises: InputError where the graph has an operation that is not known here.
        """
        wanted = [self._heads.class_logits, self._heads.box_encodings]
        outputs = []
        for image in images:
            given = {self._picture: image[None].astype(np.float32)}
            try:
                outputs.append(
                    evaluate(self._graph, wanted, given, operations=_OPERATIONS, most=inf)
                )
            except NotComputable as error:
                raise self._graph.refusal(f"cannot be run without TensorFlow: {error}") from None
        logits, encodings = (np.concatenate(column) for column in zip(*outputs, strict=True))
        return _raw(logits, encodings)

    def detect(self, images: npt.NDArray[np.uint8]) -> None:
        """None: there are raw outputs only."""


def _takes_bytes(node: Node) -> bool:
    uint8 = 4
    return node.integer("dtype") == uint8


def _picture(graph: Graph, heads: Heads) -> Picture:
    return find_picture(graph, read_chain(graph, heads.maps[0])[0].source)


def _tensor(output: Output) -> str:
    return f"{output.node}:{output.port}"


def _raw(logits: Array, encodings: Array) -> RawOutputs:
    boxes = encodings.reshape(len(encodings), -1, 4)[..., _X_FIRST]
    return RawOutputs(logits, np.ascontiguousarray(boxes))


def _convolve(node: Node, inputs: Sequence[Array]) -> Array:
    picture, kernel = inputs
    x = torch.from_numpy(np.ascontiguousarray(picture)).permute(0, 3, 1, 2)
    weight = torch.from_numpy(np.array(kernel)).permute(3, 2, 0, 1)
    groups = 1
    if node.op == "DepthwiseConv2dNative":
        # HWIM: every input channel i has m windows, whose results stand together.
        rows, columns, depth, times = kernel.shape
        weight = torch.from_numpy(np.array(kernel)).permute(2, 3, 0, 1)
        weight = weight.reshape(depth * times, 1, rows, columns)
        groups = depth
    stride = node.integers("strides")[1:3]
    if node.text("padding", "") == "SAME":
        pads = []
        for side, window, step in (
            (x.shape[3], weight.shape[3], stride[1]),
            (x.shape[2], weight.shape[2], stride[0]),
        ):
            missing = max((-(-side // step) - 1) * step + window - side, 0)
            pads += [missing // 2, missing - missing // 2]
        x = F.pad(x, pads)
    result = F.conv2d(x, weight, None, stride, groups=groups)
    return np.ascontiguousarray(result.permute(0, 2, 3, 1).numpy())


def _fused_batch_norm(node: Node, inputs: Sequence[Array]) -> Array:
    x, gamma, beta, mean, variance = inputs
    epsilon = np.float32(node.number("epsilon", 1e-4))
    return np.asarray((x - mean) / np.sqrt(variance + epsilon) * gamma + beta)


_OPERATIONS: dict[str, Operation] = {
    "BiasAdd": lambda node, inputs: inputs[0] + inputs[1],
    "Conv2D": _convolve,
    "DepthwiseConv2dNative": _convolve,
    "FusedBatchNorm": _fused_batch_norm,
    "FusedBatchNormV2": _fused_batch_norm,
    "FusedBatchNormV3": _fused_batch_norm,
    "Relu": lambda node, inputs: inputs[0].clip(0),
    "Relu6": lambda node, inputs: inputs[0].clip(0, 6),
}
