"""Recipe cards: golden figures, the comparison with the data, and a training by one of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multibox.data import DataSet, Problem, Sample, open_data, synthetic
from multibox.errors import InputError
from multibox.evaluation.evaluate import evaluate
from multibox.training.recipe_cards import (
    CARDS,
    ExpectedData,
    RecipeCard,
    Split,
    choose,
    differences,
    find,
)
from multibox.training.recipes import Recipe, paper
from multibox.training.schedule import rate_factor
from multibox.training.train import train
from multibox.zoo import find_model, new_card

# Typed from the sources, not from the cards: batch, steps, steps of a tenth, rate, decay, zoom-out.
# Paper 3.1; ssd_pascal.py l.232-374; ssd_coco.py l.234-374; lufficc's configs/*.yaml and
# config/defaults.py; torchvision's references/detection/README.md.
SOURCES: dict[str, tuple[int, int, Sequence[int], float, float, bool]] = {
    "voc07-ssd300": (32, 60_000, (40_000, 50_000), 1e-3, 5e-4, False),
    "voc07-ssd512": (32, 60_000, (40_000, 50_000), 1e-3, 5e-4, False),
    "voc07-ssdlite": (32, 60_000, (40_000, 50_000), 1e-3, 5e-4, True),
    "voc0712-ssd300": (32, 120_000, (80_000, 100_000), 1e-3, 5e-4, True),
    "voc0712-ssd512": (24, 120_000, (80_000, 100_000), 1e-3, 5e-4, True),
    "voc0712-ssdlite": (32, 120_000, (80_000, 100_000), 1e-3, 5e-4, True),
    "coco-ssd300": (32, 400_000, (280_000, 360_000), 1e-3, 5e-4, True),
    "coco-ssd512": (24, 520_000, (360_000, 480_000), 1e-3, 5e-4, True),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_hyper_parameters_are_the_sources(name: str) -> None:
    batch, steps, milestones, rate, decay, zoom_out = SOURCES[name]
    card = CARDS[name]
    recipe = card.recipe
    assert (recipe.name, recipe.batch_size, recipe.steps) == (name, batch, steps)
    assert (recipe.epochs, recipe.learning_rate, recipe.momentum) == (None, rate, 0.9)
    assert (recipe.weight_decay, recipe.expand_ratio) == (decay, 4.0)
    assert recipe.expand_probability == (0.5 if zoom_out else 0.0)
    assert (recipe.ema, recipe.clip_gradient, recipe.freeze_early_layers) == (0.0, 0.0, False)
    assert card.pictures_seen == steps * batch
    settled = recipe.model_copy(update={"warmup_steps": 0})
    for reached, milestone in enumerate(milestones, 1):
        assert rate_factor(milestone - 1, steps, settled) == pytest.approx(0.1 ** (reached - 1))
        assert rate_factor(milestone, steps, settled) == pytest.approx(0.1**reached)


def test_torchvisions_lite_recipe() -> None:
    card = CARDS["coco-ssdlite"]
    recipe = card.recipe
    assert (recipe.epochs, recipe.steps, recipe.batch_size) == (660, None, 8 * 24)
    assert (recipe.learning_rate, recipe.weight_decay, recipe.momentum) == (0.15, 4e-5, 0.9)
    assert (recipe.schedule, recipe.expand_probability) == ("cosine", 0.0)
    assert (recipe.bias_rate_factor, recipe.decay_biases) == (1.0, True)
    assert card.weights == "none"
    assert card.steps == 660 * (118_287 // 192)


def test_what_is_caffes_and_what_is_lufficcs() -> None:
    caffe, lufficc = CARDS["voc0712-ssd300"].recipe, CARDS["voc0712-ssd512"].recipe
    same_as_paper = paper().model_copy(
        update={
            "name": "voc0712-ssd300", "epochs": None, "steps": 120_000, "evaluate_every": 19,
            "train_split": "trainval", "val_split": "test",
        }
    )  # fmt: skip
    assert caffe == same_as_paper
    # train_on_diff_gt, ssd_pascal.py l.269 and ssd_coco.py l.271; keep_difficult = not is_train.
    assert caffe.train_difficult
    assert not CARDS["coco-ssd300"].recipe.train_difficult
    assert not lufficc.train_difficult
    assert (lufficc.warmup_steps, lufficc.bias_rate_factor) == (500, 1.0)
    assert lufficc.decay_biases


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("voc07-ssd300", 0.680),
        ("voc07-ssd512", 0.716),
        ("voc0712-ssd300", 0.772),  # not 0.743, which is without zoom-out
        ("voc0712-ssd512", 0.798),
        ("voc0712-ssdlite", 0.689),
        ("coco-ssd300", 0.251),
        ("coco-ssd512", 0.288),
        ("coco-ssdlite", 0.213),
    ],
)
def test_the_final_figures(name: str, value: float) -> None:
    assert value in {published.value for published in CARDS[name].final}
    assert all(published.source for published in CARDS[name].final)


def test_figures_of_another_recipe_are_on_no_card() -> None:
    # 74.3 and 76.8 were published without zoom-out, 79.6 and 81.6 with COCO in the training.
    values = {p.value for name in CARDS if "voc0712" in name for p in CARDS[name].final}
    assert not values & {0.743, 0.768, 0.796, 0.816, 0.812, 0.832}


def test_on_the_way() -> None:
    assert CARDS["voc0712-ssd300"].on_the_way == (
        (20_000, 0.696), (40_000, 0.726), (60_000, 0.738), (80_000, 0.766), (100_000, 0.7709),
    )  # fmt: skip
    [_, _, line] = CARDS["voc0712-ssd300"].expectations()
    assert "0.696 after 20,000" in line
    assert "ssd_keras" in line


def test_the_cost() -> None:
    # mmdetection's seconds for a step: 120,000 x 0.189 s, and 400,000 / 2 x 0.286 s.
    assert CARDS["voc0712-ssd300"].hours == pytest.approx(120_000 * 0.189 / 3600)
    assert CARDS["coco-ssd300"].hours == pytest.approx(200_000 * 0.286 / 3600)
    assert CARDS["coco-ssdlite"].hours is None
    assert CARDS["coco-ssdlite"].expectations()[0] == (
        "coco-ssdlite as published: 406,560 steps, 78,059,520 pictures"
    )


def test_the_counts_of_the_data_sets() -> None:
    voc07, voc0712, coco = (CARDS[f"{data}-ssd300"].data for data in ("voc07", "voc0712", "coco"))
    assert (voc07.training.pictures, voc07.training.objects) == (5_011, 15_662)
    assert voc07.training.countable == 12_608
    assert (voc07.validation.pictures, voc07.validation.objects) == (4_952, 14_976)
    assert voc07.validation.countable == 12_032
    # VOC2012 trainval: 11,540 pictures, 31,561 objects, 27,450 not difficult.
    assert voc0712.training.pictures - voc07.training.pictures == 11_540
    assert voc0712.training.objects - voc07.training.objects == 31_561
    assert voc0712.training.countable - voc07.training.countable == 27_450
    assert voc0712.validation == voc07.validation
    assert (coco.training.objects, coco.training.countable) == (860_001, 849_949)
    assert (coco.validation.objects, coco.validation.countable) == (36_781, 36_335)
    assert (coco.training.pictures, coco.validation.pictures) == (118_287, 5_000)
    assert (len(voc07.classes), len(coco.classes)) == (20, 80)


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_every_card_fits_the_zoo(card: RecipeCard) -> None:
    model = find_model(card.model)
    box_set = None if card.default_boxes == "zoo" else card.default_boxes
    made = new_card(card.model, card.data.classes, box_set=box_set)
    assert len(made.names) == len(card.data.classes)
    assert box_set is None or box_set in model.box_sets
    if len(model.box_sets) > 1:
        assert card.default_boxes == ("coco" if card.name.startswith("coco") else "voc")
    # Caffe's convolutions exist for VGG-16 alone.
    assert (card.weights == "backbone:features") == (model.backbone == "vgg16")
    assert Recipe.model_validate(card.recipe.model_dump()) == card.recipe
    assert card.command == f"multibox train {card.data.example} --recipe {card.name}"


# The choice between card and call.


def test_a_card_brings_what_is_left_out() -> None:
    choice = choose("voc0712-ssd300", None, None, "zoo", {"batch_size": 8})
    assert (choice.model, choice.weights) == ("ssd300_vgg16", "backbone:features")
    assert choice.default_boxes == "voc"
    assert (choice.recipe.batch_size, choice.recipe.steps) == (8, 120_000)
    assert choice.splits == (("trainval", "test"), ("train", "val"))
    assert choice.card is CARDS["voc0712-ssd300"]


def test_what_is_given_wins() -> None:
    choice = choose("coco-ssd300", "ssd300_vgg16", "none", "voc", {"epochs": 3, "val_split": "x"})
    assert (choice.weights, choice.default_boxes) == ("none", "voc")
    assert (choice.recipe.epochs, choice.recipe.steps) == (3, None)
    assert choice.splits == (("train", "x"),)
    # A checkpoint has default boxes of its own.
    assert choose("coco-ssd300", None, "a.safetensors", "zoo", {}).default_boxes == "zoo"


def test_without_a_card_nothing_changes() -> None:
    choice = choose("paper", "ssd300_vgg16", None, "zoo", {})
    assert (choice.recipe, choice.weights, choice.card) == (paper(), "backbone", None)
    assert choice.splits == (("train", "val"),)


@pytest.mark.parametrize(
    ("recipe", "model", "message"),
    [
        ("voc0712-ssd300", "ssd512_vgg16", "trains ssd300_vgg16, not ssd512_vgg16"),
        ("modern", None, "which detector? name one with --model"),
        ("VOC0712_ssd300", None, "did you mean voc0712-ssd300?"),
        ("papre", None, "did you mean paper?"),
        ("xyz", None, "there are: modern, paper, voc07-ssd300"),
    ],
)
def test_wrong_calls(recipe: str, model: str | None, message: str) -> None:
    with pytest.raises(InputError) as error:
        choose(recipe, model, None, "zoo", {})
    assert message in str(error.value)


def test_steps_and_epochs_replace_each_other() -> None:
    assert paper().changed({"steps": 100}).epochs is None
    assert CARDS["voc07-ssd300"].recipe.changed({"epochs": 2}).steps is None
    assert find("paper") == paper()
    with pytest.raises(InputError, match="give one of them"):
        paper().changed({"epochs": 2, "steps": 100})


@pytest.mark.parametrize("bad", [(0.5, 1.0), (0.0,), (-1.0, 0.5), ("x",)])
def test_milestones_are_shares_of_the_run(bad: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="milestones"):
        paper().changed({"milestones": bad})
    assert paper().changed({"milestones": [0.25]}).milestones == (0.25,)


# The data against the card.

TINY = ExpectedData(
    title="SCENES",
    example="scenes",
    classes=("ball", "ring"),
    training=Split("SCENES trainval", 2, 3, 1, "difficult"),
    validation=Split("SCENES test", 1, 1, 0, "difficult"),
    source="",
)


def tiny_card(**changes: Any) -> RecipeCard:
    recipe = paper().model_copy(
        update={
            "name": "scenes", "epochs": None, "steps": 7, "batch_size": 4, "precision": "fp32",
            "train_split": "trainval", "val_split": "test", "workers": 0,
        }
    )  # fmt: skip
    return replace(
        RecipeCard("scenes", recipe, "tiny_plain", "zoo", "none", TINY, "here"), **changes
    )


def data_set(difficult: Sequence[Sequence[bool]], split: str = "trainval", **more: Any) -> DataSet:
    picture = np.zeros((20, 30, 3), np.uint8)
    samples = [
        Sample.of(picture, [[1, 2, 9, 9]] * len(marks), [0] * len(marks), width=30, height=20,
                  difficult=marks)
        for marks in difficult
    ]  # fmt: skip
    return DataSet(samples, ("ball", "ring"), split, Path(), "samples", **more)


TRAINVAL, TEST = data_set([[False, True], [False]]), data_set([[False]], "test")


def test_the_expected_data_differs_in_nothing() -> None:
    assert differences(tiny_card(), TRAINVAL, TEST) == []
    shuffled = replace(TRAINVAL, names=("ring", "ball"))
    assert differences(tiny_card(), shuffled, TEST) == []


def test_each_difference_is_one_line() -> None:
    other = replace(data_set([[False]] * 4, "train"), names=("ring", "cube"))
    classes, training, validation, so = differences(tiny_card(), other, None)
    assert classes == (
        "scenes expects the 2 classes of SCENES, the data lacks ball and has besides cube"
    )
    assert training == (
        "scenes expects 2 training pictures with 3 objects (1 difficult) in SCENES trainval, "
        "split train of the data has 4 with 4 (0 difficult)"
    )
    assert validation == (
        "scenes expects 1 validation pictures with 1 objects (0 difficult) in SCENES test, "
        "the data has none"
    )
    assert so == "scenes: its published figures are not to be expected of this data"


def test_of_many_classes_some_are_named() -> None:
    card = replace(CARDS["voc07-ssd300"], name="voc")
    [line, *_] = differences(card, replace(TRAINVAL, names=("aeroplane", "ball")), TEST)
    assert line == (
        "voc expects the 20 classes of VOC07, the data lacks bicycle, bird, boat, bottle, bus and "
        "14 more and has besides ball"
    )


def test_lost_marks_alone_are_a_difference() -> None:
    [line, _] = differences(tiny_card(), data_set([[False, False], [False]]), TEST)
    assert line.endswith("split trainval of the data has 2 with 3 (0 difficult)")


def test_objects_dropped_while_reading_are_no_difference() -> None:
    dropped = (Problem("a.xml", 1, "box without area", "dropped"),)
    short = data_set([[False], [True]])
    assert differences(tiny_card(), replace(short, problems=dropped), TEST) == []
    assert len(differences(tiny_card(), short, TEST)) == 2
    # More than expected cannot come of dropping.
    more = data_set([[False, True, False], [False]], problems=dropped)
    assert len(differences(tiny_card(), more, TEST)) == 2


# From end to end.


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders with pictures of the same names; trainval in both, test in the first."""
    root = tmp_path_factory.mktemp("years")
    for name, seed in (("Y1", 0), ("Y2", 1)):
        synthetic.generate(
            root / name, images=9, size=(96, 72), seed=seed,
            splits={"trainval": 2 / 3, "test": 1 / 3},
        )  # fmt: skip
    (root / "Y2" / "ImageSets" / "Main" / "test.txt").unlink()
    return root


