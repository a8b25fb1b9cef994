"""SSD: a backbone, extra feature layers and heads (paper section 2.1, figure 2)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from multibox.backbones import build_backbone
from multibox.card import ModelCard
from multibox.default_boxes import default_boxes
from multibox.ssd.heads import (
    Heads,
    extra_layer,
    predictor,
    separable_extra_layer,
    separable_predictor,
)


class SSD(nn.Module):
    """The detector that a :class:`~multibox.card.ModelCard` describes, freshly initialised."""

    normal_mean: Tensor
    normal_std: Tensor
    default_boxes: Tensor

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        architecture = card.architecture
        self.backbone = build_backbone(architecture.backbone)

        build_extra = separable_extra_layer if architecture.separable else extra_layer
        depths = (*self.backbone.channels, *(layer.channels for layer in architecture.extras))
        first = len(self.backbone.channels) - 1
        self.extras = nn.ModuleList(
            build_extra(depth, layer)
            for (depth, _), layer in zip(pairwise(depths[first:]), architecture.extras, strict=True)
        )
        self.heads = Heads(
            depths,
            [level.boxes_per_cell for level in card.default_boxes.levels],
            len(card.names) + 1,
            separable_predictor if architecture.separable else predictor,
        )
        for part in (self.extras, self.heads):
            part.apply(_initialise_separable if architecture.separable else _initialise)

        # The card is the one source of these; a checkpoint's arrays do not repeat them.
        preprocessing = card.preprocessing
        boxes = torch.from_numpy(default_boxes(card.default_boxes))
        for name, value in (
            ("normal_mean", torch.tensor(preprocessing.mean)),
            ("normal_std", torch.tensor(preprocessing.std)),
            ("default_boxes", boxes),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs for uint8 RGB pictures ``[b, h, w, 3]`` of the card's image size.

        Returns class logits ``[b, n, classes + 1]``, background first, and box offsets
        ``[b, n, 4]`` coded against the default boxes.
        """
        x = (images.float() - self.normal_mean) / self.normal_std
        if self.card.preprocessing.channel_order == "bgr":
            x = x.flip(3)
        maps = self.backbone(x.permute(0, 3, 1, 2))
        for layer in self.extras:
            maps.append(layer(maps[-1]))
        logits: Tensor
        offsets: Tensor
        logits, offsets = self.heads(maps)
        return logits, offsets


def build_ssd(card: ModelCard) -> SSD:
    """The detector of ``card`` with fresh weights, laid out for channels-last convolutions."""
    return SSD(card).to(memory_format=torch.channels_last)


def _initialise(module: nn.Module) -> None:
    """Xavier for new layers, biases 0 (paper section 3.1)."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _initialise_separable(module: nn.Module) -> None:
    """Normal with a deviation of 0.03, as SSDLite's published training starts."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.03)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
