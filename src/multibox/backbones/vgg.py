"""VGG-16 with fc6 and fc7 turned into convolutions (paper section 3, "Base network")."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from multibox.backbones.base import Backbone

# Channels of the 3x3 convolutions between the poolings, as in the classification network.
_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_FC_CHANNELS = 1024


class L2Norm(nn.Module):
    """Scale every position's feature vector to a learned length (ParseNet; paper section 3.1).

    conv4_3 has a larger scale than the other maps; its vectors are brought to length 1 over the
    channels and multiplied by one learned factor a channel, 20 at the start.
    """

    def __init__(self, channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, features: Tensor) -> Tensor:
        """``[b, channels, h, w]`` to the same shape."""
        # float32: the sum of 512 squares overflows half precision.
        length = features.float().square().sum(dim=1, keepdim=True).add(1e-10).sqrt()
        return features / length.to(features.dtype) * self.scale[:, None, None]


class Vgg16(Backbone):
    """conv4_3 (L2-normalised, stride 8) and fc7 (stride 16)."""

    channels = (512, _FC_CHANNELS)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        depth = 3
        for stage, widths in enumerate(_STAGES, start=1):
            for width in widths:
                layers += [nn.Conv2d(depth, width, 3, padding=1), nn.ReLU(inplace=True)]
                depth = width
            if stage == 4:
                conv4_3 = len(layers)
            if stage < 5:
                # pool3 rounds up, so that 300 pixels give 38 cells and not 37.
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=stage == 3))
        # Same indices as torchvision's `features`, so that its weights load by name.
        self.features = nn.Sequential(*layers)
        self._conv4_3 = conv4_3
        self.pool5 = nn.MaxPool2d(3, stride=1, padding=1)
        self.fc6 = nn.Conv2d(512, _FC_CHANNELS, 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(_FC_CHANNELS, _FC_CHANNELS, 1)
        self.l2norm = L2Norm(512)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> list[Tensor]:
        """conv4_3 and fc7; only the head sees the normalised conv4_3."""
        conv4_3 = self.features[: self._conv4_3](images)
        x = self.features[self._conv4_3 :](conv4_3)
        x = torch.relu(self.fc6(self.pool5(x)))
        return [self.rescaled(conv4_3), torch.relu(self.fc7(x))]

    def rescaled(self, conv4_3: Tensor) -> Tensor:
        """What the head sees of conv4_3: brought to the scale of the other maps."""
        normalised: Tensor = self.l2norm(conv4_3)
        return normalised

    def early_layers(self) -> tuple[nn.Module, ...]:
        """conv1_1 to conv2_2."""
        return tuple(self.features[:9])

    def load_classifier(self, weights: Mapping[str, Tensor]) -> None:
        """Convolutions by name; fc6 and fc7 sub-sampled where the classifier is there.

        ``VGG16_Weights.IMAGENET1K_FEATURES`` has no classifier (its entries are NaN): fc6 and fc7
        then keep their Xavier initialisation.
        """
        features = {k: v for k, v in weights.items() if k.startswith("features.")}
        missing, _ = self.load_state_dict(features, strict=False)
        if any(name.startswith("features.") for name in missing):
            raise ValueError("not the weights of torchvision's vgg16")
        fc6 = weights.get("classifier.0.weight")
        if fc6 is None or fc6.isnan().any():
            return
        with torch.no_grad():
            # fc6 is a 7x7 convolution in disguise: every 4th output, every 3rd tap each way, which
            # dilation 6 then spreads to its old field of view and more (paper section 3).
            self.fc6.weight.copy_(fc6.view(4096, 512, 7, 7)[::4, :, ::3, ::3])
            self.fc6.bias.copy_(weights["classifier.0.bias"][::4])  # type: ignore[union-attr]
            fc7 = weights["classifier.3.weight"]
            self.fc7.weight.copy_(fc7[::4, ::4, None, None])
            self.fc7.bias.copy_(weights["classifier.3.bias"][::4])  # type: ignore[union-attr]


class Vgg16BatchNorm(Vgg16):
    """conv4_3 brought to scale by a BatchNorm instead, as qfgaohao/pytorch-ssd does."""

    def __init__(self) -> None:
        super().__init__()
        del self.l2norm
        self.norm = nn.BatchNorm2d(512)

    def rescaled(self, conv4_3: Tensor) -> Tensor:
        """What the head sees of conv4_3."""
        normalised: Tensor = self.norm(conv4_3)
        return normalised
