"""Where published implementations of SSD differ: both sides of every switch of matching and loss.

The answers come from arithmetic on a few boxes, from slow loops written after Caffe's and NVIDIA's
definitions, and from torchvision's own matcher.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from one_picture import match
from torch import Tensor
from torchvision.models.detection._utils import SSDMatcher
from torchvision.ops import box_iou

from multibox import default_boxes as numpy_boxes
from multibox.data.batches import Key, TrainingPictures
from multibox.data.samples import Sample
from multibox.ssd.hard_negative_mining import hard_negatives
from multibox.ssd.matching import BACKGROUND, LEFT_OUT, DefaultBoxes, MatchingRule
from multibox.ssd.multibox_loss import Targets, build_targets, multibox_loss
from multibox.training.recipes import Recipe, modern, paper
from multibox.training.step import matching_rule
from multibox.zoo import new_card

PROFILES = {"paper": paper(), "modern": modern()}


def two_steps(profile: str) -> MatchingRule:
    """The profile's keys with the paper's assignment (test_atss.py has the other)."""
    return replace(matching_rule(PROFILES[profile]), assigner="iou")


PAPER, MODERN = map(two_steps, PROFILES)
VARIANCES = (0.1, 0.1, 0.2, 0.2)

both = pytest.mark.parametrize("profile", PROFILES)


def boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def defaults(*corners: tuple[float, ...]) -> DefaultBoxes:
    low, high = boxes(*corners).split(2, dim=1)
    return DefaultBoxes(torch.cat([(low + high) / 2, high - low], dim=1))


def corners_of(each: DefaultBoxes) -> Tensor:
    return torch.stack([each.x0, each.y0, each.x1, each.y1], dim=1)


@pytest.fixture(scope="module")
def ssd300() -> DefaultBoxes:
    spec = new_card("ssd300_vgg16", ["object"]).default_boxes
    return DefaultBoxes(torch.from_numpy(numpy_boxes.default_boxes(spec)))


def random_objects(seed: int, n: int) -> Tensor:
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(0.02), np.log(0.9), (n, 2)))
    corner = rng.random((n, 2)) * (1 - sides)
    return torch.from_numpy(np.hstack([corner, corner + sides]).astype(np.float32))


class TestTwoObjectsOnOneDefaultBox:
    # Left half and right half; both objects overlap the left half most.
    HALVES = defaults((0, 0, 0.5, 1), (0.5, 0, 1, 1))
    OBJECTS = boxes((0.2, 0, 0.6, 0.4), (0.2, 0, 0.6, 0.5))  # IoU .23 and .28, with the right .07

    @both
    def test_both_profiles_give_each_object_its_own(self, profile: str) -> None:
        rule = two_steps(profile)
        assert match(self.OBJECTS, self.HALVES, rule).tolist() == [1, 0]
        assert match(self.OBJECTS.flip(0), self.HALVES, rule).tolist() == [0, 1]

    def test_later_wins_leaves_the_earlier_with_nothing(self) -> None:
        rule = MatchingRule(bipartite="later-wins")
        for objects in (self.OBJECTS, self.OBJECTS.flip(0)):
            assert match(objects, self.HALVES, rule).tolist() == [1, BACKGROUND]

    @pytest.mark.parametrize("seed", range(4))
    def test_later_wins_is_torchvisions_rule(self, ssd300: DefaultBoxes, seed: int) -> None:
        crowd = random_objects(seed, 6)
        outside = boxes((1.5, 1.5, 1.6, 1.6))
        objects = torch.cat([crowd, crowd + 0.002, crowd[:3], outside])
        rule = MatchingRule(bipartite="later-wins", least_overlap=-1)
        theirs = SSDMatcher(0.5)(box_iou(objects, corners_of(ssd300)))
        assert match(objects, ssd300, rule).tolist() == theirs.tolist()
        assert match(objects, ssd300, PAPER).tolist() != theirs.tolist()
        assert int(theirs[0]) == len(objects) - 1  # forced where it does not touch


class TestIouOfExactlyOneHalf:
    # The object covers all of both default boxes, half of it each.
    HALVES = defaults((0, 0, 1, 0.5), (0, 0.5, 1, 1))
    WHOLE = boxes((0, 0, 1, 1))

    @both
    def test_it_is_positive_in_both_profiles(self, profile: str) -> None:
        rule = two_steps(profile)
        assert match(self.WHOLE, self.HALVES, rule).tolist() == [0, 0]

    def test_strictly_it_is_not(self) -> None:
        # The first box is the bipartite step's.
        assert match(self.WHOLE, self.HALVES, MatchingRule(strict=True)).tolist() == [0, BACKGROUND]

    def test_strictly_and_with_caffes_bound_it_is_neither(self) -> None:
        rule = MatchingRule(strict=True, negative_overlap=0.5)
        assert match(self.WHOLE, self.HALVES, rule).tolist() == [0, LEFT_OUT]

    def test_strict_is_nvidias_rule(self, ssd300: DefaultBoxes) -> None:
        objects = random_objects(5, 9)
        overlap = box_iou(objects, corners_of(ssd300)).numpy()
        expected = np.where(overlap.max(axis=0) > 0.5, overlap.argmax(axis=0), BACKGROUND)
        for j, favourite in enumerate(overlap.argmax(axis=1)):
            expected[favourite] = j
        rule = MatchingRule(strict=True, bipartite="later-wins")
        assert match(objects, ssd300, rule).tolist() == expected.tolist()


class TestEpsilon:
    # Squares of 1/256, 1.2 pixels of 300: areas of 1.5e-5, little more than the epsilon of 1e-5.
    S = 1 / 256
    TINY = defaults((0, 0, S, S), (S, 0, 2 * S, S))

    def test_it_lowers_the_iou_of_tiny_boxes_only(self) -> None:
        same = boxes((0, 0, self.S, self.S))
        assert float(self.TINY.iou(same)[0, 0]) == 1
        lower = float(self.TINY.iou(same, 1e-5)[0, 0])
        assert lower == pytest.approx(self.S**2 / (self.S**2 + 1e-5), rel=1e-6)
        large = defaults((0, 0, 1, 1))
        assert float(large.iou(boxes((0, 0, 1, 0.5)), 1e-5)) == pytest.approx(0.5, abs=1e-5)

    @pytest.mark.parametrize(("epsilon", "second"), [(0.0, 0), (1e-5, BACKGROUND)])
    def test_it_decides_matches(self, epsilon: float, second: int) -> None:
        # Half of the object lies in each box; the second can only be had by the threshold.
        across = boxes((0, 0, 2 * self.S, self.S))
        rule = MatchingRule(iou_epsilon=epsilon)
        assert match(across, self.TINY, rule).tolist() == [0, second]
        assert PAPER.iou_epsilon == MODERN.iou_epsilon == 0


class TestObjectsSmallerThanAnyBox:
    TINY = boxes((0.4, 0.4, 0.415, 0.415))

    @pytest.mark.parametrize(("profile", "positives"), [("paper", 1), ("modern", 4)])
    def test_the_paper_gives_them_one_default_box_and_modern_four(
        self, ssd300: DefaultBoxes, profile: str, positives: int
    ) -> None:
        matched = match(self.TINY, ssd300, two_steps(profile))
        assert int((matched == 0).sum()) == positives

    @both
    def test_one_that_touches_no_default_box_stays_unmatched(self, profile: str) -> None:
        corner = defaults((0, 0, 0.5, 0.5), (0, 0, 0.25, 0.25))
        far = boxes((0.6, 0.6, 0.9, 0.9))
        rule = two_steps(profile)
        assert match(far, corner, rule).tolist() == [BACKGROUND, BACKGROUND]
        forced = MatchingRule(least_overlap=-1)
        assert match(far, corner, forced).tolist() == [0, BACKGROUND]
        assert SSDMatcher(0.5)(box_iou(far, corners_of(corner))).tolist() == [0, BACKGROUND]

    def test_forced_one_to_one_takes_a_free_box(self) -> None:
        corner = defaults((0, 0, 0.5, 0.5), (0, 0, 0.25, 0.25))
        objects = boxes((0.6, 0.6, 0.9, 0.9), (0, 0, 0.4, 0.4), (0.7, 0.6, 0.9, 0.9))
        assert match(objects, corner, MatchingRule(least_overlap=-1)).tolist() == [1, 0]


class TestNegativesEligibility:
    # IoU with the object: 1, .55 and .45.
    BOXES = defaults((0, 0, 1, 1), (0, 0, 1, 0.55), (0, 0, 1, 0.45))
    OBJECT = boxes((0, 0, 1, 1))

    def targets(self, **rule: Any) -> Targets:
        labels = [torch.tensor([1])]
        return build_targets(
            [self.OBJECT], labels, self.BOXES, VARIANCES, MatchingRule(threshold=0.6, **rule)
        )

    def test_any_box_that_is_not_positive_or_only_those_below_the_bound(self) -> None:
        assert self.targets().classes.tolist() == [[2, 0, 0]]
        assert self.targets(negative_overlap=0.5).classes.tolist() == [[2, -1, 0]]

    def test_what_is_left_out_has_no_gradient(self) -> None:
        for bound, touched in ((1.0, [True, True, True]), (0.5, [True, False, True])):
            logits = torch.zeros(1, 3, 4, requires_grad=True)
            targets = self.targets(negative_overlap=bound)
            multibox_loss(logits, torch.zeros(1, 3, 4), targets).confidence.backward()
            assert logits.grad is not None
            assert logits.grad.abs().sum(dim=2).gt(0).tolist() == [touched]

    @given(st.integers(0, 2**20), st.sampled_from([0.2, 0.5, 0.7]), st.sampled_from([0.3, 0.5]))
    def test_equals_caffes_loops(self, seed: int, threshold: float, neg_overlap: float) -> None:
        """``MatchBBox`` and ``MineHardExamples`` said again, pair by pair."""
        rng = np.random.default_rng(seed)
        grid = np.sort(rng.integers(0, 9, (30, 2, 2)), axis=1).reshape(30, 4)  # x0 y0 x1 y1
        solid = grid[(grid[:, 0] < grid[:, 2]) & (grid[:, 1] < grid[:, 3])].astype(np.float32) / 8
        if len(solid) < 3:
            return
        n_objects = int(rng.integers(1, min(4, len(solid) - 1)))
        objects, priors = solid[:n_objects], solid[n_objects:]
        overlap = slow_iou(priors, objects)
        matched, best = slow_match(overlap, threshold)
        loss = rng.permutation(len(priors)).astype(np.float32)
        rule = MatchingRule(threshold=threshold, negative_overlap=neg_overlap)
        classes = build_targets(
            [torch.from_numpy(objects)],
            [torch.zeros(n_objects, dtype=torch.int64)],
            defaults(*priors.tolist()),
            VARIANCES,
            rule,
        ).classes
        assert (classes[0] > 0).tolist() == (matched >= 0).tolist()
        eligible = [m for m in range(len(priors)) if matched[m] == -1 and best[m] < neg_overlap]
        count = min(int((matched >= 0).sum() * 3.0), len(eligible))
        expected = sorted(sorted(eligible, key=lambda m: -loss[m])[:count])
        ours = hard_negatives(torch.from_numpy(loss)[None], classes)[0].nonzero()[:, 0]
        assert ours.tolist() == expected


def slow_iou(priors: np.ndarray, objects: np.ndarray) -> np.ndarray:
    result = np.zeros((len(priors), len(objects)), np.float32)
    for i, d in enumerate(priors):
        for j, g in enumerate(objects):
            w, h = min(d[2], g[2]) - max(d[0], g[0]), min(d[3], g[3]) - max(d[1], g[1])
            if w > 0 and h > 0:
                areas = (d[2] - d[0]) * (d[3] - d[1]) + (g[2] - g[0]) * (g[3] - g[1])
                result[i, j] = w * h / (areas - w * h)
    return result


def slow_match(overlap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """``match_indices`` and ``match_overlaps`` of Caffe for ``overlap [n, g]``."""
    n, g = overlap.shape
    matched, best, pool = np.full(n, -1), np.zeros(n, np.float32), list(range(g))
    for i in range(n):
        best[i] = max([0.0, *(overlap[i, j] for j in range(g) if overlap[i, j] > 1e-6)])
    while pool:
        pairs = [
            (overlap[i, j], -i, -j)
            for i in range(n)
            for j in pool
            if matched[i] == -1 and overlap[i, j] > 1e-6
        ]
        if not pairs:
            break
        value, i, j = max(pairs)
        matched[-i], best[-i] = -j, value
        pool.remove(-j)
    for i in range(n):
        if matched[i] == -1 and best[i] >= threshold:
            matched[i] = int(overlap[i].argmax())
    return matched, best


class TestZeroPositives:
    def empty_batch(self, background: Tensor) -> tuple[Tensor, Tensor, Targets]:
        """One picture without objects; the margin of background over the one class."""
        n = len(background)
        logits = torch.stack([background, torch.zeros(n)], dim=1)[None].requires_grad_()
        targets = Targets(torch.zeros(1, n, dtype=torch.int64), torch.zeros(1, n, 4))
        return logits, torch.zeros(1, n, 4, requires_grad=True), targets

    def loss_of(self, background: Tensor, recipe: Recipe) -> list[float]:
        loss = multibox_loss(*self.empty_batch(background), min_negatives=recipe.min_negatives)
        return [each.item() for each in loss]

    def test_the_paper_learns_nothing_and_divides_by_no_zero(self) -> None:
        assert self.loss_of(torch.arange(6.0), PROFILES["paper"]) == [0, 0]

    @pytest.mark.parametrize("number", [3, 8])
    def test_modern_and_tensorflow_learn_the_hardest_negatives(self, number: int) -> None:
        """8 in ``modern``; TensorFlow's ``min_negatives_per_image`` is 3 in its published SSDs."""
        recipe = PROFILES["modern"]
        assert recipe.min_negatives == 8
        margins = torch.randperm(20, generator=torch.Generator().manual_seed(0)).float()
        found = self.loss_of(margins, recipe.changed({"min_negatives": number}))
        expected = sum(np.log1p(np.exp(-margin)) for margin in range(number))
        assert found == [pytest.approx(expected, rel=1e-6), 0]

    def test_min_negatives_leaves_other_pictures_their_three_to_one(self) -> None:
        classes = torch.zeros(2, 20, dtype=torch.int64)
        classes[0, :4] = 1
        mask = hard_negatives(torch.rand(2, 20), classes, at_least=3)
        assert mask.sum(dim=1).tolist() == [12, 3]
        assert hard_negatives(torch.rand(1, 2), classes[1:, :2], at_least=3).all()


