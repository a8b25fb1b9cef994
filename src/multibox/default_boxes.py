"""The paper's default boxes (Liu et al. 2016) from a typed spec, in NumPy.

Section 2.1, "Default boxes and aspect ratios", and section 2.2, "Choosing scales and aspect ratios
for default boxes". The paper's scales s_k are fractions of the picture; a spec has them in pixels,
because published detectors round them there: ``min_size`` is s_k and ``max_size`` s_(k+1).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from multibox.card import DefaultBoxLevel, DefaultBoxSpec

Grid = tuple[int, int]


def default_boxes(spec: DefaultBoxSpec) -> npt.NDArray[np.float32]:
    """All default boxes of ``spec`` as ``[n, 4]`` (cx, cy, w, h) in fractions of the picture.

    Order: level by level, row by row, cell by cell, then the boxes of a cell as
    :class:`~multibox.card.DefaultBoxLevel` lists them: the order in which the heads'
    channels are laid out. Computed in float64 and rounded once.
    """
    boxes = np.concatenate([_level_boxes(level, spec) for level in spec.levels])
    if spec.clip == "centre-size":
        boxes = boxes.clip(0, 1)
    elif spec.clip == "corners":
        boxes = _to_centre_size(to_corners(boxes).clip(0, 1))
    elif spec.clip == "sides":
        boxes[:, 2:] = boxes[:, 2:].clip(0, 1)
    return boxes.astype(np.float32)


def _level_boxes(level: DefaultBoxLevel, spec: DefaultBoxSpec) -> npt.NDArray[np.float64]:
    image = np.array(spec.image_size, np.float64)
    step = image / level.grid if level.step is None else np.array(level.step)
    rows, columns = level.grid
    cy = (np.arange(rows) + level.offset) * step[0] / image[0]
    cx = (np.arange(columns) + level.offset) * step[1] / image[1]
    shapes = _cell_shapes(level, truncate=spec.truncate_sizes) / image[::-1]

    boxes = np.empty((rows, columns, len(shapes), 4))
    boxes[..., 0] = cx[None, :, None]
    boxes[..., 1] = cy[:, None, None]
    boxes[..., 2:] = shapes
    return boxes.reshape(-1, 4)


def _cell_shapes(level: DefaultBoxLevel, *, truncate: bool) -> npt.NDArray[np.float64]:
    """Widths and heights in pixels of the boxes that share one centre, ``[n, 2]``.

    w = s_k sqrt(a_r) and h = s_k / sqrt(a_r), and for a_r = 1 a second square of
    s'_k = sqrt(s_k s_(k+1)).
    """
    if level.shapes is not None:
        return np.array(level.shapes, np.float64)
    assert level.min_size is not None
    # Caffe's PriorBox layer keeps its sizes in int variables: SSD512's 35.84 becomes 35.
    s_k = float(int(level.min_size)) if truncate else level.min_size
    shapes = [(s_k, s_k)]
    if level.max_size is not None:
        s_next = float(int(level.max_size)) if truncate else level.max_size
        side = (s_k * s_next) ** 0.5
        shapes.append((side, side))
    for a_r in level.aspect_ratios:
        root = a_r**0.5
        shapes += [(s_k * root, s_k / root), (s_k / root, s_k * root)]
    return np.array(shapes, np.float64)


def choose_scales(m: int, s_min: float, s_max: float) -> list[float]:
    """Equation 4: s_k for the maps k = 1..m, fractions of the picture at equal distances.

    s_k = s_min + (s_max - s_min) / (m - 1) (k - 1); the paper has s_min = .2 and s_max = .9, and
    sets the scale of conv4_3 apart.
    """
    return [float(s_k) for s_k in np.linspace(s_min, s_max, m)]


def to_corners(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """(cx, cy, w, h) to (x0, y0, x1, y1), any shape ``[..., 4]``."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def _to_centre_size(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.concatenate(
        [(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=-1
    )


def spec_from_sizes(
    image_size: Grid,
    grids: Sequence[Grid],
    sizes: Sequence[float],
    aspect_ratios: Sequence[tuple[float, ...]],
    *,
    steps: Sequence[float] | None = None,
    truncate_sizes: bool = False,
) -> DefaultBoxSpec:
    """A spec from one more size (pixels) than there are levels: each level's max is the next's min.

    ``steps`` are pixels between centres, the same down and across; without them they follow from
    the grid.
    """
    if not len(sizes) - 1 == len(grids) == len(aspect_ratios):
        raise ValueError("sizes must be one more than grids and aspect ratios")
    levels = tuple(
        DefaultBoxLevel(
            grid=grid,
            step=None if steps is None else (steps[i], steps[i]),
            min_size=sizes[i],
            max_size=sizes[i + 1],
            aspect_ratios=aspect_ratios[i],
        )
        for i, grid in enumerate(grids)
    )
    return DefaultBoxSpec(image_size=image_size, levels=levels, truncate_sizes=truncate_sizes)
