"""torchvision's own models and builders are the oracle: ours must give what they give."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from foreign_weights import pictures, randomise, settle_norms, spread_heads
from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSDHead

from multibox.default_boxes import default_boxes, to_corners
from multibox.engines.torch import TorchEngine
from multibox.errors import InputError
from multibox.importers.imported import Imported
from multibox.importers.torchvision import read
from multibox.ssd.model import SSD

FORMS = ("vgg", "lite", "lite-whole-tail")


def side(form: str) -> int:
    return 300 if form == "vgg" else 320


@cache
def build(form: str, classes: int) -> Any:
    """A new model from torchvision's own builder, without downloads."""
    torch.manual_seed(classes)
    if form == "vgg":
        return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes).eval()
    if form == "lite":
        return ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=classes
        ).eval()
    with pytest.MonkeyPatch.context() as patch:
        # The whole tail is only built around an ImageNet backbone: hand it a random one.
        state = mobilenet_v3_large(weights=None).state_dict()
        patch.setattr(MobileNet_V3_Large_Weights, "get_state_dict", lambda *_, **__: state)
        return ssdlite320_mobilenet_v3_large(
            weights=None,
            weights_backbone=MobileNet_V3_Large_Weights.IMAGENET1K_V1,
            num_classes=classes,
        ).eval()


def normalised(model: Any, images: np.ndarray) -> torch.Tensor:
    floats = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return torch.stack([model.transform.normalize(image) for image in floats])


@cache
def trained_like(form: str, classes: int) -> Any:
    """A model whose hundreds of scores above the threshold NMS has to sort out."""
    # VGG is large: its class counts share one backbone.
    model = deepcopy(build(form, 91 if form == "vgg" else classes))
    if form == "vgg":
        depths, boxes = [512, 1024, 512, 256, 256, 256], [4, 6, 6, 6, 4, 4]
        model.head = SSDHead(depths, boxes, classes)
    randomise(model, seed=classes)
    inputs = normalised(model, pictures(1 if form == "vgg" else 4, side(form), side(form), seed=7))

    def run() -> None:
        model.head(list(model.backbone(inputs).values()))

    if form != "vgg":
        settle_norms(model, run)

    def last(heads: nn.ModuleList) -> list[nn.Conv2d]:
        return [head if form == "vgg" else head[-1] for head in heads]

    spread_heads(
        last(model.head.classification_head.module_list),
        last(model.head.regression_head.module_list),
        classes,
        run,
        background={2: 4.0, 21: 6.0, 91: 8.0}[classes],
    )
    return model


class Answers(NamedTuple):
    logits: torch.Tensor
    offsets: torch.Tensor
    boxes: np.ndarray  # pixels
    scores: np.ndarray
    labels: np.ndarray


@contextmanager
def outputs_of(module: nn.Module) -> Iterator[list[Any]]:
    """What a module puts out, while another computes with it."""
    seen: list[Any] = []
    hook = module.register_forward_hook(lambda _, __, output: seen.append(output))
    yield seen
    hook.remove()


@torch.inference_mode()
def theirs(model: Any, image: np.ndarray) -> Answers:
    with outputs_of(model.head) as raw:
        (found,) = model([torch.from_numpy(image[0]).permute(2, 0, 1).float() / 255])
    return Answers(
        raw[0]["cls_logits"],
        raw[0]["bbox_regression"],
        found["boxes"].numpy(),
        found["scores"].numpy(),
        found["labels"].numpy() - 1,
    )


def ours(imported: Imported, image: np.ndarray) -> Answers:
    network = SSD(imported.card).eval()
    network.load_state_dict({k: torch.from_numpy(array) for k, array in imported.arrays.items()})
    with outputs_of(network) as raw:
        found = TorchEngine.from_module(network, imported.card)(image)
    count, pixels = found.num[0], image.shape[1]
    return Answers(
        *raw[0],
        found.boxes[0, :count] * pixels,
        found.scores[0, :count],
        found.classes[0, :count],
    )


def assert_same_detections(a: Answers, b: Answers) -> None:
    """One to one: the same label, boxes to 1e-3 pixels, scores to 1e-5."""
    assert len(a.scores) == len(b.scores)
    free = np.ones(len(b.scores), bool)
    for box, score, label in zip(a.boxes, a.scores, a.labels, strict=True):
        same = free & (b.labels == label) & (np.abs(b.scores - score) < 1e-5)
        distance = np.where(same, np.abs(b.boxes - box).max(axis=1), np.inf)
        assert distance.min() < 1e-3, (box, score, label)
        free[distance.argmin()] = False


