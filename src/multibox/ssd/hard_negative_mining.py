"""Which negatives take part in the loss (paper section 2.2, "Hard negative mining").

Nearly all default boxes are negatives; those with the highest confidence loss are kept, at most
three for each positive.
"""

import torch
from torch import Tensor

from multibox.ssd.values import at_hand


def hard_negatives(
    background_loss: Tensor, classes: Tensor, ratio: float = 3.0, *, at_least: int = 0
) -> Tensor:
    """The negatives with the highest loss, at most ``ratio`` for each positive of the same picture.

    ``background_loss [b, n]`` is each default box's loss were it background; ``classes [b, n]`` is
    above 0 for the matched ones and 0 for those that may be negatives. Returns a mask ``[b, n]``.
    A picture without positives gets none, as in Caffe (MineHardExamples), or ``at_least`` so many,
    as TensorFlow's ``min_negatives_per_image`` gives every picture. One partial selection for the
    batch instead of two full sorts.
    """
    candidate = classes == 0
    wanted = ((classes > 0).sum(dim=1) * ratio).long().clamp_(min=at_least)
    wanted = torch.minimum(wanted, candidate.sum(dim=1))
    most = int(wanted.max()) if at_hand(wanted) else classes.shape[1]
    hardest = background_loss.masked_fill(~candidate, -torch.inf).topk(most, dim=1).indices
    within = torch.arange(most, device=classes.device) < wanted[:, None]
    return torch.zeros_like(candidate).scatter_(1, hardest, within)
