"""Who trains beside whom: our step, and torchvision's reference loop on the same pictures."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torchvision.models import detection

from multibox.card import ModelCard
from multibox.data.batches import remaining_batches
from multibox.data.open import open_data
from multibox.data.synthetic import generate
from multibox.ssd.model import build_ssd
from multibox.training.loading import Batch, load_batches
from multibox.training.optimiser import build_optimiser, set_rate
from multibox.training.pictures import training_pictures
from multibox.training.recipes import Recipe
from multibox.training.step import Step

# The rate is such that random weights and boxes go on for as long as is measured.
_RATE = 1e-6

Stage = Callable[[str], object]


def made_up_batch(card: ModelCard, size: int, objects: tuple[int, int] = (1, 8)) -> Batch:
    """``size`` pictures of noise with some boxes of a tenth to nine tenths of their sides each."""
    generator = torch.Generator().manual_seed(0)
    height, width = card.preprocessing.image_size
    images = torch.randint(0, 256, (size, height, width, 3), dtype=torch.uint8, generator=generator)
    boxes, labels = [], []
    for _ in range(size):
        count = int(torch.randint(objects[0], objects[1] + 1, (), generator=generator))
        sides = 0.1 + 0.8 * torch.rand(count, 2, generator=generator)
        corner = torch.rand(count, 2, generator=generator) * (1 - sides)
        boxes.append(torch.cat([corner, corner + sides], dim=1))
        labels.append(torch.randint(len(card.names), (count,), generator=generator))
    return Batch(images, boxes, labels)


def our_loader(card: ModelCard, size: int, recipe: Recipe, folder: Path) -> Callable[[], object]:
    """A batch from generated JPEGs of 500 x 375 in ``folder``, made by this process alone."""
    generate(folder, images=size, size=(500, 375), splits={"train": 1.0})
    samples = open_data(folder).samples
    pictures = training_pictures(samples, card.preprocessing, recipe, seed=0)
    keys = remaining_batches(size, size, seed=0, epochs=10**6, steps_done=0)
    batches = load_batches(pictures, keys, workers=0, pinned=False)
    return lambda: next(batches)


def our_step(
    card: ModelCard, batch: Batch, recipe: Recipe, device: torch.device, *, bf16: bool
) -> Callable[[Stage], object]:
    """One optimiser step of ours on ``batch``, which lies in the processor's memory."""
    accelerator = Accelerator(cpu=device.type == "cpu")
    torch.manual_seed(0)
    detector = build_ssd(card).to(device)
    recipe = recipe.model_copy(update={"learning_rate": _RATE, "backbone_rate": 1.0})
    optimiser = build_optimiser(detector, recipe)
    set_rate(optimiser, 1)
    model, prepared = accelerator.prepare(detector, optimiser)
    step = Step(detector, model, prepared, recipe, accelerator, bf16=bf16)
    if device.type == "cuda":
        batch = batch._replace(images=batch.images.pin_memory())

    def run(on_stage: Stage) -> object:
        step.on_stage = on_stage
        return step(batch)

    return run


def torchvisions_step(
    name: str, card: ModelCard, batch: Batch, device: torch.device
) -> Callable[[], object] | None:
    """One step of torchvision's ``references/detection``: its model, transform, loss and SGD, fp32.

    Its data lies in memory as its presets leave it: float pictures and boxes in pixels. None where
    torchvision has no such detector.
    """
    if name not in ("ssd300_vgg16", "ssdlite320_mobilenet_v3_large"):
        return None
    build: Callable[..., Any] = getattr(detection, name)
    torch.manual_seed(0)
    model = build(weights=None, weights_backbone=None, num_classes=len(card.names) + 1)
    model.to(device).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=_RATE, momentum=0.9, weight_decay=5e-4)
    height, width = card.preprocessing.image_size
    pixels = torch.tensor([width, height, width, height])
    pictures: Sequence[Tensor] = [
        image.permute(2, 0, 1).contiguous().float() / 255 for image in batch.images
    ]
    targets = [
        {"boxes": boxes * pixels, "labels": labels + 1}
        for boxes, labels in zip(batch.boxes, batch.labels, strict=True)
    ]

    def run() -> None:
        images = [picture.to(device) for picture in pictures]
        here = [{k: v.to(device) for k, v in target.items()} for target in targets]
        losses = sum(model(images, here).values())
        if not math.isfinite(losses.item()):
            raise RuntimeError("torchvision's loss is not finite")
        optimiser.zero_grad()
        losses.backward()
        optimiser.step()

    return run
