"""Base network, extra feature layers and heads (paper section 2.1, "Model", figure 2)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from multibox.backbones import build_backbone
from multibox.backbones.habits import pad_as_tensorflow, set_activation, set_norm_epsilon
from multibox.card import ModelCard
from multibox.default_boxes import default_boxes
from multibox.ssd.extra_layers import batch_norm, extra_layer
from multibox.ssd.heads import Heads


class SSD(nn.Module):
    """The detector that a :class:`~multibox.card.ModelCard` describes, freshly initialised."""

    normal_mean: Tensor
    normal_std: Tensor
    default_boxes: Tensor

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        architecture = card.architecture
        self.backbone = build_backbone(
            architecture.backbone, architecture.strides, card.preprocessing.image_size
        )
        norm = batch_norm(architecture.norm_epsilon)
        depths = (*self.backbone.channels, *(layer.channels for layer in architecture.extras))
        first = len(self.backbone.channels) - 1
        self.extras = nn.ModuleList(
            extra_layer(architecture.extra_kind, depth, layer, norm)
            for (depth, _), layer in zip(pairwise(depths[first:]), architecture.extras, strict=True)
        )
        self.heads = Heads(
            architecture.heads,
            depths,
            [level.boxes_per_cell for level in card.default_boxes.levels],
            len(card.names) + 1,
            norm,
        )
        lite = architecture.extra_kind in ("separable", "inverted-residual")
        self.extras.apply(_initialise_lite if lite else _initialise)
        self.heads.apply(_initialise_lite if lite else _initialise)
        set_norm_epsilon(self.backbone, architecture.backbone_norm_epsilon)
        set_activation(self, architecture.activation)
        if architecture.padding == "tensorflow":
            pad_as_tensorflow(self)

        # The card is the one source of these; a checkpoint's arrays do not repeat them.
        preprocessing = card.preprocessing
        self._unit = 255 if preprocessing.fractions else 1
        boxes = torch.from_numpy(default_boxes(card.default_boxes))
        for name, value in (
            ("normal_mean", _by_channel([mean / self._unit for mean in preprocessing.mean])),
            ("normal_std", _by_channel([std / self._unit for std in preprocessing.std])),
            ("default_boxes", boxes),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs for uint8 RGB pictures ``[b, h, w, 3]`` of the card's image size.

        Returns class logits c ``[b, n, classes + 1]``, background first, and box offsets l
        ``[b, n, 4]`` coded against the default boxes d (``box_coder``).
        """
        # Channels first, before anything else: ONNX Runtime takes ten times as long to broadcast
        # over a last axis of three.
        x = images.permute(0, 3, 1, 2).float()
        if self._unit != 1:
            x = x / self._unit
        x = (x - self.normal_mean) / self.normal_std
        if self.card.preprocessing.channel_order == "bgr":
            x = x.flip(1)
        # In the layout of the weights: build_ssd's channels-last is the fastest, torch's own is
        # for comparing with other projects, as on CPUs the order of sums follows from the layout.
        first = next(self.backbone.parameters())
        last = first.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        maps = self.backbone(x.to(first.dtype).contiguous(memory_format=layout))
        for layer in self.extras:
            maps.append(layer(maps[-1]))
        logits: Tensor
        offsets: Tensor
        logits, offsets = self.heads(maps)
        return logits, offsets


def _by_channel(values: list[float]) -> Tensor:
    """``[3, 1, 1]``, to be broadcast over a picture's rows and columns."""
    return torch.tensor(values)[:, None, None]


def build_ssd(card: ModelCard) -> SSD:
    """The detector of ``card`` with fresh weights, laid out for channels-last convolutions."""
    return SSD(card).to(memory_format=torch.channels_last)


def _initialise(module: nn.Module) -> None:
    """Xavier for new layers, biases 0 (paper section 3.1)."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _initialise_lite(module: nn.Module) -> None:
    """Normal with a deviation of 0.03, as SSDLite's published training starts."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.03)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
