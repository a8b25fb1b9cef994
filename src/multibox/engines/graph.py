"""What the engines of exported files share: where a graph is cut, and how pictures share cores.

An exported graph suppresses by itself, for tools that know nothing of SSD. The engines here stop
before that, at its scores and box offsets: suppression in NumPy is faster than the operators for
it (docs/running.md has the figures), and few boxes need to be decoded.
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from multibox.card import ModelCard
from multibox.engines.base import Engine, RawDetections
from multibox.engines.raw_outputs import BoxDecoder, to_scores
from multibox.engines.suppression import suppress
from multibox.errors import InputError

SCORED = ("scores", "box_offsets")
RAW = ("class_logits", "box_offsets")
WHOLE = ("num_detections", "detection_boxes", "detection_scores", "detection_classes")

Goal = Literal["latency", "throughput"]
Precision = Literal["fp32", "bf16", "fp16"]
Outputs = tuple[npt.NDArray[Any], ...]
_T = TypeVar("_T")


def available_threads() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def where_to_cut(tensors: Collection[str], path: Path) -> tuple[str, ...]:
    """The tensors to ask a graph for, of all the names that are in it.

    Raises: InputError when ``path`` is not a detector of ours.
    """
    for wanted in (SCORED, RAW, WHOLE):
        if all(name in tensors for name in wanted):
            return wanted
    raise InputError(
        f"{path}: has a multibox model card, but none of the outputs of an exported detector: "
        "export it again with multibox export"
    )


class GraphEngine(Engine):
    """Runs pictures one by one, so that detections do not depend on what else is in a batch.

    On a GPU (``_whole_batches``), which one picture does not fill, a batch is run as it is.

    For latency one picture has all threads. For throughput each has one, and as many pictures as
    there are threads are worked on together, their post-processing included.
    """

    def __init__(self, card: ModelCard, outputs: tuple[str, ...], workers: int) -> None:
        super().__init__(card)
        self._outputs = outputs
        self._decode = BoxDecoder(card.default_boxes, card.postprocessing)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._whole_batches = False

    @abstractmethod
    def _run(self, image: npt.NDArray[np.uint8], use: Callable[[Outputs], _T]) -> _T:
        """``use`` of the tensors that the graph was cut at, for pictures ``[b, h, w, 3]``.

        They may be the engine's own memory, which the next picture takes.
        """

    def network(self, images: npt.NDArray[np.uint8]) -> Outputs:
        """The network alone; a tuple of arrays with the batch first."""
        self._check(images)
        return _joined(self._each(images, lambda outputs: tuple(map(np.copy, outputs))))

    def detections(self, outputs: Outputs) -> RawDetections:
        """The post-processing alone."""
        if self._outputs == WHOLE:
            num, boxes, scores, classes = map(np.copy, outputs)
            return RawDetections(num[:, 0], boxes, scores, classes)
        first, second = (np.asarray(array, np.float32) for array in outputs)
        if self._outputs == RAW:
            first = to_scores(first, self.card.postprocessing)
        return suppress(first, second, self._decode, self.card.postprocessing)

    def __call__(self, images: npt.NDArray[np.uint8]) -> RawDetections:
        """Detect in ``images [b, h, w, 3]``: RGB, of the size that the card states."""
        self._check(images)
        return RawDetections(*_joined(self._each(images, self.detections)))

    def _each(self, images: npt.NDArray[np.uint8], use: Callable[[Outputs], _T]) -> list[_T]:
        if self._whole_batches:
            return [self._run(images, use)]
        pictures = [images[i : i + 1] for i in range(len(images))]
        together = map if self._pool is None or len(pictures) == 1 else self._pool.map
        return list(together(lambda picture: self._run(picture, use), pictures))


def _joined(parts: Sequence[tuple[npt.NDArray[Any], ...]]) -> Outputs:
    if len(parts) == 1:
        return parts[0]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
