"""Detectors whose outputs spread like a trained one's, and one small enough to export in a second.

Fresh networks give next to nothing, or the same everywhere, and everything agrees with that.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from foreign_weights import pictures, randomise, settle_norms, spread_heads
from torch import Tensor, nn

from multibox import checkpoints
from multibox.backbones import BACKBONES, Backbone
from multibox.card import ModelCard
from multibox.engines.torch import TorchEngine
from multibox.ssd.model import SSD
from multibox.zoo import MODELS, new_card

TINY = "tiny_detector"
NAMES = ("ball", "board", "ring")


def spread_engine(card: ModelCard, seed: int = 0) -> TorchEngine:
    """A network of ``card`` that detects a few things of every class in any picture."""
    torch.manual_seed(seed)
    model = SSD(card)
    randomise(model, seed)
    for head in (*model.heads.classes, *model.heads.boxes):
        for layer in head.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
    height, width = card.preprocessing.image_size
    images = torch.from_numpy(pictures(4, height, width))
    settle_norms(model, lambda: model(images))
    spread_heads(
        [_last(head) for head in model.heads.classes],
        [_last(head) for head in model.heads.boxes],
        len(card.names) + 1,
        lambda: model(images),
        background=2.0,
    )
    return TorchEngine(model.eval(), card)


def save(engine: TorchEngine, path: Path) -> Path:
    arrays = {name: value.numpy() for name, value in engine.module.state_dict().items()}
    checkpoints.save(path, arrays, engine.card)
    return path


@contextmanager
def tiny_registered() -> Iterator[ModelCard]:
    """The card of a detector with two convolutions and separable heads, known while this lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, TINY, _TinyBackbone)
        entry = replace(
            MODELS["ssdlite320_mobilenet_v2"], name=TINY, backbone=TINY, image_size=(64, 64)
        )
        patch.setitem(MODELS, TINY, entry)
        yield new_card(TINY, NAMES)


class _TinyBackbone(Backbone):
    channels = (8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, 8, 16, stride=16), nn.BatchNorm2d(8), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(8, 16, 2, stride=2), nn.ReLU6(inplace=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.fine(images)
        return [fine, self.coarse(fine)]

    def early_layers(self) -> tuple[nn.Module, ...]:
        return (self.fine,)

    def load_classifier(self, weights: Mapping[str, Tensor]) -> None:
        self.load_state_dict(weights)


def _last(head: nn.Module) -> nn.Conv2d:
    return [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)][-1]
