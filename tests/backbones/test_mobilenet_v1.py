"""MobileNetV1 against a plain loop over the layers that MobileNet-SSD's deploy.prototxt lists."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from multibox.backbones import build_backbone

# Outputs of conv1 to conv13, and the stride of each one's depthwise layer.
PROTOTXT = {
    "conv1": (64, 1), "conv2": (128, 2), "conv3": (128, 1), "conv4": (256, 2), "conv5": (256, 1),
    "conv6": (512, 2), "conv7": (512, 1), "conv8": (512, 1), "conv9": (512, 1), "conv10": (512, 1),
    "conv11": (512, 1), "conv12": (1024, 2), "conv13": (1024, 1),
}  # fmt: skip


def conv_norm_relu(x: Tensor, arrays: list[Tensor], *, stride: int, groups: int) -> Tensor:
    weight, scale, shift, mean, variance = arrays
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
    scale = scale / (variance + 1e-5).sqrt()
    return (x * scale[:, None, None] + (shift - mean * scale)[:, None, None]).clamp(min=0)


@torch.inference_mode()
def test_conv11_and_conv13() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("mobilenet_v1").eval()
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
            layer.weight.uniform_(0.5, 1.5)
            layer.bias.normal_(std=0.1)
    arrays = [value for key, value in backbone.state_dict().items() if "num_batches" not in key]
    assert len(arrays) == 5 * 27

    def take() -> list[Tensor]:
        taken = arrays[:5]
        del arrays[:5]
        return taken

    images = torch.randn(1, 3, 75, 64)
    x = conv_norm_relu(images, take(), stride=2, groups=1)
    expected = []
    for name, (outputs, stride) in PROTOTXT.items():
        x = conv_norm_relu(x, take(), stride=stride, groups=x.shape[1])
        x = conv_norm_relu(x, take(), stride=1, groups=1)
        assert x.shape[1] == outputs
        if name in ("conv11", "conv13"):
            expected.append(x)
    ours = backbone(images)
    assert [tuple(y.shape) for y in ours] == [(1, 512, 5, 4), (1, 1024, 3, 2)]
    assert backbone.channels == (512, 1024)
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_what_is_frozen_ends_at_a_quarter_of_the_resolution() -> None:
    with torch.device("meta"):
        backbone = build_backbone("mobilenet_v1")
        x: Tensor = torch.zeros(1, 3, 64, 64)
        for layer in backbone.early_layers():
            x = layer(x)
        assert x.shape[2:] == (16, 16)
        assert backbone.features[len(backbone.early_layers())](x).shape[2:] == (8, 8)


def test_weights_load_by_name_without_a_classifier() -> None:
    torch.manual_seed(0)
    first, second = build_backbone("mobilenet_v1"), build_backbone("mobilenet_v1")
    second.load_classifier(first.state_dict() | {"classifier.weight": torch.zeros(1)})
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
