"""Every detector by name (exact numbers: paper section 3 and the published configurations)."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from multibox.card import Architecture, ModelCard, PostProcessing, Preprocessing
from multibox.default_boxes import Grid
from multibox.errors import InputError
from multibox.zoo import lite, vgg

BoxSet = Literal["voc", "coco"]

# Where no ImageNet weights dictate a scale, pictures are brought to -1..1.
_CENTRED = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


@dataclass(frozen=True, slots=True)
class ZooModel:
    """A detector's name, one line about it, and the parts a card is made of."""

    name: str
    summary: str
    backbone: str
    image_size: Grid
    separable: bool


MODELS = {
    model.name: model
    for model in (
        ZooModel(
            "ssd300_vgg16",
            "the paper's SSD300, 8,732 default boxes",
            "vgg16",
            (300, 300),
            separable=False,
        ),
        ZooModel(
            "ssd512_vgg16",
            "the paper's SSD512, 24,564 default boxes",
            "vgg16",
            (512, 512),
            separable=False,
        ),
        ZooModel(
            "ssdlite320_mobilenet_v2",
            "small and quick, 3,234 default boxes",
            "mobilenet_v2",
            (320, 320),
            separable=True,
        ),
        ZooModel(
            "ssdlite320_mobilenet_v3_large",
            "small and quick, 3,234 default boxes",
            "mobilenet_v3_large",
            (320, 320),
            separable=True,
        ),
    )
}


def find_model(name: str) -> ZooModel:
    """The zoo's entry of that name; InputError with the nearest names otherwise."""
    try:
        return MODELS[name]
    except KeyError:
        longer = [model for model in MODELS if name and model.startswith(name)]
        near = longer or difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(MODELS)}"
        raise InputError(f"there is no model named {name}; {hint}") from None


def new_card(
    name: str,
    names: Sequence[str],
    *,
    image_size: Grid | None = None,
    box_set: BoxSet = "voc",
    normalisation: tuple[tuple[float, float, float], tuple[float, float, float]] = _CENTRED,
) -> ModelCard:
    """The card of an untrained detector for the classes ``names``.

    ``image_size`` (height, width) other than the detector's own re-derives its extra layers and
    default boxes. ``box_set`` chooses the paper's sizes for VOC or, with smaller boxes, for COCO
    (VGG-16 only). ``normalisation`` is mean and std on the 0..255 scale.
    """
    model = find_model(name)
    size = model.image_size if image_size is None else image_size
    if model.separable:
        layers = lite.extra_layers(size)
        boxes = lite.default_box_spec(size, layers)
    else:
        layers = vgg.extra_layers(size)
        boxes = vgg.default_box_spec(size, layers, box_set)
    mean, std = normalisation
    return ModelCard(
        model=name,
        names=tuple(names),
        architecture=Architecture(
            backbone=model.backbone, extras=layers, separable=model.separable
        ),
        preprocessing=Preprocessing(image_size=size, mean=mean, std=std),
        default_boxes=boxes,
        postprocessing=PostProcessing(),
    )
