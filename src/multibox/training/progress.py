"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from multibox.training.epoch_figures import EpochFigures

_SECONDS_BETWEEN_LINES = 30.0


class RunProgress:
    """Shows epoch, loss, learning rate, pictures a second, waiting for data, and time left."""

    def __init__(self, *, epochs: int, steps: int, steps_done: int, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._epochs = epochs
        self._steps = steps
        self._started = self._line_at = time.monotonic()
        self._first_step = steps_done
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=steps, completed=steps_done, epoch=f"1/{epochs}", figures=""
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def evaluating(self, done: int, total: int) -> None:
        """While the validation pictures are looked at."""
        self._bar.update(self._task, figures=f"validation {done}/{total}")

    def update(self, *, step: int, epoch: int, rate: float, figures: EpochFigures) -> None:
        """After ``step`` steps of the run, the learning rate of the last one being ``rate``."""
        text = (
            f"loss {figures.loss:.3f}  rate {rate:.2g}  "
            f"{figures.pictures_per_second:.1f} pictures/s  waiting {figures.waiting:.0%}"
        )
        self._bar.update(self._task, completed=step, epoch=f"{epoch}/{self._epochs}", figures=text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._line_at >= _SECONDS_BETWEEN_LINES:
            self._line_at = now
            done = max(step - self._first_step, 1)
            left = (now - self._started) / done * (self._steps - step)
            self.say(f"epoch {epoch}/{self._epochs}  {text}  {_clock(left)} left")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
