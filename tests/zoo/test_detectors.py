"""Every named detector at every size: the card agrees with the network built from it."""

import pytest
import torch
from pydantic import ValidationError

from multibox.card import ModelCard
from multibox.default_boxes import default_boxes
from multibox.errors import InputError
from multibox.ssd.model import SSD
from multibox.zoo import MODELS, BoxSet, find_model, new_card

SIZES = [None, (64, 64), (65, 127), (201, 140), (513, 640)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_outputs_match_the_default_boxes(name: str, size: tuple[int, int] | None) -> None:
    card = new_card(name, ["cat", "dog", "hen"], image_size=size)
    height, width = card.preprocessing.image_size
    maps: list[tuple[int, ...]] = []
    with torch.device("meta"):  # shapes alone: nothing is computed
        model = SSD(card)
        model.heads.register_forward_pre_hook(
            lambda _, inputs: maps.extend(tuple(x.shape[2:]) for x in inputs[0])
        )
        logits, offsets = model(torch.zeros(2, height, width, 3, dtype=torch.uint8))
    assert maps == [level.grid for level in card.default_boxes.levels]
    boxes = default_boxes(card.default_boxes)
    assert len(boxes) == card.default_boxes.count
    assert logits.shape == (2, len(boxes), 4)
    assert offsets.shape == (2, len(boxes), 4)
    assert model.default_boxes.shape == boxes.shape


BOX_SETS = [(model.name, box_set) for model in MODELS.values() for box_set in model.box_sets]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("name", "box_set"), BOX_SETS)
def test_default_boxes_make_sense_at_every_size(
    name: str, box_set: BoxSet, size: tuple[int, int] | None
) -> None:
    spec = new_card(name, ["object"], image_size=size, box_set=box_set).default_boxes
    side = min(spec.image_size)
    height, width = spec.image_size
    boxes = default_boxes(spec.model_copy(update={"clip": "none"}))
    areas = []  # of a level's first box: each level's boxes are larger than those before
    for level in spec.levels:
        _, _, w, h = boxes[0]
        # Square in pixels, not in fractions; TensorFlow's scale with either side.
        assert w * width == pytest.approx(h * height) or level.shapes
        areas.append(float(w * h) * width * height)
        boxes = boxes[level.grid[0] * level.grid[1] * level.boxes_per_cell :]
    assert areas == sorted(set(areas))
    assert 0.03 * side < areas[0] ** 0.5
    assert areas[-1] ** 0.5 <= 0.96 * (height * width) ** 0.5
    for level, following in zip(spec.levels, spec.levels[1:], strict=False):
        assert level.max_size in (following.min_size, None)


@pytest.mark.parametrize(
    "name", [name for name, model in MODELS.items() if len(model.box_sets) < 2]
)
def test_a_set_that_was_not_published_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} was published with one set"):
        new_card(name, ["object"], box_set="coco")


@pytest.mark.parametrize("backbone", ["resnet34", "timm", "nope:x"])
def test_only_timm_backbones_can_be_chosen(backbone: str) -> None:
    with pytest.raises(InputError, match=f"no backbone {backbone} to choose.*timm:NAME"):
        new_card("ssd300_vgg16", ["object"], backbone=backbone)


def test_another_backbone_leaves_the_habits_of_the_own_one() -> None:
    card = new_card("ssdlite300_mobilenet_v2", ["object"], backbone="timm:resnet18")
    assert card.architecture.backbone == "timm:resnet18"
    assert card.architecture.strides == (16, 32)
    assert card.architecture.padding == "symmetric"
    assert card.architecture.backbone_norm_epsilon is None
    own = new_card("ssdlite300_mobilenet_v2", ["object"])
    assert own.architecture.padding == "tensorflow"
    assert card.default_boxes == own.default_boxes
    # Other networks have seen RGB.
    caffe = new_card("ssd300_mobilenet_v1", ["object"], backbone="timm:resnet18")
    assert caffe.preprocessing.channel_order == "rgb"


def test_a_non_square_network_runs() -> None:
    card = new_card("ssdlite320_mobilenet_v3_large", ["cat"], image_size=(64, 128))
    model = SSD(card).eval()
    logits, _ = model(torch.zeros(1, 64, 128, 3, dtype=torch.uint8))
    assert logits.shape == (1, card.default_boxes.count, 2)
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("name", MODELS)
def test_a_card_survives_json(name: str) -> None:
    card = new_card(name, ["cat", "dog"], image_size=(97, 130))
    assert ModelCard.model_validate_json(card.model_dump_json()) == card


@pytest.mark.parametrize("name", MODELS)
def test_too_small_a_picture_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"63x300 is too small.*at least 64"):
        new_card(name, ["cat"], image_size=(63, 300))


class TestFindModel:
    @pytest.mark.parametrize("name", MODELS)
    def test_finds_every_model(self, name: str) -> None:
        assert find_model(name).name == name

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("ssd300", "ssd300_vgg16"),
            ("ssd512_vgg", "ssd512_vgg16"),
            ("ssdlite_mobilenet_v2", "ssdlite320_mobilenet_v2"),
            ("ssdlite320_mobilenet_v3", "ssdlite320_mobilenet_v3_large"),
        ],
    )
    def test_suggests_the_nearest(self, typed: str, meant: str) -> None:
        with pytest.raises(InputError, match=f"{typed}; did you mean {meant}\\?"):
            find_model(typed)

    def test_lists_all_where_none_is_near(self) -> None:
        with pytest.raises(InputError) as raised:
            find_model("yolo")
        assert all(name in str(raised.value) for name in MODELS)


class TestCard:
    card = new_card("ssdlite320_mobilenet_v2", ["cat", "dog"])

    def changed(self, **changes: object) -> dict[str, object]:
        return self.card.model_dump() | changes

    def test_two_classes_of_one_name(self) -> None:
        with pytest.raises(ValidationError, match="same name"):
            ModelCard.model_validate(self.changed(names=("cat", "cat")))

    def test_no_classes(self) -> None:
        with pytest.raises(ValidationError, match="names"):
            new_card("ssdlite320_mobilenet_v2", [])

    def test_two_image_sizes(self) -> None:
        preprocessing = self.card.preprocessing.model_dump() | {"image_size": (64, 64)}
        with pytest.raises(ValidationError, match="disagree about the image size"):
            ModelCard.model_validate(self.changed(preprocessing=preprocessing))

    def test_unknown_keys(self) -> None:
        with pytest.raises(ValidationError, match="nonsense"):
            ModelCard.model_validate(self.changed(nonsense=1))

    def test_papers_thresholds_are_the_default(self) -> None:
        settings = self.card.postprocessing
        assert (settings.score_threshold, settings.iou_threshold) == (0.01, 0.45)
        assert (settings.top_k, settings.keep) == (400, 200)
