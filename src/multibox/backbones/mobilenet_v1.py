"""MobileNetV1 (Howard 2017, table 1) as MobileNet-SSD taps it."""

from collections.abc import Mapping

from torch import Tensor, nn

from multibox.backbones.base import Backbone

# Channels and stride of the thirteen depthwise separable blocks.
_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    *((512, 1) for _ in range(5)),
    (1024, 2), (1024, 1),
)  # fmt: skip


class MobileNetV1(Backbone):
    """The eleventh block (stride 16) and the last one (stride 32)."""

    channels = (512, 1024)

    def __init__(self) -> None:
        super().__init__()
        parts = [nn.Sequential(*_conv_norm(3, 32, 3, stride=2))]
        depth = 32
        for width, stride in _BLOCKS:
            depthwise = _conv_norm(depth, depth, 3, stride=stride, groups=depth)
            parts.append(nn.Sequential(*depthwise, *_conv_norm(depth, width, 1)))
            depth = width
        self.features = nn.Sequential(*parts)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Stride 16 and stride 32."""
        fine = self.features[:12](images)
        return [fine, self.features[12:](fine)]

    def early_layers(self) -> tuple[nn.Module, ...]:
        """Up to the last block of stride 4."""
        return tuple(self.features[:4])

    def load_classifier(self, weights: Mapping[str, Tensor]) -> None:
        """Everything but the classifier, by our own names: torchvision has no MobileNetV1."""
        self.load_state_dict({k: v for k, v in weights.items() if k.startswith("features.")})


def _conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    return conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
