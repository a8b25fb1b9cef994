"""The assembled network against torchvision's, weight by weight and output by output."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection

from multibox.card import ModelCard
from multibox.ssd.model import SSD, build_ssd
from multibox.zoo import new_card

NINETY = [f"class_{i}" for i in range(1, 91)]
SSD300_PARAMETERS = 35_641_826
SSDLITE_V3_PARAMETERS = 3_440_060


def reduced(card: ModelCard) -> ModelCard:
    """torchvision's published COCO detector has a halved tail."""
    architecture = card.architecture.model_copy(update={"backbone": "mobilenet_v3_large_reduced"})
    return card.model_copy(update={"architecture": architecture})


def lite_card(names: list[str], **changes: object) -> ModelCard:
    return reduced(new_card("ssdlite320_mobilenet_v3_large", names, **changes))


def small_card(**preprocessing: object) -> ModelCard:
    card = new_card("ssdlite320_mobilenet_v2", ["cat", "dog"], image_size=(64, 96))
    changed = card.preprocessing.model_copy(update=preprocessing)
    return card.model_copy(update={"preprocessing": changed})


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def without_memory(card: ModelCard) -> SSD:
    with torch.device("meta"):
        return SSD(card)


def torchvisions(model: nn.Module) -> tuple[nn.Module, tuple[tuple[float, ...], ...]]:
    """A torchvision detector in eval mode and its mean and std on the 0..255 scale."""
    transform = model.transform
    return model.eval(), tuple(
        tuple(255 * x for x in each) for each in (transform.image_mean, transform.image_std)
    )


def copy_weights(ours: SSD, theirs: nn.Module, scale: str | None = None) -> None:
    """Tensor by tensor in the order of both state dicts; L2Norm stands elsewhere in theirs."""
    source = theirs.state_dict()
    special = {"backbone.l2norm.scale": source.pop(scale)} if scale else {}
    names = [name for name in ours.state_dict() if name not in special]
    ours.load_state_dict(special | dict(zip(names, source.values(), strict=True)))


def raw_outputs(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """What torchvision's heads say of uint8 pictures ``[b, h, w, 3]`` of the right size."""
    chw = [image.permute(2, 0, 1).float() / 255 for image in images]
    batch, _ = model.transform(chw)
    outputs = model.head(list(model.backbone(batch.tensors).values()))
    return outputs["cls_logits"], outputs["bbox_regression"]


def random_pictures(b: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (b, height, width, 3), generator=generator, dtype=torch.uint8)


# Slow to build; tests/importers/test_import_torchvision.py holds the same two networks together.
@pytest.mark.slow
@torch.inference_mode()
def test_ssd300_equals_torchvision() -> None:
    torch.manual_seed(0)
    theirs, normalisation = torchvisions(
        detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=5)
    )
    nn.init.uniform_(theirs.backbone.scale_weight, 10, 30)
    card = new_card("ssd300_vgg16", list("abcd"), normalisation=normalisation)
    ours = build_ssd(card).eval()
    copy_weights(ours, theirs, "backbone.scale_weight")
    images = random_pictures(1, 300, 300)
    expected = raw_outputs(theirs, images)
    assert expected[0].std() > 0.1  # not the equality of nothing with nothing
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_ssdlite_v3_equals_torchvision() -> None:
    torch.manual_seed(0)
    theirs, normalisation = torchvisions(
        detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
    )
    images = random_pictures(2, 320, 320)
    settle_norms(theirs, images)
    ours = build_ssd(lite_card(list("abcd"), normalisation=normalisation)).eval()
    copy_weights(ours, theirs)
    expected = raw_outputs(theirs, images)
    assert expected[0].std() > 0.1
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)


