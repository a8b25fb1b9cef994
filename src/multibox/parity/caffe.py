"""References for Caffe's files: OpenCV's importer, or the prototxt itself, layer by layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from multibox.importers.caffe.files import read_caffemodel, read_prototxt
from multibox.parity.caffe_execution import Execution, end_of
from multibox.parity.reference import Floats, Found, RawOutputs, Reference

Array = npt.NDArray[Any]

# Blue, green, red, and the factor: what the authors' own programs do where a prototxt is silent.
_VGG = ((104.0, 117.0, 123.0), 1.0)
_MOBILENET = ((127.5, 127.5, 127.5), 0.007843)


def reference(path: Path, prototxt: Path) -> Reference:
    """OpenCV with the original files where it can read them, else their literal execution.

    OpenCV 5 has no Caffe importer. Earlier ones read networks for deployment, and differ from
    Caffe where sizes of default boxes have fractions or clip is not said.
    """
    literal = _Literal(path, prototxt)
    if hasattr(cv2.dnn, "readNetFromCaffe") and literal.suits_opencv:
        return _OpenCV(path, prototxt, literal)
    return literal


class _Literal:
    name = "the prototxt itself, layer by layer"

    def __init__(self, path: Path, prototxt: Path) -> None:
        self.network = read_prototxt(prototxt)
        self.layers, self.end = end_of(self.network)
        self._weights = read_caffemodel(path)
        self.priors = [layer for layer in self.layers if layer.type == "PriorBox"]
        self._data = self.priors[0].bottom[1]

    @property
    def suits_opencv(self) -> bool:
        """Whether OpenCV reads this network, and as Caffe does."""
        declared = bool(self.network.input) or any(one.type == "Input" for one in self.layers)
        priors = [layer.prior_box_param for layer in self.priors]
        whole = all(
            size == int(size) for said in priors for size in (*said.min_size, *said.max_size)
        )
        once = sum(layer.type in ("Softmax", "Sigmoid") for layer in self.layers) == 1
        said = all(one.HasField("clip") for one in priors)
        return declared and self.end.type == "DetectionOutput" and whole and said and once

    def pixels(self, images: npt.NDArray[np.uint8]) -> Floats:
        """RGB pictures ``[b, h, w, 3]`` as the network reads them: ``[b, 3, h, w]``."""
        said = [one for one in self.layers if self._data in one.top and not one.bottom]
        if said and said[0].HasField("transform_param"):
            transform = said[0].transform_param
            mean, scale = tuple(transform.mean_value) or (0.0,), transform.scale
        else:
            pooled = any(layer.type == "Pooling" for layer in self.layers)
            mean, scale = _VGG if pooled else _MOBILENET
        bgr = images[..., ::-1].astype(np.float32)
        x = (bgr - np.array(mean, np.float32)) * np.float32(scale)
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))

    def raw(self, images: npt.NDArray[np.uint8]) -> RawOutputs:
        boxes, scores, priors = list(self.end.bottom)[:3]
        runs = [self._run(x, scores=False) for x in self.pixels(images)]
        return self.in_our_order(
            [run.blobs[scores].numpy() for run in runs],
            [run.blobs[boxes].numpy() for run in runs],
            runs[0].depths[priors],
        )

    def in_our_order(
        self, logits: Sequence[Array], offsets: Sequence[Array], depths: Array
    ) -> RawOutputs:
        """Default boxes of shallow maps first, whatever order the network joins them in."""
        order = np.argsort(depths, kind="stable")
        return RawOutputs(
            np.stack([one.reshape(len(order), -1)[order] for one in logits]),
            np.stack([one.reshape(len(order), 4)[order] for one in offsets]),
        )

    def detect(self, images: npt.NDArray[np.uint8]) -> list[Found] | None:
        if self.end.type != "DetectionOutput":
            return None
        found = []
        for x in self.pixels(images):
            run = self._run(x, scores=True)
            boxes, scores, priors = (run.blobs[name].numpy() for name in self.end.bottom)
            found.append(_detection_output(self.end.detection_output_param, boxes, scores, priors))
        return found

    def _run(self, pixels: Floats, *, scores: bool) -> Execution:
        with torch.no_grad():
            picture = torch.from_numpy(pixels)[None]
            return Execution(self.layers, self._weights, self._data, picture, scores=scores)


class _OpenCV:
    def __init__(self, path: Path, prototxt: Path, literal: _Literal) -> None:
        self.name = f"OpenCV {cv2.__version__}'s Caffe importer"
        self._literal = literal
        dnn: Any = cv2.dnn  # OpenCV 5 has no such function
        self._net = dnn.readNetFromCaffe(str(prototxt), str(path))
        self._net.enableFusion(False)
        self._net.enableWinograd(False)
        self._boxes = self._maker(literal.end.bottom[0])
        logits = self._maker(literal.end.bottom[1])
        while logits.type in ("Softmax", "Sigmoid", "Flatten", "Reshape"):
            logits = self._maker(logits.bottom[0])
        self._logits = logits

    def _maker(self, blob: str) -> Any:
        """The last layer that makes a blob of this name."""
        return next(layer for layer in reversed(self._literal.layers) if blob in layer.top)

    def raw(self, images: npt.NDArray[np.uint8]) -> RawOutputs:
        logits, offsets = [], []
        priors = [layer.name for layer in self._joined_priors()]
        sizes: list[int] = []
        for x in self._literal.pixels(images):
            self._net.setInput(x[None])
            one, other, *each = self._net.forward([self._logits.name, self._boxes.name, *priors])
            logits.append(one)
            offsets.append(other)
            sizes = [prior.shape[2] // 4 for prior in each]
        depths = [self._depth(layer.bottom[0]) for layer in self._joined_priors()]
        return self._literal.in_our_order(logits, offsets, np.repeat(depths, sizes))

    def _joined_priors(self) -> list[Any]:
        """The PriorBox layers in the order in which they are joined."""
        waiting, found = [self._maker(self._literal.end.bottom[2])], []
        while waiting:
            layer = waiting.pop()
            if layer.type == "PriorBox":
                found.append(layer)
            else:
                waiting += [self._maker(name) for name in reversed(layer.bottom)]
        return found

    def _depth(self, blob: str) -> int:
        below: dict[str, int] = {}
        for layer in self._literal.layers:
            depth = 1 + max((below.get(name, 0) for name in layer.bottom), default=0)
            below.update(dict.fromkeys(layer.top, depth))
        return below[blob]

    def detect(self, images: npt.NDArray[np.uint8]) -> list[Found] | None:
        found = []
        for x in self._literal.pixels(images):
            self._net.setInput(x[None])
            rows = self._net.forward(self._literal.end.name).reshape(-1, 7)
            rows = rows[rows[:, 1] > 0]
            found.append(_found(rows[:, 3:], rows[:, 2], rows[:, 1]))
        return found


def _detection_output(said: Any, boxes: Array, scores: Array, priors: Array) -> Found:
    """Caffe's layer: CENTER_SIZE offsets decoded, suppressed per class, the best of all kept."""
    corners, variances = priors[0].astype(np.float64).reshape(2, -1, 4)
    sides, centres = corners[:, 2:] - corners[:, :2], (corners[:, :2] + corners[:, 2:]) / 2
    scaled = boxes.reshape(-1, 4) * variances
    new_centres = scaled[:, :2] * sides + centres
    new_halves = np.exp(scaled[:, 2:]) * sides / 2
    decoded = np.concatenate([new_centres - new_halves, new_centres + new_halves], axis=1)
    by_class = scores.reshape(len(decoded), said.num_classes)
    top_k = said.nms_param.top_k if said.nms_param.HasField("top_k") else -1
    rows: list[tuple[float, int, int]] = []
    for label in range(1, said.num_classes):
        column = by_class[:, label]
        order = np.argsort(-column, kind="stable")
        order = order[column[order] > said.confidence_threshold]
        kept = _suppressed(decoded, order[:top_k] if top_k > -1 else order, said.nms_param)
        rows += [(float(column[i]), label, i) for i in kept]
    rows.sort(key=lambda row: -row[0])
    rows = rows[: said.keep_top_k] if said.keep_top_k > -1 else rows
    return _found(
        decoded[[i for _, _, i in rows]].reshape(-1, 4),
        np.array([score for score, _, _ in rows]),
        np.array([label for _, label, _ in rows]),
    )


def _suppressed(boxes: Array, order: Array, said: Any) -> list[int]:
    """Best first, every box that overlaps no kept one by more than the threshold."""
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    kept: list[int] = []
    for i in order:
        others = boxes[kept]
        low, high = np.maximum(boxes[i, :2], others[:, :2]), np.minimum(boxes[i, 2:], others[:, 2:])
        shared = (high - low).clip(0).prod(1)
        with np.errstate(invalid="ignore"):
            overlap = shared / (areas[i] + areas[kept] - shared)
        if not (overlap > said.nms_threshold).any():
            kept.append(int(i))
    return kept


def _found(boxes: Array, scores: Array, labels: Array) -> Found:
    return Found(
        boxes.clip(0, 1).astype(np.float32),
        scores.astype(np.float32),
        labels.astype(np.int64) - 1,
    )