def saved(model: nn.Module, folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save(model.state_dict(), path)
    return path


@cache
def build_card(form: str) -> Any:
    with TemporaryDirectory() as folder:
        return read(saved(build(form, 91), Path(folder)), None).card


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class TestEqualsTorchvision:
    @pytest.mark.parametrize("classes", [2, 21, 91])
    @pytest.mark.parametrize("form", FORMS)
    def test_with_scores_that_spread(self, form: str, classes: int, tmp_path: Path) -> None:
        model = trained_like(form, classes)
        image = pictures(1, side(form), side(form), seed=classes)
        imported = read(saved(model, tmp_path), None)
        expected, answer = theirs(model, image), ours(imported, image)

        scores = expected.logits.softmax(-1)[..., 1:]
        passing = scores[scores > imported.card.postprocessing.score_threshold]
        assert len(expected.scores) > 50
        assert len(passing) > 4 * len(expected.scores), "suppression has work to do"
        assert passing.max() > 0.9, "scores spread"
        assert passing.median() < 0.3, "scores spread"
        assert imported.unused == ()
        assert (answer.logits - expected.logits).abs().max() < 1e-4
        assert (answer.offsets - expected.offsets).abs().max() < 1e-4
        assert_same_detections(expected, answer)

    @pytest.mark.parametrize(
        ("form", "classes"),
        [
            *((form, classes) for form in FORMS[1:] for classes in (2, 21, 91)),
            # Many seconds each, and nothing that the spread weights do not show as well.
            *(pytest.param("vgg", classes, marks=pytest.mark.slow) for classes in (2, 21, 91)),
        ],
    )
    def test_with_fresh_weights(self, form: str, classes: int, tmp_path: Path) -> None:
        # SSDLite's fresh scores are all equal: the order of ties decides what is kept.
        model = build(form, classes)
        image = pictures(1, side(form), side(form), seed=5)
        expected, answer = theirs(model, image), ours(read(saved(model, tmp_path), None), image)
        assert (answer.logits - expected.logits).abs().max() < 1e-4
        assert (answer.offsets - expected.offsets).abs().max() < 1e-4
        assert_same_detections(expected, answer)

    @pytest.mark.parametrize("form", FORMS)
    def test_the_input_to_its_last_digit(self, form: str) -> None:
        # A digit there is the fourth digit of the outputs of a deep network with small variances.
        image = pictures(1, side(form), side(form), seed=3)
        network = SSD(build_card(form)).eval()
        seen: list[torch.Tensor] = []
        network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        with torch.inference_mode():
            network(torch.from_numpy(image))
        assert torch.equal(seen[0], normalised(build(form, 91), image))

    @pytest.mark.parametrize("classes", [2, 21])
    def test_ties_in_part(self, classes: int, tmp_path: Path) -> None:
        # Norms that drown the picture: cells say the same, more of them than top_k.
        model = deepcopy(build("lite", classes))
        draw = torch.Generator().manual_seed(classes)
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1, generator=draw)
                part.running_var.uniform_(0.2, 1.7, generator=draw)
                part.bias.data.normal_(0, 0.1, generator=draw)
        for heads, gain in ((model.head.classification_head, 30), (model.head.regression_head, 10)):
            for head in heads.module_list:
                head[-1].weight.data.mul_(gain)
        image = pictures(1, 320, 320, seed=4)
        expected, answer = theirs(model, image), ours(read(saved(model, tmp_path), None), image)
        assert len(np.unique(expected.scores)) < len(expected.scores)
        assert_same_detections(expected, answer)


@pytest.mark.parametrize("form", FORMS)
def test_default_boxes_are_torchvisions(form: str) -> None:
    model, card = build(form, 91), build_card(form)
    inputs = torch.zeros(1, 3, side(form), side(form))
    with torch.inference_mode():
        maps = list(model.backbone(inputs).values())
    expected = model.anchor_generator(ImageList(inputs, [inputs.shape[-2:]]), maps)[0]
    boxes = to_corners(default_boxes(card.default_boxes)) * side(form)
    np.testing.assert_allclose(boxes, expected.numpy(), atol=1e-4)


def test_sides_alone_are_cut() -> None:
    card = build_card("vgg")
    plain = default_boxes(card.default_boxes.model_copy(update={"clip": "none"}))
    cut = default_boxes(card.default_boxes)
    assert card.default_boxes.clip == "sides"
    np.testing.assert_array_equal(cut[:, :2], plain[:, :2])
    assert cut[:, :2].max() == np.float32(304 / 300), "centres outside the picture stay"
    assert cut[:, 2:].max() == 1
    assert plain[:, 2:].max() == np.float32(0.87 * 2**0.5)


