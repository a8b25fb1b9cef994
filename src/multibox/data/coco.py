"""COCO JSON: its own layout, Roboflow's ``train/_annotations.coco.json``, or one file.

COCO's own: ``annotations/instances_<split>.json`` with the pictures in ``<split>/`` or
``images/<split>/``. A box is [x, y, width, height] in pixels, counted from 0.

Ids are whole numbers, or any text with some tools. Classes are in the order of their category ids
over all files of the data set, numbers before text.
Roboflow adds a category that is only the group of the others: one that nothing is labelled with
and that others name as their supercategory is left out.
"""

import json
import mmap
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

from multibox import limits
from multibox.data.coco_ids import (
    ROBOFLOW,
    Id,
    as_id,
    counted_from_zero,
    other_ids,
    repeated_ids,
    whole_number,
)
from multibox.data.files import (
    as_text,
    is_below,
    is_file,
    is_visible,
    read_label_bytes,
    relative_id,
    subfolders,
)
from multibox.data.labels import (
    NOT_NUMBERS,
    NOT_READ,
    Catalogue,
    LabelledObject,
    LabelledPicture,
    class_names,
    number,
)
from multibox.data.lookalikes import named_twice
from multibox.data.policies import Kind
from multibox.data.samples import Problem
from multibox.data.splits import UNSPLIT, canonical, is_split_name, split_of
from multibox.errors import InputError

_KEYS = ("images", "annotations", "categories")
_ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")  # of those that JSON knows, what tools write


def recognise(path: Path) -> str | None:
    """The layout in words where ``path`` is a COCO JSON or a folder that has some, or None."""
    files = _label_files(path)
    return _words(files, path) if files else None


def _words(files: list[Path], path: Path) -> str:
    shown = ", ".join(relative_id(file, path) if path.is_dir() else file.name for file in files[:4])
    return f"COCO ({shown}{', …' if len(files) > 4 else ''})"


def read(path: Path) -> Catalogue:
    """Read a COCO JSON file, or every split of a folder that has some.

    A file that cannot be parsed is a problem. Raises InputError where it is not clear which split
    the files of a folder hold.
    """
    files, notes = _by_split(path)
    readers: dict[str, _CocoFile] = {}
    problems: list[Problem] = []
    for split, file in files.items():
        try:
            readers[split] = _CocoFile(file, path, split)
        except InputError as error:
            problems.append(Problem(str(file), None, str(error), NOT_READ, "bad-label-file"))
    problems += [problem for reader in readers.values() for problem in reader.problems]
    categories = [pair for reader in readers.values() for pair in reader.categories.items()]
    used = {id for reader in readers.values() for id in reader.used}
    groups = {group for reader in readers.values() for group in reader.groups}
    kept = [(id, name) for id, name in categories if id in used or name not in groups]
    return Catalogue(
        layout=_words(list(files.values()), path),
        names=class_names(name for _, name in sorted(kept, key=_place)),
        splits={split: reader.pictures for split, reader in readers.items()},
        notes=tuple(notes),
        problems=tuple(problems),
        remarks=(
            *(remark for reader in readers.values() for remark in reader.remarks),
            *other_ids({reader.path: reader.categories for reader in readers.values()}),
        ),
        names_file=str(next(iter(files.values()))),
    )


def _place(category: tuple[Id, str]) -> tuple[bool, Id, str]:
    """What categories are sorted by: ids that are numbers first, as they do not compare to text."""
    id, name = category
    return isinstance(id, str), id, name


def _label_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    folders = [path, *subfolders(path)]
    found = sorted(
        file
        for folder in folders
        for file in folder.glob("*.json")
        if is_visible(file.name) and (_is_named_for_coco(file) or _has_coco_keys(file))
    )
    # Beside instances_*.json, COCO has files of other tasks for the same pictures.
    return [file for file in found if file.name.startswith("instances_")] or found


def _is_named_for_coco(path: Path) -> bool:
    """A name that says what a file should hold: one that is damaged is not to be passed over."""
    return path.name.startswith("instances_") or path.name == ROBOFLOW


def _has_coco_keys(path: Path) -> bool:
    """Whether the keys occur in the file: much quicker than parsing hundreds of megabytes."""
    if not path.is_file():  # a pipe would be waited for without end
        return False
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return any(
                    all(data.find(f'"{key}"'.encode(form)) >= 0 for key in _KEYS)
                    for form in _ENCODINGS
                )
        except ValueError:  # an empty file cannot be mapped
            return False


