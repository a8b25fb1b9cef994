"""One measured detection: how long each stage between the picture's bytes and its boxes took."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from multibox.detector import Detector
from multibox.engines import Engine, RawDetections
from multibox.imaging import read_image


class Stages(NamedTuple):
    """Seconds of each stage, and of the whole.

    Decode: bytes to pixels. Preprocess: from there to the network's first layer. Network: the
    engine alone, to its raw outputs. Postprocess: from these to boxes in pixels.

    Of one picture the whole is their sum. Several are worked on together: their whole is measured
    by itself, and may be less than the sum.
    """

    decode: float
    preprocess: float
    network: float
    postprocess: float
    whole: float


class WatchedEngine(Engine):
    """An engine that notes when its network began and ended."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(engine.card)
        self.engine = engine
        self.name = engine.name
        self.began = self.ended = 0.0
        self._clock = clock

    def network(self, images: npt.NDArray[np.uint8]) -> Any:
        """The network alone, its beginning and end noted."""
        self.began = self._clock()
        outputs = self.engine.network(images)
        self.ended = self._clock()
        return outputs

    def detections(self, outputs: Any) -> RawDetections:
        """Postprocessing alone."""
        return self.engine.detections(outputs)


def measure(
    engine: Engine,
    files: Sequence[bytes],
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[[], Stages]:
    """A function that detects in ``files``, a batch of encoded pictures, and says how long it took.

    What a user calls is what is measured: a ``Detector`` over ``engine``.
    """
    watched = WatchedEngine(engine, clock)
    by_stages, as_called = Detector(watched, engine.card), Detector(engine, engine.card)
    several = len(files) > 1

    def detect() -> Stages:
        start = clock()
        pictures = _decode(files)
        decoded = clock()
        by_stages(pictures, score=0, batch_size=len(files))
        end = clock()
        if several:
            as_called(files, score=0, batch_size=len(files))
        return Stages(
            decode=decoded - start,
            preprocess=watched.began - decoded,
            network=watched.ended - watched.began,
            postprocess=end - watched.ended,
            whole=clock() - end if several else end - start,
        )

    return detect


def _decode(files: Sequence[bytes]) -> list[npt.NDArray[np.uint8]]:
    if len(files) == 1:
        return [read_image(files[0])]
    with ThreadPoolExecutor() as pool:  # as Detector does with a batch
        return list(pool.map(read_image, files))
