"""Matching against a slow copy of Caffe's loops in NumPy, and against torchvision's matcher."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from one_picture import match
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou, distance_box_iou

from multibox import default_boxes as numpy_boxes
from multibox.ssd.matching import (
    DefaultBoxes,
    MatchingRule,
    _one_to_one_by_rank,
    one_to_one,
)
from multibox.zoo import new_card

PAPER = MatchingRule()


def slow_iou(objects: np.ndarray, defaults: np.ndarray) -> np.ndarray:
    """IoU ``[n, g]`` of corner boxes, pair by pair, in the arrays' own precision."""
    result = np.zeros((len(defaults), len(objects)), objects.dtype)
    for i, d in enumerate(defaults):
        for j, o in enumerate(objects):
            w = min(d[2], o[2]) - max(d[0], o[0])
            h = min(d[3], o[3]) - max(d[1], o[1])
            if w > 0 and h > 0:
                area = (d[2] - d[0]) * (d[3] - d[1]) + (o[2] - o[0]) * (o[3] - o[1])
                result[i, j] = w * h / (area - w * h)
    return result


def slow_match(overlap: np.ndarray, threshold: float) -> np.ndarray:
    """What MatchBBox of bbox_util.cpp does, said again: ``overlap [n, g]`` to ``[n]``.

    Only pairs above 1e-6 exist. Bipartite: the best pair left of free default boxes and free
    objects, the earlier default box and then the earlier object on a tie, until none is left.
    Per prediction: every free default box takes the object it overlaps most, from the threshold.
    """
    n, g = overlap.shape
    matched = np.full(n, -1)
    pool = list(range(g))
    while pool:
        best, pair = 1e-6, None
        for i in range(n):
            if matched[i] == -1:
                for j in pool:
                    if overlap[i, j] > best:
                        best, pair = overlap[i, j], (i, j)
        if pair is None:
            break
        matched[pair[0]] = pair[1]
        pool.remove(pair[1])
    for i in range(n):
        if matched[i] == -1:
            candidates = [j for j in range(g) if overlap[i, j] > 1e-6]
            best = max(candidates, key=lambda j: (overlap[i, j], -j), default=None)
            if best is not None and overlap[i, best] >= threshold:
                matched[i] = best
    return matched


def corners_to_default(corners: np.ndarray) -> DefaultBoxes:
    x0, y0, x1, y1 = corners.T
    boxes = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1)
    return DefaultBoxes(torch.from_numpy(boxes))


