"""Stands beside every step of a run: fixes its random numbers, and knows what to do when it fails.

What it does for each step costs microseconds; the rest happens only when a step is not finite.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from multibox.data.batches import epoch_batches, share_of_rank
from multibox.data.samples import Sample
from multibox.errors import EndedElsewhere, MultiboxError
from multibox.ssd.model import SSD
from multibox.training.forensics import TOGETHER, FailedStep, Report, report_on, write_folder
from multibox.training.forensics_cause import Circumstances
from multibox.training.forensics_examine import Inputs
from multibox.training.loading import Batch
from multibox.training.state import RunState

if TYPE_CHECKING:
    from multibox.training.run import Run

# Beside the streams of the pictures; see data.batches.
_STREAM = 2**31 + 1


class StepWatch:
    """``begin`` before each step, then ``done`` or ``pass_over``; on every rank alike."""

    def __init__(self, run: "Run", model: SSD, accelerator: Accelerator) -> None:
        self._run = run
        self._model = model
        self._accelerator = accelerator
        self._steps_done = self._steps_here = 0
        self._rate = self._last_rate = self._last_norm = math.nan

    def begin(self, steps_done: int, rate: float) -> None:
        """Random numbers (of dropout) that follow from the step alone: a resumed run has them."""
        self._steps_done = steps_done
        self._last_rate, self._rate = self._rate, rate
        torch.manual_seed(self._seed(self._accelerator.process_index))

    def done(self, gradient_norm: float) -> None:
        """The step went well."""
        self._steps_here += 1
        self._last_norm = gradient_norm

    def pass_over(self, batch: Batch, state: RunState) -> str:
        """Count a step that was given up; returns a line that says so.

        Raises: MultiboxError when the recipe lets no more pass, with the folder that replays it.
        """
        limit = self._run.recipe.skip_non_finite
        batches = [batch.to(torch.device("cpu"))]
        if self._accelerator.num_processes > 1:
            batches = gather_object(batches)
        if state.skipped_steps >= limit:
            first = self._accelerator.is_main_process
            words = self._last_words(batches, limit) if first else ""
            # A launcher ends all ranks as soon as one of them has ended.
            self._accelerator.wait_for_everyone()
            raise MultiboxError(words) if first else EndedElsewhere("a step is not finite", 1)
        state.skipped_steps += 1
        cause = self._report(batches).cause if self._accelerator.is_main_process else ""
        return (
            f"step {self._steps_done + 1} is not finite and passed over ({state.skipped_steps} of "
            f"at most {limit}): {cause}"
        )

    def _last_words(self, batches: list[Batch], limit: int) -> str:
        report = self._report(batches)
        passed = f" ({limit} such steps were passed over before it)" if limit else ""
        try:
            folder = write_folder(self._run.folder, self._model, report)
        except MultiboxError as error:
            return f"{report.line}{passed}; {error}"
        return (
            f"{report.line}{passed}; see it again: python -m multibox.training.forensics {folder}"
        )

    def _report(self, batches: list[Batch]) -> Report:
        run = self._run
        return report_on(
            self._model,
            FailedStep(
                step=self._steps_done + 1,
                epoch=self._steps_done // run.steps_per_epoch + 1,
                pictures=self._pictures(),
                inputs=Inputs(
                    batch=Batch(
                        torch.cat([batch.images for batch in batches]),
                        [boxes for batch in batches for boxes in batch.boxes],
                        [labels for batch in batches for labels in batch.labels],
                    ),
                    portions=tuple(
                        len(batch.portion(i, run.recipe.accumulate).images)
                        for batch in batches
                        for i in range(run.recipe.accumulate)
                    ),
                    seed=self._seed(0),
                    bf16=run.bf16,
                ),
                recipe=run.recipe,
                circumstances=Circumstances(
                    rate=self._rate,
                    last_rate=self._last_rate,
                    last_norm=self._last_norm,
                    steps_here=self._steps_here,
                    weights=run.card.origin,
                ),
            ),
        )

    def _pictures(self) -> tuple[str, ...]:
        """The step's pictures by name, a mosaic by those of its four, rank after rank."""
        run, ranks = self._run, self._accelerator.num_processes
        epoch, place = divmod(self._steps_done, run.steps_per_epoch)
        pictures = run.pictures
        batches = epoch_batches(len(pictures), run.recipe.batch_size, seed=run.seed, epoch=epoch)
        keys = [key for rank in range(ranks) for key in share_of_rank(batches[place], rank, ranks)]
        return tuple(
            TOGETHER.join(_name(pictures.samples[i], i) for i in pictures.shown(key))
            for key in keys
        )

    def _seed(self, rank: int) -> int:
        stream = (self._run.seed, _STREAM, self._steps_done, rank)
        return int(np.random.SeedSequence(stream).generate_state(1)[0])


def _name(sample: Sample, number: int) -> str:
    return str(sample.image) if isinstance(sample.image, Path) else sample.id or f"sample {number}"
