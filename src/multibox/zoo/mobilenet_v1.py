"""SSD300 on MobileNetV1, the Caffe MobileNet-SSD (chuanqi305/MobileNet-SSD, deploy.prototxt)."""

from multibox.card import DefaultBoxLevel, DefaultBoxSpec, ExtraLayer, PostProcessing
from multibox.default_boxes import Grid
from multibox.zoo.entry import VOC_MAP, BoxSet, Published, ZooModel
from multibox.zoo.grids import at_strides

_EXTRAS = (
    ExtraLayer(squeeze=256, channels=512),
    ExtraLayer(squeeze=128, channels=256),
    ExtraLayer(squeeze=128, channels=256),
    ExtraLayer(squeeze=64, channels=128),
)
# Fractions of the shorter side: the least size of each map; the next one's is its greatest.
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
_STRIDES = (16, 32)


def backbone_grids(image_size: Grid) -> list[Grid]:
    """conv11 and conv13."""
    return at_strides(image_size, _STRIDES)


def extra_layers(image_size: Grid, grids: list[Grid]) -> tuple[ExtraLayer, ...]:
    """conv14 to conv17: 5 3 2 1 cells at 300 pixels."""
    return _EXTRAS


def default_box_spec(image_size: Grid, grids: list[Grid], box_set: BoxSet) -> DefaultBoxSpec:
    """Three boxes a cell on the first map, without a second square; 1,917 at 300 pixels."""
    side = min(image_size)
    levels = [
        DefaultBoxLevel(
            grid=grid,
            min_size=_SCALES[level] * side,
            max_size=None if level == 0 else _SCALES[level + 1] * side,
            aspect_ratios=(2.0,) if level == 0 else (2.0, 3.0),
        )
        for level, grid in enumerate(grids)
    ]
    return DefaultBoxSpec(image_size=image_size, levels=tuple(levels))


MODELS = (
    ZooModel(
        name="ssd300_mobilenet_v1",
        summary="the Caffe MobileNet-SSD",
        backbone="mobilenet_v1",
        strides=_STRIDES,
        image_size=(300, 300),
        extra_kind="conv-norm",
        head="conv1x1",
        backbone_grids=backbone_grids,
        extra_layers=extra_layers,
        default_box_spec=default_box_spec,
        channel_order="bgr",
        habits={"norm_epsilon": 1e-5},
        # Of its test network; the one to deploy has 0.25 and keeps 100 of the best 100.
        postprocessing=PostProcessing(),
        published=(
            Published(VOC_MAP, 0.727, "COCO, then VOC07+12 trainval", "chuanqi305/MobileNet-SSD"),
        ),
    ),
)
