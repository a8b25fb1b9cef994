"""A step computed once more with its eyes open: where the first value that is not finite came up.

The step is computed on one process whatever the number of ranks was, so that the gradient is that
of the whole step; nothing in the model changes.
"""

import contextlib
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from multibox.ssd.model import SSD
from multibox.training.loading import Batch
from multibox.training.recipes import Recipe
from multibox.training.step import Objective, Statistics, boxes_without_area


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a step computed with, besides the weights: replays are made of it.

    ``batch`` holds the pictures of all ranks, ``portions`` of these sizes were computed one by one.
    ``seed`` set torch's random numbers before the first of them.
    """

    batch: Batch
    portions: tuple[int, ...]
    seed: int
    bf16: bool


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, first things first; an empty list or None where all was finite.

    ``boxes`` are places of picture and box, ``weights`` names with the number of values that are
    not finite and of all, ``layer`` the first module to give something not finite,
    ``target_pictures`` and ``output_pictures`` places of pictures whose targets or outputs were
    not finite, ``gradients`` parameters from the loss backwards. ``largest_weight`` and
    ``largest_gradient`` name the parameter with the largest finite absolute value.
    """

    boxes: list[tuple[int, int]]
    weights: list[tuple[str, int, int]]
    layer: str | None
    target_pictures: list[int]
    output_pictures: list[int]
    losses: tuple[float, float]
    gradients: list[str]
    gradient_norm: float
    largest_weight: tuple[str, float]
    largest_gradient: tuple[str, float]


def examine(model: SSD, inputs: Inputs, recipe: Recipe) -> Examination:
    """Compute the step of ``inputs`` with ``model`` again, up to its gradient."""
    objective = Objective(model, recipe, bf16=inputs.bf16)
    device = next(model.parameters()).device
    found = _Found()
    not_finite = non_finite(model.state_dict())  # before the step: it spreads to the statistics
    with _undisturbed(model), _watched(model, found):
        torch.manual_seed(inputs.seed)
        portions = [portion.to(device) for portion in _portions(inputs)]
        targets = [objective.targets(portion) for portion in portions]
        weights = objective.picture_weights(targets, lambda count: count.float())
        losses = torch.zeros(2, device=device)
        for portion, target, weight in zip(portions, targets, weights, strict=True):
            loss = objective.losses(objective.outputs(model, portion), target, weight)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            losses += loss.detach()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        norm = float(torch.nn.utils.get_total_norm(list(gradients.values())))
        owners = [
            (~target.offsets.isfinite().flatten(1).all(dim=1)).nonzero()[:, 0].tolist()
            for target in targets
        ]
        return Examination(
            boxes=boxes_without_area(inputs.batch),
            weights=not_finite,
            layer=found.layer,
            target_pictures=_places(inputs, owners),
            output_pictures=_places(inputs, found.pictures),
            losses=(float(losses[0]), float(losses[1])),
            # The last parameters are the first that the gradient reaches.
            gradients=[name for name, _, _ in non_finite(gradients)][::-1],
            gradient_norm=norm,
            largest_weight=_largest(dict(model.named_parameters())),
            largest_gradient=_largest(gradients),
        )


def non_finite(tensors: dict[str, Tensor]) -> list[tuple[str, int, int]]:
    """Name, number of values that are not finite and of all, for tensors that have some."""
    counts = [
        (name, int((~tensor.isfinite()).sum()), tensor.numel())
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    ]
    return [count for count in counts if count[1]]


class _Found:
    """What the hooks have seen."""

    def __init__(self) -> None:
        self.layer: str | None = None
        self.pictures: list[list[int]] = []


@contextlib.contextmanager
def _watched(model: SSD, found: _Found) -> Generator[None]:
    names = {module: name or "the network's output" for name, module in model.named_modules()}

    def look(module: nn.Module, _: object, output: object) -> None:
        tensors = list(_tensors(output))
        if found.layer is None and not all(bool(t.isfinite().all()) for t in tensors):
            found.layer = names[module]
        if module is model:
            bad = torch.stack([~t.isfinite().flatten(1).all(dim=1) for t in tensors]).any(dim=0)
            found.pictures.append(bad.nonzero()[:, 0].tolist())

    handles = [module.register_forward_hook(look) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _undisturbed(model: SSD) -> Generator[None]:
    """Training mode without gradients from before, and everything as it was afterwards."""
    statistics, training = Statistics(model), model.training
    model.train()
    model.zero_grad()
    try:
        yield
    finally:
        statistics.restore()
        model.zero_grad()
        model.train(training)


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)


def _portions(inputs: Inputs) -> Iterator[Batch]:
    start, batch = 0, inputs.batch
    for size in inputs.portions:
        part = slice(start, start + size)
        yield Batch(batch.images[part], batch.boxes[part], batch.labels[part])
        start += size


def _places(inputs: Inputs, of_portions: list[list[int]]) -> list[int]:
    """Places in the whole batch from places in its portions, each once."""
    places: dict[int, Any] = {}
    start = 0
    for size, of_portion in zip(inputs.portions, of_portions, strict=True):
        places |= dict.fromkeys(start + place for place in of_portion)
        start += size
    return list(places)


def _largest(tensors: dict[str, Tensor]) -> tuple[str, float]:
    largest = {
        name: float(finite.abs().max())
        for name, tensor in tensors.items()
        if len(finite := tensor.detach()[tensor.isfinite()])
    }
    if not largest:
        return "none", math.nan
    name = max(largest, key=lambda name: largest[name])
    return name, largest[name]
