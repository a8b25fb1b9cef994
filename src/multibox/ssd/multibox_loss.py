"""The training objective (paper section 2.2, equations 1 to 3)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from multibox.ssd.box_coder import encode
from multibox.ssd.hard_negative_mining import hard_negatives
from multibox.ssd.matching import DefaultBoxes, MatchingRule, match


class Targets(NamedTuple):
    """What the network should have said for a batch of b pictures.

    ``classes [b, n]`` (int64): 0 is background, 1 the first class. ``offsets [p, 4]``: the coded
    boxes of the p positive default boxes, in the order of ``classes.nonzero()``.
    """

    classes: Tensor
    offsets: Tensor

    @property
    def matches(self) -> int:
        """N of equation 1: the number of matched default boxes."""
        return len(self.offsets)


class MultiBoxLoss(NamedTuple):
    """Sums over a batch, not yet divided by N: confidence loss and localisation loss."""

    confidence: Tensor
    localisation: Tensor


def build_targets(
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    default_boxes: DefaultBoxes,
    variances: Sequence[float],
    rule: MatchingRule,
) -> Targets:
    """Match every picture's objects and code them.

    ``boxes[i] [g, 4]`` are corners in fractions of the picture, ``labels[i] [g]`` count from 0.
    They depend on the labels alone, so N is known before the network runs.
    """
    classes, offsets = [], []
    for objects, names in zip(boxes, labels, strict=True):
        matched = match(objects, default_boxes, rule)
        positive = (matched >= 0).nonzero()[:, 0]
        owner = matched[positive]
        picture = torch.zeros_like(matched)
        picture[positive] = names[owner] + 1
        classes.append(picture)
        offsets.append(encode(objects[owner], default_boxes.centre_size[positive], variances))
    return Targets(torch.stack(classes), torch.cat(offsets))


def multibox_loss(
    class_logits: Tensor, box_offsets: Tensor, targets: Targets, *, negative_ratio: float = 3.0
) -> MultiBoxLoss:
    """Softmax loss over positives and hard negatives, smooth L1 over positives, both summed.

    ``class_logits [b, n, classes + 1]`` with background first, ``box_offsets [b, n, 4]``.
    Divide by max(1, N), N counted over everything that makes up one optimiser step: all pictures
    of the batch and all ranks. Computed in float32 whatever the network's precision.
    """
    positive = targets.classes > 0
    with torch.no_grad():
        logits = class_logits.detach().float()
        background_loss = torch.logsumexp(logits, dim=2) - logits[..., 0]
        chosen = positive | hard_negatives(background_loss, positive, negative_ratio)
    confidence = F.cross_entropy(
        class_logits[chosen].float(), targets.classes[chosen], reduction="sum"
    )
    localisation = F.smooth_l1_loss(
        box_offsets[positive].float(), targets.offsets, reduction="sum", beta=1.0
    )
    return MultiBoxLoss(confidence, localisation)
