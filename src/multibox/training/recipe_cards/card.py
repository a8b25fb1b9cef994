"""What a recipe card says: how to train, on which data, at what cost, and what to expect of it."""

from dataclasses import dataclass
from typing import Literal

from multibox.training.recipes import Recipe
from multibox.zoo import Published

DefaultBoxChoice = Literal["zoo", "voc", "coco", "suggested"]


@dataclass(frozen=True, slots=True)
class Split:
    """A split as its publishers count it.

    ``objects`` are all labelled boxes; ``set_aside`` are those of them that are difficult (VOC) or
    crowds (COCO), which ``aside`` calls by name.
    """

    title: str
    pictures: int
    objects: int
    set_aside: int
    aside: str

    @property
    def countable(self) -> int:
        """The objects that an evaluation counts."""
        return self.objects - self.set_aside


@dataclass(frozen=True, slots=True)
class ExpectedData:
    """The data set a card was published with: DATA as one would type it, and what is in it."""

    title: str
    example: str
    classes: tuple[str, ...]
    training: Split
    validation: Split
    source: str


@dataclass(frozen=True, slots=True)
class Pace:
    """Pictures trained on a second, as somebody published it."""

    pictures_per_second: float
    machine: str
    source: str


@dataclass(frozen=True, slots=True)
class RecipeCard:
    """A training that somebody has done, as ``multibox train --recipe NAME`` repeats it.

    ``source`` is where the hyper-parameters stand. ``on_the_way`` has (steps done, mAP), measured
    by ``on_the_way_source``; ``final`` what was published for the finished training; and
    ``differences`` what is not the same here as there. ``default_boxes`` are the zoo's own or
    those of a set that the detector was published with. ``chosen_classes``: the data has others,
    which are background.
    """

    name: str
    recipe: Recipe
    model: str
    default_boxes: DefaultBoxChoice
    weights: str
    data: ExpectedData
    source: str
    pace: Pace | None = None
    on_the_way: tuple[tuple[int, float], ...] = ()
    on_the_way_source: str = ""
    final: tuple[Published, ...] = ()
    differences: tuple[str, ...] = ()
    chosen_classes: bool = False

    @property
    def steps(self) -> int:
        """Optimiser steps of the training on the expected data."""
        if self.recipe.steps is not None:
            return self.recipe.steps
        assert self.recipe.epochs is not None
        return self.recipe.epochs * (self.data.training.pictures // self.recipe.batch_size)

    @property
    def pictures_seen(self) -> int:
        """Pictures of all steps together."""
        return self.steps * self.recipe.batch_size

    @property
    def hours(self) -> float | None:
        """What the training takes at the published pace, evaluations apart; None: not published."""
        if self.pace is None:
            return None
        return self.pictures_seen / self.pace.pictures_per_second / 3600

    @property
    def command(self) -> str:
        """The command line that runs the training."""
        return f"multibox train {self.data.example} --recipe {self.name}"

    def expectations(self) -> list[str]:
        """Lines that say what the training costs and what was published for it."""
        cost = f"{self.name} as published: {self.steps:,} steps, {self.pictures_seen:,} pictures"
        if self.pace is not None:
            cost += f"; about {self.hours:.0f} hours on {self.pace.machine} ({self.pace.source})"
        figures = "; ".join(f"{p.metric} {p.value:.3f} ({p.source})" for p in self.final)
        lines = [cost, f"{self.name} as published: {figures or 'no figure'}"]
        if self.on_the_way:
            curve = ", ".join(f"{value:.3f} after {step:,}" for step, value in self.on_the_way)
            lines.append(f"{self.name} on the way: {curve} steps ({self.on_the_way_source})")
        return lines
