"""Resizing that OpenCV does not have: on a grid that begins at the picture's corner."""

import numpy as np
import numpy.typing as npt

_Picture = npt.NDArray[np.uint8]


def resize_by_corners(image: _Picture, height: int, width: int) -> _Picture:
    """An RGB picture ``[H, W, 3]`` of uint8 resized bilinearly to ``[height, width, 3]``.

    Pixel i of the result is taken at i * old / new, as TensorFlow 1's ResizeBilinear does.

    OpenCV could shift its own grid only with weights rounded to 1/32, which is up to 4 levels off.
    """
    above, below, down = _neighbours(image.shape[0], height)
    left, right, across = _neighbours(image.shape[1], width)
    down, across = down[:, None, None], across[:, None]
    used, places = np.unique(np.concatenate([above, below]), return_inverse=True)
    rows = image[used].astype(np.float32)
    rows = rows[:, left] + (rows[:, right] - rows[:, left]) * across
    upper, lower = rows[places[:height]], rows[places[height:]]
    result: _Picture = np.rint(upper + (lower - upper) * down).astype(np.uint8)
    return result


def _neighbours(
    old: int, new: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each of ``new`` samples, the two old ones it lies between and its way from the first."""
    position = np.arange(new, dtype=np.float32) * np.float32(old / new)
    first = position.astype(np.int64)
    return first, np.minimum(first + 1, old - 1), position - first.astype(np.float32)
