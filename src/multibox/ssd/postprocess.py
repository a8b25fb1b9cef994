"""Raw outputs to detections (paper section 3.7, "Inference time").

A confidence threshold of .01, non-maximum suppression class by class at an IoU of .45, the best
200 of a picture.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import nms

from multibox.card import PostProcessing
from multibox.ssd.box_coder import decode


class BatchDetections(NamedTuple):
    """Detections of b pictures, padded to k rows, best first (the exported graph's outputs).

    ``num [b, 1]`` int32, ``boxes [b, k, 4]`` corners in 0..1, ``scores [b, k]``,
    ``classes [b, k]`` int32 with 0 the first name.
    """

    num: Tensor
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
    """Detections from c, ``class_logits [b, n, classes + 1]``, and l, ``box_offsets [b, n, 4]``.

    ``default_boxes [n, 4]`` (d) are (cx, cy, w, h) in fractions of the picture.

    Per class: scores above the threshold, the best ``top_k``, non-maximum suppression that keeps
    IoU <= ``iou_threshold``; then the best ``keep`` of each picture over all classes. Boxes are
    suppressed as decoded and clipped to the picture afterwards, as in Caffe (DetectionOutput),
    unless ``settings.clip`` has it the other way round, as torchvision does.
    """
    scores = foreground_scores(class_logits, settings).transpose(1, 2).contiguous()
    boxes = decode(
        box_offsets.float(),
        default_boxes,
        variances,
        largest_log_ratio=settings.largest_log_ratio,
    )
    if settings.clip == "before":
        boxes = boxes.clamp(0, 1)
    batch = len(scores)
    result = BatchDetections(
        num=scores.new_zeros((batch, 1), dtype=torch.int32),
        boxes=scores.new_zeros((batch, settings.keep, 4)),
        scores=scores.new_zeros((batch, settings.keep)),
        classes=scores.new_zeros((batch, settings.keep), dtype=torch.int32),
    )
    for i in range(batch):
        found, values, labels = _suppress(boxes[i], scores[i], settings)
        # Not a stable sort: among equal scores of several classes, torchvision's own order.
        best = values.sort(descending=True).indices[: settings.keep]
        result.num[i] = len(best)
        result.boxes[i, : len(best)] = found[best].clamp(0, 1)
        result.scores[i, : len(best)] = values[best]
        result.classes[i, : len(best)] = labels[best].int()
    return result


def foreground_scores(class_logits: Tensor, settings: PostProcessing) -> Tensor:
    """Scores ``[b, n, classes]`` in 0..1, float32, of logits ``[b, n, classes + 1]``."""
    if settings.scores == "softmax":
        return class_logits.softmax(dim=2, dtype=torch.float32)[..., 1:]
    return class_logits.float().sigmoid()[..., 1:]


def _suppress(
    boxes: Tensor, scores: Tensor, settings: PostProcessing
) -> tuple[Tensor, Tensor, Tensor]:
    """What survives in one picture: boxes ``[m, 4]``, scores ``[m]``, labels ``[m]``.

    ``boxes [n, 4]``, ``scores [classes, n]``. Class by class instead of torchvision's batched_nms,
    which moves the classes apart by adding to the coordinates: that costs digits, and how many
    depends on what else is in the batch.
    """
    passing = scores > settings.score_threshold
    kept_boxes, kept_scores, labels = [boxes[:0]], [scores[0, :0]], []
    for label, count in enumerate(passing.sum(dim=1).tolist()):
        if not count:
            continue
        # topk breaks ties by what else it is given: as in torchvision, only what passes.
        best, order = scores[label, passing[label]].topk(min(settings.top_k, count))
        candidates = boxes[passing[label]][order]
        kept = nms(candidates, best, settings.iou_threshold)
        kept_boxes.append(candidates[kept])
        kept_scores.append(best[kept])
        labels += [label] * len(kept)
    return torch.cat(kept_boxes), torch.cat(kept_scores), torch.tensor(labels, device=boxes.device)
