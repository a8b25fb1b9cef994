"""Which pixels of a picture go to which pixels of the network's input, and its boxes with them."""

from typing import NamedTuple

import numpy as np

from multibox.boxes import Boxes
from multibox.data.crops import Window
from multibox.imaging import Image, Reduction


class Placement(NamedTuple):
    """Whole pixels ``source`` of the picture go to the whole pixels ``target`` of the input.

    Both are (x0, y0, x1, y1). Boxes follow this very mapping, so they fit the pixels exactly even
    where an expanded picture's edge had to be moved to the nearest pixel of the input.
    """

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    reduction: Reduction = 1
    """How much smaller the picture is decoded; ``source`` then lies on multiples of it."""

    @property
    def empty(self) -> bool:
        """Whether nothing of the picture is seen."""
        x0, y0, x1, y1 = self.target
        return x0 >= x1 or y0 >= y1

    def project(self, boxes: Boxes) -> Boxes:
        """Boxes ``[n, 4]`` from pixels of the picture to pixels of the input, not clipped."""
        if self.empty:
            return np.zeros_like(boxes)
        source, target = np.array(self.source, np.float64), np.array(self.target, np.float64)
        scale = (target[2:] - target[:2]) / (source[2:] - source[:2])
        offset = target[:2] - source[:2] * scale
        corners = boxes.reshape(-1, 2, 2) * scale + offset
        return corners.reshape(-1, 4).astype(np.float32)

    def shrinks_by(self, factor: int) -> bool:
        """Whether the source has at least ``factor`` pixels for one of the target, both ways."""
        (left, top, right, bottom), (x0, y0, x1, y1) = self.source, self.target
        return right - left >= factor * (x1 - x0) and bottom - top >= factor * (y1 - y0)

    def reduced(self, reduction: Reduction, width: int, height: int) -> "Placement":
        """The same for a ``width`` x ``height`` picture decoded ``reduction`` times smaller.

        The edges of the source move to the nearest pixels that there are then: by half a pixel of
        the input at most where ``shrinks_by(reduction)`` holds.
        """
        left, top, right, bottom = self.source
        left, right = _snap(left, right, width, reduction)
        top, bottom = _snap(top, bottom, height, reduction)
        return Placement((left, top, right, bottom), self.target, reduction)

    def cut(self, image: Image) -> Image:
        """The source, a view of the picture as it was decoded."""
        left, top, right, bottom = (edge // self.reduction for edge in self.source)
        return image[top:bottom, left:right]


def place(window: Window, width: int, height: int, size: tuple[int, int]) -> Placement:
    """Where the part of a ``width`` x ``height`` picture seen in ``window`` goes in the input.

    ``size`` is the input's height and width.
    """
    left, right, x0, x1 = _place_axis(window.x0, window.x1, width, size[1])
    top, bottom, y0, y1 = _place_axis(window.y0, window.y1, height, size[0])
    return Placement((left, top, right, bottom), (x0, y0, x1, y1))


def clip_boxes(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """``boxes [n, 4]`` cut to a picture of ``size``, height and width."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def _place_axis(start: int, stop: int, length: int, out: int) -> tuple[int, int, int, int]:
    first, last = max(start, 0), min(stop, length)
    scale = out / (stop - start)
    return first, last, round((first - start) * scale), round((last - start) * scale)


def _snap(first: int, last: int, length: int, step: int) -> tuple[int, int]:
    """The multiples of ``step`` nearest to an interval; its end at the picture's stays there."""
    # Halves go up on both sides, so that an interval of at least one step keeps one.
    begin, end = ((2 * edge + step) // (2 * step) * step for edge in (first, last))
    return begin, -(-length // step) * step if last == length else end
