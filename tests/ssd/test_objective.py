"""Targets, mining, loss and gradients of a batch against the paper's section 2.2 in plain loops.

Both ways are held to it: the one of a processor, and the one whose shapes do not depend on values,
which an accelerator takes.
"""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.multibox_loss import build_targets, multibox_loss

CLASSES = 3
VARIANCES = (0.1, 0.1, 0.2, 0.2)
ATTRIBUTES = tuple(
    f"multibox.ssd.{name}.at_hand" for name in ("matching", "multibox_loss", "hard_negative_mining")
)


class Objective(NamedTuple):
    confidence: float
    localisation: float
    matches: int
    of_logits: np.ndarray
    of_offsets: np.ndarray


def corners(box: np.ndarray) -> tuple[float, float, float, float]:
    cx, cy, w, h = box
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def jaccard(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return w * h / (areas - w * h)


def matching(objects: np.ndarray, defaults: np.ndarray) -> dict[int, int]:
    """x: the default boxes that are matched, each with its object."""
    overlap = {
        (i, j): jaccard(corners(d), tuple(g))
        for i, d in enumerate(defaults)
        for j, g in enumerate(objects)
    }
    x: dict[int, int] = {}
    while left := {
        pair: value
        for pair, value in overlap.items()
        if value > 1e-6 and pair[0] not in x and pair[1] not in x.values()
    }:
        i, j = max(left, key=lambda pair: left[pair])  # the first of equals
        x[i] = j
    for i in range(len(defaults)):
        if i not in x and len(objects):
            j = max(range(len(objects)), key=lambda j: overlap[i, j])
            if overlap[i, j] >= 0.5:
                x[i] = j
    return x


def paper(
    boxes: list[Tensor], labels: list[Tensor], defaults: np.ndarray, c: np.ndarray, loc: np.ndarray
) -> Objective:
    """Equations 2 and 3 and the gradients of their sum, in float64, one default box at a time."""
    confidence = localisation = 0.0
    matches = 0
    of_logits, of_offsets = np.zeros_like(c), np.zeros_like(loc)
    for k, (objects, names) in enumerate(zip(boxes, labels, strict=True)):
        x = matching(objects.double().numpy(), defaults)
        matches += len(x)
        chance = np.exp(c[k]) / np.exp(c[k]).sum(axis=1, keepdims=True)
        free = [i for i in range(len(defaults)) if i not in x]
        hardest = sorted(free, key=lambda i: chance[i, 0])[: 3 * len(x)]
        wanted = {i: int(names[j]) + 1 for i, j in x.items()} | dict.fromkeys(hardest, 0)
        for i, p in wanted.items():
            confidence -= math.log(chance[i, p])
            of_logits[k, i] = chance[i]
            of_logits[k, i, p] -= 1
        for i, j in x.items():
            x0, y0, x1, y1 = objects[j].double().tolist()
            d_cx, d_cy, d_w, d_h = defaults[i]
            g_hat = (
                ((x0 + x1) / 2 - d_cx) / d_w / 0.1,
                ((y0 + y1) / 2 - d_cy) / d_h / 0.1,
                math.log((x1 - x0) / d_w) / 0.2,
                math.log((y1 - y0) / d_h) / 0.2,
            )
            for m in range(4):
                far = loc[k, i, m] - g_hat[m]
                localisation += 0.5 * far**2 if abs(far) < 1 else abs(far) - 0.5
                of_offsets[k, i, m] = max(-1.0, min(1.0, far))
    return Objective(confidence, localisation, matches, of_logits, of_offsets)


def default_boxes() -> np.ndarray:
    """Three shapes in each of 5 x 5 cells, and one for the whole picture."""
    cells = [((x + 0.5) / 5, (y + 0.5) / 5) for y in range(5) for x in range(5)]
    shapes = [(0.3, 0.3), (0.45, 0.22), (0.22, 0.45)]
    rows = [(cx, cy, w, h) for cx, cy in cells for w, h in shapes]
    return np.array([*rows, (0.5, 0.5, 0.9, 0.9)])


def pictures(rng: np.random.Generator, counts: list[int]) -> tuple[list[Tensor], list[Tensor]]:
    boxes, labels = [], []
    for count in counts:
        sides = rng.uniform(0.02, 0.7, (count, 2))
        corner = rng.random((count, 2)) * (1 - sides)
        objects = np.hstack([corner, corner + sides]).astype(np.float32)
        if count > 2:
            objects[-1] = objects[0]  # two objects in one place: everything about them is a tie
        boxes.append(torch.from_numpy(objects))
        labels.append(torch.from_numpy(rng.integers(0, CLASSES, count)))
    return boxes, labels


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize(
    ("seed", "counts"),
    [(0, [3, 0, 1, 12]), (1, [0, 0]), (2, [5]), (3, [1, 1, 30, 0, 2]), (4, [0, 7, 6])],
)
def test_a_batch_is_the_papers(
    monkeypatch: pytest.MonkeyPatch, seed: int, counts: list[int], *, accelerated: bool
) -> None:
    if accelerated:
        for attribute in ATTRIBUTES:
            monkeypatch.setattr(attribute, lambda _: False)
    rng = np.random.default_rng(seed)
    defaults = default_boxes()
    boxes, labels = pictures(rng, counts)
    c = rng.normal(0, 2, (len(counts), len(defaults), CLASSES + 1))
    loc = rng.normal(0, 2, (len(counts), len(defaults), 4))
    expected = paper(boxes, labels, defaults, c, loc)

    rows = DefaultBoxes(torch.from_numpy(defaults.astype(np.float32)))
    targets = build_targets(boxes, labels, rows, VARIANCES, MatchingRule())
    logits, offsets = (torch.from_numpy(each).float().requires_grad_() for each in (c, loc))
    loss = multibox_loss(logits, offsets, targets)
    sum(loss).backward()

    assert int(targets.matches) == expected.matches
    assert (expected.matches > 0) == (sum(counts) > 0)
    assert loss.confidence.item() == pytest.approx(expected.confidence, rel=1e-5)
    assert loss.localisation.item() == pytest.approx(expected.localisation, rel=1e-4)
    np.testing.assert_allclose(logits.grad, expected.of_logits, atol=1e-5)
    np.testing.assert_allclose(offsets.grad, expected.of_offsets, atol=2e-4)


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    "rule",
    [
        MatchingRule(bipartite="later-wins", strict=True, iou_epsilon=1e-5, least_overlap=-1),
        MatchingRule(least_positives=4, negative_overlap=0.4),
    ],
)
def test_both_ways_are_the_same_for_every_rule(
    monkeypatch: pytest.MonkeyPatch, rule: MatchingRule, scores: str
) -> None:
    rng = np.random.default_rng(7)
    rows = DefaultBoxes(torch.from_numpy(default_boxes().astype(np.float32)))
    boxes, labels = pictures(rng, [4, 0, 9, 1])
    logits = torch.from_numpy(rng.normal(0, 2, (4, len(rows), CLASSES + 1))).float()
    offsets = torch.from_numpy(rng.normal(0, 2, (4, len(rows), 4))).float()
    answers = []
    for accelerated in (False, True):
        if accelerated:
            for attribute in ATTRIBUTES:
                monkeypatch.setattr(attribute, lambda _: False)
        targets = build_targets(boxes, labels, rows, VARIANCES, rule)
        loss = multibox_loss(logits, offsets, targets, scores=scores, min_negatives=2)
        answers.append((*targets, *loss))
    for processor, accelerator in zip(*answers, strict=True):
        torch.testing.assert_close(accelerator, processor)
