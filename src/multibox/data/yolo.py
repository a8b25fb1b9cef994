"""YOLO: a YAML with class names and picture folders, one text file of boxes for each picture.

The labels of ``.../images/a.jpg`` are in ``.../labels/a.txt`` (the last folder called images), or
else beside the picture. A line is ``class cx cy w h`` in parts of the picture's width and height;
a sixth number (a score) is passed over. A longer line is a polygon ``class x y x y …``, whose
bounding box is taken, or, where the YAML has ``kpt_shape``, a box with key points. A picture
without a text file, or with an empty one, has no objects.

Folders without a YAML are read too, if a file lists the class names (``classes.txt``,
``obj.names``).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from multibox import limits
from multibox.data.files import (
    MAX_LABEL_BYTES,
    as_text,
    files_below,
    is_below,
    is_file,
    is_folder,
    is_visible,
    read_label_bytes,
    read_lines,
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
    first_few,
    number,
)
from multibox.data.lookalikes import named_twice
from multibox.data.policies import Kind
from multibox.data.samples import Problem
from multibox.data.splits import by_folder
from multibox.errors import InputError
from multibox.imaging import IMAGE_SUFFIXES

_SPLITS = ("train", "val", "test")
NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt")
_YAML = {".yaml", ".yml"}


def recognise(path: Path) -> str | None:
    """The layout in words where ``path`` is a YOLO YAML or a YOLO folder, or None."""
    if (file := _find_yaml(path)) is not None:
        return f"YOLO ({file.name})"
    names = _find_names(path) if path.is_dir() else None
    # LabelImg keeps a classes.txt beside XML files too: only text files of boxes make it YOLO.
    if names and any(
        label_file(picture).is_file() for picture in files_below(path, IMAGE_SUFFIXES)
    ):
        return f"YOLO ({relative_id(names, path)})"
    return None


def read(path: Path) -> Catalogue:
    """Read a YOLO YAML, or a folder that has one or a list of class names.

    Raises InputError where a file cannot be parsed or names folders that do not exist.
    """
    file = _find_yaml(path)
    return _read_folder(path) if file is None else _YoloYaml(file).catalogue()


def _find_yaml(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in _YAML else None
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in _YAML and is_visible(file.name) and _is_data_yaml(file)
    )
    usual = [file for file in found if file.stem.lower() in ("data", "dataset")]
    return next(iter(usual or found), None)


def _is_data_yaml(file: Path) -> bool:
    try:
        content = _load_yaml(file)
    except InputError:
        return False
    return not {"names", "nc"}.isdisjoint(content) and not set(_SPLITS).isdisjoint(content)


def _load_yaml(file: Path) -> dict[str, Any]:
    try:
        content = _parse_yaml(read_label_bytes(file, limits.YAML_BYTES))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise InputError(f"{file}: not a readable YAML file ({what}): mend it") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: not a YOLO data file: it needs names, train and val")
    return content


class _Loader(yaml.BaseLoader):
    """All values are strings: YAML's guesses make the classes no and 007 False and 7.

    A key that stands twice is an error, as YAML has it: the first of two classes would be lost.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(None, None, f"{key.value!r} twice", key.start_mark)
                seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


@lru_cache(maxsize=1)  # parsing is slow, and a file is looked at before it is read
def _parse_yaml(text: bytes) -> object:
    return yaml.load(text, Loader=_Loader)


def _find_names(path: Path) -> Path | None:
    folders = [path, *subfolders(path), *(sub for f in subfolders(path) for sub in subfolders(f))]
    candidates = (folder / name for folder in folders for name in NAME_FILES)
    return next((file for file in candidates if file.is_file()), None)


def _read_folder(path: Path) -> Catalogue:
    names_file = _find_names(path)
    if names_file is None:
        raise InputError(f"{path}: no class names: add a data.yaml or a classes.txt")
    names = dict(enumerate(read_lines(names_file)))
    pictures = files_below(path, IMAGE_SUFFIXES)
    labelled = [
        (picture, read_picture(picture, label_file(picture), names, path)) for picture in pictures
    ]
    splits, notes = by_folder(labelled, path)
    return Catalogue(
        layout=f"YOLO ({relative_id(names_file, path)})",
        names=class_names(names.values()),
        splits=splits,
        notes=tuple(notes),
        problems=tuple(named_twice(str(names_file), names.values())),
        names_file=str(names_file),
    )


