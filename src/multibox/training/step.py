"""One optimiser step: targets, forward, loss, backward, update."""

import contextlib
import math
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.model import SSD
from multibox.ssd.multibox_loss import Targets, build_targets, multibox_loss
from multibox.training.loading import Batch
from multibox.training.recipes import Recipe

# No sum of such updates within a run reaches the largest float32, 3.4e38.
LONGEST_UPDATE = 1e30


class NonFiniteStepError(Exception):
    """A step was given up before its update: weights, statistics and momenta are as before it.

    ``losses`` are confidence and localisation loss and ``gradient_norm`` the gradient's length as
    they came out, NaN where the step was not computed at all.
    """

    def __init__(self, losses: tuple[float, float], gradient_norm: float) -> None:
        super().__init__(f"losses {losses}, gradient norm {gradient_norm}")
        self.losses = losses
        self.gradient_norm = gradient_norm


def matching_rule(recipe: Recipe) -> MatchingRule:
    """The keys of ``recipe`` that say which default box learns which object."""
    return MatchingRule(
        threshold=recipe.match_threshold,
        least_positives=recipe.least_positives,
        bipartite=recipe.bipartite,
        strict=recipe.match_strictly,
        iou_epsilon=recipe.iou_epsilon,
        least_overlap=recipe.least_overlap,
        negative_overlap=recipe.negative_overlap,
    )


