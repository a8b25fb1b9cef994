"""Nothing between a batch and its loss waits for an accelerator.

The accelerator is a pretence: tensors that have a shape and the device "cuda" but no values. A
value that is asked for, or a shape that depends on values, is then an error.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.multibox_loss import build_targets, multibox_loss

RULES = [
    MatchingRule(),
    MatchingRule(bipartite="later-wins", strict=True, iou_epsilon=1e-5, least_overlap=-1),
    MatchingRule(least_positives=4, negative_overlap=0.5),
]


def objects(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty(count, 4, device="cuda"), torch.empty(
        count, dtype=torch.int64, device="cuda"
    )


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("counts", [(3, 0, 7), (0, 0, 0)])
def test_targets_mining_and_loss(
    rule: MatchingRule, scores: str, counts: tuple[int, int, int]
) -> None:
    with FakeTensorMode():
        boxes, labels = zip(*map(objects, counts), strict=True)
        default_boxes = DefaultBoxes(torch.empty(50, 4, device="cuda"))
        targets = build_targets(boxes, labels, default_boxes, torch.empty(4, device="cuda"), rule)
        logits = torch.empty(3, 50, 6, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        offsets = torch.empty(3, 50, 4, device="cuda", requires_grad=True)
        weights = targets.matches_by_picture.clamp(min=1).reciprocal()
        loss = multibox_loss(
            logits, offsets, targets, scores=scores, weights=weights, min_negatives=2
        )
        assert [each.device.type for each in loss] == ["cuda"] * 2


def test_the_pretence_notices() -> None:
    with FakeTensorMode():
        value = torch.empty(3, device="cuda")
        with pytest.raises(DataDependentOutputException):
            value.max().item()
        with pytest.raises(DynamicOutputShapeException):
            value.nonzero()