def test_a_training_by_card(years: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    data = f"{years / 'Y1'}+Y2"
    result = train(data, recipe=tiny_card(), out=tmp_path / "run", report=lines.append)
    # 12 pictures in batches of 4: three steps an epoch, and 7 steps are nearest to two epochs.
    assert [row["step"] for row in result.history] == [3, 6]
    assert result.best_map is not None
    text = "\n".join(lines)
    assert "scenes as published: 7 steps, 28 pictures" in text
    assert "scenes expects 2 training pictures with 3 objects (1 difficult)" in text
    assert "split trainval of the data has 12 with" in text
    assert "recipe scenes, 2 epochs" in text
    learned = open_data(data, split="trainval")
    assert {sample.id.split("/")[0] for sample in learned.samples} == {"Y1", "Y2"}
    # What was trained on the merged set is evaluated on it, by the same paths.
    measured = evaluate(result.best, [years / "Y1", years / "Y2"])
    assert (measured.split, measured.images) == ("test", 3)
    assert measured.map == pytest.approx(result.best_map)


def test_data_without_the_cards_splits_is_trained_on_and_said(scenes: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    train(scenes, recipe=tiny_card(), out=tmp_path / "run", report=lines.append, epochs=1)
    text = "\n".join(lines)
    assert "split train of the data has 9 with" in text
    assert "split val of the data has 3 with" in text


def test_a_split_asked_for_by_name_must_be_there(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split 'trainval'"):
        train(scenes, recipe=tiny_card(), out=tmp_path / "run", train_split="trainval")
    with pytest.raises(InputError, match="no split 'tset'"):
        train(scenes, recipe=tiny_card(), out=tmp_path / "run", val_split="tset")


def test_judging_by_what_is_learned_is_said(scenes: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    train(
        scenes, recipe=tiny_card(), out=tmp_path / "run", report=lines.append,
        train_split="all", val_split="val", epochs=1,
    )  # fmt: skip
    assert any(line.startswith("3 of the 3 pictures of val are also in all") for line in lines)


def test_the_folder_of_a_run_over_several_sets(
    years: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = train([years / "Y1", years / "Y2"], recipe=tiny_card(), epochs=1)
    assert result.folder == Path("runs/Y1+Y2-tiny_plain")
    with pytest.raises(InputError, match="lies in the data folder"):
        train([years / "Y1", years / "Y2"], recipe=tiny_card(), out=years / "Y2" / "run", epochs=1)


DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_the_page_says_what_the_card_says(card: RecipeCard) -> None:
    [section] = [
        part
        for part in DOCS.read_text(encoding="utf-8").split("\n## ")
        if part.splitlines()[0].endswith(f"`{card.name}`")
    ]
    recipe = card.recipe
    assert f"\n{card.command}\n" in section
    assert f"`{card.model}`" in section
    assert f"`--weights {card.weights}`" in section
    assert f"| length | {card.steps:,} steps" in section
    assert f"batches of {recipe.batch_size} |" in section
    assert f"| learning rate | {recipe.learning_rate:g}, " in section
    assert f"{card.pictures_seen:,} pictures seen" in section
    assert ("no zoom-out" in section.split("| pictures |")[1]) == (not recipe.expand_probability)
    for value, source in [(f"**{p.value:.3f}** ({p.source}", p.source) for p in card.final]:
        assert value in section, source
    for step, value in card.on_the_way:
        assert f"{value:.3f} after {step:,}" in section
    for difference in card.differences:
        assert difference in section
