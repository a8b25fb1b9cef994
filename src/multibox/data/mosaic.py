"""Four pictures side by side in the place of one (Bochkovskiy et al. 2020, "YOLOv4", 3.3).

Each is augmented by itself, to the size of its tile, as a picture of its own would be: so it is
decoded no larger than that, and what counts as seen is decided as ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from multibox.data.samples import Sample
from multibox.imaging import Image

_NEAREST, _FARTHEST = 0.4, 0.6
"""Where the tiles meet, in fractions of the input: none is so long that it distorts its picture."""


@dataclass(frozen=True, slots=True)
class Mosaic:
    """How often pictures are mosaics: with ``probability``, in the run's first ``epochs``."""

    probability: float
    epochs: int

    def tiles(
        self,
        epoch: int,
        picture: int,
        pictures: int,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> "tuple[Tile, ...]":
        """The tiles of this presentation of ``picture``, or none where it is no mosaic.

        It takes the first; the others are any of the data's ``pictures``. ``size`` is the height
        and width of the input, at least 2.
        """
        if epoch >= self.epochs or rng.random() >= self.probability:
            return ()
        height, width = size
        down, across = rng.uniform(_NEAREST, _FARTHEST, 2)
        y = min(max(1, round(height * down)), height - 1)
        x = min(max(1, round(width * across)), width - 1)
        others = rng.integers(pictures, size=3).tolist()
        corners = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
        order = rng.permutation(4).tolist()
        return tuple(
            Tile(number, corners[place])
            for number, place in zip([picture, *others], order, strict=True)
        )


class Tile(NamedTuple):
    """The number of a picture, and the pixels of the input it goes to: (x0, y0, x1, y1)."""

    picture: int
    area: tuple[int, int, int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        x0, y0, x1, y1 = self.area
        return y1 - y0, x1 - x0


def compose(tiles: Sequence[tuple[Tile, Image, Sample]], canvas: Image) -> tuple[Image, Sample]:
    """Paint the tiles' pictures onto ``canvas``, and put their objects together.

    Every picture has the size of its tile, and its sample's boxes are pixels of it.
    """
    for tile, image, _ in tiles:
        x0, y0, x1, y1 = tile.area
        canvas[y0:y1, x0:x1] = image
    samples = [sample for _, _, sample in tiles]
    corners = np.array([tile.area[:2] * 2 for tile, _, _ in tiles], np.float32)
    return canvas, Sample.of(
        canvas,
        np.concatenate([s.boxes + corner for s, corner in zip(samples, corners, strict=True)]),
        np.concatenate([sample.labels for sample in samples]),
        width=canvas.shape[1],
        height=canvas.shape[0],
        difficult=np.concatenate([sample.difficult for sample in samples]),
        crowd=np.concatenate([sample.crowd for sample in samples]),
        id=samples[0].id,
    )
