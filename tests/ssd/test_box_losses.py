"""Box losses of offsets against torchvision's losses of the boxes that these decode to."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou_loss

from multibox.ssd.box_coder import decode
from multibox.ssd.box_losses import overlap, regression_loss
from multibox.ssd.multibox_loss import Targets, multibox_loss

VARIANCES = (0.1, 0.1, 0.2, 0.3)


def pairs(n: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Default boxes, predicted and wanted offsets: from near one another to quite apart."""
    generator = torch.Generator().manual_seed(0)
    defaults = 0.05 + 0.5 * torch.rand(n, 4, generator=generator, dtype=torch.float64)
    wanted = 3 * torch.randn(n, 4, generator=generator)
    apart = torch.linspace(0, 5, n)[:, None] * torch.randn(n, 4, generator=generator)
    return defaults, wanted + apart, wanted


def test_overlap_and_its_gradient_are_those_of_the_decoded_boxes() -> None:
    defaults, offsets, wanted = pairs()
    objects = decode(wanted.double(), defaults, VARIANCES)
    ours, theirs = offsets.clone().requires_grad_(), offsets.double().requires_grad_()
    predicted = decode(theirs, defaults, VARIANCES)
    loss = regression_loss(ours, wanted, "giou", VARIANCES)
    expected = generalized_box_iou_loss(predicted, objects, eps=0)
    assert expected.min().item() < 0.05
    assert expected.max().item() > 1.3
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss.sum(), ours)
    (of_theirs,) = torch.autograd.grad(expected.sum(), theirs)
    torch.testing.assert_close(gradient.double(), of_theirs, rtol=1e-3, atol=1e-4)
    iou = box_iou(predicted, objects).diagonal()
    torch.testing.assert_close(overlap(offsets, wanted, VARIANCES).iou, iou.float())


def test_equal_boxes_cost_nothing_and_far_ones_two_at_most() -> None:
    _, _, wanted = pairs()
    assert regression_loss(wanted, wanted, "giou", VARIANCES).abs().max() < 1e-5
    far = regression_loss(wanted + 1e4, wanted, "giou", VARIANCES)
    assert far.isfinite().all()
    assert float(far.max()) <= 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_positives_count(dtype: torch.dtype) -> None:
    _, offsets, wanted = pairs(12)
    offsets = offsets.to(dtype).reshape(2, 6, 4).requires_grad_()
    classes = torch.tensor([[0, 1, 0, 2, 0, -1], [0, 0, 0, 0, 0, 0]])
    positive = classes > 0
    targets = Targets(classes, wanted.reshape(2, 6, 4).where(positive[..., None], 0))
    loss = multibox_loss(
        torch.zeros(2, 6, 3), offsets, targets, box_loss="giou", variances=VARIANCES
    ).localisation
    of_two = regression_loss(offsets[positive], targets.offsets[positive], "giou", VARIANCES)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, of_two.sum())
    loss.backward()
    assert offsets.grad is not None
    assert torch.equal(offsets.grad.any(dim=-1), positive)
