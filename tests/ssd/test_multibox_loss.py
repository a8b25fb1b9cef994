"""The multibox loss against torchvision's, with its gradients."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from multibox import default_boxes as numpy_boxes
from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.multibox_loss import _PAIRS_AT_ONCE, Targets, build_targets, multibox_loss
from multibox.zoo import new_card

VARIANCES = (0.1, 0.1, 0.2, 0.2)
CLASSES = 4


@pytest.fixture(scope="module")
def defaults() -> DefaultBoxes:
    spec = new_card("ssdlite320_mobilenet_v2", ["object"], image_size=(128, 128)).default_boxes
    return DefaultBoxes(torch.from_numpy(numpy_boxes.default_boxes(spec)))


def corners_of(boxes: DefaultBoxes) -> Tensor:
    return torch.stack([boxes.x0, boxes.y0, boxes.x1, boxes.y1], dim=1)


class Batch(NamedTuple):
    boxes: list[Tensor]
    labels: list[Tensor]
    logits: Tensor
    offsets: Tensor


def make_batch(defaults: DefaultBoxes, counts: Sequence[int], seed: int = 0) -> Batch:
    """Large objects side by side, so that no two share a favourite, and random raw outputs."""
    rng = np.random.default_rng(seed)
    boxes, labels = [], []
    for count in counts:
        cells = rng.permutation(9)[:count]
        corner = np.stack([cells % 3, cells // 3], axis=1) / 3 + rng.uniform(0, 0.08, (count, 2))
        side = rng.uniform(0.15, 0.25, (count, 2))
        boxes.append(torch.from_numpy(np.hstack([corner, corner + side]).astype(np.float32)))
        labels.append(torch.from_numpy(rng.integers(0, CLASSES, count)))
    n = len(defaults)
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(len(counts), n, CLASSES + 1, generator=generator)
    offsets = 2 * torch.randn(len(counts), n, 4, generator=generator)
    return Batch(boxes, labels, logits.requires_grad_(), offsets.requires_grad_())


def ours(batch: Batch, defaults: DefaultBoxes) -> tuple[Targets, Tensor, Tensor]:
    targets = build_targets(batch.boxes, batch.labels, defaults, VARIANCES, MatchingRule())
    confidence, localisation = multibox_loss(batch.logits, batch.offsets, targets)
    count = targets.matches.clamp(min=1)
    return targets, confidence / count, localisation / count


def torchvisions(batch: Batch, defaults: DefaultBoxes) -> tuple[Tensor, Tensor]:
    """The confidence and localisation loss of torchvision's SSD, which does not need a network."""
    corners = corners_of(defaults)
    matcher, none = SSDMatcher(0.5), torch.full((len(corners),), -1)
    matched = [matcher(box_iou(b, corners)) if len(b) else none for b in batch.boxes]
    targets = [
        {"boxes": boxes, "labels": labels + 1}
        for boxes, labels in zip(batch.boxes, batch.labels, strict=True)
    ]
    model = SSD(nn.Identity(), None, (300, 300), CLASSES + 1, head=nn.Identity())
    outputs = {"bbox_regression": batch.offsets, "cls_logits": batch.logits}
    losses = model.compute_loss(targets, outputs, [corners] * len(targets), matched)
    return losses["classification"], losses["bbox_regression"]


@pytest.mark.parametrize("seed", range(3))
def test_values_and_gradients_equal_torchvision(defaults: DefaultBoxes, seed: int) -> None:
    batch = make_batch(defaults, (1, 0, 9, 4), seed)
    targets, *losses = ours(batch, defaults)
    assert targets.matches >= 14
    theirs = torchvisions(batch, defaults)
    torch.testing.assert_close(losses, list(theirs))
    inputs = (batch.logits, batch.offsets)
    torch.testing.assert_close(
        torch.autograd.grad(sum(losses), inputs), torch.autograd.grad(sum(theirs), inputs)
    )


def test_targets_by_hand() -> None:
    defaults = DefaultBoxes(torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5]]))
    boxes = [torch.zeros(0, 4), torch.tensor([[0.5, 0.5, 1.0, 1.0]])]
    labels = [torch.zeros(0, dtype=torch.int64), torch.tensor([2])]
    targets = build_targets(boxes, labels, defaults, VARIANCES, MatchingRule())
    assert targets.classes.tolist() == [[0, 0], [0, 3]]  # background is 0, so label 2 is 3
    assert targets.offsets.tolist() == [[[0, 0, 0, 0]] * 2] * 2
    assert targets.matches == 1


def test_offsets_of_the_positives_and_nothing_elsewhere(defaults: DefaultBoxes) -> None:
    batch = make_batch(defaults, (3, 0, 2))
    targets = build_targets(batch.boxes, batch.labels, defaults, VARIANCES, MatchingRule())
    assert targets.offsets.shape == (3, len(defaults), 4)
    positive = targets.classes > 0
    assert not targets.offsets[~positive].any()
    assert targets.offsets[positive].any(dim=1).all()
    assert float(multibox_loss(batch.logits, targets.offsets, targets).localisation) == 0


