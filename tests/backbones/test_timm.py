"""timm's networks as backbones: maps where the card has them, weights, and what can go wrong."""

import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import nn

from multibox import checkpoints
from multibox.backbones import imagenet_source
from multibox.backbones import timm as ours
from multibox.backbones.timm import TimmBackbone
from multibox.engines.torch import TorchEngine
from multibox.errors import InputError
from multibox.ssd.model import SSD
from multibox.training.initial_weights import initial_model
from multibox.zoo import new_card

timm = pytest.importorskip("timm")

# Of different make: timm's list of features, EfficientNet's own wrapper (which keeps the stages
# nobody asked for), maps with the channels last, an input fixed when the network is built.
NETWORKS = {
    "resnet18": {8: 128, 16: 256, 32: 512},
    "mobilenetv3_small_050": {8: 16, 16: 24, 32: 288},
    "efficientnet_lite0": {8: 40, 16: 112, 32: 320},
    "repvgg_a0": {8: 96, 16: 192, 32: 1280},
    "convnext_atto": {8: 80, 16: 160, 32: 320},
    "test_mambaout": {8: 32, 16: 48, 32: 64},
    "swin_tiny_patch4_window7_224": {8: 192, 16: 384, 32: 768},
}
# timm's own networks for tests, of the same makes.
TINY = ("test_resnet", "test_efficientnet", "test_byobnet", "test_convnext", "test_mambaout")
DETECTORS = {
    "ssd300_vgg16": (8, 16),
    "ssdlite320_mobilenet_v2": (16, 32),
    "ssd300_resnet34": (8,),
}


@pytest.mark.parametrize(
    ("network", "detector"),
    [
        (network, detector)
        for network in NETWORKS
        for detector in DETECTORS
        if detector == "ssd300_vgg16"
        or (detector == "ssdlite320_mobilenet_v2" and "swin" not in network)
        or network == "resnet18"
    ],
)
def test_the_maps_are_those_of_the_card(network: str, detector: str) -> None:
    card = new_card(detector, ["cat"], image_size=(96, 160), backbone=f"timm:{network}")
    strides = DETECTORS[detector]
    with torch.device("meta"):
        backbone = SSD(card).backbone
        maps = backbone(torch.zeros(2, 3, 96, 160))
    assert isinstance(backbone, TimmBackbone)
    assert backbone.channels == tuple(NETWORKS[network][stride] for stride in strides)
    assert [tuple(x.shape) for x in maps] == [
        (2, depth, *level.grid)
        for depth, level in zip(backbone.channels, card.default_boxes.levels, strict=False)
    ]


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("network", TINY)
def test_a_step_reaches_every_weight_and_a_checkpoint_brings_all_back(
    tmp_path: Path, network: str, detector: str
) -> None:
    torch.manual_seed(0)
    card = new_card(detector, ["cat", "dog"], image_size=(64, 64), backbone=f"timm:{network}")
    model = SSD(card).train()  # as an engine of a checkpoint lays it out
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    logits, offsets = model(images)
    assert logits.shape == (2, card.default_boxes.count, 3)
    (logits.square().mean() + offsets.square().mean()).backward()
    # Distributed training would wait for ever for a gradient that does not come.
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []
    optimiser.step()

    path = tmp_path / "model.safetensors"
    arrays = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    checkpoints.save(path, arrays, card)
    pictures = images.numpy()
    found = TorchEngine.from_checkpoint(checkpoints.load(path), "cpu")(pictures)
    expected = TorchEngine.from_module(model, card)(pictures)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@torch.inference_mode()
def test_the_maps_are_timms_own() -> None:
    for network, strides in (
        ("mobilenetv3_small_050", (8, 16)),
        ("swin_tiny_patch4_window7_224", (16, 32)),
    ):
        torch.manual_seed(0)
        fixed = {"img_size": (64, 96)} if "swin" in network else {}
        theirs = timm.create_model(network, features_only=True, **fixed).eval()
        backbone = TimmBackbone(network, strides, (64, 96)).eval()
        backbone.load_classifier(theirs.state_dict())
        images = torch.randn(1, 3, 64, 96)
        by_stride = dict(zip(theirs.feature_info.reduction(), theirs(images), strict=True))
        for stride, ours_ in zip(strides, backbone(images), strict=True):
            expected = by_stride[stride]
            expected = expected.permute(0, 3, 1, 2) if "swin" in network else expected
            torch.testing.assert_close(ours_, expected)


@pytest.mark.parametrize(
    "network",
    [
        "dla34",  # its first map is not among those it gives by default
        "hrnet_w18_small",  # computes branches that no map needs
        "mobilenetv3_small_050",
    ],
)
def test_only_what_the_maps_need_learns(network: str) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(network, (8, 16), (96, 64))
        maps = backbone(torch.zeros(1, 3, 96, 64))
        sum(x.sum() for x in maps).backward()
    assert [tuple(x.shape[2:]) for x in maps] == [(12, 8), (6, 4)]
    assert tuple(x.shape[1] for x in maps) == backbone.channels
    for _, parameter in backbone.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None)


class TestFreezing:
    @pytest.mark.parametrize(
        ("network", "last"),
        [("resnet18", "layer1"), ("efficientnet_lite0", "blocks.1"), ("regnetx_002", "s1")],
    )
    def test_everything_up_to_stride_4(self, network: str, last: str) -> None:
        with torch.device("meta"):
            backbone = TimmBackbone(network, (16, 32), (64, 64))
        backbone.freeze_early_layers()
        names = [name.removeprefix("network.") for name, _ in backbone.named_parameters()]
        final = max(i for i, name in enumerate(names) if name.startswith(f"{last}."))
        learning = [p.requires_grad for p in backbone.parameters()]
        assert learning == [False] * (final + 1) + [True] * (len(names) - final - 1)
        norms = [m for m in backbone.train().modules() if isinstance(m, nn.BatchNorm2d)]
        assert not norms[0].training
        assert norms[-1].training


