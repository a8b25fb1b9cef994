"""The training objective (paper section 2.2, "Training objective", equations 1 to 3).

    (1)  L(x, c, l, g) = (L_conf(x, c) + alpha L_loc(x, l, g)) / N,  alpha = 1, 0 where N = 0
    (2)  L_loc(x, l, g) = sum over i in Pos, m in (cx, cy, w, h) of smooth_L1(l_i^m - g-hat_j^m)
    (3)  L_conf(x, c) = - sum over i in Pos of log c-hat_i^p - sum over i in Neg of log c-hat_i^0

with j and p the object and the class that x matches to default box i, c-hat the softmax of c, and
Neg the hard negatives.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from multibox.ssd.box_coder import encode
from multibox.ssd.box_losses import BoxLoss, regression_loss
from multibox.ssd.hard_negative_mining import hard_negatives
from multibox.ssd.matching import LEFT_OUT, DefaultBoxes, MatchingRule, match
from multibox.ssd.values import at_hand

Scores = Literal["softmax", "sigmoid"]

# Pairs of object and default box that are matched together: on a processor what its caches hold,
# elsewhere a gigabyte of intermediate results.
_PAIRS_AT_ONCE = {"cpu": 2**17, "accelerator": 2**25}


class Targets(NamedTuple):
    """What the network should have said for a batch of b pictures: x and g-hat.

    ``classes [b, n]`` (int64): p where x_ij^p = 1, counted from 1; 0 is background, -1 takes no
    part in the loss. ``offsets [b, n, 4]``: g-hat of the positive default boxes, 0 for the others.
    """

    classes: Tensor
    offsets: Tensor

    @property
    def matches(self) -> Tensor:
        """N of equation 1, the number of matched default boxes: int64, a scalar."""
        return (self.classes > 0).sum()

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
    variances: Sequence[float] | Tensor,
    rule: MatchingRule,
) -> Targets:
    """Match every picture's objects and code them, on the device of ``default_boxes``.

    Of picture k, ``boxes[k] [m, 4]`` are corners in fractions of the picture and ``labels[k] [m]``
    count from 0. The targets depend on these alone, so N is known before the network runs.
    """
    parts = [
        _targets(
            *pad_objects(boxes[part], labels[part], default_boxes.device),
            default_boxes,
            variances,
            rule,
        )
        for part in _parts([len(each) for each in boxes], default_boxes)
    ]
    return Targets(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _parts(counts: Sequence[int], default_boxes: DefaultBoxes) -> Iterator[slice]:
    """Pictures one after another, as many as are best matched together."""
    pairs = _PAIRS_AT_ONCE["cpu" if default_boxes.device.type == "cpu" else "accelerator"]
    first = most = 0
    for i, count in enumerate(counts):
        most = max(most, count)
        if i > first and (i + 1 - first) * most * len(default_boxes) > pairs:
            yield slice(first, i)
            first, most = i, count
    yield slice(first, len(counts))


def pad_objects(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    """The objects of b pictures as ``[b, g, 4]`` and ``[b, g]`` on ``device``; padding's label: -1.

    g is the largest number in a picture, and 1 at least. Nothing waits for the device.
    """
    one = boxes[0].new_zeros(1, 4), labels[0].new_zeros(1)
    padded = (
        pad_sequence([*boxes, one[0]], batch_first=True)[:-1],
        pad_sequence([*labels, one[1]], batch_first=True, padding_value=-1)[:-1],
    )
    if device.type == "cuda" and not padded[0].is_cuda:
        # Only pinned memory is copied while the processor goes on.
        padded = padded[0].pin_memory(), padded[1].pin_memory()
    return padded[0].to(device, non_blocking=True), padded[1].to(device, non_blocking=True)


def _targets(
    objects: Tensor,
    labels: Tensor,
    default_boxes: DefaultBoxes,
    variances: Sequence[float] | Tensor,
    rule: MatchingRule,
) -> Targets:
    matched = match(objects, labels >= 0, default_boxes, rule)
    positive, owner = matched >= 0, matched.clamp(min=0)
    classes = (labels.gather(1, owner) + 1).where(positive, 0)
    if rule.negative_overlap < 1:
        classes.masked_fill_(matched == LEFT_OUT, -1)
    if at_hand(objects):
        offsets = objects.new_zeros(*owner.shape, 4)
        picture, box = positive.nonzero(as_tuple=True)
        offsets[picture, box] = encode(
            objects[picture, owner[picture, box]], default_boxes.centre_size[box], variances
        )
        return Targets(classes, offsets)
    boxes = objects.gather(1, owner[..., None].expand(-1, -1, 4))
    offsets = encode(boxes, default_boxes.centre_size, variances)
    return Targets(classes, offsets.where(positive[..., None], 0))


def multibox_loss(
    class_logits: Tensor,
    box_offsets: Tensor,
    targets: Targets,
    *,
    scores: Scores = "softmax",
    negative_ratio: float = 3.0,
    min_negatives: int = 0,
    weights: Tensor | None = None,
    box_loss: BoxLoss = "smooth_l1",
    variances: Sequence[float] | Tensor = (0.1, 0.1, 0.2, 0.2),
) -> MultiBoxLoss:
    """L_conf over positives and hard negatives, L_loc over positives, both summed.

    c are ``class_logits [b, n, classes + 1]``, background first; l are ``box_offsets [b, n, 4]``.
    ``scores`` says what turns logits into scores: "softmax" (the paper's) is trained with the
    cross entropy, "sigmoid" (TensorFlow's detectors) with the binary one of every column, the
    background's among them, against a one-hot target. ``box_loss`` other than the paper's needs
    the default boxes' ``variances``. ``weights [b]`` multiply each picture's part
    of the sums; without them divide by max(1, N), N counted over everything that makes up one
    optimiser step: all pictures of the batch and all ranks. Computed in float32 whatever the
    network's precision.
    """
    positive = targets.classes > 0
    wanted = targets.classes.clamp(min=0)
    with torch.no_grad():
        chosen = positive | hard_negatives(
            _class_loss(class_logits, torch.zeros_like(wanted), scores),
            targets.classes,
            negative_ratio,
            at_least=min_negatives,
        )
    if at_hand(class_logits):
        confidence = _by_picture(chosen, _class_loss(class_logits[chosen], wanted[chosen], scores))
        localisation = _by_picture(
            positive,
            regression_loss(box_offsets[positive], targets.offsets[positive], box_loss, variances),
        )
    else:
        confidence = _class_loss(class_logits, wanted, scores).where(chosen, 0).sum(dim=1)
        boxes = regression_loss(box_offsets, targets.offsets, box_loss, variances)
        localisation = boxes.where(positive, 0).sum(dim=1)
    if weights is not None:
        confidence, localisation = confidence * weights, localisation * weights
    return MultiBoxLoss(confidence.sum(), localisation.sum())


def _class_loss(class_logits: Tensor, classes: Tensor, scores: Scores) -> Tensor:
    """The class loss of default boxes: ``[..., classes + 1]`` and ``[...]`` to ``[...]``."""
    logits = class_logits.float()
    own = logits.gather(-1, classes[..., None])[..., 0]
    if scores == "softmax":
        return logits.logsumexp(dim=-1) - own
    # The binary cross entropy of a 1 in its own column and a 0 in every other.
    return F.softplus(logits).sum(dim=-1) - own


def _by_picture(mask: Tensor, values: Tensor) -> Tensor:
    """The sums ``[b]`` of ``values [k]``, which are those of the k places in ``mask [b, n]``."""
    picture = mask.nonzero(as_tuple=True)[0]
    return values.new_zeros(len(mask)).index_add(0, picture, values)
