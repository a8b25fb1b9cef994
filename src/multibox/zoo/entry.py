"""What the zoo knows about a detector before its classes and input size are chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from multibox.card import DefaultBoxSpec, ExtraKind, ExtraLayer, HeadKind, PostProcessing
from multibox.default_boxes import Grid

BoxSet = Literal["voc", "coco"]
Colour = tuple[float, float, float]

# Where no ImageNet weights dictate a scale, pictures are brought to -1..1.
CENTRED: tuple[Colour, Colour] = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
IMAGENET: tuple[Colour, Colour] = (
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (0.229 * 255, 0.224 * 255, 0.225 * 255),
)

VOC_MAP, COCO_AP = "VOC2007 test mAP (11-point)", "COCO val2017 AP"


@dataclass(frozen=True, slots=True)
class Published:
    """A figure that somebody published for this detector, and where it stands.

    ``value`` is a fraction: 0.772 for a mAP of 77.2.
    """

    metric: str
    value: float
    trained_on: str
    source: str


@dataclass(frozen=True, slots=True)
class ZooModel:
    """A detector's name, one line about it, and the parts a card is made of.

    ``backbone_grids(image_size)`` are the maps the backbone gives, ``extra_layers(image_size,
    grids)`` follow the last of them, and ``default_box_spec(image_size, grids, box_set)`` lays the
    default boxes over all maps. ``habits`` are further values of the card's architecture. The first
    of ``published`` is the figure that lists show, the first of ``box_sets`` the default.
    """

    name: str
    summary: str
    backbone: str
    strides: tuple[int, ...]
    image_size: Grid
    extra_kind: ExtraKind
    head: HeadKind
    backbone_grids: Callable[[Grid], list[Grid]]
    extra_layers: Callable[[Grid, list[Grid]], tuple[ExtraLayer, ...]]
    default_box_spec: Callable[[Grid, list[Grid], BoxSet], DefaultBoxSpec]
    box_sets: tuple[BoxSet, ...] = ("voc",)
    habits: Mapping[str, Any] = field(default_factory=dict)
    normalisation: tuple[Colour, Colour] = CENTRED
    channel_order: Literal["rgb", "bgr"] = "rgb"
    interpolation: Literal["linear", "area", "linear-corner"] = "linear"
    postprocessing: PostProcessing = field(default_factory=PostProcessing)
    published: tuple[Published, ...] = ()
