"""Which background boxes take part in the loss (paper section 2.2, "Hard negative mining")."""

import torch
from torch import Tensor


def hard_negatives(background_loss: Tensor, positive: Tensor, ratio: float = 3.0) -> Tensor:
    """The negatives with the highest loss, at most ``ratio`` for each positive of the same picture.

    ``background_loss [b, n]`` is each default box's loss were it background; ``positive [b, n]``
    marks the matched ones. Returns a mask ``[b, n]``. A picture without positives gets none, as in
    Caffe (MineHardExamples). One partial selection for the batch instead of two full sorts.
    """
    wanted = (positive.sum(dim=1) * ratio).long()
    wanted = torch.minimum(wanted, (~positive).sum(dim=1))
    most = int(wanted.max()) if len(wanted) else 0
    mask = torch.zeros_like(positive)
    if most == 0:
        return mask
    hardest = background_loss.masked_fill(positive, -torch.inf).topk(most, dim=1).indices
    within = torch.arange(most, device=hardest.device) < wanted[:, None]
    return mask.scatter_(1, hardest, within)
