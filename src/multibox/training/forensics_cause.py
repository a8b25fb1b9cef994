"""The likely cause of a step that is not finite, in words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from multibox.ssd.model import SSD
from multibox.training.forensics_examine import Examination, Inputs, examine
from multibox.training.recipes import Recipe
from multibox.training.step import LONGEST_UPDATE

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else is known about the step: rates of this one and the one before, where it began.

    ``steps_here`` counts the steps since the weights were read from a file (or made), which
    ``weights`` names; ``last_norm`` is the length of the gradient of the step before.
    """

    rate: float
    last_rate: float
    last_norm: float
    steps_here: int
    weights: str

    def to_dict(self) -> dict[str, Any]:
        """As it stands in replay.json."""
        return asdict(self)


def likely_cause(
    model: SSD,
    found: Examination,
    inputs: Inputs,
    recipe: Recipe,
    around: Circumstances,
    pictures: Sequence[str],
) -> str:
    """One sentence without a full stop: what is wrong, where, and the remedy."""
    if found.boxes:
        return _boxes(found, inputs, pictures)
    if not math.isfinite(around.rate):
        return f"the learning rate is {around.rate}: give a lower --learning-rate"
    if found.weights:
        return _weights(found, around)
    if found.layer is not None:
        return _layer(model, found, inputs, recipe, around)
    if found.target_pictures:
        names = _listed([pictures[i] for i in found.target_pictures])
        return f"boxes of {names} cannot be coded against their default boxes: look at the labels"
    name, largest = found.largest_gradient
    if found.gradients or not math.isfinite(found.gradient_norm):
        return f"the gradient overflows (that of {name} reaches {largest:.3g}): " + _diverged(
            found, around
        )
    if around.rate * found.gradient_norm >= LONGEST_UPDATE:
        return (
            f"the learning rate of {around.rate:.3g} would move the weights by "
            f"{around.rate * found.gradient_norm:.3g}: give a lower --learning-rate"
        )
    if not all(map(math.isfinite, found.losses)):
        return f"the loss overflows: {_diverged(found, around)}"
    return (
        "none to be found: computed again, everything is finite, so that the machine (its memory "
        "or accelerator) or code around the training is to be suspected"
    )


def _boxes(found: Examination, inputs: Inputs, pictures: Sequence[str]) -> str:
    said = []
    for picture, place in found.boxes[:_SHOWN]:
        x0, y0, x1, y1 = inputs.batch.boxes[picture][place].tolist()
        if not all(map(math.isfinite, (x0, y0, x1, y1))):
            what = "is not finite"
        elif x1 == x0 or y1 == y0:
            what = f"has zero {'width' if x1 == x0 else 'height'}"
        else:
            what = "is inverted"
        said.append(
            f"box {place} of {pictures[picture]} {what} ({x0:.6g}, {y0:.6g}, {x1:.6g}, {y1:.6g})"
        )
    more = f" and {len(found.boxes) - _SHOWN} more" if len(found.boxes) > _SHOWN else ""
    return f"{'; '.join(said)}{more}: mend or remove it"


def _weights(found: Examination, around: Circumstances) -> str:
    name, count, size = found.weights[0]
    more = f" (and {len(found.weights) - 1} other arrays)" if len(found.weights) > 1 else ""
    what = f"weight {name} was not finite before the step, {count} of {size} values{more}"
    if around.steps_here == 0:
        return f"{what}: it came so with the weights the run began with ({around.weights})"
    return (
        f"{what}, though the update before it was of ordinary length (learning rate "
        f"{around.last_rate:.3g}, gradient norm {around.last_norm:.3g}): it was corrupted from "
        "outside the training, in memory or by other code; resume from the last state"
    )


def _layer(
    model: SSD, found: Examination, inputs: Inputs, recipe: Recipe, around: Circumstances
) -> str:
    if inputs.bf16 and examine(model, replace(inputs, bf16=False), recipe).layer is None:
        return f"layer {found.layer} overflows in bf16 and not in float32: give --precision fp32"
    return f"layer {found.layer} overflows: {_diverged(found, around)}"


def _diverged(found: Examination, around: Circumstances) -> str:
    name, largest = found.largest_weight
    return (
        f"the training has diverged (weights up to {largest:.3g} in {name}, learning rate "
        f"{around.rate:.3g}): give a lower --learning-rate"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
