"""One optimiser step: targets, forward, loss, backward, update."""

import contextlib

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.model import SSD
from multibox.ssd.multibox_loss import build_targets, multibox_loss
from multibox.training.loading import Batch
from multibox.training.recipes import Recipe


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
        self._rule = MatchingRule(recipe.match_threshold, recipe.least_positives)

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
        # N counts the whole step, over portions and ranks, so that neither changes the gradient.
        matches = torch.tensor(float(sum(t.matches for t in targets)), device=accelerator.device)
        normaliser = accelerator.reduce(matches, "sum").clamp(min=1)
        # DDP averages the ranks' gradients; the loss is their sum.
        ranks = accelerator.num_processes

        losses = torch.zeros(2, device=accelerator.device)
        for i, (portion, target) in enumerate(zip(portions, targets, strict=True)):
            last = i == len(portions) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self._model):
                # Around the network alone: evaluation and checkpoints stay in float32.
                with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=self._bf16):
                    logits, offsets = self._model(portion.images)
                loss = torch.stack(
                    multibox_loss(logits, offsets, target, negative_ratio=recipe.negative_ratio)
                )
                loss = loss / normaliser
                accelerator.backward(loss.sum() * ranks)
            losses += loss.detach()
        if recipe.clip_gradient:
            accelerator.clip_grad_norm_(self._model.parameters(), recipe.clip_gradient)
        self._optimiser.step()
        self._optimiser.zero_grad()
        total: Tensor = accelerator.reduce(losses, "sum")
        return total