@dataclass
class _YoloYaml:
    """A data YAML: where its pictures are and what its classes are called."""

    file: Path

    def __post_init__(self) -> None:
        self.content = _load_yaml(self.file)
        self.here = self.file.parent
        base = self._text("path")
        self.base = next(
            (f for f in (self.here / base, self.here) if base and is_folder(f)), self.here
        )
        self.names, self.notes = _names(self.content, self.file)
        self.remarks = list(_odd_classes(self.content, self.names, self.file))
        self.absent: dict[Path, str] = {}
        """Pictures that a list names and that are not there, with that list and its line."""

    def catalogue(self) -> Catalogue:
        splits: dict[str, list[LabelledPicture]] = {}
        listed: dict[str, list[Path]] = {}
        read: dict[Path, LabelledPicture] = {}
        for split in _SPLITS:
            entries = self.content.get(split)
            entries = entries if isinstance(entries, list) else [self._text(split)]
            if not all(isinstance(entry, str) for entry in entries):
                raise InputError(f"{self.file}: '{split}' must be a folder or a list of folders")
            places = [self._place(entry, split) for entry in entries if entry]
            found = [place for place in places if place is not None]
            pictures = list(dict.fromkeys(p for place in found for p in self._pictures(place)))
            if found and not pictures:
                what = f"no pictures in {', '.join(map(str, found))}"
                self.notes.append(f"{split}: {what}")
                self._remark(f"its split {split} is empty: {what}")
            for picture in pictures:
                if picture not in read:
                    read[picture] = self._picture(picture)
            if pictures:
                listed[split] = pictures
                splits[split] = [read[picture] for picture in pictures]
        if not splits:
            raise InputError(
                f"{self.file}: no pictures where it says train, val or test: correct its 'path'"
            )
        if listed.get("val") and listed["val"] == listed.get("train"):
            self.notes.append(f"{self.file.name} names the same pictures for train and val")
        return Catalogue(
            layout=f"YOLO ({self.file.name})",
            names=class_names(self.names[i] for i in sorted(self.names)),
            splits=splits,
            notes=tuple(self.notes),
            problems=tuple(named_twice(str(self.file), self.names.values())),
            remarks=tuple(self.remarks),
            names_file=str(self.file),
        )

    def _text(self, key: str) -> str:
        value = self.content.get(key)
        return value.strip() if isinstance(value, str) and value not in ("null", "~") else ""

    def _place(self, entry: str, split: str) -> Path | None:
        """The folder or list that an entry means.

        Exports are moved about and name folders of other machines: without ``path``, below the
        YAML, without the leading ``..`` (Roboflow's ``../train/images``), and the last two folders
        alone are tried too.
        """
        entry = entry.strip().replace("\\", "/")
        parts = [part for part in Path(entry).parts if part not in ("..", "/")]
        tries = [self.base / entry, self.here / entry, self.base.joinpath(*parts)]
        tries += [self.here.joinpath(*parts), self.here.joinpath(*parts[-2:])]
        place = next((path for path in tries if self._is_place(path)), None)
        if place is None:
            what = f"{split}: {entry} does not exist"
            self.notes.append(f"{what} and is left out")
            self._remark(what)
        return place

    def _remark(self, reason: str, file: Path | None = None) -> None:
        file = file or self.file
        self.remarks.append(Problem(str(file), None, reason, "left out", "bad-label-file"))

    def _is_place(self, path: Path) -> bool:
        """A file, or a folder that the YAML does not lie in deeper (as in ``..`` and ``/``)."""
        if is_folder(path):
            return path.resolve() not in self.here.resolve().parents
        return is_file(path)

    def _pictures(self, place: Path) -> list[Path]:
        if place.is_dir():
            return files_below(place, IMAGE_SUFFIXES)
        if place.suffix.lower() != ".txt":
            return [place]
        pictures = []
        bases = (self.base, self.here)
        for line in read_lines(place):
            line = line.replace("\\", "/")
            inside = self.base.joinpath(*(p for p in Path(line).parts if p not in ("..", "/")))
            tries = [place.parent / line, self.base / line, inside]
            tries = [path for path in tries if any(is_below(path, base) for base in bases)]
            found = next((path for path in tries if is_file(path)), None)
            pictures.append(found or tries[0])
            if found is None:
                self.absent.setdefault(tries[0], f"{place}: {line}")
        if again := [path.name for path, n in Counter(pictures).items() if n > 1]:
            self._remark(f"lists pictures twice: {first_few(again)}", place)
        return pictures

    def _picture(self, picture: Path) -> LabelledPicture:
        key_points = "kpt_shape" in self.content
        read = read_picture(picture, label_file(picture), self.names, self.here, key_points)
        return replace(read, label_file=self.absent.get(picture, read.label_file))


