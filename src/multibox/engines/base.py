"""What every engine does: a batch of resized pictures in, detections in 0..1 out."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from multibox.card import ModelCard
from multibox.errors import InputError


class RawDetections(NamedTuple):
    """Detections of b pictures, padded to k rows; the first ``num[i]`` rows of picture i count.

    ``num [b]`` integers; ``boxes [b, k, 4]`` float32 (x0, y0, x1, y1) in fractions of the
    picture, 0..1; ``scores [b, k]`` float32 in 0..1; ``classes [b, k]`` integers, 0 being the
    card's first name (the background is not among them).
    """

    num: npt.NDArray[np.integer]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.integer]


class Engine(ABC):
    """Runs one network and turns what it says into detections; the two can be had apart."""

    name: str
    """As ``--engine`` takes it."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    @abstractmethod
    def network(self, images: npt.NDArray[np.uint8]) -> Any:
        """The network alone, for ``images [b, h, w, 3]``: what ``detections`` takes.

        Pictures are RGB and of the size that the card states.

        Raises: InputError for images of another shape or type.
        """

    @abstractmethod
    def detections(self, outputs: Any) -> RawDetections:
        """The post-processing alone, from what ``network`` gave."""

    def __call__(self, images: npt.NDArray[np.uint8]) -> RawDetections:
        """Detect in ``images [b, h, w, 3]``: RGB, of the size that the card states."""
        return self.detections(self.network(images))

    def _check(self, images: npt.NDArray[np.uint8]) -> None:
        height, width = self.card.preprocessing.image_size
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, 3) or not len(images):
            raise InputError(
                f"the network takes uint8 RGB [batch, {height}, {width}, 3], not {images.dtype} "
                f"{list(images.shape)}: resize pictures with imaging.to_network_input"
            )
