"""From raw outputs to detections to compare, in NumPy."""

import numpy as np

from multibox.card import ModelCard
from multibox.engines.base import RawDetections
from multibox.engines.raw_outputs import BoxDecoder, to_scores
from multibox.engines.suppression import suppress
from multibox.parity.reference import Found, RawOutputs


def detections_of(raw: RawOutputs, card: ModelCard) -> RawDetections:
    """Decode and suppress raw outputs as ``card`` says."""
    settings = card.postprocessing
    decode = BoxDecoder(card.default_boxes, settings)
    return suppress(to_scores(raw.class_logits, settings), raw.box_offsets, decode, settings)


def found_in(detections: RawDetections) -> list[Found]:
    """Each picture's detections, without the padding."""
    return [
        Found(boxes[:n], scores[:n], classes[:n].astype(np.int64))
        for n, boxes, scores, classes in zip(*detections, strict=True)
    ]
