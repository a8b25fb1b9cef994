"""Ids in COCO JSON: how they are read, and those over which COCO's own evaluation goes wrong."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from multibox.data.files import name_key
from multibox.data.samples import Problem

Id = int | str

ROBOFLOW = "_annotations.coco.json"
"""What Roboflow calls the file of each split."""

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def as_id(value: object) -> Id | None:
    """An id as a whole number where it is one, else as the text that it is; None for neither."""
    whole = whole_number(value)
    return value if whole is None and isinstance(value, str) and value else whole


def whole_number(value: object) -> int | None:
    """``value`` as an integer where it is one: some tools write "7" or 7.0."""
    if isinstance(value, str):
        return int(value) if _WHOLE_NUMBER.fullmatch(value.strip()) else None
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else None  # type: ignore[call-overload]


def counted_from_zero(
    categories: Collection[Id | None], annotations: Iterable[tuple[int, Id | None]], file: Path
) -> Iterator[Problem]:
    """Ids of 0 where COCO counts from 1: a match with annotation 0 counts as none there.

    Roboflow's files count annotations from 0 by their format.
    """
    found = {"category": 0 in categories}
    if file.name != ROBOFLOW:
        found["annotation"] = any(id == 0 for _, id in annotations)
    for what in (what for what, is_found in found.items() if is_found):
        reason, action = f"{what} ids count from 0", "read as they are"
        yield Problem(str(file), None, reason, action, "bad-label-file", f"{what} id 0")


def repeated_ids(annotations: Iterable[tuple[int, Id | None]], file: str) -> Iterator[Problem]:
    """Annotations with the id of another, of which COCO keeps one."""
    seen: set[Id] = set()
    for index, id in annotations:
        if id is not None and id in seen:
            reason, action = "annotation with the id of another", "read as it is"
            yield Problem(file, index, reason, action, "bad-label-file", f"annotation id {id}")
        elif id is not None:
            seen.add(id)


def other_ids(categories: Mapping[Path, Mapping[Id, str]]) -> Iterator[Problem]:
    """Files that give an id to another class than a file before them does."""
    first: dict[Id, tuple[str, Path]] = {}
    for file, names in categories.items():
        for id, name in names.items():
            earlier, where = first.setdefault(id, (name, file))
            if name_key(earlier) != name_key(name):
                reason = "category ids mean other classes than in another file"
                value = f"{id} is {name!r}, and {earlier!r} in {where.name}"
                action = "told apart by their names"
                yield Problem(str(file), None, reason, action, "bad-label-file", value)
                break
