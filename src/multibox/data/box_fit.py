"""How well a detector's default boxes fit labelled boxes, and default boxes that fit them better.

All boxes are corners (x0, y0, x1, y1) in fractions of the picture: the frame in which SSD squashes
a picture to its input and matches objects (paper section 2.2).
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from multibox.boxes import iou
from multibox.card import DefaultBoxLevel, DefaultBoxSpec
from multibox.data.samples import Sample
from multibox.default_boxes import default_boxes, to_corners

Floats = npt.NDArray[np.floating]

MATCHED = 0.5
"""The IoU from which a default box is a positive of an object (paper section 2.2)."""

MEASURED_OBJECTS = 5_000
"""Of more objects a sample is measured: its recall differs by about a hundredth at most."""

SIZE_EDGES = (0, 8, 16, 32, 64, 128, 256)
"""Edges of the size bins: square roots of areas, in pixels of the network's input."""

ASPECT_EDGES = (0.0, 0.4, 0.75, 1.34, 2.5)
"""Edges of the bins of width through height, at the input."""

_CHUNK = 250


@dataclass(frozen=True, slots=True)
class Bin:
    """Objects from ``low`` up to ``high`` (None: without end), and the share that is reached."""

    low: float
    high: float | None
    objects: int
    recall: float


@dataclass(frozen=True, slots=True)
class BoxFit:
    """How default boxes fit objects.

    ``recall`` is the share of objects that some default box overlaps by IoU 0.5 or more, in all and
    by size and aspect bins; ``positives`` the mean number of such default boxes an object;
    ``missed`` the indices of the objects that none of them overlaps so, and ``untouched`` how many
    of these have no overlap worth the name (IoU 0.1) with any.
    """

    objects: int
    recall: float
    positives: float
    mean_iou: float
    missed: tuple[int, ...]
    untouched: int
    by_size: tuple[Bin, ...]
    by_aspect: tuple[Bin, ...]

    def as_json(self) -> dict[str, Any]:
        """The figures, with the number of missed objects in the place of their indices."""
        return asdict(self) | {
            "missed": len(self.missed),
            "by_size": [asdict(item) for item in self.by_size],
            "by_aspect": [asdict(item) for item in self.by_aspect],
        }


