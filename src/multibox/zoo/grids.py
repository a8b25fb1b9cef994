"""The sizes of feature maps, computed from the layers that make them."""

from collections.abc import Sequence

from multibox.card import ExtraLayer
from multibox.default_boxes import Grid
from multibox.errors import InputError


def halved(grid: Grid, *, times: int = 1) -> Grid:
    """After ``times`` layers of stride 2 that round up."""
    for _ in range(times):
        grid = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
    return grid


def at_strides(image_size: Grid, strides: Sequence[int]) -> list[Grid]:
    """The maps of a network whose every halving rounds up; ``strides`` are powers of two."""
    return [halved(image_size, times=stride.bit_length() - 1) for stride in strides]


def after(grid: Grid, layer: ExtraLayer) -> Grid:
    """The map behind an extra layer."""
    rows, columns = ((side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in grid)
    return rows, columns


def grids_behind(grid: Grid, layers: Sequence[ExtraLayer]) -> list[Grid]:
    """The maps behind each of ``layers``, the first of which sees ``grid``."""
    grids = []
    for layer in layers:
        grid = after(grid, layer)
        grids.append(grid)
    return grids


def check_image_size(image_size: Grid, *, least: int) -> None:
    """Raise InputError for an input with a side below ``least`` pixels."""
    if min(image_size) < least:
        raise InputError(
            f"an image size of {image_size[0]}x{image_size[1]} is too small for this detector: "
            f"take at least {least} pixels a side"
        )
