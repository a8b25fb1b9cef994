"""ATSS against its algorithm as the paper writes it, object by object."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from multibox import boxes as numpy_geometry
from multibox import default_boxes as numpy_boxes
from multibox.ssd.atss import Level
from multibox.ssd.matching import BACKGROUND, LEFT_OUT, DefaultBoxes, MatchingRule, match
from multibox.zoo import new_card

SPEC = new_card("ssdlite320_mobilenet_v2", ["object"], image_size=(128, 160)).default_boxes
BOXES = numpy_boxes.default_boxes(SPEC)
LEVELS = [Level(level.grid[0] * level.grid[1], level.boxes_per_cell) for level in SPEC.levels]


@pytest.fixture(scope="module")
def defaults() -> DefaultBoxes:
    return DefaultBoxes(torch.from_numpy(BOXES), LEVELS)


def paper(objects: npt.NDArray[np.float32], k: int) -> list[set[int]]:
    """Algorithm 1 of Zhang et al. 2020: the positives of each object."""
    found = []
    for g in objects.astype(np.float64):
        candidates: list[int] = []
        first = 0
        for level in SPEC.levels:
            rows, columns = level.grid
            a = level.boxes_per_cell
            cells = []
            for cell in range(rows * columns):
                cx, cy = BOXES[first + cell * a, :2]
                distance = np.hypot(cx - (g[0] + g[2]) / 2, cy - (g[1] + g[3]) / 2)
                cells.append((distance, cell))
            for _, cell in sorted(cells)[:k]:
                candidates += range(first + cell * a, first + (cell + 1) * a)
            first += rows * columns * a
        corners = numpy_boxes.to_corners(BOXES[candidates].astype(np.float64))
        ious = numpy_geometry.iou(g[None], corners)[0]
        t = ious.mean() + ious.std(ddof=1)
        centres = BOXES[candidates, :2]
        inside = ((centres > g[:2]) & (centres < g[2:])).all(axis=1)
        found.append({candidates[i] for i in np.flatnonzero((ious >= t) & inside)})
    return found


def random_objects(rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    side = rng.uniform(0.05, 0.9, (count, 2))
    corner = rng.uniform(0, 1 - side)
    return np.hstack([corner, corner + side]).astype(np.float32)


def expected(objects: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Each default box's object, the one with the highest IoU of those that claim it."""
    iou = numpy_geometry.iou(objects, numpy_boxes.to_corners(BOXES))
    owner = np.full(len(BOXES), BACKGROUND)
    best = np.zeros(len(BOXES))
    for j, positives in enumerate(paper(objects, k)):
        for i in positives:
            if iou[j, i] > best[i]:
                owner[i], best[i] = j, iou[j, i]
    return owner


def padded(pictures: Sequence[npt.NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    most = max(map(len, pictures))
    objects, present = torch.zeros(len(pictures), most, 4), torch.zeros(len(pictures), most)
    for i, each in enumerate(pictures):
        objects[i, : len(each)] = torch.from_numpy(each)
        present[i, : len(each)] = 1
    return objects, present.bool()


@pytest.mark.parametrize("k", [9, 4])
def test_a_batch_equals_the_paper(defaults: DefaultBoxes, k: int) -> None:
    rng = np.random.default_rng(0)
    pictures = [random_objects(rng, count) for count in (1, 0, 7, 3, 12, 2)]
    rule = MatchingRule(assigner="atss", atss_cells=k)
    matched = match(*padded(pictures), defaults, rule).numpy()
    topped_up = 0
    for ours, objects in zip(matched, pictures, strict=True):
        theirs = expected(objects, k)
        without = set(range(len(objects))) - set(theirs.tolist())
        # An object to which the algorithm gives nothing has one default box all the same.
        assert all((ours == j).sum() == 1 for j in without)
        topped_up += len(without)
        same = ~np.isin(ours, list(without))
        np.testing.assert_array_equal(ours[same], theirs[same])
    assert topped_up
    assert (matched >= 0).sum() > 100


def test_objects_smaller_than_a_cell_get_the_least_positives(defaults: DefaultBoxes) -> None:
    small = np.array([[0.501, 0.501, 0.51, 0.51], [0.1, 0.2, 0.112, 0.21]], np.float32)
    assert paper(small, 9) == [set(), set()]
    rule = MatchingRule(assigner="atss", least_positives=4)
    matched = match(*padded([small]), defaults, rule)
    assert [(matched == j).sum().item() for j in range(2)] == [4, 4]


def test_near_misses_may_be_left_out(defaults: DefaultBoxes) -> None:
    objects, present = padded([np.array([[0.2, 0.2, 0.8, 0.8]], np.float32)])
    plain = match(objects, present, defaults, MatchingRule(assigner="atss"))
    rule = MatchingRule(assigner="atss", negative_overlap=0.2)
    gentle = match(objects, present, defaults, rule)
    near = (defaults.iou(objects)[0] >= 0.2) & (plain == BACKGROUND)
    assert near.any()
    assert torch.equal(gentle, plain.masked_fill(near, LEFT_OUT))
