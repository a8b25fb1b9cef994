"""Matching is done for a batch; most of what is to be said about it is about one picture."""

import torch
from torch import Tensor

from multibox.ssd import matching
from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.multibox_loss import pad_objects


def match(objects: Tensor, default_boxes: DefaultBoxes, rule: MatchingRule) -> Tensor:
    """Of the objects of one picture ``[m, 4]``: ``[n]``."""
    names = torch.zeros(len(objects), dtype=torch.int64)
    boxes, labels = pad_objects([objects], [names], objects.device)
    return matching.match(boxes, labels >= 0, default_boxes, rule)[0]
