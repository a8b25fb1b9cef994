"""Raw outputs to detections: decode, suppress per class, keep the best (paper section 2.2, 3.1)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from multibox.card import PostProcessing
from multibox.ssd.box_coder import decode


class BatchDetections(NamedTuple):
    """Detections of b pictures, padded to k rows, best first (the exported graph's outputs).

    ``count [b, 1]`` int32, ``boxes [b, k, 4]`` corners in 0..1, ``scores [b, k]``,
    ``classes [b, k]`` int32 with 0 the first name.
    """

    count: Tensor
    boxes: Tensor
    scores: Tensor
    classes: Tensor


def postprocess(
    class_logits: Tensor,
    box_offsets: Tensor,
    default_boxes: Tensor,
    variances: Sequence[float],
    settings: PostProcessing,
) -> BatchDetections:
    """Detections of a batch from ``class_logits [b, n, classes + 1]`` and ``box_offsets [b, n, 4]``.

    Per class: scores above the threshold, the best ``top_k``, non-maximum suppression that keeps
    IoU <= ``iou_threshold``; then the best ``keep`` of each picture over all classes. Boxes are
    suppressed as decoded and clipped to the picture afterwards, as Caffe's DetectionOutput does.
    """
    scores = class_logits.float().softmax(dim=2)[..., 1:].transpose(1, 2).contiguous()
    boxes = decode(box_offsets.float(), default_boxes, variances)
    batch, classes, n = scores.shape

    top_scores, top_boxes = scores.topk(min(settings.top_k, n), dim=2)
    passing = top_scores > settings.score_threshold
    image, label, _ = passing.nonzero(as_tuple=True)
    candidate_scores = top_scores[passing]
    candidate_boxes = boxes[image, top_boxes[passing]]
    kept = batched_nms(
        candidate_boxes, candidate_scores, image * classes + label, settings.iou_threshold
    )

    result = BatchDetections(
        count=scores.new_zeros((batch, 1), dtype=torch.int32),
        boxes=scores.new_zeros((batch, settings.keep, 4)),
        scores=scores.new_zeros((batch, settings.keep)),
        classes=scores.new_zeros((batch, settings.keep), dtype=torch.int32),
    )
    image = image[kept]  # the kept are sorted by score, so each picture's are too
    for i in range(batch):
        mine = kept[image == i][: settings.keep]
        result.count[i] = len(mine)
        result.boxes[i, : len(mine)] = candidate_boxes[mine].clamp(0, 1)
        result.scores[i, : len(mine)] = candidate_scores[mine]
        result.classes[i, : len(mine)] = label[mine].int()
    return result
