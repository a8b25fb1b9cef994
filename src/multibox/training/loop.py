"""The training loop."""

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from multibox import checkpoints
from multibox.card import ModelCard
from multibox.data.batches import (
    Key,
    TrainingPictures,
    remaining_batches,
    share_of_rank,
    steps_per_epoch,
)
from multibox.data.samples import DataSet
from multibox.detector import Detector
from multibox.engines.torch import TorchEngine
from multibox.errors import Interrupted
from multibox.evaluation import Evaluation, evaluate_model
from multibox.ssd.matching import DefaultBoxes, MatchingRule
from multibox.ssd.model import SSD
from multibox.ssd.multibox_loss import build_targets, multibox_loss
from multibox.training.ema import WeightAverage
from multibox.training.figures import EpochFigures
from multibox.training.interruption import Interruption
from multibox.training.loading import Batch, default_workers, load_batches
from multibox.training.optimiser import build_optimiser, set_rate
from multibox.training.progress import RunProgress
from multibox.training.recipes import Recipe
from multibox.training.run_folder import Events, Row, plot_curves, write_metrics
from multibox.training.schedule import rate_factor
from multibox.training.sheets import draw_predictions
from multibox.training.state import RunState, load_state, save_state

_SECONDS_BETWEEN_SAVES = 300.0


@dataclass(frozen=True, slots=True)
class Run:
    """Everything decided before the first step. ``recipe.epochs`` is set."""

    folder: Path
    model: SSD
    card: ModelCard
    recipe: Recipe
    pictures: TrainingPictures
    validation: DataSet | None
    seed: int
    quiet: bool = False

    @property
    def epochs(self) -> int:
        """Passes over the data."""
        assert self.recipe.epochs is not None
        return self.recipe.epochs

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return steps_per_epoch(len(self.pictures), self.recipe.batch_size)

    @property
    def evaluate_every(self) -> int:
        """Epochs between evaluations."""
        return self.recipe.evaluate_every or max(1, round(self.epochs / 10))


def fit(run: Run, accelerator: Accelerator, *, resume: bool) -> RunState:
    """Train to the end, or to a signal; returns the final state.

    Raises: Interrupted with the state saved when a signal asked for it, MultiboxError when the
    loss stops being a number.
    """
    recipe, steps = run.recipe, run.epochs * run.steps_per_epoch
    bare = run.model.to(accelerator.device)
    optimiser = build_optimiser(bare, recipe)
    average = WeightAverage(bare, recipe.ema, steps) if recipe.ema else None
    state, note = load_state(run.folder, bare, optimiser, average) if resume else (RunState(), None)
    model, optimiser = accelerator.prepare(bare, optimiser)
    step = Step(run, model, optimiser, accelerator)
    loader = load_batches(
        run.pictures,
        _keys(run, state, accelerator),
        workers=default_workers() if recipe.workers is None else recipe.workers,
        pinned=accelerator.device.type == "cuda",
    )
    events = Events(run.folder, state.steps_done) if accelerator.is_main_process else None
    quiet = run.quiet or not accelerator.is_main_process
    figures = EpochFigures(state.epoch_sums)
    last_save = time.monotonic()

    def save() -> None:
        state.epoch_sums = figures.sums()
        if accelerator.is_main_process:
            save_state(run.folder, state, bare, optimiser.optimizer, average)

    with (
        Interruption() as interruption,
        RunProgress(
            epochs=run.epochs, steps=steps, steps_done=state.steps_done, quiet=quiet
        ) as progress,
        contextlib.nullcontext() if events is None else contextlib.closing(events),
        # Ends the worker processes now, not when the last traceback is forgotten.
        contextlib.closing(loader),
    ):
        if note:
            progress.say(note)
        for batch, waited in _timed(loader):
            epoch = state.steps_done // run.steps_per_epoch + 1
            rate = set_rate(optimiser, rate_factor(state.steps_done, steps, recipe))
            figures.add(step(batch), pictures=len(batch.images), waited=waited)
            if average is not None:
                average.update(bare, state.steps_done)
            state.steps_done += 1
            ended = state.steps_done % run.steps_per_epoch == 0

            if ended or figures.due():
                figures.read(where=f"epoch {epoch}, step {state.steps_done}")
                progress.update(step=state.steps_done, epoch=epoch, rate=rate, figures=figures)
            if ended:
                place = {"epoch": epoch, "step": state.steps_done, "learning_rate": rate}
                state.history.append({**place, **figures.row()})
                if events is not None:
                    network = bare if average is None else average.average
                    _end_epoch(run, network, state, progress)
                    events.write(state.history[-1])
                accelerator.wait_for_everyone()
                figures = EpochFigures({})
            if (signal_number := _stopped(interruption, accelerator)) is not None:
                save()
                raise Interrupted(
                    f"interrupted in epoch {epoch} of {run.epochs}; "
                    f"continue with --resume --out {run.folder}",
                    signal_number,
                )
            if ended or time.monotonic() - last_save > _SECONDS_BETWEEN_SAVES:
                save()
                last_save = time.monotonic()
    return state


