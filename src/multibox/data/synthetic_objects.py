"""The objects of the synthetic scenes: outlines, surfaces and where their pixels lie.

Every kind has an outline and a surface of its own, both in the object's own frame, the square
-1..1; colours are drawn at random, so that they tell nothing about the kind.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

KINDS = ("ball", "board", "ring", "star", "triangle")

_SUPERSAMPLING = 4
_RING_HOLE = 0.55
_STAR_NOTCH = 0.45


class Window(NamedTuple):
    """A part of the picture, in whole pixels."""

    x0: int
    y0: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, eq=False)
class SceneObject:
    """One object, its frame's ``centre`` and ``half_size`` in pixels and ``angle`` in radians.

    ``colours [2, 3]`` are RGB in 0..255; ``repeats`` says how often the surface's pattern recurs.
    """

    kind: str
    centre: tuple[float, float]
    half_size: tuple[float, float]
    angle: float
    colours: Floats
    repeats: int

    def contours(self) -> list[npt.NDArray[np.float64]]:
        """The outline in pixels of the picture, ``[points, 2]`` each; a second one is a hole."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        rotation = np.array([[cosine, sine], [-sine, cosine]])
        frame = _outline(self.kind)
        return [outline * self.half_size @ rotation + self.centre for outline in frame]

    def area(self) -> float:
        """How many pixels the whole object would cover, those outside the picture included."""
        outer, *holes = (cv2.contourArea(c.astype(np.float32)) for c in self.contours())
        return float(outer - sum(holes))

    def coverage(self, window: Window) -> Floats:
        """How much of each pixel of a window the object covers, ``[height, width]`` in 0..1."""
        fine = np.zeros((window.height * _SUPERSAMPLING, window.width * _SUPERSAMPLING), np.uint8)
        points = [(c - window[:2]) * _SUPERSAMPLING - 0.5 for c in self.contours()]
        cv2.fillPoly(fine, [np.round(p).astype(np.int32) for p in points], (255,))
        coarse = cv2.resize(fine, (window.width, window.height), interpolation=cv2.INTER_AREA)
        return np.divide(coarse, 255, dtype=np.float32)

    def surface(self, window: Window) -> Floats:
        """The object's colour at the pixel centres of a window, ``[height, width, 3]``."""
        dx = np.arange(0.5, window.width, dtype=np.float32)[None, :]
        dy = np.arange(0.5, window.height, dtype=np.float32)[:, None]
        dx += np.float32(window.x0 - self.centre[0])
        dy += np.float32(window.y0 - self.centre[1])
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        u = (dx * np.float32(cosine) + dy * np.float32(sine)) / np.float32(self.half_size[0])
        v = (dy * np.float32(cosine) - dx * np.float32(sine)) / np.float32(self.half_size[1])
        mix = _pattern(self.kind, u, v, self.repeats)[..., None]
        colour: Floats = self.colours[0] + mix * (self.colours[1] - self.colours[0])
        return colour


def _outline(kind: str) -> list[npt.NDArray[np.float64]]:
    """The closed outlines of a kind in its own frame; the second, where there is one, is a hole."""
    if kind == "ball":
        return [_round(64)]
    if kind == "board":
        return [np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])]
    if kind == "ring":
        return [_round(64), _round(64) * _RING_HOLE]
    if kind == "star":
        return [_round(10) * np.tile([1.0, _STAR_NOTCH], 5)[:, None]]
    return [np.array([[-1.0, 1.0], [0.0, -1.0], [1.0, 1.0]])]


def _round(points: int) -> npt.NDArray[np.float64]:
    angles = np.arange(points) * (2 * np.pi / points)
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def _pattern(kind: str, u: Floats, v: Floats, repeats: int) -> Floats:
    """How far the surface at (u, v) goes from the first colour (0) to the second (1)."""
    if kind == "ball":  # lit from one side, like a sphere
        shine: Floats = np.clip(1.1 - ((u - 0.4) ** 2 + v**2) / 1.6, 0, 1)
        return shine
    if kind == "board":  # chequered
        return _soft_step(np.sin(u * (np.pi * repeats)) * np.sin(v * (np.pi * repeats)))
    if kind == "ring":  # banded across, like a lifebuoy
        return _soft_step(np.sin(np.arctan2(v, u) * (repeats + 1)))
    if kind == "star":  # each arm has a light and a dark facet
        return _soft_step(np.sin(np.arctan2(u, -v) * 5))
    return _soft_step(np.sin(v * (np.pi * (repeats + 1))))  # a triangle is striped


def _soft_step(wave: Floats) -> Floats:
    """A square wave whose edges are soft enough not to alias."""
    step: Floats = np.clip(0.5 + 2.5 * wave, 0, 1)
    return step
