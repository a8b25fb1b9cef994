"""From what label files say to samples: boxes checked, mended or dropped, and each of these said.

The readers of the formats return their pictures as ``LabelledPicture`` objects, boxes as the file
has them. Here, for all formats alike, they become samples:

- The picture's own size rules. A label file that states another one is reported; its boxes, in
  pixels, are taken as they stand.
- Boxes drawn on the picture as stored, before its EXIF orientation, are turned with it. That is
  known from the stated size: width and height swapped, while EXIF turns the picture by a quarter.
  (Half turns, mirrored and square pictures keep their size: their labels are taken as upright,
  which is what viewers show.)
- A box that is not four finite numbers, or has no area, is dropped.
- A box that reaches outside the picture is clipped to it; by at most ``ROUNDING`` pixels silently,
  since that is how tools round. Where less than a pixel a side remains it is dropped.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from multibox.data.files import name_key, relative_id
from multibox.data.samples import DataSet, Problem, Sample
from multibox.errors import ImageError
from multibox.imaging import exif_orientation, image_size

ROUNDING = 1.0
"""Pixels by which a box may overshoot the picture without a word."""

SMALLEST_SIDE = 0.01
"""Pixels; below this a side is nothing (float32 could not even hold it in a large picture)."""

NO_AREA = "box without area"
NOT_NUMBERS = "box is not four numbers"
_READERS = 8

Corners = tuple[float, float, float, float]


class LabelledObject(NamedTuple):
    """One object as its file has it: place in the file, class name, corners not yet checked.

    ``area`` is that of its outline in pixels, where the file tells it.
    """

    place: int
    name: str
    box: Corners
    difficult: bool = False
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One picture as its label file has it.

    ``image`` is None where there is no such picture. ``size`` is the (width, height) that the file
    states, if any. Boxes are pixels, or with ``unit`` parts of the picture in 0..1. ``id`` names
    the picture within its data set; ``problems`` were met while reading the file.
    """

    image: Path | None
    id: str
    label_file: str
    objects: Sequence[LabelledObject] = ()
    size: tuple[int, int] | None = None
    unit: bool = False
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that a reader found in a data set: class names and the pictures of every split."""

    layout: str
    names: tuple[str, ...]
    splits: Mapping[str, Sequence[LabelledPicture]]
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = field(default=())


def number(value: object) -> float:
    """``value`` as a float; NaN where it is none (the box is then dropped with a word)."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return nan


def read_samples(
    pictures: Sequence[LabelledPicture], names: Sequence[str]
) -> tuple[list[Sample], list[Problem]]:
    """Samples whose labels index ``names`` (objects of other classes are left out), and problems.

    Pictures that are missing or cannot be read are left out, with a problem each.
    """
    labels = {name_key(name): i for i, name in enumerate(names)}
    samples: list[Sample] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for picture, size in zip(pictures, pool.map(_measure, pictures), strict=True):
            problems += picture.problems
            if picture.image is None:
                problems.append(Problem(picture.label_file, None, "picture not found", "left out"))
            elif size is None:
                image = str(picture.image)
                problems.append(Problem(image, None, "picture cannot be read", "left out"))
            else:
                sample, found = _sample(picture, picture.image, size, labels)
                samples.append(sample)
                problems += found
    return samples, problems


def _measure(picture: LabelledPicture) -> tuple[int, int] | None:
    try:
        return None if picture.image is None else image_size(picture.image)
    except ImageError:
        return None


