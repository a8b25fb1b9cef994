"""Detector: pictures of any size in, detections in their own pixels out."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from multibox import checkpoints, zoo
from multibox.card import ModelCard
from multibox.detections import Detections
from multibox.engines import Engine, EngineName, RawDetections, open_engine
from multibox.errors import InputError
from multibox.imaging import Image, read_image, to_network_input
from multibox.importers.published import is_published_name
from multibox.importing import local_checkpoint

Picture = Path | str | bytes | npt.NDArray[Any]
"""A file, the bytes of one, or an array of RGB pixels: whatever ``imaging.read_image`` takes."""


class Detector:
    """Imaging, an engine and a card: everything between a picture and its ``Detections``."""

    def __init__(self, engine: Engine, card: ModelCard) -> None:
        self.engine = engine
        self.card = card

    @property
    def names(self) -> tuple[str, ...]:
        """The class names; ``Detections.labels`` index them."""
        return self.card.names

    @overload  # a str is a sequence too, but here always one picture
    def __call__(  # type: ignore[overload-overlap]
        self, images: Picture, *, score: float = 0.5, batch_size: int = 16
    ) -> Detections: ...

    @overload
    def __call__(
        self, images: Sequence[Picture], *, score: float = 0.5, batch_size: int = 16
    ) -> list[Detections]: ...

    def __call__(
        self,
        images: Picture | Sequence[Picture],
        *,
        score: float = 0.5,
        batch_size: int = 16,
    ) -> Detections | list[Detections]:
        """Detect in one picture, or in a sequence of pictures of any sizes.

        Kept is what scores at least ``score`` (0..1); the card's own threshold, which came first,
        cannot be undercut. The network sees at most ``batch_size`` pictures at once; only these
        are in memory together. An array ``[n, H, W, 3]`` is a sequence of n pictures.

        Raises: ImageError when a picture cannot be read.
        """
        if isinstance(images, Path | str | bytes):
            return self._detect([images], score)[0]
        if isinstance(images, np.ndarray) and images.ndim < 4:
            return self._detect([images], score)[0]
        found: list[Detections] = []
        for start in range(0, len(images), batch_size):
            found += self._detect(images[start : start + batch_size], score)
        return found

    def _detect(
        self, pictures: Sequence[Picture] | npt.NDArray[Any], score: float
    ) -> list[Detections]:
        with ThreadPoolExecutor() as pool:  # decoding does not hold Python's lock
            prepared = list(pool.map(self._prepare, pictures))
        raw = self.engine(np.stack([network_input for network_input, _, _ in prepared]))
        return [
            self._in_pixels(raw, i, width, height).above(score)
            for i, (_, width, height) in enumerate(prepared)
        ]

    def _prepare(self, picture: Picture) -> tuple[Image, int, int]:
        image = read_image(picture)
        height, width, _ = image.shape
        return to_network_input(image, self.card.preprocessing), width, height

    def _in_pixels(self, raw: RawDetections, i: int, width: int, height: int) -> Detections:
        n = int(raw.num[i])
        best_first = np.argsort(-raw.scores[i, :n], kind="stable")
        scale = np.array([width, height, width, height], np.float32)
        return Detections(
            boxes=raw.boxes[i, best_first] * scale,
            scores=raw.scores[i, best_first],
            labels=raw.classes[i, best_first].astype(np.int64),
            names=self.card.names,
            width=width,
            height=height,
        )


def load(model: str | Path, *, engine: EngineName = "auto") -> Detector:
    """Open a detector from a checkpoint file, or from published weights of another project.

    Published weights have names such as "torchvision:ssd300_vgg16"; they are downloaded and
    imported at the first call. A zoo's name says what can be trained; weights of its own it has
    none.

    Raises: InputError when there is no such file, it cannot be used, or ``engine`` cannot run it.
    """
    path = Path(model)
    if is_published_name(str(model)):
        path = local_checkpoint(str(model))
    elif not path.exists() and not path.suffix and path.name == str(model):
        name = zoo.find_model(path.name).name
        raise InputError(
            f"{name}: no trained weights are published under this name: train it "
            f"(multibox train DATA --model {name}) or give a checkpoint file"
        )
    checkpoint = checkpoints.load(path)
    return Detector(open_engine(checkpoint, engine), checkpoint.card)
