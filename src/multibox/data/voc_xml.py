"""One PASCAL VOC annotation file: an XML of one picture's objects, as LabelImg writes it too.

VOC counts pixels from 1 and includes the last one, so that a box becomes
(xmin - 1, ymin - 1, xmax, ymax) in continuous coordinates.
"""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from multibox import limits
from multibox.data.files import read_label_bytes
from multibox.data.labels import INVERTED, NO_AREA, LabelledObject, number
from multibox.data.policies import Kind
from multibox.data.samples import Problem
from multibox.errors import InputError


class VocAnnotation(NamedTuple):
    """What one file says; ``size`` is (width, height), None where it states none."""

    file_name: str
    size: tuple[int, int] | None
    objects: list[LabelledObject]
    problems: tuple[Problem, ...]


_PIECE = 1 << 16


class _NoDoctype(ElementTree.TreeBuilder):
    """A label file has no business with entities, whose expansion can fill the memory.

    Nor with elements in elements without end, which can fill it as well.
    """

    _depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> ElementTree.Element:
        self._depth += 1
        if self._depth > limits.XML_DEPTH:
            what = f"more than {limits.XML_DEPTH} elements in each other"
            raise InputError(f"{what}: not a VOC annotation")
        return super().start(tag, attributes)

    def end(self, tag: str) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError("a DOCTYPE is not accepted in a label file: remove it")


def read_annotation(path: Path) -> VocAnnotation | None:
    """Read one VOC annotation file; None where it is XML of another kind.

    Raises InputError where it cannot be parsed, is beyond the limits (``limits.LABEL_BYTES``,
    ``XML_DEPTH``) or has a DOCTYPE.
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
    elements = root.findall("object")
    if (count := len(elements)) > limits.OBJECTS:
        raise InputError(f"{path}: {count:,} objects{limits.beyond(count, limits.OBJECTS)}")
    objects: list[LabelledObject] = []
    problems: list[Problem] = []
    for index, element in enumerate(elements):
        read = _object(element, index)
        if isinstance(read, LabelledObject):
            objects.append(read)
        else:
            reason, kind, value = read
            problems.append(Problem(str(path), index, reason, "dropped", kind, value))
    size, stated = _size(root)
    if size is None and stated:
        reason, action = "size in the label is no number", "the picture's own size used"
        problems.append(Problem(str(path), None, reason, action, "size-mismatch", stated))
    return VocAnnotation((root.findtext("filename") or "").strip(), size, objects, tuple(problems))


def _parse(data: bytes) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_NoDoctype())
    # An error is raised at the end of a piece only: until then the parser goes on.
    for start in range(0, len(data), _PIECE):
        parser.feed(data[start : start + _PIECE])
    root: ElementTree.Element = parser.close()
    return root


def _object(element: ElementTree.Element, index: int) -> LabelledObject | tuple[str, Kind, str]:
    """The object, or the reason why it is none, what kind of fault that is, and what stood there.

    The boxes of its ``part`` elements are not its. Spaces around a name are kept, for the doctor to
    see, unless they are only how the XML is laid out.
    """
    name = element.findtext("name") or ""
    name = name.strip() if "\n" in name else name
    if not name.strip():
        return "object without a name", "unknown-class", ""
    box = element.find("bndbox")
    if box is None:
        return "object without a bndbox", "bad-label-file", ""
    xmin, ymin, xmax, ymax = (number(box.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax"))
    # By the letter xmin = xmax is one pixel wide; in practice it is a slip of the mouse.
    if xmax <= xmin or ymax <= ymin:
        reason = INVERTED if min(xmax - xmin, ymax - ymin) < -1 else NO_AREA
        return reason, "degenerate-box", f"({xmin:g}, {ymin:g}, {xmax:g}, {ymax:g})"
    difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true", "yes")
    return LabelledObject(index, name, (xmin - 1, ymin - 1, xmax, ymax), difficult)


def _size(root: ElementTree.Element) -> tuple[tuple[int, int] | None, str]:
    """The (width, height) that the file states, None where it states none; and as it is written."""
    width, height = ((root.findtext(f"size/{key}") or "").strip() for key in ("width", "height"))
    stated = f"{width} x {height}"[:60] if width and height else ""
    try:
        return (int(number(width)), int(number(height))), stated
    except (ValueError, OverflowError):
        return None, stated
