import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from multibox import checkpoints
from multibox.backbones import ImageNetSource
from multibox.card import HeadKind, ModelCard, PostProcessing
from multibox.errors import InputError
from multibox.ssd.model import SSD, build_ssd
from multibox.training.initial_weights import initial_model
from multibox.zoo import new_card

OLD = ("cat", "dog", "cow")
HEADS = pytest.mark.parametrize("model", ["tiny_plain", "tiny_lite"])


def saved(folder: Path, model: str, names: Sequence[str] = OLD) -> tuple[Path, SSD]:
    """A checkpoint with an unusual card, and the network in it."""
    torch.manual_seed(1)
    card = new_card(model, names, image_size=(64, 64), normalisation=((1, 2, 3), (4, 5, 6)))
    card = card.model_copy(update={"postprocessing": PostProcessing(iou_threshold=0.3)})
    network = build_ssd(card)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    path = folder / "old.safetensors"
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    checkpoints.save(path, arrays, card)
    return path, network


def class_layers(network: SSD, names: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of every class head, by default box of a cell and by class."""
    layers = []
    for head, level in zip(network.heads.classes, network.card.default_boxes.levels, strict=True):
        last = [layer for layer in head.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
        assert last.bias is not None
        shape = (level.boxes_per_cell, names + 1)
        weight, bias = last.weight.detach(), last.bias.detach()
        layers.append((weight.reshape(*shape, -1), bias.reshape(*shape)))
    return layers


def others(network: SSD) -> dict[str, torch.Tensor]:
    """Everything but the last layers of the class heads."""
    heads = {id(layer) for head in network.heads.classes for layer in head.modules()}
    last = {
        f"{name}.{kind}"
        for name, layer in network.named_modules()
        if id(layer) in heads and isinstance(layer, torch.nn.Conv2d) and layer.bias is not None
        for kind in ("weight", "bias")
    }
    assert len(last) == 2 * len(network.heads.classes)
    return {name: value for name, value in network.state_dict().items() if name not in last}


def assert_fine_tuned(before: SSD, after: SSD, old: Sequence[str], new: Sequence[str]) -> None:
    for name, value in others(before).items():
        assert torch.equal(others(after)[name], value), name
    for (weight, bias), (new_weight, new_bias) in zip(
        class_layers(before, len(old)), class_layers(after, len(new)), strict=True
    ):
        for row, name in enumerate(["background", *new]):
            known = ["background", *old]
            if name in known:
                assert torch.equal(new_weight[:, row], weight[:, known.index(name)])
                assert torch.equal(new_bias[:, row], bias[:, known.index(name)])
            else:
                # As initialised: small numbers and no bias, nothing of the old normal noise.
                assert (new_bias[:, row] == 0).all()
                assert 0 < new_weight[:, row].std() < 0.2


@HEADS
@pytest.mark.parametrize(
    ("new", "keep"),
    [
        (("dog", "horse", "cat", "pig"), "dog, cat and the background keep"),
        (("cow",), "cow and the background keep"),
        (("Katze", "Hund", "Kuh"), "the background keeps"),
        (("cow", "cat", "dog"), "cow, cat, dog and the background keep"),
    ],
)
def test_classes_of_the_same_name_keep_their_weights(
    tmp_path: Path, model: str, new: tuple[str, ...], keep: str
) -> None:
    path, before = saved(tmp_path, model)
    begin = initial_model(model, new, str(path), None)
    assert begin.card.names == new
    assert_fine_tuned(before, begin.model, OLD, new)
    (note,) = begin.notes
    assert f"from 3 classes (cat, dog, cow) to {len(new)} ({', '.join(new)})" in note
    assert keep in note


@HEADS
def test_the_same_classes_start_where_the_checkpoint_ended(tmp_path: Path, model: str) -> None:
    path, before = saved(tmp_path, model)
    begin = initial_model(model, OLD, str(path), None)
    assert begin.notes == ()
    after = begin.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.state_dict().items())
    # What the weights were trained with stays with them.
    assert begin.card.preprocessing == before.card.preprocessing
    assert begin.card.default_boxes == before.card.default_boxes
    assert begin.card.postprocessing.iou_threshold == 0.3
    assert begin.card.origin == "fine-tuned from old.safetensors (cat, dog, cow)"
    assert begin.card.recipe is None


def test_classes_match_in_any_unicode_form_and_are_called_as_in_the_data(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    assert nfc != nfd
    path, before = saved(tmp_path, "tiny_lite", (nfd, "dog"))
    begin = initial_model("tiny_lite", (nfc, "dog"), str(path), None)
    assert begin.card.names == (nfc, "dog")
    assert begin.notes == ()
    assert_fine_tuned(before, begin.model, (nfc, "dog"), (nfc, "dog"))
    begin = initial_model("tiny_lite", ("cow", nfc), str(path), None)
    assert_fine_tuned(before, begin.model, (nfc, "dog"), ("cow", nfc))
    assert f"{nfc} and the background keep" in begin.notes[0]


def test_another_image_size(tmp_path: Path) -> None:
    path, before = saved(tmp_path, "tiny_lite")
    begin = initial_model("tiny_lite", OLD, str(path), (96, 128))
    assert begin.card.preprocessing.image_size == (96, 128)
    assert begin.card.preprocessing.mean == (1, 2, 3)
    assert begin.card.default_boxes.count > before.card.default_boxes.count
    assert_fine_tuned(before, begin.model, OLD, OLD)
    images = torch.zeros(1, 96, 128, 3, dtype=torch.uint8)
    logits, _ = begin.model.eval()(images)
    assert logits.shape == (1, begin.card.default_boxes.count, 4)


def test_a_size_that_needs_other_layers_is_one_line(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "tiny_plain")
    with pytest.raises(InputError, match=r"keeps its input of 64x64.*tiny_plain of 512") as caught:
        initial_model("tiny_plain", OLD, str(path), (512, 512))
    assert "\n" not in str(caught.value)


def test_weights_of_another_detector(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "tiny_lite")
    with pytest.raises(InputError, match="holds a tiny_lite, not a tiny_plain"):
        initial_model("tiny_plain", OLD, str(path), None)


@pytest.mark.parametrize("names", [OLD, ("cat",)])
def test_a_checkpoint_that_lacks_a_head(tmp_path: Path, names: tuple[str, ...]) -> None:
    path, network = saved(tmp_path, "tiny_lite")
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    del arrays["heads.classes.0.3.weight"]
    checkpoints.save(path, arrays, network.card)
    with pytest.raises(InputError, match=r"old\.safetensors does not fit.*heads\.classes\.0\.3"):
        initial_model("tiny_lite", names, str(path), None)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; --weights takes backbone, none or"):
        initial_model("tiny_lite", OLD, str(tmp_path / "gone.safetensors"), None)


def test_random_weights_follow_the_seed() -> None:
    def first_weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        begin = initial_model("tiny_plain", OLD, "none", None)
        assert begin.card.origin == "random weights"
        return next(begin.model.parameters())

    assert torch.equal(first_weight(3), first_weight(3))
    assert not torch.equal(first_weight(3), first_weight(4))


def test_imagenet_weights_come_with_their_mean_and_std(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    published = {
        "fine.0.weight": torch.randn(8, 3, 16, 16),
        "fine.0.bias": torch.randn(8),
        "coarse.0.weight": torch.randn(16, 8, 2, 2),
        "coarse.0.bias": torch.randn(16),
    }
    asked = []

    def source(backbone: str, _: tuple[int, int]) -> ImageNetSource:
        asked.append(backbone)
        return ImageNetSource("Tiny_Weights.V1", (10, 20, 30), (1, 2, 3))

    monkeypatch.setattr("multibox.training.initial_weights.imagenet_source", source)
    monkeypatch.setattr(ImageNetSource, "download", lambda _: published)
    begin = initial_model("tiny_lite", OLD, "backbone:features", None)
    assert asked == ["tiny_lite:features"]
    assert begin.card.preprocessing.mean == (10, 20, 30)
    assert begin.card.preprocessing.std == (1, 2, 3)
    assert begin.card.origin == "backbone from torchvision's Tiny_Weights.V1"
    state = begin.model.backbone.state_dict()
    for name, value in published.items():
        np.testing.assert_array_equal(state[name].numpy(), value.numpy())


def written(path: Path, card: ModelCard) -> SSD:
    """A network of ``card`` with unusual weights, saved under ``path``."""
    torch.manual_seed(1)
    network = build_ssd(card)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    arrays = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    checkpoints.save(path, arrays, card)
    return network


@pytest.mark.parametrize(
    "heads",
    [("conv1x1",) * 6, ("separable", "conv3x3", "conv1x1", "separable", "conv3x3", "conv1x1")],
    ids=["1x1", "mixed"],
)
def test_heads_of_every_kind_are_resized(tmp_path: Path, heads: tuple[HeadKind, ...]) -> None:
    card = new_card("tiny_lite", OLD)
    architecture = card.architecture.model_copy(update={"heads": heads})
    path = tmp_path / "old.safetensors"
    before = written(path, card.model_copy(update={"architecture": architecture}))
    begin = initial_model("tiny_lite", ("dog", "horse"), str(path), None)
    assert begin.card.architecture.heads == heads
    assert_fine_tuned(before, begin.model, OLD, ("dog", "horse"))


class TestImported:
    """Weights of other projects, whose cards differ from the zoo's."""

    def test_everything_but_the_classes_stays(self, tmp_path: Path) -> None:
        zoo = new_card("tiny_lite", OLD)
        card = zoo.model_copy(
            update={
                "architecture": zoo.architecture.model_copy(
                    update={"norm_epsilon": 1e-5, "activation": "relu", "padding": "tensorflow"}
                ),
                "preprocessing": zoo.preprocessing.model_copy(update={"channel_order": "bgr"}),
                "default_boxes": zoo.default_boxes.model_copy(
                    update={"clip": "corners", "variances": (0.2, 0.2, 0.3, 0.3)}
                ),
                "postprocessing": PostProcessing(scores="sigmoid", keep=7),
                "metrics": {"map": 0.5},
                "parity": {"reference": "theirs"},
            }
        )
        path = tmp_path / "imported.safetensors"
        before = written(path, card)
        begin = initial_model("tiny_lite", ("cow", "pig"), str(path), None)
        for part in ("architecture", "preprocessing", "default_boxes", "postprocessing"):
            assert getattr(begin.card, part) == getattr(card, part)
        # What was measured, and with what it compared equal, are the old weights.
        assert begin.card.metrics == {}
        assert begin.card.parity is None
        assert_fine_tuned(before, begin.model, OLD, ("cow", "pig"))
        with pytest.raises(InputError, match=r"imported\.safetensors keeps its input of 64x64"):
            initial_model("tiny_lite", OLD, str(path), (96, 96))

    def test_another_size_keeps_the_set_and_the_clipping(self, tmp_path: Path) -> None:
        card = new_card("tiny_plain", OLD, box_set="coco", image_size=(96, 96))
        boxes = card.default_boxes.model_copy(update={"clip": "centre-size"})
        path = tmp_path / "old.safetensors"
        written(path, card.model_copy(update={"default_boxes": boxes}))
        begin = initial_model("tiny_plain", OLD, str(path), (96, 128))
        other = new_card("tiny_plain", OLD, box_set="coco", image_size=(96, 128)).default_boxes
        assert begin.card.default_boxes == other.model_copy(update={"clip": "centre-size"})
        assert begin.card.preprocessing.image_size == (96, 128)

    def test_boxes_that_the_zoo_cannot_derive_keep_their_size(self, tmp_path: Path) -> None:
        card = new_card("tiny_lite", OLD)
        levels = (
            card.default_boxes.levels[0].model_copy(update={"min_size": 11.0}),
            *card.default_boxes.levels[1:],
        )
        boxes = card.default_boxes.model_copy(update={"levels": levels})
        path = tmp_path / "old.safetensors"
        written(path, card.model_copy(update={"default_boxes": boxes}))
        assert initial_model("tiny_lite", OLD, str(path), (64, 64)).card.default_boxes == boxes
        with pytest.raises(InputError, match="leave out --image-size"):
            initial_model("tiny_lite", OLD, str(path), (96, 96))


class TestTimm:
    def test_the_backbone_is_recorded_and_kept(self, tmp_path: Path) -> None:
        pytest.importorskip("timm")
        begin = initial_model("tiny_plain", OLD, "none", (96, 96), backbone="timm:test_resnet")
        assert begin.card.architecture.backbone == "timm:test_resnet"
        path = tmp_path / "old.safetensors"
        before = written(path, begin.card)
        for given in (None, "timm:test_resnet"):
            again = initial_model("tiny_plain", ("cat",), str(path), None, backbone=given)
            assert again.card.architecture == begin.card.architecture
            assert_fine_tuned(before, again.model, OLD, ("cat",))
        larger = initial_model("tiny_plain", OLD, str(path), (96, 128))
        assert larger.card.architecture == begin.card.architecture
        with pytest.raises(
            InputError, match="has the backbone timm:test_resnet, not timm:resnet18"
        ):
            initial_model("tiny_plain", OLD, str(path), None, backbone="timm:resnet18")


class TestDefaultBoxes:
    def test_both_published_sets(self) -> None:
        chosen = {
            choice: initial_model("tiny_plain", OLD, "none", None, default_boxes=choice)
            for choice in ("zoo", "voc", "coco")
        }
        smallest = {
            choice: begin.card.default_boxes.levels[0].min_size for choice, begin in chosen.items()
        }
        assert smallest["zoo"] == smallest["voc"] == pytest.approx(0.1 * 64)
        assert smallest["coco"] == pytest.approx(0.07 * 64)

    def test_a_checkpoint_brings_its_own(self, tmp_path: Path) -> None:
        path, _ = saved(tmp_path, "tiny_plain")
        with pytest.raises(InputError, match="brings its own default boxes"):
            initial_model("tiny_plain", OLD, str(path), None, default_boxes="coco")


def test_running_figures_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path, network = saved(tmp_path, "tiny_lite")
    name = next(name for name, _ in network.named_buffers() if name.endswith("running_var"))
    arrays = {n: value.numpy().copy() for n, value in network.state_dict().items()}
    arrays[name][0] = np.inf
    checkpoints.save(path, arrays, network.card)
    with pytest.raises(InputError, match=f"{name} has values that are not finite"):
        initial_model("tiny_lite", OLD, str(path), None)
