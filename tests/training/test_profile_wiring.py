"""Every recipe key of a profile reaches the part that it switches."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from tiny_runs import Train
from torch import Tensor

from multibox import checkpoints
from multibox.card import PostProcessing, Preprocessing
from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.model import SSD, build_ssd
from multibox.ssd.multibox_loss import build_targets
from multibox.training.loading import Batch
from multibox.training.optimiser import build_optimiser
from multibox.training.pictures import augmentation_of
from multibox.training.recipes import Recipe, paper
from multibox.training.step import Step, matching_rule
from multibox.zoo import new_card

NAMES = ("ball", "board", "ring", "star", "triangle")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, MatchingRule(negative_overlap=0.5)),
        (
            {"assigner": "atss", "atss_cells": 5},
            MatchingRule(assigner="atss", atss_cells=5, negative_overlap=0.5),
        ),
        (
            {"bipartite": "later-wins", "match_strictly": True, "match_threshold": 0.4},
            MatchingRule(threshold=0.4, bipartite="later-wins", strict=True, negative_overlap=0.5),
        ),
        (
            {"iou_epsilon": 1e-5, "least_overlap": -1, "negative_overlap": 1, "least_positives": 3},
            MatchingRule(least_positives=3, iou_epsilon=1e-5, least_overlap=-1),
        ),
    ],
)
def test_the_matching_rule(options: dict[str, Any], rule: MatchingRule) -> None:
    assert matching_rule(paper().changed(options)) == rule


def test_the_augmentation() -> None:
    preprocessing = Preprocessing(image_size=(48, 64), mean=(123.4, 117, 103.9), std=(1, 1, 1))
    plain = augmentation_of(paper(), preprocessing)
    assert plain.fill == (123, 117, 104)  # the mean, in RGB
    assert plain.crop_sampler == "caffe"
    assert len(plain.interpolations) == 5
    assert plain.photometric is not None
    assert not plain.photometric.hue_wraps
    options = {"crop_sampler": "torchvision", "random_interpolation": False, "hue_wraps": True}
    changed = augmentation_of(paper().changed(options), preprocessing)
    assert changed.crop_sampler == "torchvision"
    assert changed.interpolations == ("linear",)
    assert changed.photometric is not None
    assert changed.photometric.hue_wraps


@pytest.mark.parametrize(
    ("recipe", "keeps"), [("paper", True), ("modern", False)], ids=["paper", "modern"]
)
def test_a_new_model_of_the_paper_has_sizes_in_whole_pixels(
    run: Train, recipe: str, keeps: bool
) -> None:
    result = run(recipe=recipe, epochs=1)
    card = checkpoints.load(result.best).card
    assert card.default_boxes.truncate_sizes == keeps
    assert card.default_boxes.levels[0].min_size == pytest.approx(6.4)  # cut where it is used


def test_fine_tuning_keeps_the_sizes_of_the_checkpoint(run: Train, tmp_path: Any) -> None:
    first = run(recipe="modern", epochs=1, out=tmp_path / "first")
    second = run(recipe="paper", epochs=1, weights=first.best, out=tmp_path / "second")
    assert not checkpoints.load(second.best).card.default_boxes.truncate_sizes


def small_step(recipe: Recipe, **postprocessing: Any) -> tuple[SSD, Step]:
    card = new_card("tiny_plain", NAMES[:3])
    card = card.model_copy(update={"postprocessing": PostProcessing(**postprocessing)})
    torch.manual_seed(0)
    model = build_ssd(card)
    optimiser = build_optimiser(model, recipe)
    return model, Step(model, model, optimiser, recipe, Accelerator(cpu=True), bf16=False)


def three_pictures() -> Batch:
    """With two objects, none, and one; sides of a quarter to a half of the picture."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=generator)
    objects = [[[0.1, 0.1, 0.5, 0.6], [0.5, 0.5, 0.75, 0.9]], [], [[0.3, 0.2, 0.8, 0.7]]]
    boxes = [torch.tensor(rows).reshape(-1, 4) for rows in objects]
    return Batch(
        images, boxes, [torch.tensor(each, dtype=torch.int64) for each in ([0, 2], [], [1])]
    )


def class_losses(logits: Tensor, classes: Tensor, *, sigmoid: bool) -> Tensor:
    if sigmoid:
        chance = torch.sigmoid(logits.double())
        hit = F.one_hot(classes, logits.shape[-1]).bool()
        return -torch.where(hit, chance.log(), (1 - chance).log()).sum(dim=-1)
    return -logits.double().log_softmax(dim=-1).gather(-1, classes[..., None])[..., 0]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("normaliser", ["step", "picture"])
@pytest.mark.parametrize(("scores", "least"), [("softmax", 0), ("softmax", 3), ("sigmoid", 3)])
def test_the_loss_of_a_step(accumulate: int, normaliser: str, scores: str, least: int) -> None:
    """Class losses sorted picture by picture, then divided by the one N or by each one's own."""
    recipe = paper().changed(
        {"normaliser": normaliser, "min_negatives": least, "accumulate": accumulate}
    )
    model, step = small_step(recipe, scores=scores)
    batch = three_pictures()
    with torch.no_grad():
        logits, _ = model(batch.images)
    classes = build_targets(
        batch.boxes,
        batch.labels,
        DefaultBoxes(model.default_boxes),
        (0.1, 0.1, 0.2, 0.2),
        matching_rule(recipe),
    ).classes
    assert classes.gt(0).sum(dim=1).gt(0).tolist() == [True, False, True]
    sums, counts = [], []
    for i in range(3):
        loss = class_losses(logits[i], classes[i].clamp(min=0), sigmoid=scores == "sigmoid")
        n = int((classes[i] > 0).sum())
        negatives = loss[classes[i] == 0].sort(descending=True).values[: max(3 * n, least)]
        sums.append(float(loss[classes[i] > 0].sum() + negatives.sum()))
        counts.append(n)
    if normaliser == "step":
        expected = sum(sums) / sum(counts)
    else:
        expected = np.mean([s / max(n, 1) for s, n in zip(sums, counts, strict=True)])
    assert float(step(batch)[0]) == pytest.approx(expected, rel=1e-4)


def test_a_detector_with_sigmoid_scores_learns_to_find() -> None:
    """A step of the wrong loss would leave the background's column to grow over the others."""
    model, step = small_step(paper().changed({"learning_rate": 0.03}), scores="sigmoid")
    batch = three_pictures()
    losses = [float(step(batch)[0]) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]
    with torch.no_grad():
        logits, _ = model(batch.images)
    best = logits.sigmoid()[..., 1:].amax(dim=1)
    assert best[0, [0, 2]].min() > 0.5
    assert best[2, 1] > 0.5