class Step:
    """One optimiser step over one batch."""

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        accelerator: Accelerator,
    ) -> None:
        self._recipe = run.recipe
        self._model = model
        self._optimiser = optimiser
        self._accelerator = accelerator
        self._variances = run.card.default_boxes.variances
        self._default_boxes = DefaultBoxes(run.model.default_boxes)
        self._rule = MatchingRule(run.recipe.match_threshold, run.recipe.least_positives)

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
                with accelerator.autocast():
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


def _keys(run: Run, state: RunState, accelerator: Accelerator) -> Iterator[list[Key]]:
    batches = remaining_batches(
        len(run.pictures),
        run.recipe.batch_size,
        seed=run.seed,
        epochs=run.epochs,
        steps_done=state.steps_done,
    )
    for batch in batches:
        yield share_of_rank(batch, accelerator.process_index, accelerator.num_processes)


def _timed(loader: Iterable[Batch]) -> Generator[tuple[Batch, float], None, None]:
    """Each batch with the seconds it was waited for."""
    batches = iter(loader)
    while True:
        asked = time.monotonic()
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch, time.monotonic() - asked


def _stopped(interruption: Interruption, accelerator: Accelerator) -> int | None:
    """The signal that ends the run, the same on every rank after the same step."""
    number = interruption.signal_number
    if accelerator.num_processes == 1:
        return number
    flag = torch.tensor([number or 0], device=accelerator.device)
    return int(accelerator.gather(flag).max()) or None


def _end_epoch(run: Run, network: nn.Module, state: RunState, progress: RunProgress) -> None:
    """Evaluate when it is time, keep the best weights, and bring the run folder up to date."""
    row = state.history[-1]
    epoch = int(row["epoch"] or 0)
    evaluation = None
    if run.validation is not None and (epoch % run.evaluate_every == 0 or epoch == run.epochs):
        evaluation = _evaluate(run, network, run.validation)
        row["map"] = evaluation.map
    # Without a validation split the newest weights are the best known.
    score = None if evaluation is None else evaluation.map or 0.0
    if run.validation is None or (
        score is not None and (state.best is None or score >= state.best)
    ):
        state.best = score
        metrics = {"epoch": epoch} | (
            {} if evaluation is None else {"validation": evaluation.to_dict()}
        )
        _save_weights(run, network, metrics)
    write_metrics(run.folder / "metrics.csv", state.history)
    if evaluation is not None or epoch == run.epochs:
        plot_curves(run.folder / "curves.png", state.history)
    progress.say(_epoch_line(row, run.epochs, evaluation))


def _evaluate(run: Run, network: nn.Module, validation: DataSet) -> Evaluation:
    detector = Detector(TorchEngine.from_module(network, run.card), run.card)
    evaluation, detections = evaluate_model(detector, validation, metric=run.recipe.metric)
    draw_predictions(run.folder / "validation_predictions.jpg", validation, detections)
    return evaluation


def _save_weights(run: Run, network: nn.Module, metrics: dict[str, Any]) -> None:
    arrays = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    card = run.card.model_copy(update={"metrics": metrics})
    checkpoints.save(run.folder / "best.safetensors", arrays, card)


def _epoch_line(row: Row, epochs: int, evaluation: Evaluation | None) -> str:
    line = f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.3f}"
    if evaluation is None:
        return line
    value = "none" if evaluation.map is None else f"{evaluation.map:.3f}"
    classes = "  ".join(
        f"{name} {ap:.3f}" for name, ap in evaluation.per_class.items() if ap is not None
    )
    return f"{line}  {evaluation.metric} mAP {value}  {classes if len(classes) < 200 else ''}"
