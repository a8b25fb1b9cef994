"""From what label files say to samples: boxes checked, mended or dropped, and each of these said.

The readers of the formats return their pictures as ``LabelledPicture`` objects, boxes as the file
has them. Here, for all formats alike, they become samples:

- The picture's own size rules. A label file that states another one is reported; its boxes, in
  pixels, are taken as they stand.
- Boxes drawn on the picture as stored, before its EXIF orientation, are turned with it. That is
  known from the stated size: width and height swapped, while EXIF turns the picture by a quarter;
  or, where no size is stated, from boxes that fit the stored picture alone.
  (Half turns, mirrored and square pictures keep their size: their labels are taken as upright,
  which is what viewers show.)
- A box that is not four finite numbers, or has no area, is dropped.
- A box that reaches outside the picture is clipped to it; by at most ``ROUNDING`` pixels silently,
  since that is how tools round. Where less than a pixel a side remains it is dropped.

That is what happens by default; ``Policies`` say otherwise.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from multibox.data.files import name_key, relative_id
from multibox.data.policies import CHOICES, DEFAULT_POLICIES, Policies, Policy
from multibox.data.repeated_boxes import Corners, repeated_boxes
from multibox.data.samples import DataSet, Problem, Sample
from multibox.errors import ImageError, InputError
from multibox.image_headers import ImageHeader
from multibox.imaging import read_header

ROUNDING = 1.0
"""Pixels by which a box may overshoot the picture without a word."""

SMALLEST_SIDE = 0.01
"""Pixels; below this a side is nothing (float32 could not even hold it in a large picture)."""

NO_AREA = "box without area"
INVERTED = "box inverted, its corners exchanged"
NOT_READ = "not read"
OUTSIDE = "box outside the picture"
NOT_NUMBERS = "box is not four numbers"

_READERS = 8


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
    """All that a reader found in a data set: class names and the pictures of every split.

    ``remarks`` are faults that do not matter here, though they may in other programs.
    ``names_file`` is the file that lists the classes, '' where only the labels tell them.
    """

    layout: str
    names: tuple[str, ...]
    splits: Mapping[str, Sequence[LabelledPicture]]
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = field(default=())
    remarks: tuple[Problem, ...] = ()
    names_file: str = ""


def number(value: object) -> float:
    """``value`` as a float; NaN where it is none (the box is then dropped with a word)."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return nan


def read_samples(
    pictures: Sequence[LabelledPicture],
    names: Sequence[str],
    policies: Policies = DEFAULT_POLICIES,
) -> tuple[list[Sample], list[Problem]]:
    """Samples whose labels index ``names`` (objects of other classes are left out), and problems.

    Pictures that are missing or cannot be read are left out, with a problem each, and so is what
    ``policies`` drop. Raises InputError for a fault whose policy is ``error``.
    """
    labels = {name_key(name): i for i, name in enumerate(names)}
    samples: list[Sample] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(_READERS) as pool:
        for picture, header in zip(pictures, pool.map(_header, pictures), strict=True):
            if header is None or picture.image is None:
                problems += [*picture.problems, _absent(picture)]
                check_policies(problems[-1:], policies)
                continue
            sample, found = _sample(picture, picture.image, header, labels, policies)
            problems += found
            if sample is not None:
                samples.append(sample)
    return samples, problems


def check_policies(problems: Iterable[Problem], policies: Policies) -> None:
    """Raise InputError for the first of ``problems`` whose policy is ``error``."""
    for problem in problems:
        kind = problem.kind
        if kind is not None and policy_of(problem, policies) == "error":
            if problem.action == NOT_READ:
                raise InputError(problem.reason)
            place = "" if problem.object is None else f" object {problem.object}"
            others = [p for p in (CHOICES[kind].default, *CHOICES[kind].others) if p != "error"]
            raise InputError(
                f"{problem.file}{place}: {problem.reason}: mend it, or set the policy {kind} to "
                f"{' or '.join(others)}"
            )


def policy_of(problem: Problem, policies: Policies) -> Policy:
    """The policy for ``problem``; ``keep`` for what is only mentioned."""
    if problem.kind is None:
        return "keep"
    return policies.of(problem.kind, readable=problem.action != NOT_READ)


def _absent(picture: LabelledPicture) -> Problem:
    if picture.image is None:
        reason = "picture not found"
        return Problem(picture.label_file, None, reason, "left out", "label-without-image")
    reason = "picture cannot be read"
    return Problem(str(picture.image), None, reason, "left out", "unreadable-image")


def _header(picture: LabelledPicture) -> ImageHeader | None:
    try:
        return None if picture.image is None else read_header(picture.image)
    except ImageError:
        return None


def _sample(
    picture: LabelledPicture,
    image: Path,
    header: ImageHeader,
    labels: Mapping[str, int],
    policies: Policies,
) -> tuple[Sample | None, list[Problem]]:
    """The sample, None where a policy drops the picture, and its problems."""
    width, height = header.upright_size
    objects = [item for item in picture.objects if name_key(item.name) in labels]
    checked = check_objects(replace(picture, objects=objects), header)
    problems = list(picture.problems)
    if checked.frame is not None:
        problems.append(checked.frame)
    boxes = list(checked.boxes)
    for i, fault in checked.faults:
        policy = policy_of(fault, policies)
        if fault.kind == "duplicate-box" and policy == "keep":
            continue
        if policy == "drop-box":
            boxes[i] = None
            fault = replace(fault, action="dropped")
        problems.append(fault)
    if header.orientation != 1 and policies.of("exif-rotation") != "keep":
        reason = f"EXIF orientation {header.orientation}"
        problems.append(Problem(str(image), None, reason, "turned", "exif-rotation"))
    check_policies(problems, policies)
    for i, problem in enumerate(problems):
        if policy_of(problem, policies) == "drop-image":
            problems[i] = replace(problem, action="picture left out")
            return None, problems
    kept = [i for i, box in enumerate(boxes) if box is not None]
    left = [box for box in boxes if box is not None]
    sample = Sample.of(
        image,
        left,
        [labels[name_key(objects[i].name)] for i in kept],
        width=width,
        height=height,
        difficult=[objects[i].difficult for i in kept],
        crowd=[objects[i].crowd for i in kept],
        id=picture.id,
        areas=_areas([objects[i].area for i in kept], left),
    )
    return sample, problems


