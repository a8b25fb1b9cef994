"""MobileNetV2 and V3 as the SSDLite papers tap them (Sandler 2018, Howard 2019 section 6.3)."""

from collections.abc import Mapping
from functools import partial

import torchvision
from torch import Tensor, nn

from multibox.backbones.base import Backbone


class MobileNet(Backbone):
    """The first stride-32 block's expansion (stride 16) and the last convolution (stride 32).

    ``tap`` is the number of that block, ``early`` how many blocks there are up to stride 4.
    """

    def __init__(self, features: nn.Sequential, tap: int, *, early: int = 4) -> None:
        super().__init__()
        self.features = features
        self._tap = tap
        self._early = early
        self.channels = tuple(_depth(part) for part in (self._tapped_block()[0], features[-1]))

    def _tapped_block(self) -> nn.Sequential:
        block = self.features[self._tap]
        inner = block.conv if hasattr(block, "conv") else block.block
        assert isinstance(inner, nn.Sequential)
        return inner

    def forward(self, images: Tensor) -> list[Tensor]:
        """Stride 16 and stride 32."""
        block = self._tapped_block()
        expansion = block[0](self.features[: self._tap](images))
        return [expansion, self.features[self._tap + 1 :](block[1:](expansion))]

    def early_layers(self) -> tuple[nn.Module, ...]:
        """Up to the last block of stride 4."""
        return tuple(self.features[: self._early])

    def load_classifier(self, weights: Mapping[str, Tensor]) -> None:
        """Everything but the classifier, by name."""
        prefix = "features."
        features = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        self.features.load_state_dict(features)


class BlockMobileNet(MobileNet):
    """The output of the last stride-16 block instead of what the next one expands it to."""

    def __init__(self, features: nn.Sequential, tap: int) -> None:
        super().__init__(features, tap)
        block = [layer for layer in features[tap - 1].modules() if isinstance(layer, nn.Conv2d)]
        self.channels = (block[-1].out_channels, self.channels[1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Stride 16 and stride 32."""
        fine = self.features[: self._tap](images)
        return [fine, self.features[self._tap :](fine)]


def _depth(convolution_block: nn.Module) -> int:
    """The channels that come out of a block of convolution, norm and activation."""
    return next(m.out_channels for m in convolution_block.modules() if isinstance(m, nn.Conv2d))


def mobilenet_v2() -> MobileNet:
    """576 channels from the expansion of inverted residual 14, and 1,280."""
    return MobileNet(torchvision.models.mobilenet_v2().features, tap=14)


def mobilenet_v2_block13() -> BlockMobileNet:
    """96 channels, the output of inverted residual 13, and 1,280: lufficc/SSD's."""
    return BlockMobileNet(torchvision.models.mobilenet_v2().features, tap=14)


def mobilenet_v3_large() -> MobileNet:
    """672 and 960 channels: the form that ImageNet weights exist for."""
    return MobileNet(torchvision.models.mobilenet_v3_large().features, tap=13)


def mobilenet_v3_large_reduced() -> MobileNet:
    """672 and 480 channels: the halved tail of torchvision's published COCO detector."""
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    network = torchvision.models.mobilenet_v3_large(reduced_tail=True, norm_layer=norm)
    return MobileNet(network.features, tap=13)


def mobilenet_v3_small() -> MobileNet:
    """288 and 576 channels."""
    return MobileNet(torchvision.models.mobilenet_v3_small().features, tap=9, early=2)