def fractions(samples: Sequence[Sample]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Boxes ``[n, 4]`` in fractions and labels ``[n]`` of what is trained on.

    Crowds and difficult objects are left aside.
    """
    boxes, labels = [np.zeros((0, 4))], [np.zeros(0, np.int64)]
    for sample in samples:
        kept = ~(sample.difficult | sample.crowd)
        size = np.array([sample.width, sample.height] * 2, np.float64)
        boxes.append(sample.boxes[kept] / size)
        labels.append(sample.labels[kept])
    return np.concatenate(boxes), np.concatenate(labels)


def fit(spec: DefaultBoxSpec, boxes: Floats) -> BoxFit:
    """Measure how the default boxes of ``spec`` fit ``boxes [n, 4]``, corners in fractions.

    Raises ValueError where there are no boxes. Of more than ``MEASURED_OBJECTS`` boxes an evenly
    spaced sample is measured.
    """
    if not len(boxes):
        raise ValueError("no boxes to fit")
    sampled = np.arange(len(boxes))
    if len(boxes) > MEASURED_OBJECTS:
        sampled = np.linspace(0, len(boxes) - 1, MEASURED_OBJECTS).astype(int)
    objects = np.asarray(boxes, np.float32)[sampled]
    best, positives = _overlaps(objects, default_boxes(spec))
    reached = best >= MATCHED
    height, width = spec.image_size
    sides = np.maximum((objects[:, 2:] - objects[:, :2]) * (width, height), 1e-6)
    return BoxFit(
        objects=len(boxes),
        recall=float(reached.mean()),
        positives=float(positives.mean()),
        mean_iou=float(best.mean()),
        missed=tuple(sampled[~reached].tolist()),
        untouched=int((best < 0.1).sum()),
        by_size=_bins(np.sqrt(sides.prod(axis=1)), SIZE_EDGES, reached),
        by_aspect=_bins(sides[:, 0] / sides[:, 1], ASPECT_EDGES, reached),
    )


def _overlaps(objects: Floats, priors: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The best IoU of each object, and how many default boxes reach ``MATCHED``."""
    corners = to_corners(priors)
    best = np.zeros(len(objects), np.float32)
    positives = np.zeros(len(objects), np.int64)
    for start in range(0, len(objects), _CHUNK):
        part = slice(start, start + _CHUNK)
        overlap = iou(objects[part], corners)
        best[part] = overlap.max(axis=1)
        positives[part] = (overlap >= MATCHED).sum(axis=1)
    return best, positives


def _bins(
    values: Floats, edges: Sequence[float], reached: npt.NDArray[np.bool_]
) -> tuple[Bin, ...]:
    bins = []
    for low, high in zip(edges, (*edges[1:], inf), strict=True):
        inside = (values >= low) & (values < high)
        if inside.any():
            share = float(reached[inside].mean())
            end = None if high == inf else float(high)
            bins.append(Bin(float(low), end, int(inside.sum()), share))
    return tuple(bins)


# Suggested default boxes -----------------------------------------------------------------------

_SIZES_TO_CHOOSE_FROM = 14
_RATIOS_TO_CHOOSE_FROM = 7
_LEARNED_FROM = 1_500
_ZOOMS = ((1.0, 1.0), (0.6, 0.25), (1.6, 0.25))
"""Scales at which objects are looked at, and their weights: augmentation zooms out and in."""
_LARGER, _SMALLEST_STEPS = 1.5, 0.75
_PASSES = 3


def suggest(
    spec: DefaultBoxSpec, boxes: Floats, labels: npt.NDArray[np.int64] | None = None
) -> DefaultBoxSpec:
    """Default boxes like ``spec`` whose shapes fit ``boxes [n, 4]``, corners in fractions.

    Every level keeps its grid and its number of boxes a cell, so that the same heads fit. Shapes
    are chosen from a lattice of sizes and aspect ratios that covers the data, no larger on a level
    than 1.5 times what ``spec`` has there (its features see no further) and no smaller than 0.75 of
    the distance between two centres. Chosen is what brings objects nearest to a match: a greedy
    maximum of the mean of clip((best IoU - 0.2) / 0.5, 0, 1), improved by exchanging one shape at a
    time. That function is submodular, so that the greedy choice alone is at least half as good as
    the best one (Fisher, Nemhauser and Wolsey 1978). ``labels [n]`` make rare classes count:
    a class weighs as the square root of its objects.

    Returns ``spec`` itself where nothing better was found, or there are no boxes. The same input
    gives the same result.
    """
    if not len(boxes):
        return spec
    objects, weights = _learning_objects(boxes, labels)
    candidates = _candidates(spec, objects)
    gain = np.stack(
        [_gain(objects, spec, level, shape) for level, shape in candidates], axis=1
    ) * weights[:, None].astype(np.float32)
    levels = np.array([level for level, _ in candidates])
    chosen = _choose(gain, levels, [level.boxes_per_cell for level in spec.levels])
    found = spec.model_copy(
        update={
            "levels": tuple(
                DefaultBoxLevel(
                    grid=level.grid,
                    step=level.step,
                    offset=level.offset,
                    shapes=_sorted_shapes(candidates[c][1] for c in chosen if levels[c] == index),
                )
                for index, level in enumerate(spec.levels)
            )
        }
    )
    old, new = fit(spec, boxes), fit(found, boxes)
    return found if (new.recall, new.mean_iou) > (old.recall, old.mean_iou) else spec


Shape = tuple[float, float]


def _sorted_shapes(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    return tuple(sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape)))


def _learning_objects(boxes: Floats, labels: npt.NDArray[np.int64] | None) -> tuple[Floats, Floats]:
    """Objects (cx, cy, w, h) at all zooms, and their weights, which sum to 1."""
    kept = np.arange(len(boxes))
    labels = np.zeros(len(boxes), np.int64) if labels is None else labels
    if len(boxes) > _LEARNED_FROM:
        # Evenly over the objects sorted by class, so that no rare class is lost.
        order = np.argsort(labels, kind="stable")
        kept = order[np.linspace(0, len(boxes) - 1, _LEARNED_FROM).astype(int)]
    corners, labels = np.asarray(boxes, np.float64)[kept], labels[kept]
    _, place, count = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(count[place])
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 1e-6)
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    rng = np.random.default_rng(0)
    parts = []
    for zoom, _ in _ZOOMS:
        zoomed = np.minimum(sides * zoom, 1.0)
        moved = zoomed / 2 + rng.random(centres.shape) * (1 - zoomed)
        parts.append(np.concatenate([centres if zoom == 1 else moved, zoomed], axis=1))
    whole = np.concatenate([weights * weight for _, weight in _ZOOMS])
    return np.concatenate(parts), whole / whole.sum()


