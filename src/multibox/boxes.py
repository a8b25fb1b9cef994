"""Box geometry on NumPy arrays: continuous corner coordinates (x0, y0, x1, y1)."""

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]


def area(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Areas of ``[n, 4]`` corner boxes; an inverted box has area 0."""
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    product: npt.NDArray[np.floating] = sides[..., 0] * sides[..., 1]
    return product


def iou(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Intersection over union of every box of ``a [n, 4]`` with every box of ``b [m, 4]``.

    Returns ``[n, m]`` in 0..1, in the wider of the two dtypes; 0 where both boxes are empty.
    """
    intersection = intersection_area(a, b)
    union = area(a)[:, None] + area(b)[None, :] - intersection
    ratio: npt.NDArray[np.floating] = np.divide(
        intersection, union, out=np.zeros_like(intersection), where=union > 0
    )
    return ratio


def intersection_area(
    a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """Areas of the overlaps of every box of ``a [n, 4]`` with every box of ``b [m, 4]``."""
    # Coordinate by coordinate: long rows, where [n, m, 2] would make NumPy loop over pairs.
    ax0, ay0, ax1, ay1 = a.T[:, :, None]
    bx0, by0, bx1, by1 = b.T
    width = np.minimum(ax1, bx1) - np.maximum(ax0, bx0)
    height = np.minimum(ay1, by1) - np.maximum(ay0, by0)
    product: npt.NDArray[np.floating] = np.maximum(width, 0) * np.maximum(height, 0)
    return product


def centre_inside(
    boxes: npt.NDArray[np.floating], window: npt.NDArray[np.floating]
) -> npt.NDArray[np.bool_]:
    """Whether the centre of each of ``boxes [n, 4]`` lies strictly inside ``window [4]``."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = (centres > window[:2]) & (centres < window[2:])
    return inside[:, 0] & inside[:, 1]
