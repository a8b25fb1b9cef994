"""A network's raw outputs to scores and corner boxes, in NumPy: as ``ssd.postprocess`` begins."""

import numpy as np
import numpy.typing as npt

from multibox.card import DefaultBoxSpec, PostProcessing
from multibox.default_boxes import default_boxes

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def to_scores(class_logits: Floats, settings: PostProcessing) -> Floats:
    """Softmax or sigmoid of ``[..., classes + 1]``: values in 0..1."""
    if settings.scores == "sigmoid":
        with np.errstate(over="ignore"):  # exp of a very negative logit is infinite, its score 0
            sigmoid: Floats = np.reciprocal(1 + np.exp(-class_logits))
            return sigmoid
    scores: Floats = class_logits - class_logits.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


class BoxDecoder:
    """Offsets to corner boxes (paper section 2.2, equation 2, solved for the box)."""

    def __init__(self, spec: DefaultBoxSpec, settings: PostProcessing) -> None:
        boxes = default_boxes(spec)
        variances = np.array(spec.variances, np.float32)
        self._centre, sides = boxes[:, :2], boxes[:, 2:]
        self._shift = variances[:2] * sides
        self._half = sides / 2
        self._log_scale = variances[2:]
        self._settings = settings

    def __call__(self, box_offsets: Floats, places: "Ints | slice" = slice(None)) -> Floats:
        """Corners ``[..., n, 4]`` in fractions of the picture, for offsets of that shape.

        ``places`` are the default boxes that the offsets belong to, all of them in order unless
        said.
        """
        centre = self._centre[places] + box_offsets[..., :2] * self._shift[places]
        log_ratio = box_offsets[..., 2:] * self._log_scale
        if self._settings.largest_log_ratio is not None:
            log_ratio = np.minimum(log_ratio, np.float32(self._settings.largest_log_ratio))
        half = np.exp(log_ratio) * self._half[places]
        corners: Floats = np.concatenate([centre - half, centre + half], axis=-1)
        return corners.clip(0, 1) if self._settings.clip == "before" else corners
