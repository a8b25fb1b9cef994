"""Where ImageNet weights come from, and the preprocessing that belongs to each set."""

from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlparse

import torch
from torch import Tensor
from torchvision.models import get_weight

from multibox.backbones.online import patience
from multibox.backbones.timm import PREFIX, TimmSource
from multibox.errors import InputError

_IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
# What VGG-16 saw when it was trained in Caffe, in RGB order.
_CAFFE_MEAN = (123.0, 117.0, 104.0)


@dataclass(frozen=True, slots=True)
class ImageNetSource:
    """One published set of classification weights: its torchvision name, mean and std (0..255)."""

    weights: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def origin(self) -> str:
        """What a card says about where they came from."""
        return f"torchvision's {self.weights}"

    def download(self) -> dict[str, Tensor]:
        """The state dict, from torch's cache or from torchvision's server.

        Raises InputError naming the file and the way out when it is missing or damaged.
        """
        weights = get_weight(self.weights)
        file = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(weights.url).path).name)
        try:
            with patience(20):
                state: dict[str, Tensor] = weights.get_state_dict(
                    progress=False, check_hash=True, weights_only=True
                )
        except (OSError, HTTPException) as error:  # URLError is an OSError
            raise InputError(
                f"{file} is missing and cannot be downloaded ({error}): "
                "put the file there, or start without ImageNet weights: --weights none"
            ) from error
        except (RuntimeError, UnpicklingError, EOFError) as error:
            raise InputError(
                f"{file} is damaged, or its download was: delete it and try again, "
                "or start without ImageNet weights: --weights none"
            ) from error
        return state


_RESNET50 = ImageNetSource("ResNet50_Weights.IMAGENET1K_V1", _IMAGENET_MEAN, _IMAGENET_STD)
_SOURCES = {
    "vgg16": ImageNetSource("VGG16_Weights.IMAGENET1K_V1", _IMAGENET_MEAN, _IMAGENET_STD),
    "vgg16:features": ImageNetSource(
        "VGG16_Weights.IMAGENET1K_FEATURES", _CAFFE_MEAN, (1.0, 1.0, 1.0)
    ),
    "mobilenet_v2": ImageNetSource(
        "MobileNet_V2_Weights.IMAGENET1K_V1", _IMAGENET_MEAN, _IMAGENET_STD
    ),
    "mobilenet_v3_large": ImageNetSource(
        "MobileNet_V3_Large_Weights.IMAGENET1K_V1", _IMAGENET_MEAN, _IMAGENET_STD
    ),
    "mobilenet_v3_small": ImageNetSource(
        "MobileNet_V3_Small_Weights.IMAGENET1K_V1", _IMAGENET_MEAN, _IMAGENET_STD
    ),
    "resnet34": ImageNetSource("ResNet34_Weights.IMAGENET1K_V1", _IMAGENET_MEAN, _IMAGENET_STD),
    "resnet50": _RESNET50,
    "resnet50_stride32": _RESNET50,
}


def imagenet_source(
    backbone: str, image_size: tuple[int, int] = (224, 224)
) -> ImageNetSource | TimmSource:
    """The weights a backbone starts from.

    ``image_size`` (height, width) is for those of timm's networks that are built for one input.

    ``vgg16`` takes everything, fc6 and fc7 included, from ``IMAGENET1K_V1`` with that set's mean
    and std; ``vgg16:features`` takes the convolutions of the Caffe original with Caffe's means and
    leaves fc6 and fc7 to Xavier. The two differ in input scale and are never mixed.
    """
    if backbone.startswith(PREFIX):
        return TimmSource(backbone.removeprefix(PREFIX), image_size)
    try:
        return _SOURCES[backbone]
    except KeyError:
        raise InputError(
            f"there are no ImageNet weights for {backbone}: start without them: --weights none"
        ) from None
