"""The paper's augmentation: cut a window, distort its colours, resize it, mirror it.

Every random decision is drawn first, in coordinates; then pixels are touched, and only those that
are seen: the canvas of an expansion is never built, and its fill is not distorted. Cutting before
distorting gives the paper's result, because the distortions look at one pixel at a time.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np

from multibox.boxes import Boxes, centre_inside
from multibox.data.crops import (
    Canvas,
    CropSampler,
    Window,
    draw_canvas,
    draw_window,
    whole,
)
from multibox.data.photometric import Distortion, Photometric, distort
from multibox.data.samples import Sample
from multibox.errors import InputError
from multibox.imaging import Image

Interpolation = Literal["linear", "cubic", "area", "nearest", "lanczos4"]

INTERPOLATIONS: tuple[Interpolation, ...] = ("linear", "cubic", "area", "nearest", "lanczos4")
"""What Caffe SSD draws from."""

_INTERPOLATION = {
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "lanczos4": cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """All that chance decides about one sample."""

    window: Window
    distortion: Distortion
    interpolation: Interpolation
    mirror: bool


@dataclass(frozen=True)
class Augmentation:
    """The paper's chain (sections 2.2 and 3.6) with Caffe SSD's probabilities.

    Every part can be turned off. ``size`` is the (height, width) of the network's input and
    ``fill`` the RGB colour around an expanded picture, the mean the network subtracts.
    """

    size: tuple[int, int]
    fill: tuple[int, int, int]
    photometric: Photometric | None = field(default_factory=Photometric)
    """None: colours stay as they are."""
    expand_probability: float = 0.5
    expand_ratio: float = 4.0
    """The largest canvas, in widths and heights of the picture; at least 1."""
    crop: bool = True
    """False: the whole (expanded) picture is always used."""
    crop_sampler: CropSampler = "caffe"
    """How one of the paper's seven samplers is chosen."""
    mirror: float = 0.5
    """The probability of mirroring left and right."""
    interpolations: tuple[Interpolation, ...] = INTERPOLATIONS
    """The resizing methods drawn from, evenly."""
    min_side: float = 1.0
    """Objects whose visible part is narrower or lower are dropped, in pixels of the input; above
    0, because a box without area cannot be coded."""

    def __post_init__(self) -> None:
        """Raise InputError where a value makes no sense."""
        if min(self.size) < 1 or self.min_side <= 0 or self.expand_ratio < 1:
            raise InputError("augmentation: size and min_side must be above 0, expand_ratio >= 1")
        if not self.interpolations:
            raise InputError("augmentation: name at least one interpolation")

    def __call__(
        self, image: Image, sample: Sample, rng: np.random.Generator
    ) -> tuple[Image, Sample]:
        """Augment an upright RGB ``[H, W, 3]`` uint8 picture and its objects.

        ``sample.boxes`` are pixels of ``image``. Returns the uint8 ``[h, w, 3]`` input of the
        network and a sample of it: the objects whose centre is inside the window, clipped to it,
        in pixels of the input (at most w and h), with their flags. It may have no objects left.
        """
        decision = self.decide(image.shape[1], image.shape[0], sample, rng)
        return self.apply(decision, image, sample)

    def decide(self, width: int, height: int, sample: Sample, rng: np.random.Generator) -> Decision:
        """Draw everything random for a picture of this size.

        Crowd regions are not offered to the crop samplers: they are never trained on as objects.
        """
        distortion = self.photometric.draw(rng) if self.photometric else Distortion()
        canvas = draw_canvas(
            width, height, rng, probability=self.expand_probability, max_ratio=self.expand_ratio
        )
        objects = sample.boxes[~sample.crowd]
        window = whole(canvas)
        if self.crop:
            window = draw_window(canvas, objects, rng, self.crop_sampler)
        interpolation = self.interpolations[int(rng.integers(len(self.interpolations)))]
        return Decision(window, distortion, interpolation, bool(rng.random() < self.mirror))

    def apply(self, decision: Decision, image: Image, sample: Sample) -> tuple[Image, Sample]:
        """Carry out ``decision``: the half of the work in which nothing is random."""
        window = decision.window
        placement = place(window, image.shape[1], image.shape[0], self.size)
        result = _cut_and_paste(image, placement, decision, self.size, self.fill)
        frame = np.array([window.x0, window.y0, window.x1, window.y1], np.float32)
        seen = sample.select(centre_inside(sample.boxes, frame))
        boxes = _clip(placement.project(seen.boxes), self.size)
        if decision.mirror:
            result = np.asarray(cv2.flip(result, 1), np.uint8)
            boxes[:, [0, 2]] = self.size[1] - boxes[:, [2, 0]]
        sides = boxes[:, 2:] - boxes[:, :2]
        large = np.flatnonzero(sides.min(axis=1) >= self.min_side)
        return result, _with_picture(replace(seen, boxes=boxes), result).select(large)


def plain_resize(image: Image, sample: Sample, size: tuple[int, int]) -> tuple[Image, Sample]:
    """The same pair as an Augmentation gives, without chance: all of the picture, every object."""
    height, width = size
    result = np.ascontiguousarray(cv2.resize(image, (width, height)), np.uint8)
    window = whole(Canvas(image.shape[1], image.shape[0]))
    boxes = place(window, image.shape[1], image.shape[0], size).project(sample.boxes)
    return result, _with_picture(replace(sample, boxes=_clip(boxes, size)), result)


class Placement(NamedTuple):
    """Whole pixels ``source`` of the picture go to the whole pixels ``target`` of the input.

    Both are (x0, y0, x1, y1). Boxes follow this very mapping, so they fit the pixels exactly even
    where an expanded picture's edge had to be moved to the nearest pixel of the input.
    """

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]

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
        return (boxes * np.tile(scale, 2) + np.tile(offset, 2)).astype(np.float32)


def place(window: Window, width: int, height: int, size: tuple[int, int]) -> Placement:
    """Where the part of a ``width`` x ``height`` picture seen in ``window`` goes in the input."""
    left, right, x0, x1 = _place_axis(window.x0, window.x1, width, size[1])
    top, bottom, y0, y1 = _place_axis(window.y0, window.y1, height, size[0])
    return Placement((left, top, right, bottom), (x0, y0, x1, y1))


def _place_axis(start: int, stop: int, length: int, out: int) -> tuple[int, int, int, int]:
    first, last = max(start, 0), min(stop, length)
    scale = out / (stop - start)
    return first, last, round((first - start) * scale), round((last - start) * scale)


def _cut_and_paste(
    image: Image,
    placement: Placement,
    decision: Decision,
    size: tuple[int, int],
    fill: tuple[int, int, int],
) -> Image:
    height, width = size
    x0, y0, x1, y1 = placement.target
    if placement.empty:
        return np.full((height, width, 3), fill, np.uint8)
    left, top, right, bottom = placement.source
    seen = distort(image[top:bottom, left:right], decision.distortion)
    how = _INTERPOLATION[decision.interpolation]
    resized = np.asarray(cv2.resize(seen, (x1 - x0, y1 - y0), interpolation=how), np.uint8)
    if (x1 - x0, y1 - y0) == (width, height):
        return resized
    edges = (y0, height - y1, x0, width - x1)
    framed = cv2.copyMakeBorder(resized, *edges, cv2.BORDER_CONSTANT, value=fill)
    return np.asarray(framed, np.uint8)


def _clip(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    height, width = size
    limit = np.array([width, height, width, height], np.float32)
    return np.clip(boxes, 0, limit)


def _with_picture(sample: Sample, image: Image) -> Sample:
    return replace(sample, image=image, width=image.shape[1], height=image.shape[0])