def settle_norms(model: nn.Module, images: Tensor) -> None:
    """Give every BatchNorm the statistics of ``images``, so that signals reach the heads."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()
    model.head(list(model.backbone(images.permute(0, 3, 1, 2) / 127.5 - 1).values()))
    model.eval()


class TestParameterCounts:
    def test_ssd300(self) -> None:
        published = detection.SSD300_VGG16_Weights.COCO_V1.meta["num_params"]
        ours = parameters(without_memory(new_card("ssd300_vgg16", NINETY)))
        assert ours == SSD300_PARAMETERS == published

    def test_ssdlite_v3(self) -> None:
        published = detection.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1.meta["num_params"]
        ours = parameters(without_memory(lite_card(NINETY)))
        assert ours == SSDLITE_V3_PARAMETERS == published


def map_sizes(card: ModelCard) -> list[tuple[int, ...]]:
    """The sizes of the maps that the heads see, from a forward pass that computes nothing."""
    model = without_memory(card).eval()
    sizes: list[tuple[int, ...]] = []
    model.heads.register_forward_pre_hook(
        lambda _, inputs: sizes.extend(tuple(x.shape[2:]) for x in inputs[0])
    )
    model(torch.zeros(1, *card.preprocessing.image_size, 3, dtype=torch.uint8, device="meta"))
    return sizes


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("ssd300_vgg16", (38, 19, 10, 5, 3, 1)),
        ("ssd512_vgg16", (64, 32, 16, 8, 4, 2, 1)),
        ("ssdlite320_mobilenet_v2", (20, 10, 5, 3, 2, 1)),
        ("ssdlite320_mobilenet_v3_large", (20, 10, 5, 3, 2, 1)),
    ],
)
def test_map_sizes(name: str, sides: tuple[int, ...]) -> None:
    assert map_sizes(new_card(name, ["object"])) == [(side, side) for side in sides]


def test_outputs_follow_the_default_boxes_cell_by_cell() -> None:
    """Every head is a constant: its box offsets must come out in the order of default boxes."""
    card = small_card()
    model = SSD(card).eval()
    for k, head in enumerate(model.heads.boxes):
        last = head[-1]
        nn.init.zeros_(last.weight)
        boxes = last.bias.numel() // 4
        with torch.no_grad():  # level, place in the cell, value
            for a in range(boxes):
                last.bias[4 * a : 4 * a + 4] = torch.tensor([k, a, 0.0, 7.0])
    _, offsets = model(random_pictures(1, 64, 96))
    expected = [
        [k, a, 0.0, 7.0]
        for k, level in enumerate(card.default_boxes.levels)
        for _ in range(level.grid[0] * level.grid[1])
        for a in range(level.boxes_per_cell)
    ]
    assert offsets[0].tolist() == expected


class TestInput:
    def seen_by_the_backbone(self, card: ModelCard) -> Tensor:
        model = SSD(card).eval()
        seen: list[Tensor] = []
        model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        images = torch.zeros(1, 64, 96, 3, dtype=torch.uint8)
        images[0, 3, 5] = torch.tensor([10, 20, 30], dtype=torch.uint8)
        model(images)
        return seen[0]

    def test_is_normalised_by_the_card(self) -> None:
        seen = self.seen_by_the_backbone(small_card(mean=(1, 2, 3), std=(2, 4, 5)))
        assert seen.shape == (1, 3, 64, 96)
        torch.testing.assert_close(seen[0, :, 3, 5], torch.tensor([4.5, 4.5, 5.4]))
        torch.testing.assert_close(seen[0, :, 0, 0], torch.tensor([-0.5, -0.5, -0.6]))

    def test_bgr_turns_the_channels_after_normalising(self) -> None:
        card = small_card(mean=(1, 2, 3), std=(2, 4, 5), channel_order="bgr")
        seen = self.seen_by_the_backbone(card)
        torch.testing.assert_close(seen[0, :, 3, 5], torch.tensor([5.4, 4.5, 4.5]))


def test_a_checkpoint_holds_no_default_boxes_or_means() -> None:
    """The card is their one source."""
    names = without_memory(small_card()).state_dict()
    assert not [name for name in names if "default_boxes" in name or "normal" in name]


def test_new_layers_start_as_published() -> None:
    torch.manual_seed(0)
    lite = SSD(small_card())
    weights = torch.cat([m.weight.flatten() for m in lite.heads.modules() if is_conv(m)])
    assert weights.std().item() == pytest.approx(0.03, rel=0.02)
    card = new_card("ssd300_vgg16", ["cat"], image_size=(64, 64))
    paper = SSD(card)
    head = paper.heads.classes[1]  # 1,024 channels to 6 boxes of 2 classes
    bound = (6 / (9 * (1024 + 12))) ** 0.5
    assert head.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert not any(m.bias.any() for m in paper.modules() if is_conv(m))


def is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    model = SSD(small_card()).train()
    logits, offsets = model(random_pictures(2, 64, 96))
    (logits.square().sum() + offsets.square().sum()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
