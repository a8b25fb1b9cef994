"""SSD300 on ResNet-34 (MLPerf) and ResNet-50 (NVIDIA), SSD512 on ResNet-50 (GluonCV)."""

from multibox.card import DefaultBoxSpec, ExtraLayer, PostProcessing
from multibox.default_boxes import Grid, spec_from_sizes
from multibox.zoo import vgg
from multibox.zoo.entry import COCO_AP, IMAGENET, VOC_MAP, BoxSet, Published, ZooModel
from multibox.zoo.grids import at_strides, halved

_SSD300_EXTRAS = (
    ExtraLayer(squeeze=256, channels=512),
    ExtraLayer(squeeze=256, channels=512),
    ExtraLayer(squeeze=128, channels=256),
    ExtraLayer(squeeze=128, channels=256, stride=1, padding=0),
    ExtraLayer(squeeze=128, channels=256, stride=1, padding=0),
)
_SSD512_EXTRAS = tuple(
    ExtraLayer(squeeze=channels, channels=channels) for channels in (512, 512, 256, 256)
)
# Pixels of an input of 512.
_SSD512_SIZES = {
    "voc": (51.2, 102.4, 189.4, 276.4, 363.52, 450.6, 492.0),
    "coco": (51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
}


def _ssd300_grids(image_size: Grid) -> list[Grid]:
    return at_strides(image_size, (8,))


def _ssd300_extra_layers(image_size: Grid, grids: list[Grid]) -> tuple[ExtraLayer, ...]:
    """19 10 5 3 1 cells behind the one map of 38; elsewhere halvings down to a single cell."""
    if image_size == (300, 300):
        return _SSD300_EXTRAS
    layers: list[ExtraLayer] = []
    grid = grids[-1]
    while max(grid) > 1:
        wide = len(layers) < 2
        layers.append(ExtraLayer(squeeze=256 if wide else 128, channels=512 if wide else 256))
        grid = halved(grid)
    return tuple(layers)


def _ssd300_default_box_spec(
    image_size: Grid, grids: list[Grid], box_set: BoxSet
) -> DefaultBoxSpec:
    """The paper's, centres and sides cut to the picture's: MLPerf's and NVIDIA's DefaultBoxes."""
    spec = vgg.default_box_spec(image_size, grids, box_set)
    return spec.model_copy(update={"clip": "centre-size"})


def _ssd512_grids(image_size: Grid) -> list[Grid]:
    return at_strides(image_size, (16, 32))


def _ssd512_extra_layers(image_size: Grid, grids: list[Grid]) -> tuple[ExtraLayer, ...]:
    """Four halvings behind the fourth stage: 8 4 2 1 cells at 512 pixels."""
    return _SSD512_EXTRAS


def _ssd512_default_box_spec(
    image_size: Grid, grids: list[Grid], box_set: BoxSet
) -> DefaultBoxSpec:
    """6,132 default boxes at 512 pixels, where the steps are the input divided by the grid."""
    scale = min(image_size) / 512
    sizes = [size * scale for size in _SSD512_SIZES[box_set]]
    ratios = [(2.0,), *[(2.0, 3.0)] * 3, (2.0,), (2.0,)]
    return spec_from_sizes(image_size, grids, sizes, ratios)


def _ssd300(name: str, summary: str, backbone: str, published: tuple[Published, ...]) -> ZooModel:
    return ZooModel(
        name=name,
        summary=summary,
        backbone=backbone,
        strides=(8,),
        image_size=(300, 300),
        extra_kind="conv" if backbone == "resnet34" else "conv-norm",
        head="conv3x3",
        backbone_grids=_ssd300_grids,
        extra_layers=_ssd300_extra_layers,
        default_box_spec=_ssd300_default_box_spec,
        box_sets=("coco", "voc"),
        habits={"norm_epsilon": 1e-5},
        normalisation=IMAGENET,
        # Both evaluate at an IoU of 0.5, though their decoders' own default is 0.45.
        postprocessing=PostProcessing(score_threshold=0.05, iou_threshold=0.5, top_k=200),
        published=published,
    )


MODELS = (
    _ssd300(
        "ssd300_resnet34",
        "MLPerf's SSD300",
        "resnet34",
        (Published(COCO_AP, 0.23, "COCO train2017", "MLPerf training, the target to reach"),),
    ),
    _ssd300(
        "ssd300_resnet50",
        "NVIDIA's SSD300",
        "resnet50",
        (
            Published(
                COCO_AP,
                0.268,
                "COCO train2017",
                "NVIDIA DeepLearningExamples, mean of 15 seeds in mixed precision",
            ),
        ),
    ),
    ZooModel(
        name="ssd512_resnet50",
        summary="GluonCV's SSD512",
        backbone="resnet50_stride32",
        strides=(16, 32),
        image_size=(512, 512),
        extra_kind="conv-norm",
        head="conv3x3",
        backbone_grids=_ssd512_grids,
        extra_layers=_ssd512_extra_layers,
        default_box_spec=_ssd512_default_box_spec,
        box_sets=("voc", "coco"),
        normalisation=IMAGENET,
        postprocessing=PostProcessing(keep=100),
        published=(
            Published(VOC_MAP, 0.801, "VOC07+12 trainval", "GluonCV ssd_512_resnet50_v1_voc"),
            Published(COCO_AP, 0.306, "COCO train2017", "GluonCV ssd_512_resnet50_v1_coco"),
        ),
    ),
)
