"""Detectors small enough to be trained within a test, registered beside the real ones.

``tiny_plain`` has the plain heads and no BatchNorm, so that what a step computes does not depend on
how its pictures are divided; ``tiny_lite`` has the separable ones.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
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


def tiny_model(name: str, like: str) -> ZooModel:
    return replace(MODELS[like], name=name, summary="", backbone=name, image_size=SIZE)


@contextmanager
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, stride, like in (
            ("tiny_plain", 8, "ssd300_vgg16"),
            ("tiny_lite", 16, "ssdlite320_mobilenet_v2"),
        ):
            patch.setitem(BACKBONES, name, partial(TinyBackbone, stride))
            patch.setitem(MODELS, name, tiny_model(name, like))
        yield