class TestAllDifficultPicture:
    @both
    @pytest.mark.parametrize("learned", [True, False])
    def test_both_profiles_learn_difficult_objects_unless_told_not_to(
        self, profile: str, learned: bool
    ) -> None:
        recipe = PROFILES[profile]
        assert recipe.train_difficult
        image = np.zeros((40, 40, 3), np.uint8)
        sample = Sample.of(image, [[4, 4, 30, 30]], [0], width=40, height=40, difficult=[True])
        shown = TrainingPictures([sample], (40, 40), augmentation=None, train_difficult=learned)
        _, objects, labels = shown[Key(0, 0)]
        grid = defaults((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1), (0.1, 0.1, 0.8, 0.8))
        targets = build_targets(
            [torch.from_numpy(objects)],
            [torch.from_numpy(labels)],
            grid,
            VARIANCES,
            two_steps(profile),
        )
        assert (targets.matches > 0) == learned
        loss = multibox_loss(torch.zeros(1, 3, 2), torch.zeros(1, 3, 4), targets)
        assert bool(loss.confidence.isfinite())
        assert (loss.confidence > 0) == learned  # without them the picture is background


class TestNormaliser:
    def test_weights_make_it_nvidias_mean_over_pictures(self) -> None:
        """Each picture's sum over its own N, the mean of these, 0 for a picture without objects."""
        torch.manual_seed(0)
        logits, offsets = torch.randn(3, 40, 4), torch.randn(3, 40, 4)
        classes = torch.zeros(3, 40, dtype=torch.int64)
        classes[0, :6], classes[2, 9] = 2, 1
        coded = torch.randn(3, 40, 4)
        targets = Targets(classes, coded)
        assert targets.matches_by_picture.tolist() == [6, 0, 1]
        n = targets.matches_by_picture.clamp(min=1)
        loss = multibox_loss(logits, offsets, targets, weights=1 / (3 * n))
        expected = [0.0, 0.0]
        for i, count in ((0, 6), (2, 1)):
            alone = Targets(classes[i : i + 1], coded[i : i + 1])
            sums = multibox_loss(logits[i : i + 1], offsets[i : i + 1], alone)
            for k, each in enumerate(sums):
                expected[k] += each.item() / count / 3
        assert [each.item() for each in loss] == pytest.approx(expected, rel=1e-5)


