"""The training loop."""

import contextlib
import time
from collections.abc import Generator, Iterator

from accelerate import Accelerator

from multibox.data.batches import Key, remaining_batches, share_of_rank
from multibox.errors import Interrupted, MultiboxError
from multibox.training.ema import WeightAverage
from multibox.training.epoch_end import EvaluationStopped, end_epoch
from multibox.training.epoch_figures import EpochFigures
from multibox.training.interruption import Interruption
from multibox.training.loading import (
    Batch,
    default_workers,
    load_batches,
    lost_workers_explained,
)
from multibox.training.optimiser import build_optimiser, set_rate
from multibox.training.progress import RunProgress
from multibox.training.ranks import Ranks
from multibox.training.run import Run
from multibox.training.run_folder import Events
from multibox.training.schedule import rate_factor
from multibox.training.state import RunState, load_state, save_state
from multibox.training.step import NonFiniteStepError, Step
from multibox.training.step_watch import StepWatch

_SECONDS_BETWEEN_SAVES = 60.0


def fit(run: Run, accelerator: Accelerator, ranks: Ranks, *, resume: bool) -> RunState:
    """Train to the end, or to a signal; returns the final state.

    Raises: Interrupted with the state saved when a signal asked for it, ImageError with the state
    saved for a picture that can no longer be read, MultiboxError when a step is not finite, which
    names what was in it and the folder that it is left in, or a loader's process was killed.
    """
    return _Training(run, accelerator, ranks, resume=resume).to_the_end()


