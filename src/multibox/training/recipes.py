"""Recipes: how a detector is trained, as typed values whose docstrings say what to expect."""

import difflib
import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from multibox.errors import InputError


class Recipe(BaseModel):
    """Every choice of a training run; the defaults are the paper's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "custom"

    # How long, and in what portions.
    epochs: int | None = Field(
        None, ge=1, description="passes over the data; left out, they follow from its size"
    )
    batch_size: int = Field(32, ge=1, description="pictures of one step, over all ranks")
    accumulate: int = Field(1, ge=1, description="portions a step's pictures are computed in")
    evaluate_every: int | None = Field(
        None, ge=1, description="epochs between evaluations; left out, about ten in a run"
    )

    # The optimiser (paper section 3.1; ssd_pascal.py of the original).
    learning_rate: float | None = Field(
        1e-3,
        gt=0,
        description="at its highest, for batch_size pictures; left out, it follows from the model",
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    bias_rate_factor: float = Field(2.0, gt=0, description="biases learn this much faster")
    decay_biases: bool = Field(False, description="weight decay on biases and norm layers too")
    schedule: Literal["steps", "cosine"] = Field(
        "steps", description="a tenth of the rate at 2/3 and 5/6 of the run, or half a cosine"
    )
    warmup_steps: int = Field(0, ge=0, description="steps in which the rate rises from 1/100")
    clip_gradient: float = Field(0.0, ge=0, description="the largest norm of a gradient; 0: any")
    ema: float = Field(
        0.0, ge=0, lt=1, description="average the weights over this share of the run; 0: do not"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the processor computes it faster"
    )

    # The method.
    match_threshold: float = Field(0.5, gt=0, le=1, description="IoU that makes a box positive")
    least_positives: int = Field(
        1, ge=1, description="default boxes an object gets at least, the nearest beyond the rule"
    )
    negative_ratio: float = Field(3.0, gt=0, description="hard negatives for each positive")
    train_difficult: bool = Field(True, description="learn objects marked difficult")

    metric: Literal["voc07", "voc", "coco"] = Field(
        "voc07", description="what chooses the best weights on the validation split"
    )

    freeze_early_layers: bool = Field(
        False, description="leave a pretrained backbone's first layers as they are"
    )

    # The pictures (paper section 2.2, "Data augmentation", and 3.6, the expansion).
    augment: bool = Field(True, description="change the pictures at random")
    expand_probability: float = Field(0.5, ge=0, le=1, description="share that is zoomed out")
    expand_ratio: float = Field(4.0, ge=1, description="the largest zoom out")

    workers: int | None = Field(
        None, ge=0, description="processes that prepare pictures; left out, by processor cores"
    )

    def changed(self, options: Mapping[str, Any]) -> "Recipe":
        """This recipe with some values replaced.

        Raises: InputError for a key that does not exist, naming the nearest, or for a bad value.
        """
        known = type(self).model_fields.keys() - {"name"}
        for key in options:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise InputError(f"a recipe has no key named {key}{hint}")
        try:
            return Recipe.model_validate(self.model_dump() | dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise InputError(f"{key} = {first['input']!r}: {first['msg']}") from None


def paper() -> Recipe:
    """Liu et al. 2016 with Caffe's details: SGD at 1e-3 for 32 pictures, a tenth at 2/3 and 5/6.

    Biases learn twice as fast and without decay, no warm-up, no averaging. 232 epochs are the
    original's 120,000 steps on VOC07+12, published at 77.2 mAP (VOC07 test, SSD300).
    """
    return Recipe(name="paper", epochs=232)


def modern() -> Recipe:
    """What helps on small data sets and in short runs; the default.

    Expect, from ImageNet weights on two CPU cores: 205 pictures of blood cells (BCCD) with
    ssdlite320_mobilenet_v2 in about 15 minutes, VOC07 mAP .70 a third of the way, .84 half-way and
    .85 on the test split (torchvision's own SSDLite parts: .715 in 24 minutes).
    """
    return Recipe(
        name="modern",
        batch_size=16,
        learning_rate=None,
        weight_decay=1e-4,
        bias_rate_factor=1.0,
        schedule="cosine",
        warmup_steps=100,
        clip_gradient=10.0,
        ema=0.05,
        least_positives=4,
        freeze_early_layers=True,
    )


RECIPES = {"modern": modern, "paper": paper}


def find_recipe(name: str) -> Recipe:
    """A recipe by name; InputError with the nearest name otherwise."""
    try:
        return RECIPES[name]()
    except KeyError:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(RECIPES)}"
        raise InputError(f"there is no recipe named {name}; {hint}") from None


def default_epochs(pictures: int, *, accelerated: bool) -> int:
    """How many epochs a run gets when nobody says.

    A budget of pictures seen that grows more slowly than the data does: about 12,000 for two
    hundred pictures and 30,000 for three thousand, which SSDLite does on two CPU cores in a quarter
    of an hour and in three quarters; five times that on an accelerator.
    """
    budget = 12_000 * math.pow(max(pictures, 1) / 200, 0.35) * (5 if accelerated else 1)
    return max(1, round(budget / max(pictures, 1)))


def default_learning_rate(*, normalised: bool) -> float:
    """The rate for 16 pictures when nobody says; ``normalised`` is a network with BatchNorm.

    BatchNorm bears ten times the rate at which a plain VGG-16 still learns steadily.
    """
    return 2e-2 if normalised else 2e-3
