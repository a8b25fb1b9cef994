"""Which part of a picture the network sees: expansion, then one of the paper's seven samplers.

Paper section 2.2 ("Data augmentation") as Caffe SSD does it (``ExpandImage`` in
``im_transforms.cpp``, ``GenerateBatchSamples`` in ``sampler.cpp``, the drawing of one sample in
``annotated_data_layer.cpp``). Nothing here touches pixels: a window is four whole numbers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from multibox.boxes import iou

TRIALS = 50
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
    canvas: Canvas, objects: npt.NDArray[np.floating], rng: np.random.Generator
) -> Window:
    """Draw one of the seven samplers' windows on the canvas.

    ``objects [n, 4]`` are boxes in the picture's pixels. Each of the six random samplers proposes
    up to 50 windows of 0.3 to 1 of the canvas and aspect ratios of 0.5 to 2 (relative to the
    canvas's own), and succeeds with the first whose IoU with *any* object is at least its bound;
    the whole canvas always succeeds. One success is drawn evenly. Without objects no random
    sampler can succeed. Windows are rounded to whole pixels before they are judged, so the
    conditions hold for what is really cut.
    """
    if not len(objects):
        return whole(canvas)
    shift = np.array([canvas.left, canvas.top, canvas.left, canvas.top])
    proposals = propose_windows(canvas, rng) - shift
    samplers = len(MIN_IOU)
    best = iou(proposals.reshape(-1, 4).astype(np.float32), objects).max(axis=1)
    succeeds = best.reshape(samplers, TRIALS) >= MIN_IOU[:, None]
    successful = np.flatnonzero(succeeds.any(axis=1))
    drawn = int(rng.integers(len(successful) + 1))
    if drawn == WHOLE:
        return whole(canvas)
    sampler = int(successful[drawn - 1])
    x0, y0, x1, y1 = proposals[sampler, int(succeeds[sampler].argmax())].tolist()
    return Window(x0, y0, x1, y1, sampler + 1)


def propose_windows(canvas: Canvas, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """All trials of the six random samplers: ``[6, 50, 4]`` corners in pixels of the canvas."""
    scale, ratio, across, down = rng.random((4, len(MIN_IOU), TRIALS))
    scale = MIN_SCALE + (MAX_SCALE - MIN_SCALE) * scale
    low = np.maximum(MIN_ASPECT_RATIO, scale**2)
    high = np.minimum(MAX_ASPECT_RATIO, 1 / scale**2)
    root = np.sqrt(low + (high - low) * ratio)
    width = np.clip(np.rint(scale * root * canvas.width), 1, canvas.width)
    height = np.clip(np.rint(scale / root * canvas.height), 1, canvas.height)
    x0 = np.rint((canvas.width - width) * across)
    y0 = np.rint((canvas.height - height) * down)
    return np.stack([x0, y0, x0 + width, y0 + height], axis=-1).astype(np.int64)