@pytest.mark.parametrize("pairs", [1, 10_000, 2**25])
def test_padding_and_parts_change_nothing(
    defaults: DefaultBoxes, monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    batch = make_batch(defaults, (2, 0, 9, 0, 1))
    monkeypatch.setitem(_PAIRS_AT_ONCE, "cpu", pairs)
    rule = MatchingRule(least_positives=3, negative_overlap=0.3)

    def targets(part: slice) -> Targets:
        return build_targets(batch.boxes[part], batch.labels[part], defaults, VARIANCES, rule)

    together = targets(slice(None))
    for i in range(5):
        for ours, alone in zip(together, targets(slice(i, i + 1)), strict=True):
            assert torch.equal(ours[i], alone[0])


def test_by_hand() -> None:
    # One positive, seven background boxes: the three least certain of them count.
    logits = torch.zeros(1, 8, 2)
    logits[0, 1:, 0] = torch.arange(7.0)
    offsets = torch.full((1, 8, 4), 9.0)  # of the background: not looked at
    offsets[0, 0] = torch.tensor([0.0, 0.5, 2, -4])
    targets = Targets(torch.tensor([[1, 0, 0, 0, 0, 0, 0, 0]]), offsets)
    loss = multibox_loss(logits, torch.zeros(1, 8, 4), targets)
    expected = np.log(2) + sum(np.log1p(np.exp(-margin)) for margin in (0, 1, 2))
    assert float(loss.confidence) == pytest.approx(expected)
    assert float(loss.localisation) == 0.5 * 0.25 + 1.5 + 3.5


@pytest.mark.parametrize("scale", [1, 1e4])
def test_no_positives_is_a_finite_nothing(defaults: DefaultBoxes, scale: float) -> None:
    batch = make_batch(defaults, (0, 0))
    targets = build_targets(batch.boxes, batch.labels, defaults, VARIANCES, MatchingRule())
    loss = multibox_loss(scale * batch.logits, batch.offsets, targets)
    assert [each.item() for each in loss] == [0, 0]
    sum(loss).backward()
    assert not batch.logits.grad.any()
    assert not batch.offsets.grad.any()


def test_a_batch_is_the_sum_of_its_pictures(defaults: DefaultBoxes) -> None:
    batch = make_batch(defaults, (5, 0, 1, 9))

    def sums(part: slice) -> list[float]:
        targets = build_targets(
            batch.boxes[part], batch.labels[part], defaults, VARIANCES, MatchingRule()
        )
        return [x.item() for x in multibox_loss(batch.logits[part], batch.offsets[part], targets)]

    pictures = np.sum([sums(slice(i, i + 1)) for i in range(4)], axis=0)
    np.testing.assert_allclose(sums(slice(None)), pictures, rtol=1e-5)


def test_half_precision_outputs_are_summed_in_float32(defaults: DefaultBoxes) -> None:
    batch = make_batch(defaults, (6, 3))
    targets = build_targets(batch.boxes, batch.labels, defaults, VARIANCES, MatchingRule())
    half = [x.detach().bfloat16().requires_grad_() for x in (batch.logits, batch.offsets)]
    loss = multibox_loss(*half, targets)
    assert [each.dtype for each in loss] == [torch.float32] * 2
    # Exactly what float32 gives for the same rounded numbers; a sum kept in bfloat16 would not.
    assert loss == multibox_loss(*(x.detach().float() for x in half), targets)
    sum(loss).backward()
    assert all(x.grad.dtype == torch.bfloat16 and bool(x.grad.isfinite().all()) for x in half)


def test_huge_logits_do_not_overflow(defaults: DefaultBoxes) -> None:
    batch = make_batch(defaults, (2,))
    _, confidence, _ = ours(batch._replace(logits=batch.logits * 1e4), defaults)
    assert bool(confidence.isfinite())


def test_the_negative_ratio_is_obeyed(defaults: DefaultBoxes) -> None:
    batch = make_batch(defaults, (3, 1))
    targets = build_targets(batch.boxes, batch.labels, defaults, VARIANCES, MatchingRule())
    for ratio in (0.0, 1.0, 3.0):
        loss = multibox_loss(batch.logits, batch.offsets, targets, negative_ratio=ratio)
        (gradient,) = torch.autograd.grad(loss.confidence, batch.logits)
        touched = gradient.abs().sum(dim=2) > 0
        assert int(touched.sum()) == (1 + ratio) * targets.matches


def test_gradient_of_the_confidence_loss_is_softmax_minus_one_hot(defaults: DefaultBoxes) -> None:
    batch = make_batch(defaults, (4,))
    targets = build_targets(batch.boxes, batch.labels, defaults, VARIANCES, MatchingRule())
    (gradient,) = torch.autograd.grad(
        multibox_loss(batch.logits, batch.offsets, targets).confidence, batch.logits
    )
    positive = targets.classes > 0
    expected = batch.logits.softmax(dim=2) - F.one_hot(targets.classes, CLASSES + 1)
    torch.testing.assert_close(gradient[positive], expected[positive])
