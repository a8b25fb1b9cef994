"""VGG-16 with its reduced fc6 and fc7, and where their weights come from."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multibox.backbones.vgg import L2Norm, Vgg16


@pytest.fixture(scope="module")
def vgg() -> Vgg16:
    torch.manual_seed(0)
    return Vgg16().eval()


class TestL2Norm:
    def test_equals_numpy(self) -> None:
        features = np.random.default_rng(0).normal(0, 30, (2, 16, 5, 4)).astype(np.float32)
        norm = L2Norm(16)
        with torch.no_grad():
            norm.scale += torch.arange(16)
        ours = norm(torch.from_numpy(features)).detach().numpy()
        length = np.sqrt((features.astype(np.float64) ** 2).sum(axis=1, keepdims=True) + 1e-10)
        scale = (20 + np.arange(16))[None, :, None, None]
        np.testing.assert_allclose(ours, features / length * scale, rtol=1e-5)

    def test_starts_at_twenty(self) -> None:
        lengths = L2Norm(512)(torch.rand(1, 512, 3, 3)).norm(dim=1)
        torch.testing.assert_close(lengths, torch.full((1, 3, 3), 20.0))

    def test_gradients(self) -> None:
        norm = L2Norm(6)
        features = torch.randn(2, 6, 3, 2, requires_grad=True)
        weights = torch.randn(2, 6, 3, 2)  # of the sum that is differentiated
        (weights * norm(features)).sum().backward()
        x = features.detach().double()
        length = x.norm(dim=1, keepdim=True)
        unit = x / length
        w = 20 * weights.double()
        # d(x / |x|) = (dx - unit <unit, dx>) / |x|
        by_hand = (w - unit * (w * unit).sum(dim=1, keepdim=True)) / length
        torch.testing.assert_close(features.grad, by_hand.float(), rtol=1e-4, atol=1e-5)
        by_hand = (weights * unit).sum(dim=(0, 2, 3))
        torch.testing.assert_close(norm.scale.grad, by_hand.float(), rtol=1e-4, atol=1e-5)

    def test_an_all_zero_position_stays_zero(self) -> None:
        features = torch.zeros(1, 512, 1, 1, requires_grad=True)
        result = L2Norm(512)(features)
        assert not result.any()
        result.sum().backward()
        assert bool(features.grad.isfinite().all())

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_does_not_overflow(self, dtype: torch.dtype) -> None:
        # 512 squares of 200 are 2e7; float16 ends at 65,504.
        result = L2Norm(512).to(dtype)(torch.full((1, 512, 1, 1), 200.0, dtype=dtype))
        assert result.dtype == dtype
        torch.testing.assert_close(
            result.float(), torch.full((1, 512, 1, 1), 20 / 512**0.5), rtol=0.01, atol=0
        )


class TestLayers:
    @pytest.mark.parametrize(
        ("size", "conv4_3", "fc7"),
        [
            ((300, 300), (38, 38), (19, 19)),  # pool3 rounds 75 up to 38
            ((512, 512), (64, 64), (32, 32)),
            ((300, 500), (38, 63), (19, 31)),
        ],
    )
    def test_map_sizes(
        self, size: tuple[int, int], conv4_3: tuple[int, int], fc7: tuple[int, int]
    ) -> None:
        with torch.device("meta"):
            maps = Vgg16()(torch.zeros(1, 3, *size))
        assert [tuple(x.shape[1:]) for x in maps] == [(512, *conv4_3), (1024, *fc7)]

    def test_fc6_is_dilated(self, vgg: Vgg16) -> None:
        assert vgg.fc6.dilation == vgg.fc6.padding == (6, 6)
        assert vgg.fc6.kernel_size == (3, 3)
        assert (vgg.pool5.kernel_size, vgg.pool5.stride, vgg.pool5.padding) == (3, 1, 1)

    def test_only_the_head_sees_the_normalised_conv4_3(self, vgg: Vgg16) -> None:
        images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            before = vgg(images)
            vgg.l2norm.scale *= 2
            after = vgg(images)
            vgg.l2norm.scale /= 2
        torch.testing.assert_close(after[0], 2 * before[0])
        assert torch.equal(after[1], before[1])
        assert bool(before[1].any())


def classifier(fc6: Tensor) -> dict[str, Tensor]:
    """fc6 and fc7 whose values say where they stand in torchvision's layout."""
    place = torch.arange(4096.0)
    return {
        "classifier.0.weight": fc6,
        "classifier.0.bias": place,
        "classifier.3.weight": place[:, None] * 4096 + place,  # exact: below 2^24
        "classifier.3.bias": 4096 + place,
        "classifier.6.weight": torch.zeros(1000, 4096),
        "classifier.6.bias": torch.zeros(1000),
    }


