"""SSD300 and SSD512 on VGG-16 (paper section 3; ssd_pascal.py and ssd_coco.py of the original)."""

from typing import Literal

import numpy as np

from multibox.card import DefaultBoxSpec, ExtraLayer
from multibox.default_boxes import Grid, spec_from_sizes
from multibox.zoo.grids import check_image_size, grids_behind, halved

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
# First map, second map and last map for other inputs: equation 4 between the last two.
_FIRST_LOW_HIGH = {"voc": (0.1, 0.2, 0.9), "coco": (0.07, 0.15, 0.87)}


def extra_layers(image_size: Grid) -> tuple[ExtraLayer, ...]:
    """conv8 to conv11 (SSD300), to conv12 (SSD512); elsewhere halvings down to a single cell."""
    check_image_size(image_size, least=64)
    if image_size == (300, 300):
        return _SSD300_EXTRAS
    if image_size == (512, 512):
        return _SSD512_EXTRAS
    layers: list[ExtraLayer] = []
    grid = _fc7_grid(image_size)
    while max(grid) > 1:
        wide = not layers
        layers.append(ExtraLayer(squeeze=256 if wide else 128, channels=512 if wide else 256))
        grid = halved(grid)
    return tuple(layers)


def default_box_spec(
    image_size: Grid, layers: tuple[ExtraLayer, ...], box_set: Literal["voc", "coco"]
) -> DefaultBoxSpec:
    """Ratios 2 and 3 in the middle, 2 on the first map and the last two."""
    fc7 = _fc7_grid(image_size)
    grids = [_conv4_3_grid(image_size), fc7, *grids_behind(fc7, layers)]
    ratios = [(2.0,), *[(2.0, 3.0)] * (len(grids) - 3), (2.0,), (2.0,)]
    if image_size == (300, 300):
        return spec_from_sizes(
            image_size, grids, _SSD300_SIZES[box_set], ratios, steps=_SSD300_STEPS
        )
    if image_size == (512, 512):
        sizes = [scale * 512 for scale in _SSD512_SCALES[box_set]]
        return spec_from_sizes(image_size, grids, sizes, ratios, steps=_SSD512_STEPS)
    first, low, high = _FIRST_LOW_HIGH[box_set]
    between = np.linspace(low, high, len(grids) - 1).tolist()
    scales = [first, *between, 2 * between[-1] - between[-2]]
    side = min(image_size)
    return spec_from_sizes(image_size, grids, [scale * side for scale in scales], ratios)


def _conv4_3_grid(image_size: Grid) -> Grid:
    # pool1 and pool2 round down, pool3 rounds up.
    return halved((image_size[0] // 4, image_size[1] // 4))


def _fc7_grid(image_size: Grid) -> Grid:
    rows, columns = _conv4_3_grid(image_size)
    return rows // 2, columns // 2