def tensor(rows: list[tuple[float, ...]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


@pytest.fixture(scope="module")
def ssd300() -> DefaultBoxes:
    spec = new_card("ssd300_vgg16", ["object"]).default_boxes
    return DefaultBoxes(torch.from_numpy(numpy_boxes.default_boxes(spec)))


def corners_of(boxes: DefaultBoxes) -> Tensor:
    return torch.stack([boxes.x0, boxes.y0, boxes.x1, boxes.y1], dim=1)


def random_objects(rng: np.random.Generator, n: int, *, smallest: float = 0.01) -> np.ndarray:
    sides = np.exp(rng.uniform(np.log(smallest), np.log(0.9), (n, 2)))
    corner = rng.random((n, 2)) * (1 - sides)
    return np.hstack([corner, corner + sides]).astype(np.float32)


# Corners in sixteenths: every IoU is a quotient of small whole numbers, so that float32 and float64
# agree on which are equal, and ties are ties in both.
sixteenths = st.integers(0, 16)
grid_box = st.tuples(sixteenths, sixteenths, sixteenths, sixteenths).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
solid_box = grid_box.filter(lambda b: b[0] < b[2] and b[1] < b[3])
# The same few boxes again and again, so that duplicates and contested favourites are common.
crowded = st.lists(solid_box, min_size=1, max_size=4).flatmap(
    lambda boxes: st.lists(st.sampled_from(boxes), min_size=1, max_size=8)
)
objects_strategy = st.lists(solid_box, max_size=6) | crowded
defaults_strategy = st.lists(solid_box, min_size=1, max_size=24)


class TestAgainstCaffe:
    @given(
        objects_strategy, defaults_strategy | crowded, st.sampled_from([0.25, 0.5, 0.75, 1.0, 0.1])
    )
    def test_crowded_grids_with_ties(
        self,
        objects: list[tuple[int, ...]],
        defaults: list[tuple[int, ...]],
        threshold: float,
    ) -> None:
        exact = slow_iou(*(np.array(b, np.float64).reshape(-1, 4) for b in (objects, defaults)))
        ours = match(
            tensor(objects) / 16,
            corners_to_default(np.array(defaults, np.float32) / 16),
            MatchingRule(threshold=threshold),
        )
        assert ours.tolist() == slow_match(exact, threshold).tolist()

    @pytest.mark.parametrize("seed", range(4))
    def test_ssd300(self, ssd300: DefaultBoxes, seed: int) -> None:
        rng = np.random.default_rng(seed)
        objects = random_objects(rng, 6, smallest=0.003)
        objects = np.concatenate([objects, objects[:2]])  # two stand twice
        # NumPy in the same precision, in another arrangement of the formula than the code's.
        d, o = corners_of(ssd300).numpy()[:, None], objects[None]
        sides = np.minimum(d[..., 2:], o[..., 2:]) - np.maximum(d[..., :2], o[..., :2])
        inter = sides.clip(0).prod(-1)
        union = (d[..., 2:] - d[..., :2]).prod(-1) + (o[..., 2:] - o[..., :2]).prod(-1) - inter
        overlap = inter / union
        near = overlap.max(axis=1) > 1e-6  # the loops need not visit what nothing touches
        expected = np.full(len(near), -1)
        expected[near] = slow_match(overlap[near], 0.5)
        ours = match(torch.from_numpy(objects), ssd300, PAPER)
        assert ours.tolist() == expected.tolist()
        assert set(ours.tolist()) - {-1} == set(range(8))  # every object is somebody's

    @pytest.mark.parametrize("assign", [one_to_one, _one_to_one_by_rank])
    @given(st.lists(st.lists(st.integers(0, 5), min_size=5, max_size=5), min_size=1, max_size=7))
    def test_bipartite_is_the_greedy_loop(
        self, assign: Callable[[Tensor, float], Tensor], rows: list[list[int]]
    ) -> None:
        """On a processor and as on an accelerator."""
        overlap = np.array(rows, np.float32) / 5
        pictures = [overlap, np.zeros_like(overlap), overlap[::-1].copy()]
        owner = assign(torch.from_numpy(np.stack(pictures)), 1e-6)
        # A threshold out of reach: the bipartite step alone.
        assert owner.tolist() == [slow_match(each.T, threshold=2).tolist() for each in pictures]


class TestRules:
    def test_no_objects(self, ssd300: DefaultBoxes) -> None:
        matched = match(torch.zeros(0, 4), ssd300, PAPER)
        assert matched.dtype == torch.int64
        assert matched.tolist() == [-1] * 8732

    def test_identical_objects_get_different_default_boxes(self, ssd300: DefaultBoxes) -> None:
        one = (0.41, 0.37, 0.44, 0.42)  # too small for the threshold
        matched = match(tensor([one, one, one]), ssd300, PAPER)
        assert sorted(matched[matched >= 0].tolist()) == [0, 1, 2]

    def test_an_object_that_touches_nothing_stays_unmatched(self) -> None:
        defaults = DefaultBoxes(tensor([(0.25, 0.25, 0.5, 0.5)]))
        far, here = (0.6, 0.6, 0.9, 0.9), (0.1, 0.1, 0.4, 0.4)
        assert match(tensor([far]), defaults, PAPER).tolist() == [-1]
        assert match(tensor([far, here]), defaults, PAPER).tolist() == [1]

    def test_an_overlap_below_a_millionth_does_not_count(self) -> None:
        defaults = DefaultBoxes(tensor([(0.5, 0.5, 1, 1)]))
        assert match(tensor([(0.5, 0.5, 0.5005, 0.5005)]), defaults, PAPER).tolist() == [-1]
        assert match(tensor([(0.5, 0.5, 0.502, 0.502)]), defaults, PAPER).tolist() == [0]

    def test_more_objects_than_default_boxes(self) -> None:
        defaults = DefaultBoxes(tensor([(0.5, 0.5, 1, 1)]))
        objects = tensor([(0, 0, 0.5, 0.5), (0, 0, 1, 0.75), (0, 0, 0.5, 1)])
        assert match(objects, defaults, PAPER).tolist() == [1]

    def test_an_iou_of_exactly_one_half_is_positive(self) -> None:
        # Both default boxes are half covered; the bipartite step can only explain one of them.
        defaults = DefaultBoxes(tensor([(0.5, 0.25, 1, 0.5), (0.5, 0.75, 1, 0.5)]))
        whole = tensor([(0, 0, 1, 1)])
        assert match(whole, defaults, PAPER).tolist() == [0, 0]
        above = MatchingRule(threshold=0.500001)
        assert match(whole, defaults, above).tolist() == [0, -1]

    def test_the_bipartite_step_beats_a_better_overlap(self) -> None:
        # The large object overlaps both best; the small one still gets the box it has.
        defaults = DefaultBoxes(tensor([(0.5, 0.5, 1, 1), (0.25, 0.5, 0.5, 1)]))
        objects = tensor([(0, 0, 1, 1), (0, 0, 0.25, 0.5)])
        assert match(objects, defaults, PAPER).tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(6))
def test_equals_torchvision_where_no_two_objects_share_a_favourite(
    ssd300: DefaultBoxes, seed: int
) -> None:
    objects = torch.from_numpy(random_objects(np.random.default_rng(seed), 8))
    overlap = box_iou(objects, corners_of(ssd300))
    favourites = overlap.argmax(dim=1)
    assert len(favourites.unique()) == 8  # the draw is such that the rules agree
    assert match(objects, ssd300, PAPER).tolist() == SSDMatcher(0.5)(overlap).tolist()


class TestLeastPositives:
    @given(objects_strategy, defaults_strategy, st.integers(2, 6))
    def test_only_adds_free_overlapping_boxes(
        self, objects: list[tuple[int, ...]], defaults: list[tuple[int, ...]], least: int
    ) -> None:
        boxes = corners_to_default(np.array(defaults, np.float32) / 16)
        paper = match(tensor(objects) / 16, boxes, PAPER).numpy()
        more = match(tensor(objects) / 16, boxes, MatchingRule(least_positives=least)).numpy()
        had = paper >= 0
        np.testing.assert_array_equal(more[had], paper[had])

        overlap = slow_iou(*(np.array(b, np.float64).reshape(-1, 4) for b in (objects, defaults)))
        added = (more >= 0) & ~had
        assert all(overlap[i, more[i]] > 0 for i in added.nonzero()[0])
        for g in range(len(objects)):
            before, after = (paper == g).sum(), (more == g).sum()
            assert after == before or after <= least

    @given(solid_box, defaults_strategy, st.integers(1, 6))
    def test_a_lone_object_reaches_the_number_or_takes_all_it_touches(
        self, alone: tuple[int, ...], defaults: list[tuple[int, ...]], least: int
    ) -> None:
        boxes = corners_to_default(np.array(defaults, np.float32) / 16)
        matched = match(tensor([alone]) / 16, boxes, MatchingRule(least_positives=least))
        overlap = slow_iou(np.array([alone], np.float64), np.array(defaults, np.float64))[:, 0]
        reached = int((overlap >= 0.5).sum())
        expected = max(reached, min(least, int((overlap > 0).sum())))
        assert int((matched == 0).sum()) == expected

    def test_a_tiny_object_gets_its_neighbours(self, ssd300: DefaultBoxes) -> None:
        tiny = tensor([(0.400, 0.400, 0.415, 0.415)])
        assert int((match(tiny, ssd300, PAPER) == 0).sum()) == 1
        matched = match(tiny, ssd300, MatchingRule(least_positives=4))
        assert int((matched == 0).sum()) == 4
        assert bool((ssd300.iou(tiny)[0, matched == 0] > 0).all())

    def test_distant_tiny_objects_all_reach_the_number(self, ssd300: DefaultBoxes) -> None:
        spots = [(x / 10, y / 10) for x in (1, 5, 9) for y in (1, 5, 9)]
        objects = tensor([(x, y, x + 0.012, y + 0.012) for x, y in spots])
        matched = match(objects, ssd300, MatchingRule(least_positives=3))
        assert torch.bincount(matched[matched >= 0], minlength=9).tolist() == [3] * 9

    def test_nearest_centre_first_among_equal_overlaps(self) -> None:
        # The object lies wholly inside all four equal default boxes: equal IoU, below one half.
        offsets = (0.0, 0.03, 0.01, -0.02)
        defaults = DefaultBoxes(tensor([(0.5 + dx, 0.5, 0.25, 0.25) for dx in offsets]))
        small = tensor([(0.45, 0.45, 0.55, 0.55)])
        order = [0, 2, 3, 1]
        assert float(defaults.iou(small).std()) < 1e-6
        for least in (2, 3, 4):
            # The bipartite step may choose any of the equals; what is added to it is the nearest.
            matched = match(small, defaults, MatchingRule(least_positives=least))
            first = int(match(small, defaults, PAPER).argmax())
            nearest = [i for i in order if i != first][: least - 1]
            assert set(matched.eq(0).nonzero()[:, 0].tolist()) == {first, *nearest}

    def test_two_objects_that_want_one_place_leave_it_to_the_better_fit(self) -> None:
        # Each object has its own default box; both want the third, which object 1 overlaps more.
        defaults = DefaultBoxes(
            tensor([(0.2, 0.5, 0.2, 0.2), (0.8, 0.5, 0.2, 0.2), (0.55, 0.5, 0.5, 0.2)])
        )
        objects = tensor([(0.1, 0.4, 0.32, 0.6), (0.68, 0.4, 0.9, 0.6)])
        for order in ([0, 1], [1, 0]):
            matched = match(objects[order], defaults, MatchingRule(least_positives=2))
            assert matched.tolist() == [order.index(0), order.index(1), order.index(1)]

    def test_centre_distance_is_torchvisions(self, ssd300: DefaultBoxes) -> None:
        """DIoU = IoU - centre distance (Zheng et al. 2020); torchvision has it as a loss."""
        objects = torch.from_numpy(random_objects(np.random.default_rng(5), 9))
        ours = ssd300.iou(objects) - ssd300.centre_distance(objects)
        theirs = distance_box_iou(objects, corners_of(ssd300))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
