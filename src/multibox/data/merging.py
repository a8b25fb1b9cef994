"""Several data sets as one: ``VOC2007+VOC2012``, or any mixture of formats.

Where the paths stand in one text they are joined by ``+``; an existing path that has a ``+`` in
its name is taken as it is. What is merged keeps its splits, by name: the pictures of one set's
``train`` and another's ``train2017`` are trained on together. Classes are the same where their
names are.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

from multibox.data.files import name_key
from multibox.data.labels import Catalogue, LabelledPicture, class_names, first_few
from multibox.data.splits import UNSPLIT, canonical, complete, is_split_name
from multibox.errors import InputError

DataPath = str | Path | Sequence[str | Path]
"""Where labelled pictures lie: one path, several joined by ``+``, or a sequence of paths."""

JOIN = "+"


@dataclass(frozen=True, slots=True)
class Part:
    """One of the data sets that are merged: what it is called in notes and ids, and its labels."""

    name: str
    catalogue: Catalogue


def is_data_path(data: object) -> TypeGuard[DataPath]:
    """Whether ``data`` says where pictures lie (and is not, say, a sequence of samples)."""
    if isinstance(data, str | Path):
        return True
    return (
        isinstance(data, Sequence)
        and len(data) > 0
        and all(isinstance(item, str | Path) for item in data)
    )


def data_paths(data: DataPath) -> tuple[Path, ...]:
    """The paths that ``data`` names, all of which exist.

    A part that is no path from here but lies beside the first one is found there:
    ``VOCdevkit/VOC2007+VOC2012``.

    Raises: InputError for a path that does not exist, or that lies in another one.
    """
    given = [data] if isinstance(data, str | Path) else list(data)
    paths = [path for item in given for path in _split(str(item))]
    for i, path in enumerate(paths):
        for other in paths[:i] + paths[i + 1 :]:
            if path.resolve().is_relative_to(other.resolve()):
                where = "is given twice" if path.resolve() == other.resolve() else f"is in {other}"
                raise InputError(f"{path} {where}: name each data set once")
    return tuple(paths)


def display_name(paths: Sequence[Path]) -> str:
    """A short name for the run folder: ``VOC2007+VOC2012``."""
    return JOIN.join(path.resolve().stem for path in paths)


def _split(text: str) -> list[Path]:
    if os.path.exists(text):  # noqa: PTH110 (Path.exists raises where a name is too long)
        return [Path(text)]
    if JOIN not in text:
        raise InputError(f"{text}: no such file or folder: check the path to the data")
    pieces = text.split(JOIN)
    paths: list[Path] = []
    while pieces:
        # The longest run of pieces that is a path, so that a name may itself hold a plus.
        for count in range(len(pieces), 0, -1):
            name = JOIN.join(pieces[:count])
            found = _find(name, beside=paths[0] if paths else None)
            if name and found is not None:
                paths.append(found)
                del pieces[:count]
                break
        else:
            raise InputError(
                f"{text}: no such file or folder, nor is {pieces[0] or 'what follows the last +'!r}"
                f" among the data sets joined by {JOIN}: check the paths to the data"
            )
    return paths


def _find(name: str, beside: Path | None) -> Path | None:
    if os.path.exists(name):  # noqa: PTH110
        return Path(name)
    sibling = None if beside is None else beside.parent / name
    return sibling if sibling is not None and os.path.exists(sibling) else None  # noqa: PTH110


def part_names(paths: Sequence[Path]) -> tuple[Path, list[str]]:
    """The folder that all of ``paths`` share, and what each is called below it."""
    try:
        root = Path(os.path.commonpath(paths))
    except ValueError:  # some are absolute, or on another drive
        return Path(), [path.as_posix() for path in paths]
    return root, [path.relative_to(root).as_posix() for path in paths]


def merge(parts: Sequence[Part], seed: int) -> Catalogue:
    """One catalogue of all ``parts``, in which every id begins with the name of its part.

    A part that has no ``train`` of its own is divided by itself first (``splits.complete``), so
    that no picture is left out for want of a name. The classes are those of the first part,
    followed by what the others add; where the parts differ in them, notes say so.
    """
    ready = [_divided(part, seed) for part in parts]
    common = _common_names(ready)
    splits: dict[str, list[LabelledPicture]] = {}
    where: dict[str, list[str]] = {}
    for part in ready:
        for split, pictures in part.catalogue.splits.items():
            name = common[split]
            splits.setdefault(name, []).extend(
                replace(picture, id=f"{part.name}/{picture.id}") for picture in pictures
            )
            where.setdefault(name, []).append(part.name)
    notes = [f"{part.name}: {note}" for part in ready for note in part.catalogue.notes]
    notes += [
        f"split {split} is in {', '.join(found)} only"
        for split, found in where.items()
        if len(found) < len(ready)
    ]
    notes += _class_notes(ready) + _shared_pictures(ready)
    return Catalogue(
        layout=f" {JOIN} ".join(part.catalogue.layout for part in ready),
        names=class_names(name for part in ready for name in part.catalogue.names),
        splits=splits,
        notes=tuple(notes),
        problems=tuple(problem for part in ready for problem in part.catalogue.problems),
        remarks=tuple(remark for part in ready for remark in part.catalogue.remarks),
    )


def _divided(part: Part, seed: int) -> Part:
    catalogue = part.catalogue
    kinds = {canonical(split) for split in catalogue.splits}
    if "train" in kinds or not kinds & {UNSPLIT, "trainval"}:
        return part
    splits, notes = complete(catalogue.splits, lambda picture: picture.id, seed)
    return replace(
        part, catalogue=replace(catalogue, splits=splits, notes=(*catalogue.notes, *notes))
    )


def _common_names(parts: Sequence[Part]) -> dict[str, str]:
    """What each split is called in the merged set: ``train2017`` joins another part's ``train``.

    Not where a part has two of a kind (``train2014`` beside ``train2017``): these stay apart.
    """
    spellings: dict[str, set[str]] = {}
    apart: set[str] = set()
    for part in parts:
        kinds = [canonical(split) for split in part.catalogue.splits]
        apart |= {kind for kind in kinds if kinds.count(kind) > 1}
        for split, kind in zip(part.catalogue.splits, kinds, strict=True):
            spellings.setdefault(kind, set()).add(split)
    return {
        split: kind if len(splits) > 1 and kind not in apart and is_split_name(split) else split
        for kind, splits in spellings.items()
        for split in splits
    }


def _class_notes(parts: Sequence[Part]) -> list[str]:
    everything = class_names(name for part in parts for name in part.catalogue.names)
    notes = []
    for part in parts:
        own = {name_key(name) for name in part.catalogue.names}
        if absent := [name for name in everything if name_key(name) not in own]:
            notes.append(
                f"{part.name} labels nothing as {first_few(absent)}: what it shows of "
                f"{'these' if len(absent) > 1 else 'this'} is learned as background"
            )
    alike: dict[str, list[str]] = {}
    for name in everything:
        alike.setdefault("".join(filter(str.isalnum, name.casefold())) or name, []).append(name)
    notes += [
        f"{' and '.join(map(repr, names))} are different classes: "
        "give them one spelling if they mean the same"
        for names in alike.values()
        if len(names) > 1
    ]
    return notes


def _shared_pictures(parts: Sequence[Part]) -> list[str]:
    owners: dict[Path, set[str]] = {}
    for part in parts:
        for pictures in part.catalogue.splits.values():
            for picture in pictures:
                if picture.image is not None:
                    owners.setdefault(picture.image, set()).add(part.name)
    shared = [image for image, names in owners.items() if len(names) > 1]
    if not shared:
        return []
    example = f"{shared[0]}{', …' if len(shared) > 1 else ''}"
    return [f"pictures in several of the data sets, labelled in each: {len(shared)} ({example})"]
