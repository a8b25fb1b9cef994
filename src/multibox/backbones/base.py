"""What every backbone offers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Takes pictures ``[b, 3, h, w]``, returns its feature maps, finest first.

    ``channels`` are the depths of the maps that :meth:`forward` returns, in its order.
    """

    channels: tuple[int, ...]
    _frozen: tuple[nn.Module, ...] = ()

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """The feature maps, each ``[b, channels[i], h_i, w_i]``."""

    @abstractmethod
    def load_classifier(self, weights: Mapping[str, Tensor]) -> None:
        """Take what fits from the state dict of torchvision's classification network."""

    @abstractmethod
    def early_layers(self) -> tuple[nn.Module, ...]:
        """The layers before the picture is smaller than a quarter of its sides, in order."""

    def freeze_early_layers(self) -> None:
        """Keep the early layers as they are: neither weights nor norm statistics learn.

        They hold edges and colours, which pictures of every kind share, and cost the most time.
        """
        self._frozen = self.early_layers()
        for layer in self._frozen:
            layer.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of every layer that is not frozen."""
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self