class _Training:
    """One run on one rank: what it consists of, and the order in which things happen to it."""

    def __init__(self, run: Run, accelerator: Accelerator, ranks: Ranks, *, resume: bool) -> None:
        recipe = run.recipe
        self._run = run
        self._ranks = ranks
        self._model = run.model.to(accelerator.device)
        optimiser = build_optimiser(self._model, recipe)
        self._average = WeightAverage(self._model, recipe.ema, run.steps) if recipe.ema else None
        self._state, self._note = RunState(), None
        if resume:
            self._state, self._note = load_state(
                run.folder, self._model, optimiser, self._average, once=ranks.on_first
            )
        prepared, self._optimiser = accelerator.prepare(self._model, optimiser)
        self._step = Step(
            self._model, prepared, self._optimiser, recipe, accelerator, bf16=run.bf16
        )
        self._watch = StepWatch(run, self._model, accelerator)
        accelerated = accelerator.device.type != "cpu"
        self._loader = load_batches(
            run.pictures,
            self._keys(),
            workers=default_workers(accelerated=accelerated)
            if recipe.workers is None
            else recipe.workers,
            pinned=accelerator.device.type == "cuda",
        )
        self._events = Events(run.folder, self._state.steps_done) if ranks.is_first else None
        self._figures = EpochFigures(self._state.epoch_sums)
        self._saved_at = time.monotonic()
        self._interruption = Interruption()
        self._progress = RunProgress(
            epochs=run.epochs,
            steps=run.steps,
            steps_done=self._state.steps_done,
            quiet=run.quiet or not ranks.is_first,
        )

    def to_the_end(self) -> RunState:
        """All steps that are left, epoch after epoch."""
        with (
            lost_workers_explained(),
            self._interruption,
            self._progress,
            contextlib.nullcontext() if self._events is None else contextlib.closing(self._events),
            # Ends the worker processes now, not when the last traceback is forgotten.
            contextlib.closing(self._loader),
        ):
            if self._note:
                self._progress.say(self._note)
            if self._is_unjudged():
                self._end_epoch()
                self._stop_if_asked()
                self._save()
            for batch, waited in self._batches():
                self._learn(batch, waited)
                if time.monotonic() - self._saved_at > _SECONDS_BETWEEN_SAVES:
                    self._save()
                epoch, rest = divmod(self._state.steps_done, self._run.steps_per_epoch)
                if not rest:
                    self._end_epoch()
                    if self._run.evaluates_after(epoch):
                        self._save()
        return self._state

    def _is_unjudged(self) -> bool:
        """Whether the run was stopped or killed while its last epoch was evaluated."""
        ended, rest = divmod(self._state.steps_done, self._run.steps_per_epoch)
        return rest == 0 and len(self._state.history) < ended

    def _keys(self) -> Iterator[list[Key]]:
        """This rank's pictures of every step that is left."""
        batches = remaining_batches(
            len(self._run.pictures),
            self._run.recipe.batch_size,
            seed=self._run.seed,
            epochs=self._run.epochs,
            steps_done=self._state.steps_done,
        )
        for batch in batches:
            yield share_of_rank(batch, self._ranks.index, self._ranks.count)

    def _batches(self) -> Generator[tuple[Batch, float], None, None]:
        """Each batch with the seconds it was waited for, once the ranks agree to go on.

        They are asked when each has its pictures, or an error instead, and before anything is
        computed.
        """
        while True:
            asked = time.monotonic()
            batch = error = None
            try:
                batch = next(self._loader, None)
            except MultiboxError as failure:
                error = failure
            waited = time.monotonic() - asked
            self._stop_if_asked(error)
            if batch is None:
                return
            yield batch, waited

    def _learn(self, batch: Batch, waited: float) -> None:
        """One step, counted and shown whether it was finite or, if that is allowed, was not."""
        run, state = self._run, self._state
        epoch = state.steps_done // run.steps_per_epoch + 1
        rate = set_rate(self._optimiser, rate_factor(state.steps_done, run.steps, run.recipe))
        self._watch.begin(state.steps_done, rate)
        try:
            done = self._step(batch)
        except NonFiniteStepError:
            self._progress.say(self._watch.pass_over(batch, state))
        else:
            self._watch.done(done.gradient_norm)
            self._figures.add(
                done.confidence, done.localisation, pictures=len(batch.images), waited=waited
            )
            if self._average is not None:
                self._average.update(self._model, state.steps_done)
        state.steps_done += 1
        self._progress.update(step=state.steps_done, epoch=epoch, rate=rate, figures=self._figures)

    def _end_epoch(self) -> None:
        """Evaluate, and begin the next epoch's figures; a signal meanwhile leaves it open."""
        run, state = self._run, self._state
        network = self._model if self._average is None else self._average.average
        rate = set_rate(self._optimiser, rate_factor(state.steps_done - 1, run.steps, run.recipe))
        epoch = state.steps_done // run.steps_per_epoch
        row = {
            "epoch": epoch,
            "step": state.steps_done,
            "learning_rate": rate,
            **self._figures.row(),
        }
        with contextlib.suppress(EvaluationStopped):
            end_epoch(run, network, state, row, self._progress, self._interruption, self._ranks)
            if self._events is not None:
                self._events.write(row)
            self._figures = EpochFigures({})

    def _stop_if_asked(self, error: MultiboxError | None = None) -> None:
        """End on every rank, with the state saved, when one has had a signal or an ``error``."""
        try:
            signal_number = self._ranks.agree(self._interruption.signal_number, error)
        except MultiboxError:
            self._save()
            raise
        if signal_number is not None:
            self._save()
            # A launcher ends all ranks as soon as one of them has ended.
            self._ranks.agree(None)
            epoch = -(-self._state.steps_done // self._run.steps_per_epoch)
            raise Interrupted(
                f"interrupted in epoch {epoch} of {self._run.epochs}; "
                f"continue with --resume --out {self._run.folder}",
                signal_number,
            )

    def _save(self) -> None:
        self._state.epoch_sums = self._figures.sums()
        if self._ranks.is_first:
            save_state(
                self._run.folder,
                self._state,
                self._model,
                self._optimiser.optimizer,
                self._average,
            )
        self._saved_at = time.monotonic()
