"""``multibox train``: a detector from labelled pictures."""

import csv
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field, create_model

from multibox.data.policies import Policies
from multibox.errors import EndedElsewhere, InputError, Interrupted
from multibox.training.interruption import ending_when_terminated
from multibox.training.recipe_cards import choose
from multibox.training.recipes import Recipe

if TYPE_CHECKING:
    RecipeOptions = Recipe
else:
    # Every key of a recipe as a flag; None leaves the recipe's own value.
    RecipeOptions = create_model(
        "RecipeOptions",
        **{
            key: (
                Annotated[field.annotation | None, Parameter(negative_iterable=())],
                Field(None, description=field.description),
            )
            for key, field in Recipe.model_fields.items()
            if key != "name"
        },
    )


@ending_when_terminated()
def train(
    data: Path,
    /,
    *,
    model: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    classes: Annotated[list[str] | None, Parameter(negative=())] = None,
    image_size: str | None = None,
    default_boxes: Literal["zoo", "voc", "coco", "suggested"] = "zoo",
    policy: Annotated[list[str] | None, Parameter(negative=())] = None,
    out: Path | None = None,
    recipe: str = "modern",
    seed: int = 0,
    resume: Annotated[bool, Parameter(negative=())] = False,
    options: Annotated[RecipeOptions | None, Parameter(name="*", group="Recipe keys")] = None,
) -> int | None:
    """Train a detector on labelled pictures and leave everything about it in a run folder.

    Parameters
    ----------
    data
        A folder or file of labelled pictures: VOC, COCO or YOLO, with or without splits. Several
        are merged: VOCdevkit/VOC2007+VOC2012.
    model
        The detector, one of those that "multibox models" lists; a recipe card brings its own.
    backbone
        One of timm's networks in the place of the detector's own: timm:NAME, as in timm:resnet18.
    weights
        What to start from: "backbone" (the default: ImageNet; for VGG-16 also "backbone:features",
        the Caffe original's convolutions and means), "none", or a checkpoint to fine-tune.
    classes
        Train on some of the data's classes: A,B or the flag several times; a name with a comma in
        double quotes.
    image_size
        Pixels of the network's input, one number or HEIGHTxWIDTH; the detector's own by default.
    default_boxes
        The sizes of the default boxes: the detector's own ("zoo"), or where it was published with
        both, those for VOC or the smaller ones for COCO; or "suggested", made to fit the training
        objects (multibox doctor shows them).
    policy
        What is done about a kind of fault in the data, KIND=POLICY, once for each: for example
        degenerate-box=error. docs/doctor.md lists the kinds, their policies and defaults.
    out
        The run folder; runs/DATA-MODEL by default, numbered.
    recipe
        "modern" or "paper": what the keys below are set to unless given. Or the card of a
        published training, such as voc0712-ssd300 (docs/recipes.md has all), which also names the
        model and the weights, and is compared with the data.
    seed
        Fixes the order of the pictures, their augmentation and the new weights.
    resume
        Continue the run in the folder where it stopped; start it where there is none.
    """
    # Before torch's two seconds, so that a wrong call is answered at once.
    policies = Policies.parse(policy or ())
    size = None if image_size is None else _image_size(image_size)
    keys = {} if options is None else options.model_dump(exclude_none=True)
    choose(recipe, model, weights, default_boxes, keys)
    try:
        from multibox.training.train import train as run_training
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "multibox":
            raise
        raise InputError(
            f'training needs {error.name}, which is not installed: pip install "multibox[train]"'
        ) from error

    first = os.environ.get("RANK", "0") == "0"
    try:
        result = run_training(
            data,
            model=model,
            backbone=backbone,
            weights=weights,
            classes=None if classes is None else _split_names(classes),
            image_size=size,
            default_boxes=default_boxes,
            policies=policies,
            out=out,
            recipe=recipe,
            seed=seed,
            resume=resume,
            report=lambda line: print(line, file=sys.stderr),
            quiet=False,
            **keys,
        )
    except EndedElsewhere as error:
        return error.exit_code  # One line, from the process that has the reason.
    except Interrupted as error:
        if first:
            raise
        return error.exit_code
    best = "" if result.best_map is None else f" (mAP {result.best_map:.4f} on validation)"
    if first:
        print(f"best weights: {result.best}{best}")
    return None


def _image_size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if found is None:
        raise InputError(f"--image-size {text}: write one number or HEIGHTxWIDTH, as in 300x400")
    height = int(found[1])
    return height, int(found[2] or height)


def _split_names(values: list[str]) -> list[str]:
    rows = csv.reader(values, skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]
