"""ResNets as SSD taps them, against torchvision's own networks with the stride taken away."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from multibox.backbones import build_backbone


def torchvision_network(name: str) -> nn.Module:
    """Random weights, and norm statistics that are not those of an untrained network."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return network


def stem_and_two_stages(network: nn.Module, images: Tensor) -> Tensor:
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    return network.layer2(network.layer1(x))


@pytest.mark.parametrize(
    ("name", "strided", "depth"), [("resnet34", "conv1", 256), ("resnet50", "conv2", 1024)]
)
@torch.inference_mode()
def test_one_map_of_stride_8(name: str, strided: str, depth: int) -> None:
    network = torchvision_network(name)
    backbone = build_backbone(name)
    backbone.load_classifier(network.state_dict())
    images = torch.randn(1, 3, 70, 65)
    [ours] = backbone.eval()(images)
    assert backbone.channels == (depth,)
    assert ours.shape == (1, depth, 9, 9)
    # MLPerf's _ModifyBlock and NVIDIA's constructor: the strided convolution and the shortcut.
    block = network.layer3[0]
    assert getattr(block, strided).stride == block.downsample[0].stride == (2, 2)
    getattr(block, strided).stride = block.downsample[0].stride = (1, 1)
    torch.testing.assert_close(ours, network.layer3(stem_and_two_stages(network, images)))


@torch.inference_mode()
def test_the_maps_of_stride_16_and_32() -> None:
    network = torchvision_network("resnet50")
    backbone = build_backbone("resnet50_stride32")
    backbone.load_classifier(network.state_dict())
    images = torch.randn(1, 3, 70, 65)
    fine, coarse = backbone.eval()(images)
    assert backbone.channels == (1024, 2048)
    assert (fine.shape[2:], coarse.shape[2:]) == ((5, 5), (3, 3))
    expected = network.layer3(stem_and_two_stages(network, images))
    torch.testing.assert_close(fine, expected)
    torch.testing.assert_close(coarse, network.layer4(expected))


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnet50_stride32"])
def test_what_is_frozen_ends_at_a_quarter_of_the_resolution(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
        x: Tensor = torch.zeros(1, 3, 64, 64)
        for layer in backbone.early_layers():
            x = layer(x)
        assert x.shape[2:] == (16, 16)
        assert backbone.layer2(x).shape[2:] == (8, 8)
    backbone.freeze_early_layers()
    frozen = {key.split(".")[0] for key, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}


def test_another_networks_weights_are_refused() -> None:
    with torch.device("meta"):
        backbone = build_backbone("resnet50")
        smaller = torchvision.models.resnet34().state_dict()
    with pytest.raises(KeyError):
        backbone.load_classifier(smaller)