class Objective:
    """What a step minimises: the recipe's matching and loss over a detector's default boxes."""

    def __init__(self, detector: SSD, recipe: Recipe, *, bf16: bool) -> None:
        self._recipe = recipe
        self._bf16 = bf16
        self._variances = detector.card.default_boxes.variances
        self._default_boxes = DefaultBoxes(detector.default_boxes)
        # The loss that fits how the detector will be read.
        self._scores = detector.card.postprocessing.scores
        self._rule = matching_rule(recipe)

    def targets(self, portion: Batch) -> Targets:
        """What the network should say about the pictures of ``portion``."""
        return build_targets(
            portion.boxes, portion.labels, self._default_boxes, self._variances, self._rule
        )

    def picture_weights(
        self, targets: Sequence[Targets], over_ranks: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """1 / N for every picture of every portion; see ``Recipe.normaliser``.

        N counts the whole step, over portions and ranks, so that neither changes the gradient.
        """
        matches = [target.matches_by_picture for target in targets]
        every = torch.cat(matches)
        if self._recipe.normaliser == "step":
            n = over_ranks(every.sum()).clamp(min=1)
            return [n.reciprocal().expand(len(each)) for each in matches]
        pictures = over_ranks(torch.tensor(len(every), device=every.device))
        return [(each.clamp(min=1) * pictures).reciprocal() for each in matches]

    def losses(self, model: nn.Module, portion: Batch, target: Targets, weight: Tensor) -> Tensor:
        """Confidence and localisation loss ``[2]`` of ``model`` on one portion."""
        # Around the network alone: evaluation and checkpoints stay in float32.
        with torch.autocast(portion.images.device.type, torch.bfloat16, enabled=self._bf16):
            logits, offsets = model(portion.images)
        return torch.stack(
            multibox_loss(
                logits,
                offsets,
                target,
                scores=self._scores,
                negative_ratio=self._recipe.negative_ratio,
                min_negatives=self._recipe.min_negatives,
                weights=weight,
            )
        )


class Step:
    """One optimiser step over one batch."""

    def __init__(
        self,
        detector: SSD,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        recipe: Recipe,
        accelerator: Accelerator,
        *,
        bf16: bool,
    ) -> None:
        """``model`` is ``detector`` as the accelerator has prepared it."""
        self._recipe = recipe
        self._model = model
        self._optimiser = optimiser
        self._accelerator = accelerator
        self._objective = Objective(detector, recipe, bf16=bf16)
        self._statistics = Statistics(detector)
        self.gradient_norm = math.nan
        """Of the last step, before it was clipped."""

    def __call__(self, batch: Batch) -> Tensor:
        """Learn from ``batch``; returns confidence and localisation loss ``[2]``, each over N.

        Raises: NonFiniteStepError when a box has no area, the losses or the gradient are not
        finite, or the update would be beyond all bounds; nothing has changed then.
        """
        accelerator, recipe = self._accelerator, self._recipe
        self._check_boxes(batch)
        self._model.train()
        self._statistics.remember()
        batch = batch.to(accelerator.device)
        portions = [batch.portion(i, recipe.accumulate) for i in range(recipe.accumulate)]
        targets = [self._objective.targets(portion) for portion in portions]
        weights = self._objective.picture_weights(targets, self._over_ranks)
        # DDP averages the ranks' gradients; the loss is their sum.
        ranks = accelerator.num_processes

        losses = torch.zeros(2, device=accelerator.device)
        for i, (portion, target, weight) in enumerate(zip(portions, targets, weights, strict=True)):
            last = i == len(portions) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self._model):
                loss = self._objective.losses(self._model, portion, target, weight)
                accelerator.backward(loss.sum() * ranks)
            losses += loss.detach()
        total: Tensor = accelerator.reduce(losses, "sum")
        self._check(total, self._gradient_norm())
        self._optimiser.step()
        self._optimiser.zero_grad()
        return total

    def _gradient_norm(self) -> Tensor:
        """The length of the whole gradient, which is then cut to the recipe's."""
        parameters = [p for p in self._model.parameters() if p.grad is not None]
        limit = self._recipe.clip_gradient
        norm: Tensor
        if limit:
            norm = self._accelerator.clip_grad_norm_(parameters, limit)
        else:
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])  # type: ignore[misc]
        return norm

    def _check_boxes(self, batch: Batch) -> None:
        """The labels' own checks are long past; what is wrong here would teach nonsense."""
        fine = torch.tensor([not boxes_without_area(batch)])
        if not self._on_every_rank(fine.to(self._accelerator.device)):
            raise NonFiniteStepError((math.nan, math.nan), math.nan)

    def _check(self, losses: Tensor, gradient_norm: Tensor) -> None:
        """The same on every rank: ``losses`` and gradient are over all of them."""
        *parts, norm = torch.cat([losses, gradient_norm.to(losses)[None]]).tolist()
        self.gradient_norm = norm
        rate = max(group["lr"] for group in self._optimiser.param_groups)
        if all(map(math.isfinite, parts)) and rate * norm < LONGEST_UPDATE:
            return
        self._optimiser.zero_grad()
        self._statistics.restore()
        raise NonFiniteStepError((parts[0], parts[1]), norm)

    def _on_every_rank(self, fine: Tensor) -> bool:
        if self._accelerator.num_processes == 1:
            return bool(fine)
        return bool(self._accelerator.gather(fine).all())

    def _over_ranks(self, count: Tensor) -> Tensor:
        total: Tensor = self._accelerator.reduce(count.float(), "sum")
        return total


def boxes_without_area(batch: Batch) -> list[tuple[int, int]]:
    """Place of the picture and of the box, for boxes that have no area or are not finite."""
    boxes = torch.cat(batch.boxes)
    # Comparisons with NaN are false; an infinite corner makes an infinite or undefined sum.
    fine = (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & boxes.sum(dim=1).isfinite()
    if bool(fine.all()):
        return []
    of_picture = [(i, j) for i, each in enumerate(batch.boxes) for j in range(len(each))]
    return [place for place, well in zip(of_picture, fine.tolist(), strict=True) if not well]


class Statistics:
    """What a forward pass changes in a network that learns: BatchNorm's running figures."""

    def __init__(self, model: nn.Module) -> None:
        parameters = {name for name, _ in model.named_parameters()}
        state = model.state_dict()
        self._buffers = [value for name, value in state.items() if name not in parameters]
        self._before = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def remember(self) -> None:
        """Keep them as they are now."""
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what was kept."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)
