"""Every detector by name, and the card of one for given classes."""

import difflib
from collections.abc import Sequence

from multibox.card import Architecture, ModelCard, Preprocessing
from multibox.default_boxes import Grid
from multibox.errors import InputError
from multibox.zoo import lite, mobilenet_v1, resnet, vgg
from multibox.zoo.entry import BoxSet, Colour, ZooModel
from multibox.zoo.grids import at_strides, check_image_size, grids_behind

MODELS = {
    model.name: model for model in (*vgg.MODELS, *mobilenet_v1.MODELS, *lite.MODELS, *resnet.MODELS)
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
    backbone: str | None = None,
    box_set: BoxSet | None = None,
    normalisation: tuple[Colour, Colour] | None = None,
) -> ModelCard:
    """The card of an untrained detector for the classes ``names``.

    ``image_size`` (height, width) other than the detector's own re-derives its extra layers and
    default boxes. ``backbone`` ("timm:NAME") takes the place of the detector's own. ``box_set``
    chooses the sizes for VOC or, with other small boxes, for COCO, where the detector was published
    with both; the detector's own otherwise. ``normalisation`` is mean and std on the 0..255 scale.

    Raises: InputError for an unknown name, box set or backbone, or an input that is too small.
    """
    model = find_model(name)
    size = model.image_size if image_size is None else image_size
    check_image_size(size, least=64)
    box_set = box_set or model.box_sets[0]
    if box_set not in model.box_sets:
        raise InputError(
            f"{name} was published with one set of default boxes, not with one of its own for "
            f"{box_set}: leave the choice out"
        )
    own = backbone is None
    if backbone is not None and not backbone.startswith("timm:"):
        raise InputError(
            f"there is no backbone {backbone} to choose: give one of timm's, timm:NAME"
        )
    # What a detector's own backbone asks for does not hold for another one.
    habits = {key: model.habits[key] for key in model.habits if own or key == "norm_epsilon"}
    grids = model.backbone_grids(size) if own else at_strides(size, model.strides)
    layers = model.extra_layers(size, grids)
    grids += grids_behind(grids[-1], layers)
    mean, std = normalisation or model.normalisation
    return ModelCard(
        model=name,
        names=tuple(names),
        architecture=Architecture(
            backbone=backbone or model.backbone,
            strides=None if own else model.strides,
            extras=layers,
            extra_kind=model.extra_kind,
            heads=(model.head,) * len(grids),
            **habits,
        ),
        preprocessing=Preprocessing(
            image_size=size,
            mean=mean,
            std=std,
            channel_order=model.channel_order if own else "rgb",
            interpolation=model.interpolation,
        ),
        default_boxes=model.default_box_spec(size, grids, box_set),
        postprocessing=model.postprocessing,
    )
