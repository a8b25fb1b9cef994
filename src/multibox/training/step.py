"""One optimiser step: targets, forward, loss, backward, update."""

import contextlib
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.model import SSD
from multibox.ssd.multibox_loss import Targets, build_targets, multibox_loss
from multibox.training.loading import Batch
from multibox.training.recipes import Recipe


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
        self._bf16 = bf16
        self._variances = detector.card.default_boxes.variances
        self._default_boxes = DefaultBoxes(detector.default_boxes)
        # The loss that fits how the detector will be read.
        self._scores = detector.card.postprocessing.scores
        self._rule = matching_rule(recipe)

    def __call__(self, batch: Batch) -> Tensor:
        """Learn from ``batch``; returns confidence and localisation loss ``[2]``, each over N."""
        accelerator, recipe = self._accelerator, self._recipe
        self._model.train()
        batch = batch.to(accelerator.device)
        portions = [batch.portion(i, recipe.accumulate) for i in range(recipe.accumulate)]
        targets = [
            build_targets(p.boxes, p.labels, self._default_boxes, self._variances, self._rule)
            for p in portions
        ]
        weights = self._picture_weights(targets)
        # DDP averages the ranks' gradients; the loss is their sum.
        ranks = accelerator.num_processes

        losses = torch.zeros(2, device=accelerator.device)
        for i, (portion, target, weight) in enumerate(zip(portions, targets, weights, strict=True)):
            last = i == len(portions) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self._model):
                # Around the network alone: evaluation and checkpoints stay in float32.
                with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=self._bf16):
                    logits, offsets = self._model(portion.images)
                loss = torch.stack(
                    multibox_loss(
                        logits,
                        offsets,
                        target,
                        scores=self._scores,
                        negative_ratio=recipe.negative_ratio,
                        min_negatives=recipe.min_negatives,
                        weights=weight,
                    )
                )
                accelerator.backward(loss.sum() * ranks)
            losses += loss.detach()
        if recipe.clip_gradient:
            accelerator.clip_grad_norm_(self._model.parameters(), recipe.clip_gradient)
        self._optimiser.step()
        self._optimiser.zero_grad()
        total: Tensor = accelerator.reduce(losses, "sum")
        return total

    def _picture_weights(self, targets: Sequence[Targets]) -> list[Tensor]:
        """1 / N for every picture of every portion; see ``Recipe.normaliser``.

        N counts the whole step, over portions and ranks, so that neither changes the gradient.
        """
        matches = [target.matches_by_picture for target in targets]
        every = torch.cat(matches)
        if self._recipe.normaliser == "step":
            n = self._over_ranks(every.sum()).clamp(min=1)
            return [n.reciprocal().expand(len(each)) for each in matches]
        pictures = self._over_ranks(torch.tensor(len(every), device=every.device))
        return [(each.clamp(min=1) * pictures).reciprocal() for each in matches]

    def _over_ranks(self, count: Tensor) -> Tensor:
        total: Tensor = self._accelerator.reduce(count.float(), "sum")
        return total
