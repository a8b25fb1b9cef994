"""SSDLite on MobileNets: extra layers and default boxes for any input size."""

from multibox.card import DefaultBoxSpec, ExtraLayer
from multibox.default_boxes import Grid, spec_from_sizes
from multibox.zoo.grids import check_image_size, grids_behind, halved

_EXTRAS = tuple(
    ExtraLayer(squeeze=channels // 2, channels=channels) for channels in (512, 256, 256, 128)
)
# Fractions of the shorter side (torchvision's ssdlite320: min_ratio .2, max_ratio .95, then 1).
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)


def extra_layers(image_size: Grid) -> tuple[ExtraLayer, ...]:
    """Four halvings behind the last convolution: 5 3 2 1 cells at 320 pixels."""
    check_image_size(image_size, least=64)
    return _EXTRAS


def default_box_spec(image_size: Grid, layers: tuple[ExtraLayer, ...]) -> DefaultBoxSpec:
    """Six boxes a cell, sizes .2 to .95 of the shorter side; 3,234 boxes at 320 pixels."""
    stride_16 = halved(image_size, times=4)
    stride_32 = halved(stride_16)
    grids = [stride_16, stride_32, *grids_behind(stride_32, layers)]
    side = min(image_size)
    return spec_from_sizes(
        image_size, grids, [scale * side for scale in _SCALES], [(2.0, 3.0)] * len(grids)
    )
