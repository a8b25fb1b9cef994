"""The cards of the PyTorch ports' detectors on VGG-16, which share all but a few habits."""

from collections.abc import Sequence

from multibox.card import ModelCard, PostProcessing
from multibox.zoo import BoxSet, new_card

# Caffe's means in RGB order; the ports leave the scale alone.
_NORMALISATION = ((123.0, 117.0, 104.0), (1.0, 1.0, 1.0))


def vgg_card(
    model: str,
    names: Sequence[str],
    box_set: BoxSet,
    *,
    origin: str,
    postprocessing: PostProcessing,
) -> ModelCard:
    """The zoo's ``model`` with the means and the cut default boxes of the ports."""
    card = new_card(model, names, box_set=box_set, normalisation=_NORMALISATION)
    boxes = card.default_boxes.model_copy(update={"clip": "centre-size"})
    return card.model_copy(
        update={"default_boxes": boxes, "postprocessing": postprocessing, "origin": origin}
    )


def depths(card: ModelCard) -> tuple[int, ...]:
    """The channels of all maps: conv4_3, fc7 and the extra layers."""
    return (512, 1024, *(layer.channels for layer in card.architecture.extras))
