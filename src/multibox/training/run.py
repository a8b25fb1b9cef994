"""A training as it is decided on before its first step."""

from dataclasses import dataclass
from pathlib import Path

from multibox.card import ModelCard
from multibox.data.batches import TrainingPictures, steps_per_epoch
from multibox.data.samples import DataSet
from multibox.ssd.model import SSD
from multibox.training.recipes import Recipe


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

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    def evaluates_after(self, epoch: int) -> bool:
        """Whether the weights are judged, and kept if they are the best, after this epoch."""
        every = self.recipe.evaluate_every or max(1, round(self.epochs / 10))
        return epoch % every == 0 or epoch == self.epochs
