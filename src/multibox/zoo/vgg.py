"""SSD300 and SSD512 on VGG-16 (paper section 3; ssd_pascal.py and ssd_coco.py of the original)."""

from multibox.card import DefaultBoxSpec, ExtraLayer
from multibox.default_boxes import Grid, choose_scales, spec_from_sizes
from multibox.zoo.entry import COCO_AP, VOC_MAP, BoxSet, Published, ZooModel
from multibox.zoo.grids import halved

_SSD300_EXTRAS = (
    ExtraLayer(squeeze=256, channels=512),
    ExtraLayer(squeeze=128, channels=256),
    ExtraLayer(squeeze=128, channels=256, stride=1, padding=0),
    ExtraLayer(squeeze=128, channels=256, stride=1, padding=0),
)
_SSD512_EXTRAS = (
    ExtraLayer(squeeze=256, channels=512),
    *(ExtraLayer(squeeze=128, channels=256) for _ in range(3)),
    ExtraLayer(squeeze=128, channels=256, kernel=4, stride=1, padding=1),
)

# Pixels. SSD300: the first map alone, then equal steps of the scale in whole percents.
_SSD300_SIZES = {
    "voc": (30, 60, 111, 162, 213, 264, 315),
    "coco": (21, 45, 99, 153, 207, 261, 315),
}
_SSD300_STEPS = (8, 16, 32, 64, 100, 300)
# Fractions of the side.
_SSD512_SCALES = {
    "voc": (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05),
    "coco": (0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06),
}
_SSD512_STEPS = (8, 16, 32, 64, 128, 256, 512)
# Other inputs: the scale of the first map, then s_min and s_max of equation 4 for the rest.
_FIRST_LOW_HIGH = {"voc": (0.1, 0.2, 0.9), "coco": (0.07, 0.15, 0.87)}


def backbone_grids(image_size: Grid) -> list[Grid]:
    """conv4_3 and fc7: pool1, pool2 and pool4 round down, pool3 rounds up."""
    rows, columns = halved((image_size[0] // 4, image_size[1] // 4))
    return [(rows, columns), (rows // 2, columns // 2)]


def extra_layers(image_size: Grid, grids: list[Grid]) -> tuple[ExtraLayer, ...]:
    """conv8 to conv11 (SSD300), to conv12 (SSD512); elsewhere halvings down to a single cell."""
    if image_size == (300, 300):
        return _SSD300_EXTRAS
    if image_size == (512, 512):
        return _SSD512_EXTRAS
    layers: list[ExtraLayer] = []
    grid = grids[-1]
    while max(grid) > 1:
        wide = not layers
        layers.append(ExtraLayer(squeeze=256 if wide else 128, channels=512 if wide else 256))
        grid = halved(grid)
    return tuple(layers)


def default_box_spec(image_size: Grid, grids: list[Grid], box_set: BoxSet) -> DefaultBoxSpec:
    """Ratios 2 and 3 in the middle, 2 on the first map and the last two."""
    ratios = [(2.0,), *[(2.0, 3.0)] * (len(grids) - 3), (2.0,), (2.0,)]
    if image_size == (300, 300):
        return spec_from_sizes(
            image_size, grids, _SSD300_SIZES[box_set], ratios, steps=_SSD300_STEPS
        )
    if image_size == (512, 512):
        sizes = [scale * 512 for scale in _SSD512_SCALES[box_set]]
        return spec_from_sizes(image_size, grids, sizes, ratios, steps=_SSD512_STEPS)
    first, s_min, s_max = _FIRST_LOW_HIGH[box_set]
    scales = choose_scales(len(grids) - 1, s_min, s_max)
    # Behind the last map the same distance again, for its second square.
    scales = [first, *scales, 2 * scales[-1] - scales[-2]]
    side = min(image_size)
    return spec_from_sizes(image_size, grids, [scale * side for scale in scales], ratios)


def _paper_model(name: str, summary: str, side: int, published: tuple[Published, ...]) -> ZooModel:
    return ZooModel(
        name=name,
        summary=summary,
        backbone="vgg16",
        strides=(8, 16),
        image_size=(side, side),
        extra_kind="conv",
        head="conv3x3",
        backbone_grids=backbone_grids,
        extra_layers=extra_layers,
        default_box_spec=default_box_spec,
        box_sets=("voc", "coco"),
        published=published,
    )


_TEST_DEV = "COCO test-dev2015 AP"
_TABLE_1, _TABLE_6 = "paper, table 1, without zoom-out", "paper, table 6, with zoom-out"
_VOC, _VOC_AND_COCO = "VOC07+12 trainval", "VOC07+12 trainval + COCO"

MODELS = (
    _paper_model(
        "ssd300_vgg16",
        "the paper's SSD300",
        300,
        (
            Published(VOC_MAP, 0.772, _VOC, _TABLE_6),
            Published(VOC_MAP, 0.812, _VOC_AND_COCO, _TABLE_6),
            Published(VOC_MAP, 0.743, _VOC, _TABLE_1),
            Published(VOC_MAP, 0.796, _VOC_AND_COCO, _TABLE_1),
            Published(_TEST_DEV, 0.251, "COCO trainval35k", "paper, with zoom-out"),
            Published(_TEST_DEV, 0.232, "COCO trainval35k", "paper, without zoom-out"),
            Published(COCO_AP, 0.251, "COCO train2017", "torchvision ssd300_vgg16"),
        ),
    ),
    _paper_model(
        "ssd512_vgg16",
        "the paper's SSD512",
        512,
        (
            Published(VOC_MAP, 0.798, _VOC, _TABLE_6),
            Published(VOC_MAP, 0.832, _VOC_AND_COCO, _TABLE_6),
            Published(VOC_MAP, 0.768, _VOC, _TABLE_1),
            Published(VOC_MAP, 0.816, _VOC_AND_COCO, _TABLE_1),
            Published(_TEST_DEV, 0.288, "COCO trainval35k", "paper, with zoom-out"),
            Published(_TEST_DEV, 0.268, "COCO trainval35k", "paper, without zoom-out"),
        ),
    ),
)
