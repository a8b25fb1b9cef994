"""The paper's augmentation: cut a window, distort its colours, resize it, mirror it.

Every random decision is drawn first, in coordinates, which takes a picture's size alone; then
pixels are decoded and touched, and only those that are seen: the canvas of an expansion is never
built, and its fill is not distorted. Cutting before distorting gives the paper's result, because
the distortions look at one pixel at a time.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np

from multibox.boxes import centre_inside
from multibox.data.crops import (
    Canvas,
    CropSampler,
    Window,
    draw_canvas,
    draw_window,
    whole,
)
from multibox.data.photometric import Distortion, Photometric, distort
from multibox.data.placement import Placement, clip_boxes, place
from multibox.data.samples import Sample
from multibox.errors import InputError
from multibox.imaging import EncodedPicture, Image, Reduction

Interpolation = Literal["linear", "cubic", "area", "nearest", "lanczos4"]

INTERPOLATIONS: tuple[Interpolation, ...] = ("linear", "cubic", "area", "nearest", "lanczos4")
"""What Caffe SSD draws from."""

_REDUCTIONS: tuple[Reduction, ...] = (8, 4, 2)

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
    exact: bool = True
    """Every pixel as Caffe makes it. False: nearly, in less time. A JPEG that is shrunk to half or
    less is decoded at half, a quarter or an eighth of its size, colours are distorted before or
    after resizing, wherever there are fewer pixels, and Lanczos weights are not rounded."""
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
        self, image: Image, sample: Sample, rng: np.random.Generator, *, out: Image | None = None
    ) -> tuple[Image, Sample]:
        """Augment an upright RGB ``[H, W, 3]`` uint8 picture and its objects.

        ``sample.boxes`` are pixels of ``image``. Returns the uint8 ``[h, w, 3]`` input of the
        network and a sample of it: the objects whose centre is inside the window, clipped to it,
        in pixels of the input (at most w and h), with their flags. It may have no objects left.
        The picture is written to ``out`` where that is given.
        """
        decision = self.decide(image.shape[1], image.shape[0], sample, rng)
        return self.apply(decision, image, sample, out=out)

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

    def plan(self, decision: Decision, picture: EncodedPicture) -> Placement:
        """Where a picture goes, and unless ``exact``, how much smaller to decode it for that."""
        width, height = picture.size
        placement = place(decision.window, width, height, self.size)
        if not self.exact:
            for reduction in _REDUCTIONS:
                if picture.can_be_reduced(reduction) and placement.shrinks_by(reduction):
                    return placement.reduced(reduction, width, height)
        return placement

    def apply(
        self,
        decision: Decision,
        image: Image,
        sample: Sample,
        *,
        placement: Placement | None = None,
        out: Image | None = None,
    ) -> tuple[Image, Sample]:
        """Carry out ``decision``: the half of the work in which nothing is random.

        ``placement`` is what ``plan`` gave where ``image`` was decoded by it; ``sample.boxes`` are
        pixels of the whole picture all the same. The result is written to ``out``, C-contiguous
        uint8 ``[h, w, 3]``, where that is given.
        """
        window, (height, width) = decision.window, self.size
        if placement is None:
            placement = place(window, image.shape[1], image.shape[0], self.size)
        frame = np.array([window.x0, window.y0, window.x1, window.y1], np.float32)
        seen = sample.select(centre_inside(sample.boxes, frame))
        boxes = clip_boxes(placement.project(seen.boxes), self.size)
        if decision.mirror:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        result = np.empty((height, width, 3), np.uint8) if out is None else out
        self._paint(result, image, placement, decision)
        sides = boxes[:, 2:] - boxes[:, :2]
        large = np.flatnonzero(sides.min(axis=1) >= self.min_side)
        return result, _with_picture(replace(seen, boxes=boxes), result).select(large)

    def _paint(self, result: Image, image: Image, placement: Placement, decision: Decision) -> None:
        height, width = self.size
        x0, y0, x1, y1 = placement.target
        if placement.target != (0, 0, width, height):
            # Whole rows at once: NumPy is slow where the innermost axis is a pixel.
            result.reshape(height, -1)[:] = np.tile(np.array(self.fill, np.uint8), width)
        if placement.empty:
            return
        pixels = self._pixels(placement.cut(image), (x1 - x0, y1 - y0), decision)
        if decision.mirror:
            pixels = np.asarray(cv2.flip(pixels, 1), np.uint8)
            x0, x1 = width - x1, width - x0
        result[y0:y1, x0:x1] = pixels

    def _pixels(self, seen: Image, size: tuple[int, int], decision: Decision) -> Image:
        """``seen`` distorted and resized to ``size``, which is width and height."""
        how = decision.interpolation
        if self.exact:
            return resize(distort(seen, decision.distortion), size, how)
        # The distortions cost by the pixel, and so come where there are fewer of these.
        if size[0] * size[1] < seen.shape[0] * seen.shape[1]:
            return distort(_resize_quickly(seen, size, how), decision.distortion)
        return _resize_quickly(distort(seen, decision.distortion), size, how)


def plain_resize(
    image: Image, sample: Sample, size: tuple[int, int], *, out: Image | None = None
) -> tuple[Image, Sample]:
    """The same pair as an Augmentation gives, without chance: all of the picture, every object."""
    height, width = size
    result = np.empty((height, width, 3), np.uint8) if out is None else out
    result[:] = cv2.resize(image, (width, height))
    window = whole(Canvas(image.shape[1], image.shape[0]))
    boxes = place(window, image.shape[1], image.shape[0], size).project(sample.boxes)
    return result, _with_picture(replace(sample, boxes=clip_boxes(boxes, size)), result)


def resize(image: Image, size: tuple[int, int], how: Interpolation) -> Image:
    """Resize to ``size``, width and height, by one of Caffe's methods."""
    return np.asarray(cv2.resize(image, size, interpolation=_INTERPOLATION[how]), np.uint8)


def _resize_quickly(image: Image, size: tuple[int, int], how: Interpolation) -> Image:
    if how != "lanczos4":
        return resize(image, size, how)
    # OpenCV has vector code for floats alone here, which is three times as fast.
    resized = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_LANCZOS4)
    rounded = cv2.add(resized, 0.0, dtype=cv2.CV_8U)  # type: ignore[call-overload]
    return np.asarray(rounded, np.uint8)


def _with_picture(sample: Sample, image: Image) -> Sample:
    return replace(sample, image=image, width=image.shape[1], height=image.shape[0])
