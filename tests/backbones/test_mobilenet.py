"""MobileNets: where they are tapped, what is frozen, what is loaded."""

from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.ssdlite import _mobilenet_extractor

from multibox.backbones import BACKBONES, Backbone, build_backbone

DEPTHS = {
    "mobilenet_v2": (576, 1280),
    "mobilenet_v3_large": (672, 960),
    "mobilenet_v3_large_reduced": (672, 480),
    "mobilenet_v3_small": (288, 576),
}
# Blocks before the picture is smaller than a quarter of its sides.
EARLY = {"mobilenet_v2": 4, "mobilenet_v3_large": 4, "mobilenet_v3_small": 2}


@pytest.mark.parametrize(("name", "depths"), DEPTHS.items())
def test_taps(name: str, depths: tuple[int, int]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
        maps = backbone(torch.zeros(2, 3, 320, 256))
    assert backbone.channels == depths
    assert [x.shape for x in maps] == [(2, depths[0], 20, 16), (2, depths[1], 10, 8)]


def test_every_backbone_says_its_depths() -> None:
    for name in BACKBONES:
        with torch.device("meta"):
            backbone = build_backbone(name)
            maps = backbone(torch.zeros(1, 3, 96, 96))
        assert tuple(x.shape[1] for x in maps) == backbone.channels


@pytest.mark.parametrize("name", EARLY)
@torch.inference_mode()
def test_tapping_changes_nothing_of_the_classification_network(name: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name).eval()
    backbone = build_backbone(name)
    backbone.load_classifier(network.state_dict())
    backbone.eval()
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(backbone(images)[1], network.features(images))


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v3_small"])
@torch.inference_mode()
def test_the_taps_are_where_torchvisions_ssdlite_has_them(name: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name)
    backbone = build_backbone(name)
    backbone.load_classifier(network.state_dict())
    theirs = _mobilenet_extractor(network, 6, partial(nn.BatchNorm2d)).eval().features
    images = torch.randn(1, 3, 64, 64)
    fine = theirs[0](images)
    for ours, expected in zip(backbone.eval()(images), (fine, theirs[1](fine)), strict=True):
        torch.testing.assert_close(ours, expected)


def test_weights_of_another_network_are_refused() -> None:
    with torch.device("meta"):
        reduced = build_backbone("mobilenet_v3_large_reduced")
        whole = torchvision.models.mobilenet_v3_large().state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        reduced.load_classifier(whole)


def training_step(backbone: Backbone) -> set[str]:
    """One step on noise; the names of the tensors that are no longer what they were."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    learning = [p for p in backbone.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(learning, lr=0.1, weight_decay=0.1)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sum(x.square().mean() for x in backbone(images)).backward()
    optimiser.step()
    after = backbone.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("name", EARLY)
class TestFreezing:
    def test_early_layers_stay_and_the_others_learn(self, name: str) -> None:
        torch.manual_seed(0)
        backbone = build_backbone(name)
        backbone.freeze_early_layers()
        backbone.eval().train()  # an evaluation between two epochs must not thaw them
        changed = training_step(backbone)
        expected = {key for key in backbone.state_dict() if int(key.split(".")[1]) >= EARLY[name]}
        assert changed == expected

    def test_without_freezing_everything_changes(self, name: str) -> None:
        torch.manual_seed(0)
        backbone = build_backbone(name).train()
        assert training_step(backbone) == set(backbone.state_dict())

    def test_the_modes(self, name: str) -> None:
        with torch.device("meta"):
            backbone = build_backbone(name)
        backbone.freeze_early_layers()
        for mode in (True, False, True):
            backbone.train(mode)
            modes = {
                module.training for layer in backbone.early_layers() for module in layer.modules()
            }
            assert modes == {False}
            assert backbone.training is mode
            assert backbone.features[-1].training is mode


@pytest.mark.parametrize("name", EARLY)
def test_early_layers_end_at_a_quarter_of_the_resolution(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
        x: Tensor = torch.zeros(1, 3, 64, 64)
        for layer in backbone.early_layers():
            x = layer(x)
        following = backbone.features[len(backbone.early_layers())](x)
    assert x.shape[2:] == (16, 16)
    assert following.shape[2:] == (8, 8)
