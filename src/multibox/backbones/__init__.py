"""Networks whose feature maps the detectors look at, and their ImageNet weights.

A backbone is a module that takes a normalised float picture ``[b, 3, h, w]`` and returns its
feature maps, finest first; ``channels`` names their depths.
"""

from collections.abc import Callable, Sequence

from multibox.backbones.base import Backbone
from multibox.backbones.imagenet import ImageNetSource, imagenet_source
from multibox.backbones.mobilenet import (
    mobilenet_v2,
    mobilenet_v2_block13,
    mobilenet_v3_large,
    mobilenet_v3_large_reduced,
    mobilenet_v3_small,
)
from multibox.backbones.mobilenet_v1 import MobileNetV1
from multibox.backbones.resnet import resnet34, resnet50, resnet50_stride32
from multibox.backbones.timm import PREFIX, TimmBackbone
from multibox.backbones.vgg import Vgg16, Vgg16BatchNorm
from multibox.errors import InputError

BACKBONES: dict[str, Callable[[], Backbone]] = {
    "vgg16": Vgg16,
    "vgg16_batchnorm": Vgg16BatchNorm,
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v2_block13": mobilenet_v2_block13,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_large_reduced": mobilenet_v3_large_reduced,
    "mobilenet_v3_small": mobilenet_v3_small,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet50_stride32": resnet50_stride32,
}

__all__ = ["BACKBONES", "Backbone", "ImageNetSource", "build_backbone", "imagenet_source"]


def build_backbone(
    name: str,
    strides: Sequence[int] | None = None,
    image_size: tuple[int, int] | None = None,
) -> Backbone:
    """A backbone by its name in :data:`BACKBONES`, freshly initialised.

    "timm:NAME" is one of timm's, its maps chosen by ``strides`` and checked for ``image_size``
    (height, width); both are needed for it, and for no other.

    Raises: InputError when there is none of that name, or timm's does not fit.
    """
    if name.startswith(PREFIX):
        if not strides or image_size is None:
            raise InputError(f"{name}: the strides of its maps are not given")
        return TimmBackbone(name.removeprefix(PREFIX), strides, image_size)
    try:
        return BACKBONES[name]()
    except KeyError:
        raise InputError(
            f"no backbone named {name}: there are {', '.join(BACKBONES)} and {PREFIX}NAME"
        ) from None