class TestClassLoss:
    @given(st.integers(0, 2**20))
    def test_sigmoid_is_the_binary_cross_entropy_of_every_column(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        n, columns = 30, 5
        logits = rng.normal(0, 3, (n, columns))
        classes = np.where(rng.random(n) < 0.1, rng.integers(1, columns, n), 0)
        probability = 1 / (1 + np.exp(-logits))
        by_column = -np.where(
            np.eye(columns)[classes] > 0, np.log(probability), np.log(1 - probability)
        )
        loss = by_column.sum(axis=1)
        negatives = sorted(loss[classes == 0], reverse=True)[: 3 * int((classes > 0).sum())]
        expected = loss[classes > 0].sum() + sum(negatives)
        targets = Targets(torch.from_numpy(classes)[None], torch.zeros(1, n, 4))
        ours = multibox_loss(
            torch.from_numpy(logits).float()[None],
            torch.zeros(1, n, 4),
            targets,
            scores="sigmoid",
        )
        assert ours.confidence.item() == pytest.approx(expected, rel=1e-4)

    def test_softmax_and_sigmoid_by_hand(self) -> None:
        targets = Targets(torch.tensor([[1]]), torch.zeros(1, 1, 4))
        logits = torch.tensor([[[0.0, 0.0]]])
        for scores, expected in (("softmax", np.log(2)), ("sigmoid", 2 * np.log(2))):
            loss = multibox_loss(logits, torch.zeros(1, 1, 4), targets, scores=scores)
            assert loss.confidence.item() == pytest.approx(expected)

    def test_huge_logits_do_not_overflow(self) -> None:
        logits = 1e4 * torch.randn(1, 20, 3)
        targets = Targets(F.one_hot(torch.tensor([0]), 20), torch.zeros(1, 20, 4))
        loss = multibox_loss(logits, torch.zeros(1, 20, 4), targets, scores="sigmoid")
        assert bool(loss.confidence.isfinite())
