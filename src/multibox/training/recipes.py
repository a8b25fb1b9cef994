"""Recipes: how a detector is trained, as typed values whose docstrings say what to expect."""

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

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
    steps: int | None = Field(
        None, ge=1, description="optimiser steps instead of epochs, to the nearest whole epoch"
    )

    # The optimiser (paper section 3, "Base network"; ssd_pascal.py of the original).
    learning_rate: float | None = Field(
        1e-3,
        gt=0,
        description="at its highest, for batch_size pictures; left out, it follows from the model",
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    bias_rate_factor: float = Field(2.0, gt=0, description="biases learn this much faster")
    backbone_rate: float | None = Field(
        1.0,
        gt=0,
        description="the backbone learns this much faster than what is new; left out, it follows "
        "from the model and its weights",
    )
    decay_biases: bool = Field(False, description="weight decay on biases and norm layers too")
    schedule: Literal["steps", "cosine"] = Field(
        "steps", description="a tenth of the rate at each of the milestones, or half a cosine"
    )
    warmup_steps: int = Field(0, ge=0, description="steps in which the rate rises from 1/100")
    clip_gradient: float = Field(0.0, ge=0, description="the largest norm of a gradient; 0: any")
    ema: float = Field(
        0.0, ge=0, lt=1, description="average the weights over this share of the run; 0: do not"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the processor computes it faster"
    )
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (2 / 3, 5 / 6), description='shares of the run after which "steps" takes a tenth'
    )

    # The method (paper section 2.2): "Matching strategy" and "Hard negative mining".
    assigner: Literal["iou", "atss"] = Field(
        "iou",
        description="which default boxes learn an object: those above match_threshold, or those "
        "near its centre that fit it well among their like (ATSS)",
    )
    atss_cells: int = Field(
        9, ge=1, description="cells of every feature map in which ATSS looks for an object's boxes"
    )
    match_threshold: float = Field(0.5, gt=0, le=1, description="IoU that makes a box positive")
    match_strictly: bool = Field(False, description="an IoU equal to the threshold does not")
    bipartite: Literal["one-to-one", "later-wins"] = Field(
        "one-to-one",
        description="objects that want the same default box get two, the better match first, or "
        "it goes to the last of them",
    )
    iou_epsilon: float = Field(
        0.0, ge=0, description="added to the union of object and default box, in picture areas"
    )
    least_overlap: float = Field(
        1e-6,
        ge=-1,
        le=1,
        description="an object needs a default box of a higher IoU; below 0: any will do",
    )
    least_positives: int = Field(
        1, ge=1, description="default boxes an object gets at least, the nearest beyond the rule"
    )
    negative_overlap: float = Field(
        0.5,
        ge=0,
        le=1,
        description="a box that is not positive but has this IoU is no negative either; 1: it is",
    )
    negative_ratio: float = Field(3.0, gt=0, description="hard negatives for each positive")
    min_negatives: int = Field(
        0, ge=0, description="hard negatives of a picture at least, also without objects"
    )
    box_loss: Literal["smooth_l1", "giou"] = Field(
        "smooth_l1",
        description="of a positive's four offsets (paper), or 1 - GIoU of its box and its object",
    )
    box_weight: float = Field(1.0, gt=0, description="the box loss is multiplied by this")
    normaliser: Literal["step", "picture"] = Field(
        "step",
        description="the loss is divided by the positives of the whole step, or each picture's by "
        "its own and then averaged",
    )
    truncate_sizes: bool = Field(
        True, description="cut a new model's default-box sizes to whole pixels, as Caffe does"
    )
    train_difficult: bool = Field(True, description="learn objects marked difficult")

    metric: Literal["voc07", "voc", "coco"] = Field(
        "voc07", description="what chooses the best weights on the validation split"
    )

    freeze_early_layers: bool = Field(
        False, description="leave a pretrained backbone's first layers as they are"
    )

    # The pictures (paper section 2.2, "Data augmentation", and section 3.6, the expansion).
    augment: bool = Field(True, description="change the pictures at random")
    expand_probability: float = Field(0.5, ge=0, le=1, description="share that is zoomed out")
    expand_ratio: float = Field(4.0, ge=1, description="the largest zoom out")
    crop_sampler: Literal["caffe", "torchvision"] = Field(
        "caffe",
        description="of the seven crop samplers, one is drawn from those that succeed, or drawn "
        "first and another when it fails",
    )
    mosaic_probability: float = Field(
        0.0, ge=0, le=1, description="share that is four pictures side by side"
    )
    mosaic_until: float = Field(
        1.0, ge=0, le=1, description="share of the run after which there are no more of these"
    )
    random_interpolation: bool = Field(
        True, description="resize by one of five methods, drawn; otherwise linearly"
    )
    hue_wraps: bool = Field(
        False, description="a hue turned back beyond red goes on around the circle"
    )

    exact_pixels: bool = Field(
        True,
        description="make every training pixel as Caffe does; otherwise decode no larger than is "
        "seen, and distort colours where there are fewer pixels",
    )

    # Which of the data's splits (what is missing is made, as far as it can be).
    train_split: str = Field("train", description="the pictures to learn")
    val_split: str = Field("val", description="the pictures that choose the best weights")

    skip_non_finite: int = Field(
        0, ge=0, description="steps without a finite loss or gradient that are passed over"
    )

    workers: int | None = Field(
        None, ge=0, description="processes that prepare pictures; left out, by processor cores"
    )
    cache_files: int = Field(
        0,
        ge=0,
        description="megabytes of memory, at most, in which this machine keeps picture files as "
        "they are, encoded; 0: none",
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
        changed = self.model_dump() | dict(options)
        if None not in (options.get("steps"), options.get("epochs")):
            raise InputError("steps and epochs both say how long to train: give one of them")
        for given, other in (("steps", "epochs"), ("epochs", "steps")):
            if options.get(given) is not None:
                changed[other] = None
        try:
            return Recipe.model_validate(changed)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise InputError(f"{key} = {first['input']!r}: {first['msg']}") from None


def paper() -> Recipe:
    """Liu et al. 2016 with Caffe's details: SGD at 1e-3 for 32 pictures, a tenth at 2/3 and 5/6.

    Biases learn twice as fast and without decay, no warm-up, no averaging. 232 epochs are the
    original's 120,000 steps on VOC07+12, published at 77.2 mAP (VOC07 test, SSD300).
    docs/faithfulness.md lays every key beside Caffe and torchvision.
    """
    return Recipe(name="paper", epochs=232)


def modern() -> Recipe:
    """What helps on small data sets and in short runs; the default.

    In 4 epochs of 2,708 VOC photographs, three seeds: .644, .671 and .659 mAP; ``paper`` .075, .091
    and .129, torchvision's SSDLite by its reference recipe .484, .465 and .441. Of that, at 224
    pixels, one seed: a lower rate for the backbone and mosaics .324 to .515, ATSS with GIoU .605
    (docs/training.md).

    Expect, from ImageNet weights on two CPU cores that compute bf16, ssdlite320_mobilenet_v2:
    2,708 photographs of six classes in 47 minutes, validation VOC07 mAP .59 after a tenth, .71 at
    the half, .73 at the end; 205 pictures of blood cells (BCCD) in 9 minutes, .61 after a third,
    .80 after two, .82 at the end and .83 on the test split (torchvision's own SSDLite parts: .715
    in 24).
    """
    return Recipe(
        name="modern",
        batch_size=16,
        learning_rate=None,
        backbone_rate=None,
        weight_decay=1e-4,
        bias_rate_factor=1.0,
        schedule="cosine",
        warmup_steps=100,
        clip_gradient=10.0,
        ema=0.05,
        assigner="atss",
        atss_cells=4,
        least_positives=4,
        negative_overlap=1.0,
        min_negatives=8,
        box_loss="giou",
        box_weight=5.0,
        truncate_sizes=False,
        expand_probability=0.25,
        mosaic_probability=0.3,
        mosaic_until=0.8,
        hue_wraps=True,
        exact_pixels=False,
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
    hundred pictures and 53,000 for three thousand, of which SSDLite learns 22 to 28 a second on two
    CPU cores that compute bf16, half as many on others; five times that on an accelerator.
    """
    budget = 12_000 * math.pow(max(pictures, 1) / 200, 0.55) * (5 if accelerated else 1)
    return max(1, round(budget / max(pictures, 1)))


def default_rates(*, normalised: bool, pretrained: bool) -> tuple[float, float]:
    """The learning rate for 16 pictures, and the backbone's share of it, when nobody says.

    ``normalised`` is a network with BatchNorm: it bears ten times the rate at which a plain VGG-16
    still learns steadily. What a ``pretrained`` backbone of that kind knows is lost at the rate at
    which new layers learn best.
    """
    if not normalised:
        return 2e-3, 1.0
    return (4e-2, 0.15) if pretrained else (2e-2, 1.0)
