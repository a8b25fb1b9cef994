"""The recipe's keys of loss, assignment and mosaics reach what they switch."""

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tiny_runs import Train

from multibox import checkpoints
from multibox.ssd.model import SSD, build_ssd
from multibox.ssd.multibox_loss import multibox_loss
from multibox.training.loading import Batch
from multibox.training.optimiser import build_optimiser
from multibox.training.recipes import modern
from multibox.training.step import Objective, Step
from multibox.zoo import new_card

VARIANCES = (0.1, 0.1, 0.2, 0.2)


def detector() -> SSD:
    torch.manual_seed(0)
    return build_ssd(new_card("tiny_plain", ["a", "b", "c"]))


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=generator)
    boxes = [torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.5, 0.5, 0.75, 0.9]]), torch.zeros(0, 4)]
    return Batch(images, boxes, [torch.tensor([0, 2]), torch.zeros(0, dtype=torch.int64)])


@pytest.mark.parametrize(
    ("options", "arguments", "factors"),
    [
        ({"box_loss": "giou", "box_weight": 5}, {"box_loss": "giou"}, (1, 5)),
        ({"box_loss": "smooth_l1", "box_weight": 0.5}, {}, (1, 0.5)),
    ],
)
def test_the_losses(
    options: dict[str, Any], arguments: dict[str, Any], factors: tuple[float, float]
) -> None:
    model = detector()
    recipe = modern().changed({**options, "min_negatives": 0})
    objective = Objective(model, recipe, bf16=False)
    outputs = objective.outputs(model, batch())
    targets = objective.targets(batch())
    (weights,) = objective.picture_weights([targets], lambda count: count)
    ours = objective.losses(outputs, targets, weights)
    plain = multibox_loss(*outputs, targets, weights=weights, variances=VARIANCES)
    theirs = multibox_loss(*outputs, targets, weights=weights, variances=VARIANCES, **arguments)
    torch.testing.assert_close(ours, torch.stack(theirs) * torch.tensor(factors))
    assert not torch.allclose(ours, torch.stack(plain))


@pytest.mark.parametrize(
    "options",
    [
        {"box_loss": "giou", "box_weight": 5},
        {"assigner": "atss"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_is_learned_is_found(options: dict[str, Any]) -> None:
    recipe = modern().changed({"learning_rate": 0.03, "backbone_rate": 1, **options})
    model = detector()
    step = Step(
        model, model, build_optimiser(model, recipe), recipe, Accelerator(cpu=True), bf16=False
    )
    losses = [sum(step(batch())[:2]) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        logits, _ = model(batch().images)
    scores = logits.softmax(dim=-1)[..., 1:].amax(dim=1)
    assert scores[0, [0, 2]].min() > 0.4


def test_a_run_with_all_of_them(run: Train) -> None:
    result = run(
        recipe="modern",
        epochs=1,
        learning_rate=1e-6,
        box_loss="giou",
        box_weight=5,
        assigner="atss",
        mosaic_probability=0.5,
        backbone_rate=0.5,
    )
    recipe = checkpoints.load(result.best).card.recipe
    assert recipe is not None
    assert (recipe["assigner"], recipe["mosaic_probability"]) == ("atss", 0.5)