def _candidates(spec: DefaultBoxSpec, objects: Floats) -> list[tuple[int, Shape]]:
    """(level, (width, height) in pixels): the lattice of shapes that each level may have."""
    height, width = spec.image_size
    sides = objects[:, 2:] * (width, height)
    sizes = np.sqrt(sides.prod(axis=1))
    low, high = np.quantile(sizes, [0.005, 0.995])
    logs = np.log(sides[:, 0] / sides[:, 1])
    ratios = np.unique(np.round(np.exp(np.quantile(logs, np.linspace(0.03, 0.97, 5))), 2))
    ratios = np.unique(np.concatenate([ratios, [1.0]]))[:_RATIOS_TO_CHOOSE_FROM]
    candidates: list[tuple[int, Shape]] = []
    for index, level in enumerate(spec.levels):
        step = max(height / level.grid[0], width / level.grid[1])
        largest = min(_LARGER * _largest_size(level), max(height, width))
        smallest = min(_SMALLEST_STEPS * step, largest / 2)
        start, end = max(low * 0.8, smallest), min(high * 1.1, largest)
        if start >= end:  # the data has nothing of this level's sizes: it keeps its own range
            start, end = largest / 3, largest
        for size in np.geomspace(start, end, _SIZES_TO_CHOOSE_FROM):
            for ratio in ratios:
                shape = (size * ratio**0.5, size / ratio**0.5)
                candidates.append((index, (round(shape[0], 2), round(shape[1], 2))))
    return candidates


def _largest_size(level: DefaultBoxLevel) -> float:
    """The square root of the largest area of a level's boxes, pixels."""
    if level.shapes is not None:
        return float(max(width * height for width, height in level.shapes) ** 0.5)
    assert level.min_size is not None
    return float((level.min_size * (level.max_size or level.min_size)) ** 0.5)


def _gain(objects: Floats, spec: DefaultBoxSpec, index: int, shape: Shape) -> Floats:
    """What a shape on a level does for each object, 0..1.

    The box with the highest IoU is the one whose centre is nearest, across and down apart: the
    overlap of two intervals only falls with the distance of their middles.
    """
    level = spec.levels[index]
    image = np.array(spec.image_size[::-1], np.float64)
    grid = np.array(level.grid[::-1])
    step = (np.array(level.step[::-1]) if level.step else image / grid) / image
    centres, sides = objects[:, :2], objects[:, 2:]
    cell = np.clip(np.rint(centres / step - level.offset), 0, grid - 1)
    distance = np.abs((cell + level.offset) * step - centres)
    own = np.array(shape) / image
    overlap = np.minimum((sides + own) / 2 - distance, np.minimum(sides, own)).clip(0)
    both = overlap.prod(axis=1)
    ratio = both / (sides.prod(axis=1) + own.prod() - both)
    return np.asarray(np.clip((ratio - 0.2) / 0.5, 0, 1), np.float32)


def _choose(gain: Floats, levels: npt.NDArray[np.intp], counts: Sequence[int]) -> list[int]:
    """``counts[level]`` columns of each level that together give the most: greedy, then swaps."""
    free = list(counts)
    chosen: list[int] = []
    have = np.zeros(len(gain), gain.dtype)
    while any(free):
        worth = np.maximum(gain, have[:, None]).sum(axis=0)
        worth[[not free[level] for level in levels]] = -1
        worth[chosen] = -1
        best = int(worth.argmax())
        chosen.append(best)
        free[levels[best]] -= 1
        have = np.maximum(have, gain[:, best])
    for _ in range(_PASSES):
        improved = False
        for place, old in enumerate(chosen):
            others = [c for c in chosen if c != old]
            base = gain[:, others].max(axis=1) if others else np.zeros_like(have)
            same = np.flatnonzero(levels == levels[old])
            worth = np.maximum(gain[:, same], base[:, None]).sum(axis=0)
            worth[np.isin(same, others)] = -1
            best = int(same[worth.argmax()])
            if worth.max() > np.maximum(gain[:, old], base).sum() + 1e-6:
                chosen[place] = best
                improved = True
        if not improved:
            break
    return chosen