def features(vgg: Vgg16) -> dict[str, Tensor]:
    return {f"features.{k}": torch.randn_like(v) for k, v in vgg.features.state_dict().items()}


def assert_features(vgg: Vgg16, weights: dict[str, Tensor]) -> None:
    for name, value in vgg.features.state_dict().items():
        assert torch.equal(value, weights[f"features.{name}"])


class TestImageNetWeights:
    """4096 x 25,088 values take 400 MB: expanded views say the same in nothing."""

    def test_every_fourth_output(self, vgg: Vgg16) -> None:
        weights = features(vgg)
        vgg.load_classifier(weights | classifier(torch.arange(4096.0)[:, None].expand(-1, 25088)))
        assert_features(vgg, weights)
        every_fourth = torch.arange(0.0, 4096, 4)
        assert torch.equal(
            vgg.fc6.weight, every_fourth[:, None, None, None].expand(1024, 512, 3, 3)
        )
        assert torch.equal(vgg.fc6.bias, every_fourth)
        assert vgg.fc7.weight.shape == (1024, 1024, 1, 1)
        assert vgg.fc7.weight[5, 9].item() == 20 * 4096 + 36
        assert torch.equal(
            vgg.fc7.weight[:, :, 0, 0], every_fourth[:, None] * 4096 + every_fourth[None]
        )
        assert torch.equal(vgg.fc7.bias, 4096 + every_fourth)

    def test_taps_zero_three_and_six(self, vgg: Vgg16) -> None:
        vgg.load_classifier(features(vgg) | classifier(torch.arange(25088.0).expand(4096, -1)))
        for channel, row, column in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (3, 2, 1), (511, 2, 2)):
            # Flattened [512, 7, 7]: taps 0, 3 and 6 each way.
            place = channel * 49 + (0, 3, 6)[row] * 7 + (0, 3, 6)[column]
            assert vgg.fc6.weight[17, channel, row, column].item() == place

    @pytest.mark.parametrize("absent", [True, False])
    def test_without_a_classifier_fc6_and_fc7_keep_xavier(self, vgg: Vgg16, absent: bool) -> None:
        weights = features(vgg)
        nan = classifier(torch.full((), torch.nan).expand(4096, 25088))
        before = {k: v.clone() for k, v in vgg.state_dict().items() if k.startswith("fc")}
        vgg.load_classifier(weights if absent else weights | nan)
        assert_features(vgg, weights)
        assert len(before) == 4
        for name, value in before.items():
            assert torch.equal(vgg.state_dict()[name], value)

    def test_another_networks_weights_are_refused(self, vgg: Vgg16) -> None:
        with pytest.raises(ValueError, match="vgg16"):
            vgg.load_classifier({"features.0.weight": torch.zeros(64, 3, 3, 3)})

    def test_xavier_at_first(self) -> None:
        fresh = Vgg16()
        bound = (6 / (9 * (512 + 1024))) ** 0.5
        assert fresh.fc6.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert not any(m.bias.any() for m in fresh.modules() if isinstance(m, nn.Conv2d))


def test_frozen_early_layers_are_conv1_and_conv2() -> None:
    with torch.device("meta"):
        vgg = Vgg16()
    vgg.freeze_early_layers()
    frozen = [name for name, p in vgg.named_parameters() if not p.requires_grad]
    assert frozen == [f"features.{i}.{kind}" for i in (0, 2, 5, 7) for kind in ("weight", "bias")]
