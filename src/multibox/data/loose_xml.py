"""Pictures and VOC XML files without VOC's folders: side by side, in two folders, in any tree.

Where folders are called train, val (valid) or test, those are the splits, as in Roboflow's
exports; else the data is not divided. A picture without an XML file has not been labelled, which
is not the same as having no objects: it is left out, and reported.
"""

from pathlib import Path

from multibox.data import voc
from multibox.data.files import PictureIndex, files_below
from multibox.data.labels import Catalogue, LabelledPicture
from multibox.data.samples import Problem
from multibox.data.splits import UNSPLIT, by_folder
from multibox.data.voc_xml import read_annotation
from multibox.errors import InputError
from multibox.imaging import IMAGE_SUFFIXES


def recognise(path: Path) -> str | None:
    """The layout in words where ``path`` has XML files and pictures but is not VOC's, or None."""
    if (
        voc.recognise(path)
        or not files_below(path, {".xml"})
        or not files_below(path, IMAGE_SUFFIXES)
    ):
        return None
    return "pictures with VOC XML files"


def read(path: Path) -> Catalogue:
    """Read all pictures with an XML file below ``path``; classes are sorted by name.

    Raises InputError where an XML file cannot be parsed.
    """
    pictures = files_below(path, IMAGE_SUFFIXES)
    index = PictureIndex(pictures)
    labelled: list[tuple[Path, LabelledPicture]] = []
    problems: list[Problem] = []
    others: set[Path | None] = set()  # pictures whose XML file is of another kind
    for file in files_below(path, {".xml"}):
        try:
            annotation = read_annotation(file)
        except InputError as error:
            image = index.find(file.stem, near=file.parent)
            labelled.append((file, voc.unread(file, image, path, error)))
            continue
        if annotation is None:
            problems.append(
                Problem(str(file), None, "not a VOC annotation", "left out", "bad-label-file")
            )
            others.add(index.find(file.stem, near=file.parent))
            continue
        image = index.find(file.stem, near=file.parent, file_name=annotation.file_name)
        labelled.append((file, voc.from_annotation(annotation, file, image, path)))
    used = others | {picture.image for _, picture in labelled}
    problems += voc.unlabelled(picture for picture in pictures if picture not in used)
    splits, notes = by_folder(labelled, path)
    how = "not divided" if UNSPLIT in splits else f"in {', '.join(splits)}"
    return Catalogue(
        layout=f"pictures with VOC XML files, {how}",
        names=voc.sorted_names(splits),
        splits=splits,
        notes=tuple(notes),
        problems=tuple(problems),
    )
