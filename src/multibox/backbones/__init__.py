"""Networks whose feature maps the detectors look at, and their ImageNet weights.

A backbone is a module that takes a normalised float picture ``[b, 3, h, w]`` and returns its two
feature maps, finer first; ``channels`` names their depths.
"""

from collections.abc import Callable

from multibox.backbones.base import Backbone
from multibox.backbones.imagenet import ImageNetSource, imagenet_source
from multibox.backbones.mobilenet import (
    mobilenet_v2,
    mobilenet_v3_large,
    mobilenet_v3_large_reduced,
)
from multibox.backbones.vgg import Vgg16

BACKBONES: dict[str, Callable[[], Backbone]] = {
    "vgg16": Vgg16,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_large_reduced": mobilenet_v3_large_reduced,
}

__all__ = ["BACKBONES", "Backbone", "ImageNetSource", "build_backbone", "imagenet_source"]


def build_backbone(name: str) -> Backbone:
    """A backbone by its name in :data:`BACKBONES`, freshly initialised."""
    return BACKBONES[name]()
