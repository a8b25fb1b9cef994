"""ResNets as SSD taps them: cut after the third stage (MLPerf, NVIDIA) or whole (GluonCV)."""

from collections.abc import Mapping

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import ResNet

from multibox.backbones.base import Backbone


class _TruncatedResNet(Backbone):
    """Stem and stages under torchvision's names, so that its weights load by name."""

    def __init__(self, network: ResNet, *, stages: int) -> None:
        super().__init__()
        self.conv1 = network.conv1
        self.bn1 = network.bn1
        self.relu = network.relu
        self.maxpool = network.maxpool
        self.layer1, self.layer2, self.layer3 = network.layer1, network.layer2, network.layer3
        if stages == 4:
            self.layer4 = network.layer4

    def third_stage(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        third: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return third

    def early_layers(self) -> tuple[nn.Module, ...]:
        """Up to the first stage."""
        return (self.conv1, self.bn1, self.relu, self.maxpool, self.layer1)

    def load_classifier(self, weights: Mapping[str, Tensor]) -> None:
        """The stages that are there, by name."""
        self.load_state_dict({name: weights[name] for name in self.state_dict()})


class Stride8ResNet(_TruncatedResNet):
    """The third stage alone, its stride taken away: one map of stride 8."""

    def __init__(self, network: ResNet) -> None:
        super().__init__(network, stages=3)
        # The first block's convolution with a stride, and its shortcut: from 19 cells to 38.
        for layer in self.layer3[0].modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
        self.channels = (_depth(self.layer3),)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Stride 8."""
        return [self.third_stage(images)]


class Stride32ResNet(_TruncatedResNet):
    """The third stage (stride 16) and the fourth (stride 32)."""

    def __init__(self, network: ResNet) -> None:
        super().__init__(network, stages=4)
        self.channels = (_depth(self.layer3), _depth(self.layer4))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Stride 16 and stride 32."""
        fine = self.third_stage(images)
        return [fine, self.layer4(fine)]


def _depth(stage: nn.Sequential) -> int:
    convolutions = [m for m in stage[-1].modules() if isinstance(m, nn.Conv2d)]
    return convolutions[-1].out_channels


def resnet34() -> Stride8ResNet:
    """256 channels: MLPerf's SSD300."""
    return Stride8ResNet(torchvision.models.resnet34())


def resnet50() -> Stride8ResNet:
    """1,024 channels: NVIDIA's SSD300."""
    return Stride8ResNet(torchvision.models.resnet50())


def resnet50_stride32() -> Stride32ResNet:
    """1,024 and 2,048 channels: GluonCV's SSD512."""
    return Stride32ResNet(torchvision.models.resnet50())