@pytest.mark.parametrize(("form", "settings"), [
    ("vgg", (0.01, 0.45, 400, 200)), ("lite", (0.001, 0.55, 300, 300)),
    ("lite-whole-tail", (0.001, 0.55, 300, 300)),
])  # fmt: skip
def test_the_card(form: str, settings: tuple[float, ...]) -> None:
    card, model = build_card(form), build(form, 91)
    post = card.postprocessing
    assert (post.score_threshold, post.iou_threshold, post.top_k, post.keep) == settings
    # ... which are the model's own.
    assert settings == (
        model.score_thresh, model.nms_thresh, model.topk_candidates, model.detections_per_img
    )  # fmt: skip
    assert post.largest_log_ratio == model.box_coder.bbox_xform_clip
    assert post.clip == "before"
    np.testing.assert_allclose(card.preprocessing.mean, 255 * np.array(model.transform.image_mean))
    np.testing.assert_allclose(card.preprocessing.std, 255 * np.array(model.transform.image_std))
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    built = [layer for layer in SSD(card).modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [layer.eps for layer in built] == [layer.eps for layer in norms]
    assert card.origin.startswith("torchvision ")
    # The names of 91 outputs are COCO's by id.
    assert (card.names[0], card.names[11], card.names[89]) == ("person", "unused_12", "toothbrush")


def test_the_form_of_the_tail_follows_from_the_shapes() -> None:
    assert build_card("lite").architecture.backbone == "mobilenet_v3_large_reduced"
    assert build_card("lite-whole-tail").architecture.backbone == "mobilenet_v3_large"


def test_a_swapped_array_shows(tmp_path: Path) -> None:
    model = trained_like("lite", 2)
    image = pictures(1, 320, 320, seed=2)
    state = dict(model.state_dict())
    first, second = (
        "backbone.features.1.1.block.0.0.weight",
        "backbone.features.1.2.block.0.0.weight",
    )
    state[first], state[second] = state[second], state[first]
    torch.save(state, tmp_path / "swapped.pth")
    answer = ours(read(tmp_path / "swapped.pth", None), image)
    expected = theirs(model, image)
    assert (answer.logits - expected.logits).abs().max() > 0.1
    with pytest.raises(AssertionError):
        assert_same_detections(expected, answer)


class TestRefused:
    def state(self) -> dict[str, torch.Tensor]:
        return dict(trained_like("lite", 2).state_dict())

    def refused(self, state: dict[str, torch.Tensor], folder: Path, match: str) -> None:
        torch.save(state, folder / "w.pth")
        with pytest.raises(InputError, match=match) as caught:
            read(folder / "w.pth", None)
        assert "\n" not in str(caught.value)
        assert "w.pth" in str(caught.value)

    def test_a_classifier(self, tmp_path: Path) -> None:
        self.refused(mobilenet_v3_large().state_dict(), tmp_path, "is not the state dict")

    def test_a_missing_array(self, tmp_path: Path) -> None:
        state = self.state()
        del state["backbone.extra.2.1.1.running_var"]
        self.refused(state, tmp_path, r"no array 'backbone\.extra\.2\.1\.1\.running_var'")

    def test_another_shape(self, tmp_path: Path) -> None:
        state = self.state()
        state["backbone.extra.2.1.0.weight"] = torch.zeros(128, 1, 5, 5)
        self.refused(state, tmp_path, r"\(128, 1, 5, 5\), expected \(128, 1, 3, 3\)")

    def test_values_that_are_not_finite(self, tmp_path: Path) -> None:
        state = self.state()
        state["backbone.features.0.1.block.0.0.weight"] = torch.full((16, 1, 3, 3), float("nan"))
        self.refused(state, tmp_path, "not finite")

    @pytest.mark.parametrize("outputs", [0, 6, 13])
    def test_no_whole_number_of_classes(self, outputs: int, tmp_path: Path) -> None:
        state = self.state()
        state["head.classification_head.module_list.0.1.bias"] = torch.zeros(outputs)
        self.refused(state, tmp_path, "fits no number of classes")

    def test_another_number_of_names(self, tmp_path: Path) -> None:
        path = saved(trained_like("lite", 2), tmp_path)
        with pytest.raises(InputError, match=r"1 classes .* 2 names"):
            read(path, ["a", "b"])
        assert read(path, ["gull"]).card.names == ("gull",)
