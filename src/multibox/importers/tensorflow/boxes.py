"""The default boxes and the coding of a graph, found by asking it to decode.

Offsets of zero decode to the default boxes themselves; an offset of one in a single channel shows
what that channel moves, and how far.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from multibox.card import DefaultBoxLevel, DefaultBoxSpec
from multibox.default_boxes import Grid, default_boxes
from multibox.importers.tensorflow.evaluate import NotComputable, evaluate
from multibox.importers.tensorflow.graph import Graph, Output

Floats = npt.NDArray[np.float64]
_LARGEST_DIFFERENCE = 1e-5


class Boxes(NamedTuple):
    """Default boxes, and which of a box's four channels code its x, y, width and height."""

    spec: DefaultBoxSpec
    channels: tuple[int, int, int, int]


class Decoder:
    """The part of a graph that makes boxes of offsets.

    ``shapes`` are those of the picture and the feature maps, which some graphs ask for.

    Raises: InputError where there is none that can be computed.
    """

    def __init__(
        self,
        graph: Graph,
        encodings: Output,
        count: int,
        shapes: Mapping[Output, tuple[int, ...]],
    ) -> None:
        self._graph, self._encodings, self._count = graph, encodings, count
        self._shapes = shapes
        exponentials = [n.name for n in graph.behind(encodings.node) if n.op == "Exp"]
        # The four coordinates are stacked, then transposed: one row a box.
        stacks = (n for n in graph.behind(*exponentials) if n.op == "Transpose")
        last = next(stacks, None)
        if last is None:
            raise graph.refusal("decodes boxes in a way that is not known")
        self._decoded = Output(last.name)

    def __call__(self, offsets: npt.NDArray[np.floating]) -> Floats:
        """Centre, width and height (x first, fractions of the picture) of ``offsets [n, 4]``."""
        reason = ""
        for shape in ((1, self._count, 1, 4), (1, self._count, 4)):
            given = {self._encodings: offsets.astype(np.float32).reshape(shape)}
            try:
                (corners,) = evaluate(self._graph, [self._decoded], given, shapes=self._shapes)
            except NotComputable as error:
                reason = reason or str(error)
                continue
            if corners.shape == (self._count, 4) and np.isfinite(corners).all():
                y0, x0, y1, x1 = corners.astype(np.float64).T
                return np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1)
            reason = reason or f"boxes of the shape {corners.shape} for {self._count} predictions"
        raise self._graph.refusal(f"has default boxes that cannot be computed: {reason}")


def read_boxes(
    graph: Graph,
    decoder: Decoder,
    image_size: Grid,
    grids: Sequence[Grid],
    boxes_per_cell: Sequence[int],
) -> Boxes:
    """Default boxes and coding of a detector whose maps have those grids.

    Raises: InputError where they are not the same in every cell, or coded by another rule than the
    paper's (Liu et al. 2016, section 2.2).
    """
    count = sum(r * c * k for (r, c), k in zip(grids, boxes_per_cell, strict=True))
    found = decoder(np.zeros((count, 4)))
    if not (found[:, 2:] > 0).all():
        raise graph.refusal("has default boxes without area")
    channels, variances = _coding(graph, decoder, found)
    levels, start = [], 0
    for (rows, columns), boxes in zip(grids, boxes_per_cell, strict=True):
        stop = start + rows * columns * boxes
        cells = found[start:stop].reshape(rows, columns, boxes, 4)
        if not (cells[..., :2] > 0).all() or len(np.unique(cells[:, 0, 0, 1])) < rows:
            raise graph.refusal("has default boxes that are not the same in every cell")
        levels.append(_level(cells, image_size))
        start = stop
    spec = DefaultBoxSpec(image_size=image_size, levels=tuple(levels), variances=variances)
    if not np.abs(default_boxes(spec) - found).max() <= _LARGEST_DIFFERENCE:
        raise graph.refusal("has default boxes that are not the same in every cell")
    return Boxes(spec, channels)


def _coding(
    graph: Graph, decoder: Decoder, default: Floats
) -> tuple[tuple[int, int, int, int], tuple[float, float, float, float]]:
    """The channels of x, y, width and height, and the variance of each."""
    moved = np.stack(
        [_offsets(decoder(np.tile(np.eye(4)[k], (len(default), 1))), default) for k in range(4)]
    ).mean(axis=1)
    channels = np.abs(moved).argmax(axis=0)
    largest = moved[channels, range(4)]
    if sorted(channels) != [0, 1, 2, 3] or not (largest > 1e-3).all():
        raise graph.refusal("codes boxes by another rule than the paper's")
    # The configuration states scales, the inverse: 10, 10, 5, 5.
    x, y, width, height = (1 / round(float(1 / value), 3) for value in largest)
    sample = np.random.default_rng(0).normal(size=(len(default), 4))
    decoded = _offsets(decoder(sample), default)
    if np.abs(decoded - sample[:, channels] * (x, y, width, height)).max() > 1e-4:
        raise graph.refusal("codes boxes by another rule than the paper's")
    first, second, third, fourth = channels.tolist()
    return (first, second, third, fourth), (x, y, width, height)


def _offsets(boxes: Floats, default: Floats) -> Floats:
    """The paper's offsets before they are divided by the variances."""
    centre = (boxes[:, :2] - default[:, :2]) / default[:, 2:]
    return np.concatenate([centre, np.log(boxes[:, 2:] / default[:, 2:])], axis=1)


def _level(boxes: Floats, image_size: Grid) -> DefaultBoxLevel:
    """The level of ``boxes [rows, columns, k, 4]``; sizes to a ten-thousandth of a pixel."""
    height, width = image_size
    rows, columns = boxes.shape[:2]
    shapes = tuple(
        (round(float(w) * width, 4), round(float(h) * height, 4)) for w, h in boxes[0, 0, :, 2:]
    )
    ys, xs = boxes[:, 0, 0, 1] * height, boxes[0, :, 0, 0] * width
    down = (ys[-1] - ys[0]) / (rows - 1) if rows > 1 else 2 * ys[0]
    across = (xs[-1] - xs[0]) / (columns - 1) if columns > 1 else 2 * xs[0]
    offset = float(ys[0] / down)
    by_grid = np.allclose([down * rows, across * columns, offset], [height, width, 0.5], atol=1e-3)
    if by_grid:
        return DefaultBoxLevel(grid=(rows, columns), shapes=shapes)
    step = (round(float(down), 4), round(float(across), 4))
    return DefaultBoxLevel(grid=(rows, columns), step=step, offset=round(offset, 4), shapes=shapes)