def _names(content: dict[str, Any], file: Path) -> tuple[dict[int, str], list[str]]:
    names = content.get("names")
    notes: list[str] = []
    try:
        if isinstance(names, list):
            found = {i: _name(name) for i, name in enumerate(names)}
        elif isinstance(names, dict):
            found = {int(i): _name(name) for i, name in names.items()}
        else:
            found = {i: f"class_{i}" for i in range(_class_count(content, file))}
            notes.append(f"{file.name} has no names: the classes are called class_0, class_1, …")
    except ValueError as error:
        raise InputError(
            f"{file}: 'names' must be a list of class names, or a mapping of 0, 1, … to them"
        ) from error
    if not found:
        raise InputError(f"{file}: no class names: fill in 'names'")
    count = number(content.get("nc"))
    if isfinite(count) and count != len(found):
        notes.append(f"{file.name} says nc: {count:g} and has {len(found)} names: the names count")
    return {i: name or f"class_{i}" for i, name in found.items()}, notes


def _odd_classes(content: dict[str, Any], names: dict[int, str], file: Path) -> Iterator[Problem]:
    """What other programs refuse: numbers of classes that are not 0, 1, …, or another count."""
    expected = set(range(len(names)))
    if names.keys() != expected:
        absent = ", ".join(map(str, sorted(expected - names.keys())[:5]))
        reason, action = f"classes are not numbered from 0 without gaps: no {absent}", "as it says"
        yield Problem(str(file), None, reason, action, "bad-label-file")
    count = number(content.get("nc"))
    if isfinite(count) and count != len(names):
        reason, action = f"nc is {count:g}, the names are {len(names)}", "the names count"
        yield Problem(str(file), None, reason, action, "bad-label-file")


def _class_count(content: dict[str, Any], file: Path) -> int:
    said = content.get("nc", "")
    count = int(said) if isinstance(said, str) else 0
    if count > limits.CLASSES:
        what = f"more than the limit of {limits.CLASSES:,} classes"
        raise InputError(f"{file}: nc: {said[:20]}: {what}: correct it, or name them in 'names'")
    return count


def _name(value: object) -> str:
    # Lists within lists can be a few bytes of YAML and gigabytes when they are written out.
    if not isinstance(value, str):
        raise ValueError("not a text")
    return as_text(value)


def label_file(picture: Path) -> Path:
    """Where the labels of a picture are: in the mirrored ``labels`` folder, else beside it."""
    parts = list(picture.parts)
    beside = picture.with_suffix(".txt")
    folders = [i for i, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if not folders:
        return beside
    parts[folders[-1]] = "labels"
    mirrored = Path(*parts).with_suffix(".txt")
    return beside if is_file(beside) and not is_file(mirrored) else mirrored


def read_picture(
    picture: Path, labels: Path, names: dict[int, str], root: Path, key_points: bool = False
) -> LabelledPicture:
    """Read the labels of one picture; ``names`` maps class indices to names.

    A label file that is no text is one of the picture's problems.
    """
    objects: list[LabelledObject] = []
    problems: list[Problem] = []
    try:
        lines = read_lines(labels, MAX_LABEL_BYTES) if is_file(labels) else []
        if (count := len(lines)) > limits.OBJECTS:
            raise InputError(f"{labels}: {count:,} lines{limits.beyond(count, limits.OBJECTS)}")
    except InputError as error:
        lines = []
        problems.append(Problem(str(labels), None, str(error), NOT_READ, "bad-label-file"))
    for index, line in enumerate(lines):
        read = _object(line.split(), index, names, key_points)
        if isinstance(read, LabelledObject):
            objects.append(read)
        else:
            reason, kind = read
            problems.append(Problem(str(labels), index, reason, "dropped", kind, line[:60]))
    exists = is_file(picture)
    return LabelledPicture(
        image=picture if exists else None,
        id=relative_id(picture, root),
        label_file=str(labels if exists else picture),
        objects=objects,
        unit=True,
        problems=tuple(problems),
    )


def _object(
    tokens: list[str], index: int, names: dict[int, str], key_points: bool
) -> LabelledObject | tuple[str, Kind]:
    """The object of a line, or the reason why it is none and what kind of fault that is."""
    class_index, *values = map(number, tokens)
    if not isfinite(class_index):
        return "class index that has no name", "bad-label-file"
    name = names.get(int(class_index)) if class_index.is_integer() else None
    if name is None:
        return "class index that has no name", "unknown-class"
    if len(values) in (4, 5) or (key_points and len(values) > 5):
        cx, cy, w, h = values[:4]
        return LabelledObject(index, name, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        return LabelledObject(index, name, (min(xs), min(ys), max(xs), max(ys)))
    return NOT_NUMBERS, "bad-label-file"
