"""The training loop."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

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
from multibox.detections import Detections
from multibox.detector import Detector
from multibox.engines.torch import TorchEngine
from multibox.errors import Interrupted, MultiboxError
from multibox.evaluation import Evaluation, evaluate_model, plot_precision_recall
from multibox.evaluation.shares import Share
from multibox.imaging import Image
from multibox.ssd.model import SSD
from multibox.training.ema import WeightAverage
from multibox.training.epoch_figures import EpochFigures
from multibox.training.interruption import Interruption
from multibox.training.loading import Batch, default_workers, load_batches
from multibox.training.optimiser import build_optimiser, set_rate
from multibox.training.progress import RunProgress
from multibox.training.ranks import Ranks
from multibox.training.recipes import Recipe
from multibox.training.run_folder import Events, Row, plot_curves, write_metrics
from multibox.training.schedule import rate_factor
from multibox.training.sheets import draw_predictions
from multibox.training.state import RunState, check_finite, load_state, save_state
from multibox.training.step import NonFiniteStepError, Step
from multibox.training.step_watch import StepWatch

_SECONDS_BETWEEN_SAVES = 60.0


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
    bf16: bool = False
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

    def evaluates_after(self, epoch: int) -> bool:
        """Whether the weights are judged, and kept if they are the best, after this epoch."""
        every = self.recipe.evaluate_every or max(1, round(self.epochs / 10))
        return epoch % every == 0 or epoch == self.epochs


def fit(run: Run, accelerator: Accelerator, ranks: Ranks, *, resume: bool) -> RunState:
    """Train to the end, or to a signal; returns the final state.

    Raises: Interrupted with the state saved when a signal asked for it, ImageError with the state
    saved for a picture that can no longer be read, MultiboxError when a step is not finite, which
    names what was in it and the folder that it is left in.
    """
    recipe, steps = run.recipe, run.epochs * run.steps_per_epoch
    bare = run.model.to(accelerator.device)
    optimiser = build_optimiser(bare, recipe)
    average = WeightAverage(bare, recipe.ema, steps) if recipe.ema else None
    state, note = RunState(), None
    if resume:
        state, note = load_state(run.folder, bare, optimiser, average, once=ranks.on_first)
    model, optimiser = accelerator.prepare(bare, optimiser)
    step = Step(bare, model, optimiser, recipe, accelerator, bf16=run.bf16)
    watch = StepWatch(run, bare, accelerator)
    loader = load_batches(
        run.pictures,
        _keys(run, state, ranks),
        workers=default_workers(accelerated=accelerator.device.type != "cpu")
        if recipe.workers is None
        else recipe.workers,
        pinned=accelerator.device.type == "cuda",
    )
    events = Events(run.folder, state.steps_done) if ranks.is_first else None
    quiet = run.quiet or not ranks.is_first
    figures = EpochFigures(state.epoch_sums)
    last_save = time.monotonic()

    def save() -> None:
        nonlocal last_save
        state.epoch_sums = figures.sums()
        if ranks.is_first:
            save_state(run.folder, state, bare, optimiser.optimizer, average)
        last_save = time.monotonic()

    def save_when_due() -> None:
        if time.monotonic() - last_save > _SECONDS_BETWEEN_SAVES:
            save()

    def end_epoch() -> None:
        """Evaluate, and begin the next epoch's figures; a signal meanwhile leaves it open."""
        nonlocal figures
        network = bare if average is None else average.average
        rate = set_rate(optimiser, rate_factor(state.steps_done - 1, steps, recipe))
        epoch = state.steps_done // run.steps_per_epoch
        row = {"epoch": epoch, "step": state.steps_done, "learning_rate": rate, **figures.row()}
        with contextlib.suppress(_EvaluationStopped):
            _end_epoch(run, network, state, row, progress, interruption, ranks)
            if events is not None:
                events.write(row)
            figures = EpochFigures({})

    def stop_if_asked(error: MultiboxError | None = None) -> None:
        """End on every rank, with the state saved, when one has had a signal or an ``error``."""
        try:
            signal_number = ranks.agree(interruption.signal_number, error)
        except MultiboxError:
            save()
            raise
        if signal_number is not None:
            save()
            # A launcher ends all ranks as soon as one of them has ended.
            ranks.agree(None)
            epoch = -(-state.steps_done // run.steps_per_epoch)
            raise Interrupted(
                f"interrupted in epoch {epoch} of {run.epochs}; "
                f"continue with --resume --out {run.folder}",
                signal_number,
            )

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
        if _is_open(run, state):
            end_epoch()
            stop_if_asked()
            save()
        for batch, waited in _timed(loader, stop_if_asked):
            epoch = state.steps_done // run.steps_per_epoch + 1
            rate = set_rate(optimiser, rate_factor(state.steps_done, steps, recipe))
            try:
                watch.begin(state.steps_done, rate)
                losses = step(batch)
            except NonFiniteStepError as error:
                progress.say(watch.pass_over(error, batch, state))
            else:
                watch.done(step.gradient_norm)
                figures.add(losses, pictures=len(batch.images), waited=waited)
                if average is not None:
                    average.update(bare, state.steps_done)
            state.steps_done += 1
            ended = state.steps_done % run.steps_per_epoch == 0

            if ended or figures.due():
                figures.read(where=f"epoch {epoch}, step {state.steps_done}")
                progress.update(step=state.steps_done, epoch=epoch, rate=rate, figures=figures)
            save_when_due()
            if ended:
                end_epoch()
                if run.evaluates_after(epoch):
                    save()
    return state


def _is_open(run: Run, state: RunState) -> bool:
    """Whether the run was stopped or killed while its last epoch was evaluated."""
    ended, rest = divmod(state.steps_done, run.steps_per_epoch)
    return rest == 0 and len(state.history) < ended


def _keys(run: Run, state: RunState, ranks: Ranks) -> Iterator[list[Key]]:
    batches = remaining_batches(
        len(run.pictures),
        run.recipe.batch_size,
        seed=run.seed,
        epochs=run.epochs,
        steps_done=state.steps_done,
    )
    for batch in batches:
        yield share_of_rank(batch, ranks.index, ranks.count)


def _timed(
    loader: Iterable[Batch], agree: Callable[[MultiboxError | None], None]
) -> Generator[tuple[Batch, float], None, None]:
    """Each batch with the seconds it was waited for, once the ranks ``agree`` to go on.

    They are asked when each has its pictures, or an error instead, and before anything is computed.
    """
    batches = iter(loader)
    while True:
        asked = time.monotonic()
        batch = error = None
        try:
            batch = next(batches, None)
        except MultiboxError as failure:
            error = failure
        waited = time.monotonic() - asked
        agree(error)
        if batch is None:
            return
        yield batch, waited


class _EvaluationStopped(Exception):
    """A signal has come: the epoch is evaluated when the run goes on."""


def _end_epoch(
    run: Run,
    network: nn.Module,
    state: RunState,
    row: dict[str, float | int | None],
    progress: RunProgress,
    interruption: Interruption,
    ranks: Ranks,
) -> None:
    """Evaluate when it is time, keep the best weights, and bring the run folder up to date."""
    epoch = int(row["epoch"] or 0)
    evaluates = run.evaluates_after(epoch)
    evaluation: Evaluation | None = None
    detections: list[Detections] = []
    best = evaluates
    if evaluates and run.validation is not None:
        ranks.share_statistics(network)
        evaluation, detections = _evaluate(
            run, network, run.validation, progress, interruption, ranks
        )
        row["map"] = evaluation.map
        best = state.best is None or (evaluation.map or 0.0) >= state.best
        state.best = (evaluation.map or 0.0) if best else state.best
    state.history.append(row)

    def write() -> None:
        if evaluation is not None and run.validation is not None:
            draw_predictions(run.folder / "validation_predictions.jpg", run.validation, detections)
            plot_precision_recall(evaluation, run.folder / "precision_recall.png")
        if best:
            validation = {} if evaluation is None else {"validation": evaluation.to_dict()}
            _save_weights(run, network, {"epoch": epoch} | validation)
        if evaluates:
            plot_curves(run.folder / "curves.png", state.history)
        write_metrics(run.folder / "metrics.csv", state.history)

    ranks.on_first(write)
    progress.say(_epoch_line(row, run.epochs, evaluation))


def _evaluate(
    run: Run,
    network: nn.Module,
    validation: DataSet,
    progress: RunProgress,
    interruption: Interruption,
    ranks: Ranks,
) -> tuple[Evaluation, list[Detections]]:
    """Judge ``network``; every rank detects in a share of the pictures and gets the whole."""
    detector = Detector(TorchEngine.from_module(network, run.card), run.card)

    def detect(images: list[Path | Image], /, *, score: float) -> list[Detections]:
        found, error = [], None
        try:
            found = detector(images, score=score)
        except MultiboxError as failure:
            error = failure
        if ranks.agree(interruption.signal_number, error) is not None:
            raise _EvaluationStopped
        return found

    return evaluate_model(
        detect,
        validation,
        metric=run.recipe.metric,
        on_progress=progress.evaluating,
        share=Share(ranks.index, ranks.count, ranks.gather),
    )


def _save_weights(run: Run, network: nn.Module, metrics: dict[str, Any]) -> None:
    check_finite(network.state_dict(), "the weights are not saved")
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