def _sample(
    picture: LabelledPicture, image: Path, size: tuple[int, int], labels: Mapping[str, int]
) -> tuple[Sample, list[Problem]]:
    width, height = size
    objects = [item for item in picture.objects if name_key(item.name) in labels]
    corners: Sequence[Corners] = [item.box for item in objects]
    problems: list[Problem] = []
    if picture.unit:
        corners = [(a * width, b * height, c * width, d * height) for a, b, c, d in corners]
    elif picture.size is not None and picture.size != size:
        reason, action = "size in the label differs", "the picture's own size used"
        if picture.size == (height, width) and (orientation := exif_orientation(image)) >= 5:
            stored = np.array(corners, np.float64).reshape(-1, 4)
            corners = [tuple(box) for box in upright_boxes(stored, orientation, height, width)]
            reason, action = "labels made before the EXIF rotation", "boxes turned"
        problems.append(Problem(picture.label_file, None, reason, action))
    kept: list[int] = []
    boxes: list[Corners] = []
    for i, (item, box) in enumerate(zip(objects, corners, strict=True)):
        mended, reason = _mend(box, width, height)
        if reason:
            action = "dropped" if mended is None else "clipped"
            problems.append(Problem(picture.label_file, item.place, reason, action))
        if mended is not None:
            kept.append(i)
            boxes.append(mended)
    return (
        Sample.of(
            image,
            boxes,
            [labels[name_key(objects[i].name)] for i in kept],
            width=width,
            height=height,
            difficult=[objects[i].difficult for i in kept],
            crowd=[objects[i].crowd for i in kept],
            id=picture.id,
            areas=_areas([objects[i].area for i in kept], boxes),
        ),
        problems,
    )


def _areas(outlines: Sequence[float | None], boxes: Sequence[Corners]) -> list[float] | None:
    """The outlines' areas, an unknown one being its box's; None where none is known."""
    if all(area is None for area in outlines):
        return None
    return [
        (x1 - x0) * (y1 - y0) if area is None else area
        for area, (x0, y0, x1, y1) in zip(outlines, boxes, strict=True)
    ]


def _mend(box: Corners, width: int, height: int) -> tuple[Corners | None, str]:
    """The box within the picture or None, and what was wrong with it or ''."""
    x0, y0, x1, y1 = box
    if not all(map(isfinite, box)):
        return None, NOT_NUMBERS
    if x1 - x0 < SMALLEST_SIDE or y1 - y0 < SMALLEST_SIDE:
        return None, NO_AREA
    overshoot = max(-x0, -y0, x1 - width, y1 - height)
    if overshoot <= 0:
        return box, ""
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
    remaining = min(x1 - x0, y1 - y0)
    if remaining < (1.0 if overshoot > ROUNDING else SMALLEST_SIDE):
        return None, "box outside the picture"
    return (x0, y0, x1, y1), "box reaches outside the picture" if overshoot > ROUNDING else ""


def upright_boxes(
    boxes: npt.NDArray[np.floating], orientation: int, stored_width: float, stored_height: float
) -> npt.NDArray[np.floating]:
    """Turn boxes drawn on a picture as stored into the frame of the upright picture.

    ``boxes [n, 4]`` are corners in pixels of the stored picture of that size; ``orientation`` is
    the EXIF tag 0x0112, 1..8 (Exif 2.32, section 4.6.4). Raises ValueError for another one.
    """
    if orientation not in range(1, 9):
        raise ValueError(f"EXIF orientation {orientation}: must be 1 to 8")
    x0, y0, x1, y1 = np.moveaxis(np.asarray(boxes), -1, 0)
    if orientation in (2, 3, 7, 8):
        x0, x1 = stored_width - x1, stored_width - x0
    if orientation in (3, 4, 6, 7):
        y0, y1 = stored_height - y1, stored_height - y0
    if orientation >= 5:
        x0, y0, x1, y1 = y0, x0, y1, x1
    return np.stack([x0, y0, x1, y1], axis=-1)


def class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names, stripped, each once (by ``name_key``; the first spelling stays), in order."""
    distinct: dict[str, str] = {}
    for name in names:
        distinct.setdefault(name_key(name), name.strip())
    return tuple(distinct.values())


def first_few(names: Sequence[str], shown: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def problems_summary(data: DataSet, examples: int = 3) -> list[str]:
    """One line for each kind of problem: how many, what, what was done, and the first examples."""
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in data.problems:
        groups[problem.reason, problem.action].append(problem)
    lines = []
    for (reason, action), problems in sorted(groups.items(), key=lambda item: -len(item[1])):
        shown = [
            relative_id(Path(problem.file), data.root)
            + ("" if problem.object is None else f" object {problem.object}")
            for problem in problems[:examples]
        ]
        more = ", …" if len(problems) > examples else ""
        lines.append(f"{reason}: {len(problems)} {action} ({', '.join(shown)}{more})")
    return lines
