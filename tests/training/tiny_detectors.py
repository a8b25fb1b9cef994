"""Detectors small enough to be trained within a test, registered beside the real ones.

``tiny_plain`` has the plain heads and no BatchNorm, so that what a step computes does not depend on
how its pictures are divided; ``tiny_frozen`` has a BatchNorm that does not learn, ``tiny_lite`` the
separable heads with those that do.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from multibox.backbones import BACKBONES, Backbone
from multibox.zoo import MODELS, ZooModel

SIZE = (64, 64)


class TinyBackbone(Backbone):
    """Two convolutions, the second one at half the resolution of the first."""

    channels = (8, 16)

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 8, stride, stride=stride), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 16, 2, stride=2), nn.ReLU())

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.fine(images)
        return [fine, self.coarse(fine)]

    def early_layers(self) -> tuple[nn.Module, ...]:
        return (self.fine,)

    def load_classifier(self, weights: Mapping[str, Tensor]) -> None:
        self.load_state_dict(weights)


class FrozenNormBackbone(TinyBackbone):
    """Its first layer is followed by a BatchNorm with statistics of some pictures long ago."""

    def __init__(self, stride: int) -> None:
        super().__init__(stride)
        norm = nn.BatchNorm2d(8)
        norm.running_mean.copy_(torch.linspace(-0.2, 0.2, 8))
        norm.running_var.copy_(torch.linspace(0.5, 2, 8))
        self.fine.insert(1, norm)
        norm.requires_grad_(False)
        self._frozen = (norm,)
        self.train()


def tiny_model(name: str, like: str) -> ZooModel:
    return replace(MODELS[like], name=name, summary="", backbone=name, image_size=SIZE)


@contextmanager
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, backbone, stride, like in (
            ("tiny_plain", TinyBackbone, 8, "ssd300_vgg16"),
            ("tiny_frozen", FrozenNormBackbone, 8, "ssd300_vgg16"),
            ("tiny_lite", TinyBackbone, 16, "ssdlite320_mobilenet_v2"),
        ):
            patch.setitem(BACKBONES, name, partial(backbone, stride))
            patch.setitem(MODELS, name, tiny_model(name, like))
        yield
