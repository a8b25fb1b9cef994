"""SSDLite on MobileNets: extra layers and default boxes for any input size."""

from multibox.card import DefaultBoxLevel, DefaultBoxSpec, ExtraLayer, PostProcessing
from multibox.default_boxes import Grid, spec_from_sizes
from multibox.zoo.entry import COCO_AP, VOC_MAP, BoxSet, Published, ZooModel
from multibox.zoo.grids import at_strides

EXTRAS = tuple(
    ExtraLayer(squeeze=channels // 2, channels=channels) for channels in (512, 256, 256, 128)
)
# Fractions of the shorter side (torchvision's ssdlite320: min_ratio .2, max_ratio .95, then 1).
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
_STRIDES = (16, 32)


def backbone_grids(image_size: Grid) -> list[Grid]:
    """Stride 16 and stride 32."""
    return at_strides(image_size, _STRIDES)


def extra_layers(image_size: Grid, grids: list[Grid]) -> tuple[ExtraLayer, ...]:
    """Four halvings behind the last convolution: 5 3 2 1 cells at 320 pixels."""
    return EXTRAS


def default_box_spec(image_size: Grid, grids: list[Grid], box_set: BoxSet) -> DefaultBoxSpec:
    """Six boxes a cell, sizes .2 to .95 of the shorter side; 3,234 boxes at 320 pixels."""
    side = min(image_size)
    return spec_from_sizes(
        image_size, grids, [scale * side for scale in _SCALES], [(2.0, 3.0)] * len(grids)
    )


def tensorflow_default_box_spec(
    image_size: Grid, grids: list[Grid], box_set: BoxSet
) -> DefaultBoxSpec:
    """TensorFlow's ``ssd_anchor_generator`` (multiple_grid_anchor_generator.py).

    The same scales in another order: ratios 1, 2, 1/2, 3, 1/3 (as .3333), then the interpolated
    square; on the first map three boxes only, the first of them half as large. 1,917 boxes at 300
    pixels.
    """
    side = min(image_size)
    levels = []
    for level, grid in enumerate(grids):
        scale, larger = _SCALES[level], _SCALES[level + 1]
        pairs = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
        pairs.append(((scale * larger) ** 0.5, 1.0))
        if level == 0:
            pairs = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        shapes = tuple((s * ratio**0.5 * side, s / ratio**0.5 * side) for s, ratio in pairs)
        levels.append(DefaultBoxLevel(grid=grid, shapes=shapes))
    return DefaultBoxSpec(image_size=image_size, levels=tuple(levels))


def _lite(
    name: str, summary: str, backbone: str, published: tuple[Published, ...] = ()
) -> ZooModel:
    return ZooModel(
        name=name,
        summary=summary,
        backbone=backbone,
        strides=_STRIDES,
        image_size=(320, 320),
        extra_kind="separable",
        head="separable",
        backbone_grids=backbone_grids,
        extra_layers=extra_layers,
        default_box_spec=default_box_spec,
        published=published,
    )


MODELS = (
    _lite(
        "ssdlite320_mobilenet_v2",
        "small and quick",
        "mobilenet_v2",
        (
            Published(COCO_AP, 0.213, "COCO train2017", "mmdetection, default boxes of 48 to 320"),
            Published(VOC_MAP, 0.689, "VOC07+12 trainval", "lufficc/SSD, with other taps"),
        ),
    ),
    ZooModel(
        name="ssdlite300_mobilenet_v2",
        summary="TensorFlow's SSDLite",
        backbone="mobilenet_v2",
        strides=_STRIDES,
        image_size=(300, 300),
        extra_kind="separable",
        head="separable",
        backbone_grids=backbone_grids,
        extra_layers=extra_layers,
        default_box_spec=tensorflow_default_box_spec,
        habits={"backbone_norm_epsilon": 1e-3, "padding": "tensorflow"},
        interpolation="linear-corner",
        postprocessing=PostProcessing(
            scores="sigmoid", score_threshold=1e-8, iou_threshold=0.6, top_k=1917, keep=100
        ),
        published=(Published("COCO mAP", 0.22, "COCO", "TensorFlow detection model zoo, rounded"),),
    ),
    _lite(
        "ssdlite320_mobilenet_v3_large",
        "torchvision's SSDLite",
        "mobilenet_v3_large",
        (Published(COCO_AP, 0.213, "COCO train2017", "torchvision, with the reduced tail"),),
    ),
    _lite(
        "ssdlite320_mobilenet_v3_small",
        "the smallest SSDLite",
        "mobilenet_v3_small",
        (Published("COCO mAP", 0.154, "COCO", "TensorFlow detection model zoo, its own form"),),
    ),
)
