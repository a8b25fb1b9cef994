"""One PASCAL VOC annotation file: an XML of one picture's objects, as LabelImg writes it too.

VOC counts pixels from 1 and includes the last one, so that a box becomes
(xmin - 1, ymin - 1, xmax, ymax) in continuous coordinates.
"""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from multibox.data.files import read_label_bytes
from multibox.data.labels import NO_AREA, LabelledObject, number
from multibox.data.policies import Kind
from multibox.data.samples import Problem
from multibox.errors import InputError


class VocAnnotation(NamedTuple):
    """What one file says; ``size`` is (width, height), None where it states none."""

    file_name: str
    size: tuple[int, int] | None
    objects: list[LabelledObject]
    problems: tuple[Problem, ...]


_DEEPEST = 50
_PIECE = 1 << 16


class _NoDoctype(ElementTree.TreeBuilder):
    """A label file has no business with entities, whose expansion can fill the memory.

    Nor with elements in elements without end, which can fill it as well.
    """

    _depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> ElementTree.Element:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise InputError(f"more than {_DEEPEST} elements in each other: not a VOC annotation")
        return super().start(tag, attributes)

    def end(self, tag: str) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError("a DOCTYPE is not accepted in a label file: remove it")


def read_annotation(path: Path) -> VocAnnotation | None:
    """Read one VOC annotation file; None where it is XML of another kind.

    Raises InputError where it cannot be parsed, is larger than 10 MB or has a DOCTYPE.
    """
    data = read_label_bytes(path)
    try:
        root = _parse(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not a readable XML file ({error}): mend or remove it") from error
    if root.tag != "annotation":
        return None
    objects: list[LabelledObject] = []
    problems: list[Problem] = []
    for index, element in enumerate(root.findall("object")):
        read = _object(element, index)
        if isinstance(read, LabelledObject):
            objects.append(read)
        else:
            reason, kind = read
            problems.append(Problem(str(path), index, reason, "dropped", kind))
    return VocAnnotation(
        (root.findtext("filename") or "").strip(), _size(root), objects, tuple(problems)
    )


def _parse(data: bytes) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_NoDoctype())
    # An error is raised at the end of a piece only: until then the parser goes on.
    for start in range(0, len(data), _PIECE):
        parser.feed(data[start : start + _PIECE])
    root: ElementTree.Element = parser.close()
    return root


def _object(element: ElementTree.Element, index: int) -> LabelledObject | tuple[str, Kind]:
    """The object, or the reason why it is none and what kind of fault that is.
    The boxes of its ``part`` elements are not its."""
    name = (element.findtext("name") or "").strip()
    if not name:
        return "object without a name", "unknown-class"
    box = element.find("bndbox")
    if box is None:
        return "object without a bndbox", "bad-label-file"
    xmin, ymin, xmax, ymax = (number(box.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax"))
    # By the letter xmin = xmax is one pixel wide; in practice it is a slip of the mouse.
    if xmax <= xmin or ymax <= ymin:
        return NO_AREA, "degenerate-box"
    difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true", "yes")
    return LabelledObject(index, name, (xmin - 1, ymin - 1, xmax, ymax), difficult)


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    width, height = number(root.findtext("size/width")), number(root.findtext("size/height"))
    try:
        return int(width), int(height)
    except (ValueError, OverflowError):
        return None
