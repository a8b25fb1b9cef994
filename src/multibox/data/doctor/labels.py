"""What is wrong with the labels: files, boxes, class names, and the frame they were drawn in."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from multibox.data.doctor.finding import Finding, Severity, finding
from multibox.data.doctor.pictures import PictureFacts
from multibox.data.enforcement import TINY
from multibox.data.files import name_key, read_lines, subfolders
from multibox.data.labels import (
    NOT_READ,
    OUTSIDE,
    Catalogue,
    Checked,
    LabelledPicture,
    check_objects,
    first_few,
)
from multibox.data.lookalikes import similar_names
from multibox.data.policies import Kind
from multibox.data.samples import Problem
from multibox.data.yolo import NAME_FILES
from multibox.errors import InputError
from multibox.image_headers import ImageHeader

_REMEDIES: Mapping[Kind, str] = {
    "label-without-image": "put the picture there, or remove its label or its line in the list",
    "image-without-label": "label it, or add an empty label file where it shows no object",
    "bad-label-file": "mend or remove it",
    "degenerate-box": "draw the box again or remove it",
    "box-outside": "draw the box again within the picture",
    "duplicate-box": "remove one of the two",
    "size-mismatch": "scale the boxes to the picture, or put the labelled picture back",
    "unknown-class": "correct its class, or add it to the list of classes",
    "similar-class-names": "give both one spelling if they mean the same",
    "duplicate-image": "keep one of the two, with the objects of both",
    "exif-rotation": "turn the picture's pixels and remove the tag to be safe",
}

_WARNINGS = frozenset({"image-without-label", "duplicate-box", "similar-class-names"})
_ANY_SIZE = (1000, 1000)
_SHOWN = 500  # letters of what stands in a file
_TURNS = {
    2: "mirrored", 3: "a half turn", 4: "mirrored and a half turn",
    5: "mirrored and a quarter turn", 6: "a quarter turn clockwise",
    7: "mirrored and a quarter turn",
    8: "a quarter turn anticlockwise",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadPicture:
    """A labelled picture, the facts about its file, and its boxes.

    Where the file cannot be used the boxes are checked against the size that the label states.
    """

    picture: LabelledPicture
    facts: PictureFacts | None
    checked: Checked | None

    @classmethod
    def of(cls, picture: LabelledPicture, facts: Mapping[Path, PictureFacts]) -> "ReadPicture":
        """Bring a picture and what is known of its file together."""
        known = None if picture.image is None else facts.get(picture.image)
        header = known.header if known is not None and known.usable else None
        if header is None and picture.size is not None and min(picture.size) > 0:
            header = ImageHeader("", *picture.size)
        elif header is None and picture.unit:
            header = ImageHeader("", *_ANY_SIZE)
        return cls(picture, known, None if header is None else check_objects(picture, header))

    @property
    def header(self) -> ImageHeader | None:
        """The header of the picture's file; None where the picture cannot be used."""
        return self.facts.header if self.facts is not None and self.facts.usable else None


def catalogue_findings(root: Path, catalogue: Catalogue) -> Iterator[Finding]:
    """What the readers met outside of single pictures, and class names that look alike."""
    if not catalogue.names_file:
        yield from _unlisted_classes(root, catalogue)
    for problem in (*catalogue.problems, *similar_names(catalogue)):
        yield from _of_problem(problem)
    for remark in (*catalogue.remarks, *_shared_label_files(catalogue)):
        yield from _of_problem(remark, severity="warning")


def _shared_label_files(catalogue: Catalogue) -> Iterator[Problem]:
    """Text files that label two pictures, of one name and of different endings."""
    owners: dict[str, set[str]] = defaultdict(set)
    for picture in (picture for split in catalogue.splits.values() for picture in split):
        if picture.unit and picture.image is not None:
            owners[picture.label_file].add(picture.image.name)
    for file, names in owners.items():
        if len(names) > 1 and Path(file).is_file():
            reason = f"the labels of several pictures: {first_few(sorted(names))}"
            yield Problem(file, None, reason, "used for each", "bad-label-file")


def _unlisted_classes(root: Path, catalogue: Catalogue) -> Iterator[Finding]:
    """Objects whose class is not in the list that some tools keep beside XML files."""
    lists = (folder / name for folder in (root, *subfolders(root)) for name in NAME_FILES)
    file = next((path for path in lists if path.is_file()), None)
    try:
        names = {name_key(name) for name in read_lines(file)} if file is not None else set()
    except InputError:
        return
    if not names & {name_key(name) for name in catalogue.names}:  # a list of something else
        return
    told: set[tuple[str, int]] = set()
    for picture in (picture for split in catalogue.splits.values() for picture in split):
        for item in picture.objects:
            place = (picture.label_file, item.place)
            if name_key(item.name) not in names and place not in told:
                told.add(place)
                yield finding(
                    "unknown-class",
                    "error",
                    picture.label_file,
                    f"class {item.name!r} is not in {file}",
                    _REMEDIES["unknown-class"],
                    object=item.place,
                    train="a class that XML files name is learned as any other",
                )


