"""PriorBox layers as levels of default boxes (prior_box_layer.cpp of Caffe's ssd branch)."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from multibox.card import DefaultBoxLevel, DefaultBoxSpec
from multibox.default_boxes import Grid
from multibox.importers.caffe.graph import Layer

_SAME = 1e-6  # how near two aspect ratios are one for Caffe
_MOST_SIZES = 100

Four = tuple[float, float, float, float]


class _Sizes(NamedTuple):
    least: tuple[float, ...]
    greatest: tuple[float, ...]
    ratios: tuple[float, ...]  # as listed, without repetitions
    flip: bool


def boxes_per_cell(layer: Layer) -> int:
    """How many default boxes a PriorBox layer makes in every cell."""
    read = _sizes(layer)
    ratios = len(read.ratios) * (2 if read.flip else 1)
    return len(read.least) * (1 + ratios) + len(read.greatest)


def default_box_spec(layers: Sequence[Layer], grids: Sequence[Grid], image: Grid) -> DefaultBoxSpec:
    """The default boxes of PriorBox ``layers``, one a feature map of ``grids``, on ``image``.

    Raises: InputError when their parameters contradict each other, or no single spec can say them.
    """
    levels = tuple(_level(layer, grid, image) for layer, grid in zip(layers, grids, strict=True))
    return DefaultBoxSpec(
        image_size=image,
        levels=levels,
        variances=_common_variances(layers),
        clip=_common_clip(layers),
        truncate_sizes=any(
            size != int(size)
            for level in levels
            for size in (level.min_size, level.max_size)
            if size is not None
        ),
    )


def _level(layer: Layer, grid: Grid, image: Grid) -> DefaultBoxLevel:
    read = _sizes(layer)
    scale = _scale(layer, image)
    step, offset = _step(layer), _number(layer, "offset")
    if step is not None:
        step = (step[0] * scale[0], step[1] * scale[1])
    if len(read.least) == 1 and scale == (1.0, 1.0) and (read.flip or not read.ratios):
        return DefaultBoxLevel(
            grid=grid,
            step=step,
            offset=offset,
            min_size=read.least[0],
            max_size=read.greatest[0] if read.greatest else None,
            aspect_ratios=read.ratios,
        )
    shapes = [(width * scale[1], height * scale[0]) for width, height in _shapes(read)]
    return DefaultBoxLevel(grid=grid, step=step, offset=offset, shapes=tuple(shapes))


def _shapes(read: _Sizes) -> list[tuple[float, float]]:
    """Widths and heights of a cell's boxes, for every least size in turn."""
    ratios = [r for ratio in read.ratios for r in ((ratio, 1 / ratio) if read.flip else (ratio,))]
    shapes: list[tuple[float, float]] = []
    for i, least in enumerate(read.least):
        side = int(least)  # Caffe keeps sizes in variables for whole numbers
        shapes.append((side, side))
        if read.greatest:
            middle = math.sqrt(side * int(read.greatest[i]))
            shapes.append((middle, middle))
        shapes += [(side * math.sqrt(r), side / math.sqrt(r)) for r in ratios]
    return shapes


def _sizes(layer: Layer) -> _Sizes:
    said = layer.parameters.prior_box_param
    least, greatest = (tuple(map(shortest, sizes)) for sizes in (said.min_size, said.max_size))
    if not 0 < len(least) <= _MOST_SIZES or len(said.aspect_ratio) > _MOST_SIZES:
        raise layer.refused(f"has {len(least)} min_size, {len(said.aspect_ratio)} aspect_ratio")
    if greatest and len(greatest) != len(least):
        raise layer.refused(f"has {len(least)} min_size, but {len(greatest)} max_size")
    for low, high in zip(least, greatest or least, strict=True):
        if not (1 <= low < 1e6 and high < 1e6) or (greatest and high <= low):
            raise layer.refused(f"min_size {low:g} and max_size {high:g} are not possible")
    ratios: list[float] = []
    seen = [1.0]
    for ratio in map(shortest, said.aspect_ratio):
        if not 1e-3 < ratio < 1e3:
            raise layer.refused(f"aspect_ratio {ratio:g} is not possible")
        if all(abs(ratio - other) >= _SAME for other in seen):
            ratios.append(ratio)
            seen += [ratio, 1 / ratio] if said.flip else [ratio]
    return _Sizes(least, greatest, tuple(ratios), said.flip)


def _scale(layer: Layer, image: Grid) -> tuple[float, float]:
    """What one pixel of the layer's img_size is, down and across, in pixels of the input."""
    said = layer.parameters.prior_box_param
    size = (said.img_h, said.img_w)
    if not any(size):
        size = (said.img_size, said.img_size)
    if not all(size):  # not stated: the picture the network reads
        return 1.0, 1.0
    return image[0] / size[0], image[1] / size[1]


def _step(layer: Layer) -> tuple[float, float] | None:
    """Pixels of the layer's picture down and across; None where they follow from the grid."""
    said = layer.parameters.prior_box_param
    if said.HasField("step_h") or said.HasField("step_w"):
        step = (_number(layer, "step_h"), _number(layer, "step_w"))
    else:
        step = (_number(layer, "step"), _number(layer, "step"))
    if min(step) < 0:
        raise layer.refused(f"step {min(step):g} is not possible")
    return step if all(step) else None


def _number(layer: Layer, name: str) -> float:
    value = shortest(getattr(layer.parameters.prior_box_param, name))
    if not abs(value) < 1e6:
        raise layer.refused(f"{name} {value:g} is not possible")
    return value


def _common_clip(layers: Sequence[Layer]) -> Literal["none", "corners"]:
    clips = [layer.parameters.prior_box_param.clip for layer in layers]
    if any(clips) and not all(clips):
        odd = layers[clips.index(not clips[0])]
        raise odd.refused("clip is not the same for all PriorBox layers, which is not supported")
    return "corners" if clips[0] else "none"


def _common_variances(layers: Sequence[Layer]) -> Four:
    first = _variances(layers[0])
    for layer in layers:
        if _variances(layer) != first:
            raise layer.refused(
                "variance is not the same for all PriorBox layers, which is not supported"
            )
    return first


def _variances(layer: Layer) -> Four:
    said = [shortest(value) for value in layer.parameters.prior_box_param.variance] or [0.1]
    values = said * 4 if len(said) == 1 else said
    if len(values) != 4 or not all(0 < value < 1e3 for value in values):
        raise layer.refused(f"variance must be one or four positive numbers, not {said[:5]}")
    return values[0], values[1], values[2], values[3]


def shortest(value: float) -> float:
    """The decimal number that was written: single precision makes 0.1 of it 0.10000000149."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))
