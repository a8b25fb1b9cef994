"""PASCAL VOC folders: ``Annotations``, ``JPEGImages``, ``ImageSets/Main``, one or several years.

A devkit is a folder of such folders (``VOC2007``, ``VOC2012``); a split then holds the pictures of
all years that have it. Where such folders have no lists and are called train, val (valid) or test,
those are the splits, as some tools export them. ``ImageSets/Main`` also has lists of one class
(``cat_train.txt``: a name and -1, 0 or 1 on each line), which are not splits.

A listed picture without an annotation file is kept as one without objects, and reported. A year's
split of which no picture has one (the VOC2012 test pictures) is left out.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from multibox.data.files import (
    PictureIndex,
    child_folder,
    files_below,
    has_file_below,
    name_key,
    read_lines,
    relative_id,
    subfolders,
    without_image_suffix,
)
from multibox.data.labels import NOT_READ, Catalogue, LabelledPicture, class_names, first_few
from multibox.data.policies import Kind
from multibox.data.samples import Problem
from multibox.data.splits import UNSPLIT, is_split_name
from multibox.data.voc_xml import VocAnnotation, read_annotation
from multibox.errors import InputError
from multibox.imaging import IMAGE_SUFFIXES

_UNLABELLED: tuple[str, Kind] = ("no annotation file", "image-without-label")
_NO_ANNOTATION: tuple[str, Kind] = ("not a VOC annotation", "bad-label-file")
_CLASS_LIST_LINE = re.compile(r"\S.*\s(-1|0|1)$")


def recognise(path: Path) -> str | None:
    """What kind of VOC folder ``path`` is, in words, or None."""
    if _is_voc_folder(path):
        return "VOC folder"
    years = [folder.name for folder in subfolders(path) if _is_voc_folder(folder)]
    return f"VOC devkit ({', '.join(years)})" if years else None


def read(path: Path) -> Catalogue:
    """Read every split of a VOC folder or devkit; classes are sorted by name.

    Raises InputError where a label file or a list cannot be parsed.
    """
    years = [path] if _is_voc_folder(path) else [f for f in subfolders(path) if _is_voc_folder(f)]
    splits: dict[str, list[LabelledPicture]] = {}
    where: dict[str, list[str]] = {}
    folder_splits: set[str] = set()
    notes: list[str] = []
    problems: list[Problem] = []
    remarks: list[Problem] = []
    for year in years:
        reader = _VocFolder(year, path)
        for listed, pictures in reader.splits().items():
            split = listed
            if listed == UNSPLIT and year != path and is_split_name(year.name):
                split = year.name
                folder_splits.add(split)
            splits.setdefault(split, []).extend(pictures)
            where.setdefault(split, []).append(year.name)
        notes += reader.notes
        problems += reader.problems
        remarks += reader.remarks
    if len(splits) > 1 and UNSPLIT in splits:
        notes.append(f"pictures of {', '.join(where[UNSPLIT])} left out: no ImageSets/Main there")
        del splits[UNSPLIT]
    notes += [
        f"split {split} is in {', '.join(found)} only"
        for split, found in where.items()
        if split in splits and split not in folder_splits and len(found) < len(years)
    ]
    return Catalogue(
        layout=recognise(path) or "VOC folder",
        names=sorted_names(splits),
        splits=splits,
        notes=tuple(notes),
        problems=tuple(problems),
        remarks=tuple(remarks),
    )


def sorted_names(splits: Mapping[str, Sequence[LabelledPicture]]) -> tuple[str, ...]:
    """The class names of all objects of all splits, in the order of their NFC forms."""
    spellings = {
        item.name
        for pictures in splits.values()
        for picture in pictures
        for item in picture.objects
    }
    return tuple(sorted(class_names(sorted(spellings)), key=name_key))


def from_annotation(
    annotation: VocAnnotation, path: Path, image: Path | None, root: Path
) -> LabelledPicture:
    """The picture that an annotation file, read from ``path``, describes."""
    return LabelledPicture(
        image=image,
        id=relative_id(image or path, root),
        label_file=str(path),
        objects=annotation.objects,
        size=annotation.size,
        problems=annotation.problems,
    )


def unread(path: Path, image: Path | None, root: Path, error: InputError) -> LabelledPicture:
    """The picture whose annotation file, at ``path``, cannot be read: without objects."""
    return LabelledPicture(
        image=image,
        id=relative_id(image or path, root),
        label_file=str(path),
        problems=(Problem(str(path), None, str(error), NOT_READ, "bad-label-file"),),
    )


def unlabelled(pictures: Iterable[Path]) -> list[Problem]:
    """A problem for each picture that has no annotation file."""
    reason, action = "picture without a label file", "left out"
    return [Problem(str(p), None, reason, action, "image-without-label") for p in pictures]


def _is_voc_folder(path: Path) -> bool:
    annotations = child_folder(path, "Annotations")
    return (
        annotations is not None
        and (child_folder(path, "JPEGImages") or child_folder(path, "ImageSets")) is not None
        and has_file_below(annotations, {".xml"})  # COCO's folder has the same name
    )


class _VocFolder:
    """One ``Annotations``, ``JPEGImages``, ``ImageSets`` folder; each file is read once."""

    def __init__(self, folder: Path, root: Path):
        self.folder, self.root = folder, root
        self.annotations = child_folder(folder, "Annotations") or folder / "Annotations"
        self.pictures = files_below(child_folder(folder, "JPEGImages") or folder, IMAGE_SUFFIXES)
        self.index = PictureIndex(self.pictures)
        self.xml = {
            name_key(relative_id(path.with_suffix(""), self.annotations)): path
            for path in files_below(self.annotations, {".xml"})
        }
        self.notes: list[str] = []
        self.problems: list[Problem] = []
        self.remarks: list[Problem] = []
        self._read: dict[str, LabelledPicture] = {}

    def splits(self) -> dict[str, list[LabelledPicture]]:
        """Every split by name; the one key UNSPLIT where there are no lists."""
        splits = {}
        for path in self._lists():
            entries = Counter(map(self._entry, read_lines(path)))
            names = list(entries)
            if again := [name for name, count in entries.items() if count > 1]:
                self._remark(path, f"lists pictures twice: {first_few(again)}", "used once")
            if not any(name_key(name) in self.xml for name in names):
                self.notes.append(
                    f"{relative_id(path, self.root)} left out: no picture is labelled"
                )
                continue
            splits[path.stem] = [self._picture(name, path) for name in names]
        if splits:
            return splits
        unsplit = [self._picture(name) for name in self.xml]
        used = {picture.image for picture in unsplit}
        self.problems += unlabelled(p for p in self.pictures if p not in used)
        return {UNSPLIT: unsplit}

    def _lists(self) -> list[Path]:
        image_sets = child_folder(self.folder, "ImageSets")
        if image_sets is None:
            return []
        main = child_folder(image_sets, "Main") or image_sets
        paths = sorted(path for path in main.glob("*.txt") if not path.name.startswith("."))
        lists = []
        for path in paths:
            lines = read_lines(path)
            if lines and not self._of_class(lines):
                lists.append(path)
            elif not lines and is_split_name(path.stem):
                self._remark(path, f"the split {path.stem} is empty", "left out")
        return lists

    def _remark(self, file: Path, reason: str, action: str) -> None:
        self.remarks.append(Problem(str(file), None, reason, action, "bad-label-file"))

    def _of_class(self, lines: list[str]) -> bool:
        """Whether a list is of one class; a name may itself end in 1, if there is such a file."""
        return name_key(lines[0]) not in self.xml and all(
            _CLASS_LIST_LINE.match(line) for line in lines
        )

    def _entry(self, line: str) -> str:
        """A line of a list, without the suffix and the folder that some tools write."""
        if name_key(line) in self.xml:
            return line
        plain = without_image_suffix(line.replace("\\", "/"))
        return plain if name_key(plain) in self.xml else plain.rsplit("/", 1)[-1]

    def _picture(self, name: str, listed: Path | None = None) -> LabelledPicture:
        """The picture called ``name``; the file that ``listed`` it is at fault if there is none."""
        key = name_key(name)
        if key not in self._read:
            self._read[key] = self._read_picture(name, self.xml.get(key))
        picture = self._read[key]
        if listed is not None and key not in self.xml and picture.image is None:
            return replace(picture, label_file=f"{listed}: {name}")
        return picture

    def _read_picture(self, name: str, path: Path | None) -> LabelledPicture:
        expected = path or self.annotations / f"{name}.xml"
        try:
            annotation = None if path is None else read_annotation(path)
        except InputError as error:
            image = self.index.find(expected.stem, near=expected.parent)
            return unread(expected, image, self.root, error)
        if path is None or annotation is None:
            reason, kind = _UNLABELLED if path is None else _NO_ANNOTATION
            image = self.index.find(name.rsplit("/", 1)[-1], near=self.annotations)
            return LabelledPicture(
                image=image,
                id=relative_id(image or expected, self.root),
                label_file=str(expected),
                problems=(
                    Problem(
                        str(path or image), None, reason, "kept as pictures without objects", kind
                    ),
                )
                if image
                else (),
            )
        image = self.index.find(path.stem, near=path.parent, file_name=annotation.file_name)
        return from_annotation(annotation, path, image, self.root)
