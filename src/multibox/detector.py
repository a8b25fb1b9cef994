"""Detector: pictures of any size in, detections in their own pixels out."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from multibox import bundled, checkpoints, zoo
from multibox.card import ModelCard
from multibox.detections import Detections
from multibox.engines import (
    Engine,
    EngineName,
    Goal,
    Precision,
    RawDetections,
    is_exported,
    open_engine,
    read_exported,
)
from multibox.engines.graph import available_threads
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
        batch, sizes = self._prepare(pictures)
        raw = self.engine(batch)
        return [self._in_pixels(raw, i, *size).above(score) for i, size in enumerate(sizes)]

    def _prepare(
        self, pictures: Sequence[Picture] | npt.NDArray[Any]
    ) -> tuple[Image, list[tuple[int, int]]]:
        """The network's input ``[b, h, w, 3]``, and the width and height of each picture."""
        if len(pictures) == 1:  # no threads, and no copy into a batch
            resized, size = self._resized(pictures[0])
            return resized[None], [size]
        batch = np.empty((len(pictures), *self.card.preprocessing.image_size, 3), np.uint8)

        def fill(i: int) -> tuple[int, int]:
            batch[i], size = self._resized(pictures[i])
            return size

        return batch, list(self._readers.map(fill, range(len(pictures))))

    def _resized(self, picture: Picture) -> tuple[Image, tuple[int, int]]:
        image = read_image(picture)
        height, width, _ = image.shape
        return to_network_input(image, self.card.preprocessing), (width, height)

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        # Decoding does not hold Python's lock; threads are not free, so they are kept.
        return ThreadPoolExecutor(available_threads(), "multibox-reader")

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


def load(
    model: str | Path = bundled.NAME,
    *,
    engine: EngineName = "auto",
    goal: Goal = "latency",
    threads: int | None = None,
    precision: Precision = "fp32",
    pictures: int | None = None,
) -> Detector:
    """Open a detector: the one in the package, a checkpoint, an export, or published weights.

    "animals" comes with the package and finds people, cats, dogs, horses, cows and sheep.
    A checkpoint (.safetensors) runs in PyTorch; exported files (.onnx, OpenVINO's .xml) do not
    need it. Published weights have names such as "torchvision:ssd300_vgg16"; they are downloaded
    and imported at the first call. A zoo's name says what can be trained; weights of its own it
    has none.

    ``goal`` is what ``threads`` (by default one for each processor) are for: "latency" puts them
    all on one picture, "throughput" works on as many pictures together. ``precision`` "bf16" is for
    OpenVINO and PyTorch, "fp16" for PyTorch on a GPU. ``pictures`` is how many there will be (None:
    many): "auto" takes the engine that is the fastest for them all, its loading included.

    Raises: InputError when there is no such file, it cannot be used, or ``engine`` cannot run it.
    """
    path = model_file(model)
    opened = read_exported(path) if is_exported(path) else checkpoints.load(path)
    return Detector(
        open_engine(
            opened, engine, goal=goal, threads=threads, precision=precision, pictures=pictures
        ),
        opened.card,
    )


def model_file(model: str | Path) -> Path:
    """The file that ``model`` names: itself, the package's own, or that of published weights.

    Raises: InputError for a name without published weights; whether a file is there is not looked
    at.
    """
    path = Path(model)
    # Pictures of animals may well lie in a folder of that name.
    if str(model) == bundled.NAME and not path.is_file():
        return bundled.FILE
    if is_published_name(str(model)):
        return local_checkpoint(str(model))
    if not path.exists() and not path.suffix and path.name == str(model):
        name = zoo.find_model(path.name).name
        raise InputError(
            f"{name}: no trained weights are published under this name: train it "
            f"(multibox train DATA --model {name}) or give a checkpoint file"
        )
    return path