def _by_split(path: Path) -> tuple[dict[str, Path], list[str]]:
    files: dict[str, Path] = {}
    undivided: list[Path] = []
    for file in _label_files(path):
        split = _split_of_file(file, path)
        if split is None:
            undivided.append(file)
        elif split in files:
            raise InputError(
                f"{path}: {files[split].name} and {file.name} are both labels of split {split!r}: "
                "pass one of the files instead of the folder"
            )
        else:
            files[split] = file
    if files:
        return files, [f"{file.name} left out: it names no split" for file in undivided]
    if len(undivided) > 1:
        listed = ", ".join(relative_id(file, path) for file in undivided)
        raise InputError(f"{path}: which COCO file is meant? Pass one of them: {listed}")
    return {UNSPLIT: undivided[0]}, []


def _split_of_file(file: Path, root: Path) -> str | None:
    name = file.stem.removeprefix("instances_")
    tokens = [token for token in re.split(r"[-_. ]+", name) if is_split_name(token)]
    if tokens:
        return tokens[-1]
    if name != file.stem and name != "default":
        return name  # COCO's own rarer ones: instances_minival2014.json
    return split_of(file.relative_to(root)) if root.is_dir() else None


class _CocoFile:
    """One COCO JSON read: its categories by id, and its pictures with their objects."""

    def __init__(self, path: Path, root: Path, split: str):
        content = _parse(path)
        self.path = path
        self.problems: list[Problem] = []
        self.categories: dict[Id, str] = {}
        self.groups: set[str] = set()
        spelt_names: dict[Id, str] = {}
        for index, category in self._entries(content, "categories"):
            id, spelt = as_id(category.get("id")), str(category.get("name", ""))
            name = as_text(spelt)
            if id is None or not name:
                reason = f"categories[{index}] is without an id or a name"
                self.problems.append(Problem(str(path), None, reason, "left out", "bad-label-file"))
                continue
            spelt_names[id] = spelt
            if self.categories.setdefault(id, name) != name:
                reason, action = "category id with two names", "the first name used"
                value = f"{id}: {self.categories[id]!r} and {name!r}"
                self.problems.append(
                    Problem(str(path), None, reason, action, "similar-class-names", value)
                )
            if (group := str(category.get("supercategory", "")).strip()) != name:
                self.groups.add(group)
        self.problems += named_twice(str(path), spelt_names.values())
        images = self._images(content)
        objects: dict[Id, list[LabelledObject]] = {id: [] for id in images}
        dropped: dict[Id, list[Problem]] = {}
        annotations = list(self._entries(content, "annotations"))
        for index, annotation in annotations:
            id = as_id(annotation.get("image_id"))
            if id is None or id not in images:
                reason = "annotation of an image that is not listed"
                value = f"image_id {annotation.get('image_id')!r}"[:60]
                self.problems.append(
                    Problem(str(path), index, reason, "dropped", "label-without-image", value)
                )
                continue
            read = self._object(annotation, index)
            if isinstance(read, LabelledObject):
                objects[id].append(read)
            else:
                file, (reason, kind) = self._label_file(images[id]), read
                value = f"category_id {annotation.get('category_id')!r}"[:60]
                dropped.setdefault(id, []).append(
                    Problem(file, index, reason, "dropped", kind, value)
                )
        self.used = {as_id(item.get("category_id")) for _, item in annotations}
        annotation_ids = [(index, as_id(item.get("id"))) for index, item in annotations]
        self.remarks = [
            *counted_from_zero(self.used, annotation_ids, path),
            *repeated_ids(annotation_ids, str(path)),
        ]
        if not images:
            reason = "no images in it"
            self.remarks.append(Problem(str(path), None, reason, "left empty", "bad-label-file"))
        self.pictures: list[LabelledPicture] = []
        named: set[Path] = set()
        folders = _picture_folders(path, root, split)
        base = _base(path, root)
        bare = Counter(_bare(str(image.get("file_name", ""))) for image in images.values())
        for id, image in images.items():
            name = str(image.get("file_name", ""))
            found = _find_picture(name, folders, base, anywhere=bare[_bare(name)] == 1)
            if found in named:
                reason, action = "the same picture listed twice", "each with its own objects"
                file = self._label_file(image)
                self.remarks.append(Problem(file, None, reason, action, "duplicate-image"))
            if found is not None:
                named.add(found)
            problems = dropped.get(id, [])
            size, stated = _size(image)
            if size is None and stated:
                reason, action = "size in the label is no number", "the picture's own size used"
                problem = Problem(self._label_file(image), None, reason, action, "size-mismatch")
                problems = [*problems, replace(problem, value=stated)]
            self.pictures.append(
                LabelledPicture(
                    image=found,
                    id=relative_id(found, base) if found else name,
                    label_file=self._label_file(image),
                    objects=objects[id],
                    size=size,
                    problems=tuple(problems),
                )
            )

    def _entries(self, content: dict[str, Any], key: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """What a list of the file holds, each with its place; what is no JSON object is left out.

        Raises InputError where nothing in the list is one.
        """
        items = content[key]
        if items and not any(isinstance(item, dict) for item in items):
            raise InputError(f"{self.path}: {key}[0] is not an object: not a COCO file")
        for index, item in enumerate(items):
            if isinstance(item, dict):
                yield index, item
            else:
                place = index if key == "annotations" else None
                reason = f"{key}[{index}] is not an object"
                self.problems.append(
                    Problem(str(self.path), place, reason, "left out", "bad-label-file")
                )

    def _images(self, content: dict[str, Any]) -> dict[Id, dict[str, Any]]:
        """The images by id, without those that have none of their own: no annotation is theirs."""
        images: dict[Id, dict[str, Any]] = {}
        for _, image in self._entries(content, "images"):
            id = as_id(image.get("id"))
            if id is not None and id not in images:
                images[id] = image
            else:
                reason = "image without an id" if id is None else "image with the id of another"
                self.problems.append(
                    Problem(self._label_file(image), None, reason, "left out", "bad-label-file")
                )
        return images

    def _object(self, annotation: dict[str, Any], index: int) -> LabelledObject | tuple[str, Kind]:
        """The object, or the reason why it is none and what kind of fault that is."""
        category = as_id(annotation.get("category_id"))
        name = None if category is None else self.categories.get(category)
        if name is None:
            return "category id that is not listed", "unknown-class"
        box = annotation.get("bbox")
        if not box:
            segmented = bool(annotation.get("segmentation"))
            what = "segmentation" if segmented else "annotation"
            return f"{what} without a bbox", "bad-label-file"
        if not isinstance(box, list) or len(box) != 4:
            return NOT_NUMBERS, "bad-label-file"
        x, y, width, height = map(number, box)
        area = number(annotation.get("area"))
        return LabelledObject(
            index,
            name,
            (x, y, x + width, y + height),
            crowd=bool(annotation.get("iscrowd")),
            area=area if isfinite(area) else None,
        )

    def _label_file(self, image: dict[str, Any]) -> str:
        """One JSON labels many pictures: a problem names both."""
        return f"{self.path}: {image.get('file_name') or 'an image without a file_name'}"


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_label_bytes(path, limits.COCO_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a readable JSON file ({error}): mend or remove it"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in _KEYS
    ):
        raise InputError(f"{path}: not a COCO file: it needs the lists {', '.join(_KEYS)}")
    return content


def _size(image: dict[str, Any]) -> tuple[tuple[int, int] | None, str]:
    """The (width, height) that an image states, None where it states none; and how it stands."""
    said = image.get("width"), image.get("height")
    width, height = map(whole_number, said)
    stated = "" if None in said else f"{said[0]!r} x {said[1]!r}"[:60]
    return None if width is None or height is None else (width, height), stated


def _base(path: Path, root: Path) -> Path:
    """The data set's folder: the one given, or the one that a lone file seems to belong to."""
    if root.is_dir():
        return root
    return path.parent.parent if path.parent.name.casefold() == "annotations" else path.parent


def _picture_folders(path: Path, root: Path, split: str) -> list[Path]:
    """Where the pictures of a file may lie, likeliest first: folders of its split, then others.

    Folders of another split are never looked into: their pictures may have the same names.
    """
    bases = [path.parent, _base(path, root)]
    bases += [base / name for base in bases for name in ("images", "data", "JPEGImages")]
    bases = [base for base in dict.fromkeys(bases) if base.is_dir()]
    own, other = [], []
    for folder in (folder for base in bases for folder in subfolders(base)):
        if split != UNSPLIT and canonical(folder.name) == canonical(split):
            own += [folder, folder / "images", folder / "data"]
        elif not is_split_name(folder.name) or split == UNSPLIT:
            other.append(folder)
    return [folder for folder in dict.fromkeys([*own, *bases, *other]) if folder.is_dir()]


def _bare(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _find_picture(name: str, folders: list[Path], base: Path, *, anywhere: bool) -> Path | None:
    """A picture by its name in the file, in any unicode form.

    And ``anywhere`` by the last part of it, which would find the wrong one where several pictures
    have that. A name never leads out of the folder ``base``.
    """
    spellings = [name, name.replace("\\", "/"), *([_bare(name)] if anywhere else [])]
    for spelling in dict.fromkeys(spellings):
        for form in dict.fromkeys(
            [
                spelling,
                unicodedata.normalize("NFC", spelling),
                unicodedata.normalize("NFD", spelling),
            ]
        ):
            for folder in folders:
                if form and is_below(path := folder / form, base) and is_file(path):
                    return path
    return None
