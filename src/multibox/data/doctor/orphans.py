"""Files that no reader comes by: labels of no picture, pictures of no label."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from multibox import limits
from multibox.data.doctor.finding import Finding, finding
from multibox.data.doctor.labels import place_of
from multibox.data.files import files_below, name_key, read_label_bytes, read_lines
from multibox.data.labels import Catalogue, LabelledPicture, number
from multibox.data.voc_xml import read_annotation
from multibox.data.yolo import NAME_FILES, label_file
from multibox.errors import InputError
from multibox.imaging import IMAGE_SUFFIXES


@dataclass(slots=True)
class Orphans:
    """Pictures in the data set's folders that no split has, and what was found about the rest."""

    pictures: list[Path] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def find_orphans(root: Path, catalogue: Catalogue) -> Orphans:
    """Look through ``root`` for what the splits of ``catalogue`` do not have.

    Pictures count only in folders that hold some of the data set: others have their own purpose.
    """
    listed = [picture for split in catalogue.splits.values() for picture in split]
    used = {picture.image for picture in listed if picture.image is not None}
    folders = {path.parent for path in used}
    beside = [path for path in files_below(root, IMAGE_SUFFIXES) if path.parent in folders]
    orphans = Orphans(pictures=[path for path in beside if path not in used])
    told = {problem.file for problem in catalogue.problems}
    if any(picture.label_file.endswith(".xml") for picture in listed):
        labelled = _xml(root, listed, beside, told, orphans)
    elif any(picture.unit for picture in listed):
        labelled = _text(root, listed, beside, orphans)
    else:
        labelled = set()
        orphans.findings += _broken_json(root, listed, told)
    for path in orphans.pictures:
        if path not in labelled and str(path) not in told:
            orphans.findings.append(
                finding(
                    "image-without-label",
                    "warning",
                    str(path),
                    "a picture of the data set's folder that no label names",
                    "label it, or move it elsewhere",
                    train="it is not used",
                )
            )
    return orphans


def _xml(
    root: Path,
    listed: Iterable[LabelledPicture],
    pictures: Iterable[Path],
    told: set[str],
    orphans: Orphans,
) -> set[Path]:
    """Look at the XML files that no split lists; the pictures that any of them labels."""
    by_stem: dict[str, list[Path]] = {}
    for path in pictures:
        by_stem.setdefault(name_key(path.stem), []).append(path)
    read = {picture.label_file for picture in listed} | told
    labelled: set[Path] = set()
    for file in files_below(root, {".xml"}):
        if str(file) in told:
            labelled.update(by_stem.get(name_key(file.stem), []))
        if str(file) in read:
            continue
        try:
            annotation = read_annotation(file)
        except InputError as error:
            what = str(error).removeprefix(f"{file}: ")
            orphans.findings.append(
                finding("bad-label-file", "error", str(file), what, "it is in no split as well")
            )
            annotation = None
            found = by_stem.get(name_key(file.stem), [])
        else:
            if annotation is None:  # XML of another kind
                continue
            names = (file.stem, Path(annotation.file_name.replace("\\", "/")).stem)
            found = next((by_stem[name_key(n)] for n in names if name_key(n) in by_stem), [])
            if not found:
                orphans.findings.append(_without_image(file))
        labelled.update(found)
    return labelled


def _text(
    root: Path, listed: Iterable[LabelledPicture], pictures: Iterable[Path], orphans: Orphans
) -> set[Path]:
    """Look at the text files beside those that label pictures; the pictures that have one."""
    labels = {picture.label_file for picture in listed}
    folders = {_labels_folder(Path(file), root) for file in labels}
    expected = {label_file(path): path for path in files_below(root, IMAGE_SUFFIXES)}
    for file in files_below(root, {".txt"}):
        if (
            _labels_folder(file, root) in folders
            and str(file) not in labels
            and file not in expected
        ):
            orphans.findings += _orphaned_text(file)
    return {expected[file] for file in expected if file.is_file()} & set(pictures)


def _labels_folder(file: Path, root: Path) -> Path:
    """The ``labels`` folder that a text file lies in, however deep, else its own folder."""
    within = (folder for folder in file.parents if folder.is_relative_to(root))
    return next((folder for folder in within if folder.name.lower() == "labels"), file.parent)


def _broken_json(
    root: Path, listed: Iterable[LabelledPicture], told: set[str]
) -> Iterator[Finding]:
    """JSON files beside those that were read which hold too little to be known for COCO's."""
    read = {Path(place_of(picture.label_file)[0]) for picture in listed}
    folders = {file.parent for file in read}
    for file in files_below(root, {".json"}):
        if file.parent in folders and file not in read and str(file) not in told:
            try:
                json.loads(read_label_bytes(file, limits.COCO_BYTES))
            except (ValueError, RecursionError, InputError) as error:
                what = f"not a readable JSON file ({error})"
                yield finding("bad-label-file", "error", str(file), what, "mend or remove it")


def _orphaned_text(file: Path) -> Iterator[Finding]:
    """A finding where a text file is one of boxes, and not a list or a note."""
    if file.name in NAME_FILES:
        return
    try:
        lines = read_lines(file)
    except InputError:
        lines = []
    of_boxes = bool(lines) and all(len(line.split()) >= 5 for line in lines[:3])
    numbers = of_boxes and all(number(token) == number(token) for token in lines[0].split())
    if numbers or (not lines and "labels" in (part.lower() for part in file.parts[:-1])):
        yield _without_image(file)


def _without_image(file: Path) -> Finding:
    return finding(
        "label-without-image",
        "error",
        str(file),
        "picture not found",
        "put the picture there, or remove its label",
        train="it is not used",
    )