def picture_findings(read: ReadPicture, catalogue: Catalogue) -> Iterator[Finding]:
    """What is wrong with one picture's labels, the file and its frame included."""
    picture = read.picture
    for problem in picture.problems:
        remark = _counts_from_one(problem, catalogue)
        yield from _of_problem(problem, also=remark)
    if picture.image is None:
        problem = Problem(picture.label_file, None, "picture not found", "", "label-without-image")
        yield from _of_problem(problem)
    elif _is_unlabelled(picture):
        problem = Problem(str(picture.image), None, "no label file", "", "image-without-label")
        yield from _of_problem(problem, also="training takes it as one without objects")
    if read.checked is None:
        return
    if read.header is not None:
        yield from _frame_findings(read, read.checked, read.header)
    for i, problem in read.checked.faults:
        partly = problem.kind == "box-outside" and problem.reason != OUTSIDE
        dropped = problem.kind == "box-outside" and read.checked.boxes[i] is None
        yield from _of_problem(
            problem,
            severity="warning" if partly else None,
            train="which leaves nothing: dropped" if dropped else "",
        )


def tiny_boxes(read: ReadPicture, image_size: tuple[int, int]) -> Iterator[Finding]:
    """Objects of which next to nothing is left at the input of ``image_size`` (height, width)."""
    if read.checked is None or read.header is None:
        return
    width, height = read.header.upright_size
    down, across = image_size
    for item, box in zip(read.picture.objects, read.checked.boxes, strict=True):
        if box is None:
            continue
        w, h = (box[2] - box[0]) * across / width, (box[3] - box[1]) * down / height
        if w * h < TINY:
            file, name = place_of(read.picture.label_file)
            yield finding(
                "tiny-box",
                "warning",
                file,
                f"{name}box of {w:.1f} x {h:.1f} pixels at the input of {across} x {down}",
                "check that it is meant, or train with a larger --image-size or on cut-out parts",
                object=item.place,
            )


def _frame_findings(read: ReadPicture, checked: Checked, header: ImageHeader) -> Iterator[Finding]:
    if checked.frame is not None and not checked.turned:
        stated = read.picture.size
        empty = stated is not None and min(stated) <= 0
        yield from _of_problem(checked.frame, severity="warning" if empty else None)
    if header.orientation == 1:
        return
    turn = _TURNS.get(header.orientation, "")
    stored, upright = (header.width, header.height), header.upright_size
    train = ""
    if checked.turned:
        frame, train = "made in the raw frame, before the rotation", "the boxes are turned with it"
    elif stored != upright and _drawn_upright(read.picture, upright, stored):
        frame = "made in the upright (rotated) frame"
    else:
        frame, train = "nothing tells in which frame its labels were made", "taken as upright"
    whose = "" if frame.startswith("nothing") else "its labels were "
    yield finding(
        "exif-rotation",
        "warning",
        str(read.picture.image),
        f"EXIF orientation {header.orientation} ({turn}): {whose}{frame}",
        _REMEDIES["exif-rotation"],
        train=train,
    )


def _drawn_upright(
    picture: LabelledPicture, upright: tuple[int, int], stored: tuple[int, int]
) -> bool:
    if picture.size is not None:
        return picture.size == upright
    return not picture.unit and any(
        x1 > stored[0] + 1 or y1 > stored[1] + 1
        for _, _, x1, y1 in (o.box for o in picture.objects)
    )


def _is_unlabelled(picture: LabelledPicture) -> bool:
    """Whether a picture has no label file of its own: one JSON labels many, and may say nothing."""
    return (
        picture.unit
        and not picture.problems
        and not picture.objects
        and not Path(picture.label_file).is_file()
    )


def _counts_from_one(problem: Problem, catalogue: Catalogue) -> str:
    """A hint where YOLO's class numbers seem to begin with 1."""
    if problem.kind != "unknown-class" or not re.match(r"\d", problem.value):
        return ""
    if problem.value.split()[0] != str(len(catalogue.names)):
        return ""
    pictures = (picture for split in catalogue.splits.values() for picture in split)
    first = catalogue.names[:1]
    if any(item.name in first for picture in pictures for item in picture.objects):
        return ""
    return "no label uses class 0: these labels seem to count from 1, and YOLO counts from 0"


def _of_problem(
    problem: Problem, *, severity: Severity | None = None, also: str = "", train: str = ""
) -> Sequence[Finding]:
    kind = problem.kind
    if kind is None:
        return ()
    file, name = place_of(problem.file)
    reason = problem.reason.removeprefix(f"{problem.file}: ")
    what = ", ".join(filter(None, [f"{name}{reason}", problem.value[:_SHOWN], also]))
    if kind == "bad-label-file" and problem.action != NOT_READ:
        train = "what can be read of it is used"
    remedy = _REMEDIES[kind]
    severity = severity or ("warning" if kind in _WARNINGS else "error")
    return (finding(kind, severity, file, what, remedy, object=problem.object, train=train),)


def place_of(label_file: str) -> tuple[str, str]:
    """The file, and of one that speaks of many pictures which it is: of a COCO JSON, of a list."""
    found = _OF_MANY.fullmatch(label_file)
    return (found[1], f"{found[2]}: ") if found else (label_file, "")


_OF_MANY = re.compile(r"(.*?\.(?:json|txt)): (.*)", re.IGNORECASE | re.DOTALL)
