"""Label assignment by the statistics of each object's surroundings: ATSS.

Zhang et al. 2020, "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive
Training Sample Selection", algorithm 1: an object's candidates are the default boxes of the k cells
nearest to its centre on every feature map; positive are those candidates whose IoU with it reaches
the mean plus the standard deviation of its candidates' IoUs, and whose centre lies inside it.
The threshold so adapts to how well an object fits the default boxes there are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Level(NamedTuple):
    """The default boxes of one feature map: how many cells, and how many boxes in each."""

    cells: int
    boxes: int


def positives(
    overlap: Tensor, objects: Tensor, centres: Tensor, levels: Sequence[Level], k: int = 9
) -> Tensor:
    """Which default boxes may learn which objects: a mask ``[b, g, n]``.

    ``overlap [b, g, n]`` is the IoU of ``objects [b, g, 4]``, corners, with the default boxes,
    whose ``centres [n, 2]`` lie in the same frame; a cell's boxes follow one another and share one.
    Among cells at equal distances the earlier ones are taken. A default box may be positive for
    several objects.
    """
    candidates = torch.cat(
        [
            _nearest(objects, cells, first, level, k)
            for cells, first, level in _cells(centres, levels)
        ],
        dim=2,
    )
    values = overlap.gather(2, candidates)
    deviation, mean = torch.std_mean(values, dim=2, keepdim=True)
    x, y = centres[candidates].unbind(-1)
    x0, y0, x1, y1 = objects[..., None].unbind(-2)
    inside = (x0 < x) & (x < x1) & (y0 < y) & (y < y1)
    chosen = inside & (values >= mean + deviation)
    return torch.zeros_like(overlap, dtype=torch.bool).scatter_(2, candidates, chosen)


def _cells(centres: Tensor, levels: Sequence[Level]) -> list[tuple[Tensor, int, Level]]:
    """The cells' centres of each feature map, and the number of its first default box."""
    found, first = [], 0
    for level in levels:
        after = first + level.cells * level.boxes
        found.append((centres[first : after : level.boxes], first, level))
        first = after
    return found


def _nearest(objects: Tensor, cells: Tensor, first: int, level: Level, k: int) -> Tensor:
    """The default boxes of the k cells nearest to each object: ``[b, g, k * boxes]``."""
    middle = (objects[..., :2] + objects[..., 2:]) / 2
    distance = (middle[..., None, :] - cells).square().sum(dim=-1)
    nearest = distance.sort(dim=2, stable=True).indices[..., : min(k, level.cells)]
    boxes = torch.arange(level.boxes, device=cells.device)
    return (first + nearest[..., None] * level.boxes + boxes).flatten(2)