class Checked(NamedTuple):
    """A picture's boxes in pixels of its upright frame, each mended or None, and what was wrong.

    ``frame`` says what became of a stated size that differs, ``turned`` that the boxes were drawn
    on the picture as stored. ``faults`` are pairs (place in the picture's objects, problem).
    """

    boxes: list[Corners | None]
    frame: Problem | None
    turned: bool
    faults: list[tuple[int, Problem]]


def check_objects(picture: LabelledPicture, header: ImageHeader) -> Checked:
    """Bring the boxes of a picture into its upright frame and look at each of them."""
    width, height = header.upright_size
    corners: list[Corners] = [item.box for item in picture.objects]
    frame = None
    turned = _drawn_as_stored(picture, header)
    if picture.unit:
        corners = [(a * width, b * height, c * width, d * height) for a, b, c, d in corners]
    elif turned:
        stored = np.array(corners, np.float64).reshape(-1, 4)
        upright = upright_boxes(stored, header.orientation, header.width, header.height)
        corners = [tuple(box) for box in upright.tolist()]
        reason = "labels made before the EXIF rotation"
        frame = Problem(picture.label_file, None, reason, "boxes turned", "exif-rotation")
    elif picture.size is not None and picture.size != (width, height):
        reason, action = "size in the label differs", "the picture's own size used"
        stated = f"{picture.size[0]}x{picture.size[1]}, the picture is {width}x{height}"
        frame = Problem(picture.label_file, None, reason, action, "size-mismatch", stated)
    boxes: list[Corners | None] = []
    faults: list[tuple[int, Problem]] = []
    for i, (item, box) in enumerate(zip(picture.objects, corners, strict=True)):
        mended, reason, kind = _mend(box, width, height)
        boxes.append(mended)
        if kind is not None:
            action = "dropped" if mended is None else "clipped"
            value = "({:g}, {:g}, {:g}, {:g})".format(*box)
            problem = Problem(picture.label_file, item.place, reason, action, kind, value)
            faults.append((i, problem))
    # A crowd region may well be the union of what it holds.
    single = [None if item.crowd else box for item, box in zip(picture.objects, boxes, strict=True)]
    for i, first in repeated_boxes([name_key(item.name) for item in picture.objects], single):
        reason = "box drawn twice"
        value = f"object {picture.objects[first].place}"
        place = picture.objects[i].place
        problem = Problem(picture.label_file, place, reason, "kept", "duplicate-box", value)
        faults.append((i, problem))
    return Checked(boxes, frame, turned, faults)


def _drawn_as_stored(picture: LabelledPicture, header: ImageHeader) -> bool:
    """Whether the boxes were drawn on the picture before its EXIF quarter turn.

    The stated size tells; where there is none, boxes that leave the upright picture while all of
    them lie in the stored one.
    """
    if header.orientation < 5 or picture.unit:
        return False
    stored, upright = (header.width, header.height), header.upright_size
    if stored == upright:
        return False
    if picture.size is not None:
        return picture.size == stored
    boxes = [item.box for item in picture.objects]
    return not _all_within(boxes, upright) and _all_within(boxes, stored)


def _all_within(boxes: Iterable[Corners], size: tuple[int, int]) -> bool:
    return all(
        min(x0, y0) >= -ROUNDING and x1 <= size[0] + ROUNDING and y1 <= size[1] + ROUNDING
        for x0, y0, x1, y1 in boxes
    )


def _areas(outlines: Sequence[float | None], boxes: Sequence[Corners]) -> list[float] | None:
    """The outlines' areas, an unknown one being its box's; None where none is known."""
    if all(area is None for area in outlines):
        return None
    return [
        (x1 - x0) * (y1 - y0) if area is None else area
        for area, (x0, y0, x1, y1) in zip(outlines, boxes, strict=True)
    ]


def _mend(
    box: Corners, width: int, height: int
) -> tuple[Corners | None, str, Literal["degenerate-box", "box-outside"] | None]:
    """The box within the picture or None, and what was wrong with it or ''."""
    x0, y0, x1, y1 = box
    if not all(map(isfinite, box)):
        return None, NOT_NUMBERS, "degenerate-box"
    if min(x1 - x0, y1 - y0) < SMALLEST_SIDE:
        inverted = min(x1 - x0, y1 - y0) <= -SMALLEST_SIDE
        return None, INVERTED if inverted else NO_AREA, "degenerate-box"
    overshoot = max(-x0, -y0, x1 - width, y1 - height)
    if overshoot <= 0:
        return box, "", None
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
    remaining = min(x1 - x0, y1 - y0)
    if remaining < (1.0 if overshoot > ROUNDING else SMALLEST_SIDE):
        return None, OUTSIDE, "box-outside"
    if overshoot > ROUNDING:
        return (x0, y0, x1, y1), "box reaches outside the picture", "box-outside"
    return (x0, y0, x1, y1), "", None


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
