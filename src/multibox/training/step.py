"""One optimiser step: forward, targets, loss, backward, update."""

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from multibox.ssd.atss import Level
from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.model import SSD
from multibox.ssd.multibox_loss import Targets, build_targets, multibox_loss
from multibox.training.depthwise import MixedDepthwise
from multibox.training.loading import Batch
from multibox.training.recipes import Recipe

# No sum of such updates within a run reaches the largest float32, 3.4e38.
LONGEST_UPDATE = 1e30


class StepFigures(NamedTuple):
    """Of a step: the losses over N, and the gradient's length before clipping."""

    confidence: float
    localisation: float
    gradient_norm: float


class NonFiniteStepError(Exception):
    """A step was given up before its update: weights, statistics and momenta are as before it.

    Its message holds the figures as they came out; both losses are NaN where a box has no area.
    """


def matching_rule(recipe: Recipe) -> MatchingRule:
    """The keys of ``recipe`` that say which default box learns which object."""
    return MatchingRule(
        assigner=recipe.assigner,
        atss_cells=recipe.atss_cells,
        threshold=recipe.match_threshold,
        least_positives=recipe.least_positives,
        bipartite=recipe.bipartite,
        strict=recipe.match_strictly,
        iou_epsilon=recipe.iou_epsilon,
        least_overlap=recipe.least_overlap,
        negative_overlap=recipe.negative_overlap,
    )


def computes_faster_in_bf16(device: torch.device) -> bool:
    """Whether a step takes less time in bf16 than in float32 there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


class Objective:
    """What a step minimises: the recipe's matching and loss over a detector's default boxes."""

    def __init__(self, detector: SSD, recipe: Recipe, *, bf16: bool) -> None:
        self._recipe = recipe
        self._bf16 = bf16
        self._default_boxes = DefaultBoxes(
            detector.default_boxes,
            [
                Level(math.prod(level.grid), level.boxes_per_cell)
                for level in detector.card.default_boxes.levels
            ],
        )
        self._device = detector.default_boxes.device
        self._variances = detector.default_boxes.new_tensor(detector.card.default_boxes.variances)
        # The loss that fits how the detector will be read.
        self._scores = detector.card.postprocessing.scores
        self._rule = matching_rule(recipe)

    def targets(self, portion: Batch) -> Targets:
        """What the network should say about the pictures, on the network's device."""
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
        pictures = over_ranks(torch.full((), len(every), device=every.device))
        return [(each.clamp(min=1) * pictures).reciprocal() for each in matches]

    def outputs(self, model: nn.Module, portion: Batch) -> tuple[Tensor, Tensor]:
        """Class logits and box offsets of ``model`` for one portion."""
        images = portion.images.to(self._device, non_blocking=True)
        with self._precision():
            outputs: tuple[Tensor, Tensor] = model(images)
        return outputs

    def losses(self, outputs: tuple[Tensor, Tensor], target: Targets, weight: Tensor) -> Tensor:
        """Confidence and localisation loss ``[2]`` of one portion's ``outputs``."""
        confidence, localisation = multibox_loss(
            *outputs,
            target,
            scores=self._scores,
            negative_ratio=self._recipe.negative_ratio,
            min_negatives=self._recipe.min_negatives,
            weights=weight,
            box_loss=self._recipe.box_loss,
            variances=self._variances,
        )
        return torch.stack([confidence, self._recipe.box_weight * localisation])

    @contextlib.contextmanager
    def _precision(self) -> Generator[None]:
        """Around the network alone: evaluation and checkpoints stay in float32."""
        kind = self._device.type
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.autocast(kind, torch.bfloat16, enabled=self._bf16))
            if self._bf16 and kind == "cpu":
                stack.enter_context(MixedDepthwise())
            yield


class Step:
    """One optimiser step over one batch.

    An accelerator is waited for once, before the update, for three numbers that say whether to make
    it; everything before that has then been handed to it.
    """

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
        self.on_stage: Callable[[str], object] = _nothing
        """Called with a stage's name when it is done: forward, targets, loss, backward, optimiser;
        for every portion of the batch anew, but for targets and optimiser."""

    def __call__(self, batch: Batch) -> StepFigures:
        """Learn from ``batch``, all portions and ranks together.

        Raises: NonFiniteStepError when a box has no area, the losses or the gradient are not
        finite, or the update would be beyond all bounds; nothing has changed then.
        """
        accelerator, objective, recipe = self._accelerator, self._objective, self._recipe
        self._model.train()
        self._statistics.remember()
        portions = [batch.portion(i, recipe.accumulate) for i in range(recipe.accumulate)]
        targets: list[Targets] = []
        weights: list[Tensor] = []
        # DDP averages the ranks' gradients; the loss is their sum.
        ranks = accelerator.num_processes

        # The labels' own checks are long past; a box without area would teach nonsense. On every
        # rank the step then has no loss.
        start = math.nan if boxes_without_area(batch) else 0.0
        losses = torch.full((2,), start, device=accelerator.device)
        for i, portion in enumerate(portions):
            last = i == len(portions) - 1
            with contextlib.nullcontext() if last else accelerator.no_sync(self._model):
                outputs = objective.outputs(self._model, portion)
                self.on_stage("forward")
                if not targets:
                    # N is of the whole step. Not before the first forward pass: with that an
                    # accelerator is busy while it is told the many small steps of matching.
                    targets = [objective.targets(each) for each in portions]
                    weights = objective.picture_weights(targets, self._over_ranks)
                    self.on_stage("targets")
                loss = objective.losses(outputs, targets[i], weights[i])
                self.on_stage("loss")
                accelerator.backward(loss.sum() * ranks)
                self.on_stage("backward")
            losses += loss.detach()
        figures = self._checked(accelerator.reduce(losses, "sum"), self._gradient_norm())
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.on_stage("optimiser")
        return figures

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

    def _checked(self, losses: Tensor, gradient_norm: Tensor) -> StepFigures:
        """The same on every rank: ``losses`` and gradient are over all of them."""
        figures = StepFigures(*torch.cat([losses, gradient_norm.to(losses)[None]]).tolist())
        rate = max(group["lr"] for group in self._optimiser.param_groups)
        finite = math.isfinite(figures.confidence) and math.isfinite(figures.localisation)
        if finite and rate * figures.gradient_norm < LONGEST_UPDATE:
            return figures
        self._optimiser.zero_grad()
        self._statistics.restore()
        raise NonFiniteStepError(str(figures))

    def _over_ranks(self, count: Tensor) -> Tensor:
        total: Tensor = self._accelerator.reduce(count.float(), "sum")
        return total


def _nothing(_: str) -> None:
    pass


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
