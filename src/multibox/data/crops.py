"""Which part of a picture the network sees: expansion, then one of the paper's seven samplers.

Paper sections 2.2 ("Data augmentation") and 3.6 (the expansion) as Caffe SSD does it
(``ExpandImage`` in ``data_transformer.cpp``, ``GenerateBatchSamples`` in ``sampler.cpp``, the
drawing of one sample in ``annotated_data_layer.cpp``). Nothing here touches pixels: a window is
four whole numbers.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from multibox.boxes import iou

CropSampler = Literal["caffe", "torchvision"]

TRIALS = 50
TORCHVISION_TRIALS = 40
MIN_SCALE, MAX_SCALE = 0.3, 1.0
MIN_ASPECT_RATIO, MAX_ASPECT_RATIO = 0.5, 2.0
MIN_IOU = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.0])
"""What each random sampler asks for; the last one is the random patch ("max IoU 1.0")."""

WHOLE = 0
"""The sampler that takes everything; sampler k > 0 asks for ``MIN_IOU[k - 1]``."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """A larger ground a picture is put on: its size, and where the picture's corner lies."""

    width: int
    height: int
    left: int = 0
    top: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle in whole pixels of the picture, x0 < x1, y0 < y1; it may reach outside."""

    x0: int
    y0: int
    x1: int
    y1: int
    sampler: int = WHOLE
    """Which sampler chose it, 0..6."""


def draw_canvas(
    width: int, height: int, rng: np.random.Generator, *, probability: float, max_ratio: float
) -> Canvas:
    """Put a picture on a canvas 1 to ``max_ratio`` times as wide and high, or on one of its size.

    Always takes four numbers from ``rng``.
    """
    chance, at, across, down = rng.random(4).tolist()
    if chance >= probability:
        return Canvas(width, height)
    ratio = 1 + (max_ratio - 1) * at
    canvas_width, canvas_height = int(width * ratio), int(height * ratio)
    left, top = int((canvas_width - width) * across), int((canvas_height - height) * down)
    return Canvas(canvas_width, canvas_height, left, top)


def whole(canvas: Canvas) -> Window:
    """The window that shows all of the canvas, in the picture's coordinates."""
    return Window(-canvas.left, -canvas.top, canvas.width - canvas.left, canvas.height - canvas.top)


def draw_window(
    canvas: Canvas,
    objects: npt.NDArray[np.floating],
    rng: np.random.Generator,
    sampler: CropSampler = "caffe",
) -> Window:
    """Draw one of the seven samplers' windows on the canvas.

    ``objects [n, 4]`` are boxes in the picture's pixels. The samplers are the whole canvas and six
    random ones; each of these asks that the window's IoU with *any* object be at least its bound.
    "caffe" tries all of them and draws evenly from those that succeed; "torchvision" draws one
    first, and another when it does not. Without objects no random sampler can succeed. Windows are
    rounded to whole pixels before they are judged, so the conditions hold for what is really cut.
    """
    if not len(objects):
        return whole(canvas)
    objects = objects + np.array([canvas.left, canvas.top] * 2)
    draw = _of_all_successes if sampler == "caffe" else _one_after_another
    found = draw(canvas, objects, rng)
    if found is None:
        return whole(canvas)
    (x0, y0, x1, y1), chosen = found
    left, top = canvas.left, canvas.top
    return Window(int(x0) - left, int(y0) - top, int(x1) - left, int(y1) - top, chosen)


_Found = tuple[npt.NDArray[np.int64], int]


def _of_all_successes(
    canvas: Canvas, objects: npt.NDArray[np.floating], rng: np.random.Generator
) -> _Found | None:
    """Caffe: a sampler succeeds with the first good one of 50 windows; one success is drawn."""
    proposals = propose_windows(canvas, rng)
    samplers = len(MIN_IOU)
    best = iou(proposals.reshape(-1, 4).astype(np.float32), objects).max(axis=1)
    succeeds = best.reshape(samplers, TRIALS) >= MIN_IOU[:, None]
    successful = np.flatnonzero(succeeds.any(axis=1))
    drawn = int(rng.integers(len(successful) + 1))
    if drawn == WHOLE:
        return None
    sampler = int(successful[drawn - 1])
    return proposals[sampler, int(succeeds[sampler].argmax())], sampler + 1


def propose_windows(canvas: Canvas, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """All trials of Caffe's six random samplers: ``[6, 50, 4]`` corners in pixels of the canvas.

    Scales of 0.3 to 1 and aspect ratios of 0.5 to 2, both relative to the canvas; a ratio that
    would make the window longer than the canvas is cut to the nearest that does not.
    """
    scale, ratio, across, down = rng.random((4, len(MIN_IOU), TRIALS))
    scale = MIN_SCALE + (MAX_SCALE - MIN_SCALE) * scale
    ratio = MIN_ASPECT_RATIO + (MAX_ASPECT_RATIO - MIN_ASPECT_RATIO) * ratio
    root = np.sqrt(np.clip(ratio, scale**2, 1 / scale**2))
    width = np.clip(np.rint(scale * root * canvas.width), 1, canvas.width)
    height = np.clip(np.rint(scale / root * canvas.height), 1, canvas.height)
    x0 = np.rint((canvas.width - width) * across)
    y0 = np.rint((canvas.height - height) * down)
    return np.stack([x0, y0, x0 + width, y0 + height], axis=-1).astype(np.int64)


def _one_after_another(
    canvas: Canvas, objects: npt.NDArray[np.floating], rng: np.random.Generator
) -> _Found | None:
    """torchvision (``RandomIoUCrop``): draw a sampler, try 40 windows, draw again.

    Widths and heights are drawn apart, the aspect ratio is that of the pixels, and an object
    counts only with its centre inside the window.
    """
    cx, cy = (objects[:, :2] + objects[:, 2:]).T / 2
    while (sampler := int(rng.integers(1 + len(MIN_IOU)))) != WHOLE:
        across, down, left, top = rng.random((4, TORCHVISION_TRIALS))
        spread = MAX_SCALE - MIN_SCALE
        width = (canvas.width * (MIN_SCALE + spread * across)).astype(np.int64)
        height = (canvas.height * (MIN_SCALE + spread * down)).astype(np.int64)
        x0 = ((canvas.width - width) * left).astype(np.int64)
        y0 = ((canvas.height - height) * top).astype(np.int64)
        windows = np.stack([x0, y0, x0 + width, y0 + height], axis=-1)
        shaped = (width >= MIN_ASPECT_RATIO * height) & (width <= MAX_ASPECT_RATIO * height)
        shaped &= np.minimum(width, height) > 0
        x0, y0, x1, y1 = windows.T[:, :, None]
        counts = (x0 < cx) & (cx < x1) & (y0 < cy) & (cy < y1)
        counts &= iou(windows.astype(np.float32), objects) >= MIN_IOU[sampler - 1]
        good = np.flatnonzero(shaped & counts.any(axis=1))
        if len(good):
            return windows[good[0]], sampler
    return None
