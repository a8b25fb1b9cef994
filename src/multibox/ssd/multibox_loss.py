"""The training objective (paper section 2.2, "Training objective", equations 1 to 3).

    (1)  L(x, c, l, g) = (L_conf(x, c) + alpha L_loc(x, l, g)) / N,  alpha = 1, 0 where N = 0
    (2)  L_loc(x, l, g) = sum over i in Pos, m in (cx, cy, w, h) of smooth_L1(l_i^m - g-hat_j^m)
    (3)  L_conf(x, c) = - sum over i in Pos of log c-hat_i^p - sum over i in Neg of log c-hat_i^0

with j and p the object and the class that x matches to default box i, c-hat the softmax of c, and
Neg the hard negatives.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from multibox.ssd.box_coder import encode
from multibox.ssd.hard_negative_mining import hard_negatives
from multibox.ssd.matching import LEFT_OUT, DefaultBoxes, MatchingRule, match

Scores = Literal["softmax", "sigmoid"]


class Targets(NamedTuple):
    """What the network should have said for a batch of b pictures: x and g-hat.

    ``classes [b, n]`` (int64): p where x_ij^p = 1, counted from 1; 0 is background, -1 takes no
    part in the loss. ``offsets [N, 4]``: g-hat of the positive default boxes, in the order of
    ``(classes > 0).nonzero()``.
    """

    classes: Tensor
    offsets: Tensor

    @property
    def matches(self) -> int:
        """N of equation 1: the number of matched default boxes."""
        return len(self.offsets)

    @property
    def matches_by_picture(self) -> Tensor:
        """N of each picture by itself: int64 ``[b]``."""
        return (self.classes > 0).sum(dim=1)


class MultiBoxLoss(NamedTuple):
    """L_conf (equation 3) and L_loc (equation 2) of a batch; their sum over N is equation 1."""

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

    Of picture k, ``boxes[k] [m, 4]`` are corners in fractions of the picture and ``labels[k] [m]``
    count from 0. The targets depend on these alone, so N is known before the network runs.
    """
    classes, offsets = [], []
    for objects, names in zip(boxes, labels, strict=True):
        matched = match(objects, default_boxes, rule)
        positive = (matched >= 0).nonzero()[:, 0]
        owner = matched[positive]
        picture = torch.zeros_like(matched)
        if rule.negative_overlap < 1:
            picture[matched == LEFT_OUT] = -1
        picture[positive] = names[owner] + 1
        classes.append(picture)
        offsets.append(encode(objects[owner], default_boxes.centre_size[positive], variances))
    return Targets(torch.stack(classes), torch.cat(offsets))


def multibox_loss(
    class_logits: Tensor,
    box_offsets: Tensor,
    targets: Targets,
    *,
    scores: Scores = "softmax",
    negative_ratio: float = 3.0,
    min_negatives: int = 0,
    weights: Tensor | None = None,
) -> MultiBoxLoss:
    """L_conf over positives and hard negatives, L_loc over positives, both summed.

    c are ``class_logits [b, n, classes + 1]``, background first; l are ``box_offsets [b, n, 4]``.
    ``scores`` says what turns logits into scores: "softmax" (the paper's) is trained with the
    cross entropy, "sigmoid" (TensorFlow's detectors) with the binary one of every column, the
    background's among them, against a one-hot target. ``weights [b]`` multiply each picture's part
    of the sums; without them divide by max(1, N), N counted over everything that makes up one
    optimiser step: all pictures of the batch and all ranks. Computed in float32 whatever the
    network's precision.
    """
    positive = targets.classes > 0
    with torch.no_grad():
        background_loss = _background_loss(class_logits.detach().float(), scores)
        chosen = positive | hard_negatives(
            background_loss, targets.classes, negative_ratio, at_least=min_negatives
        )
    confidence = _class_loss(class_logits[chosen].float(), targets.classes[chosen], scores)
    localisation = F.smooth_l1_loss(
        box_offsets[positive].float(), targets.offsets, reduction="none", beta=1.0
    ).sum(dim=1)
    if weights is not None:
        confidence = confidence * weights[chosen.nonzero()[:, 0]]
        localisation = localisation * weights[positive.nonzero()[:, 0]]
    return MultiBoxLoss(confidence.sum(), localisation.sum())


def _background_loss(logits: Tensor, scores: Scores) -> Tensor:
    """The class loss of every default box were it background (-log c-hat_i^0): ``[b, n]``."""
    if scores == "softmax":
        return torch.logsumexp(logits, dim=2) - logits[..., 0]
    return F.softplus(logits).sum(dim=2) - logits[..., 0]


def _class_loss(logits: Tensor, classes: Tensor, scores: Scores) -> Tensor:
    """The class loss of each of k default boxes: ``logits [k, classes + 1]`` to ``[k]``."""
    if scores == "softmax":
        return F.cross_entropy(logits, classes, reduction="none")
    wanted = F.one_hot(classes, logits.shape[1]).float()
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=1)