def refusal(
    name: str, strides: tuple[int, ...] = (16, 32), size: tuple[int, int] = (96, 96)
) -> str:
    with torch.device("meta"), pytest.raises(InputError) as raised:
        TimmBackbone(name, strides, size)
    message = str(raised.value)
    assert "\n" not in message
    return message


class TestRefusals:
    def test_an_unknown_network(self) -> None:
        assert "no network named resnet81; did you mean resnet18" in refusal("resnet81")
        assert refusal("") == "timm has no network named "
        # Neither may reach the network or the disk.
        assert "no network named hf-hub:a/b" in refusal("hf-hub:a/b")
        assert "no network named local-dir:/tmp" in refusal("local-dir:/tmp")

    def test_an_unknown_tag(self) -> None:
        assert "no weights 'b2' of resnet18; there are: resnet18.a1_in1k" in refusal("resnet18.b2")

    def test_a_stride_that_is_not_there(self) -> None:
        said = refusal("vit_tiny_patch16_224", (16, 32))
        assert "vit_tiny_patch16_224 has no feature map of stride 32" in said
        assert "(it has 16)" in said

    def test_maps_of_another_size(self) -> None:
        said = refusal("convnext_atto", (8, 16), (300, 300))
        assert "37x37 cells of stride 8 from 300x300 pixels where this detector needs 38x38" in said
        assert "--image-size that is a multiple of 32" in said
        assert "inception_v3 makes 17x17" in refusal("inception_v3", (16,), (300, 300))

    def test_an_input_it_cannot_take(self) -> None:
        said = refusal("hrnet_w18_small", (8, 16), (300, 300))
        assert "cannot take an input of 300x300 pixels" in said

    def test_timm_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "timm", None)
        assert refusal("resnet18").endswith('needs timm: pip install "multibox[timm]"')

    def test_a_card_without_strides(self) -> None:
        card = new_card("ssd300_vgg16", ["cat"], backbone="timm:resnet18")
        architecture = card.architecture.model_copy(update={"strides": None})
        with pytest.raises(InputError, match="timm:resnet18: the strides of its maps"):
            SSD(card.model_copy(update={"architecture": architecture}))


class Hub:
    """timm's ``create_model`` in front of a hub: what was asked for, and whether offline."""

    def __init__(self, cached: bool) -> None:
        self.cached = cached
        self.create = timm.create_model
        self.asked: list[bool] = []

    def __call__(self, name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            self.asked.append(constants.HF_HUB_OFFLINE)
            if constants.HF_HUB_OFFLINE and not self.cached:
                raise LocalEntryNotFoundError("not in the cache")
        torch.manual_seed(7)
        network: nn.Module = self.create(name, **options)
        return network


class TestPretrained:
    def test_their_mean_std_and_origin(self) -> None:
        source = imagenet_source("timm:mobilenetv3_small_050")
        assert source.mean == pytest.approx((123.675, 116.28, 103.53))
        assert source.std == pytest.approx((58.395, 57.12, 57.375))
        assert source.origin == "timm's mobilenetv3_small_050.lamb_in1k"
        # Inception's own preprocessing, -1..1.
        assert imagenet_source("timm:inception_v4").mean == pytest.approx((127.5,) * 3)
        assert imagenet_source("timm:resnet18.tv_in1k").origin == "timm's resnet18.tv_in1k"

    @pytest.mark.parametrize("cached", [True, False])
    def test_from_the_cache_or_the_hub(self, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
        hub, knocks = Hub(cached), []
        monkeypatch.setattr(timm, "create_model", hub)
        monkeypatch.setattr(ours, "knock", knocks.append)
        begin = initial_model(
            "ssd300_vgg16", ["cat"], "backbone", (64, 64), backbone="timm:mobilenetv3_small_050"
        )
        assert hub.asked == ([True] if cached else [True, False])
        assert len(knocks) == (0 if cached else 1)
        assert constants.HF_HUB_OFFLINE is False
        theirs = hub("mobilenetv3_small_050", features_only=True).state_dict()
        state = begin.model.backbone.state_dict()
        assert len(state) > 30
        for name, value in state.items():
            assert torch.equal(value, theirs[name.removeprefix("network.")])
        assert begin.card.origin == "backbone from timm's mobilenetv3_small_050.lamb_in1k"
        assert begin.card.preprocessing.mean == pytest.approx((123.675, 116.28, 103.53))

    def test_without_a_network_it_is_one_line_at_once(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise URLError("no route to host")

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("multibox.backbones.online.urlopen", refuse)
        started = time.monotonic()
        with pytest.raises(InputError) as raised:
            imagenet_source("timm:resnet18").download()
        assert time.monotonic() - started < 10
        said = str(raised.value)
        assert said.startswith("the weights of timm:resnet18 are not in the cache and cannot be")
        assert "no route to host" in said
        assert said.endswith("--weights none")
        assert "\n" not in said

    def test_a_network_without_weights(self) -> None:
        with pytest.raises(InputError, match=r"no pretrained weights of ghostnet_050.*none"):
            imagenet_source("timm:ghostnet_050").download()

    def test_a_variant_is_not_for_timm(self) -> None:
        with pytest.raises(InputError, match="no network named"):
            initial_model(
                "ssd300_vgg16", ["a"], "backbone:features", None, backbone="timm:resnet18"
            )
