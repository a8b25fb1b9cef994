"""``open_data``: a folder or file of labelled pictures, its layout recognised by looking.

Tried in this order; the first that fits is read, and a note names the others (pass the YAML or
JSON file itself to choose it):

1. a VOC folder or devkit (``voc``)
2. COCO JSON (``coco``)
3. a YOLO YAML or folder (``yolo``)
4. pictures with VOC XML files (``loose_xml``)

A folder that holds one folder only is looked into for the first three: archives are often unpacked
that way. Several data sets are merged (``merging``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from multibox.data import coco, loose_xml, voc, yolo
from multibox.data.files import name_key, subfolders
from multibox.data.labels import Catalogue, LabelledPicture, check_policies, read_samples
from multibox.data.lookalikes import similar_names
from multibox.data.merging import DataPath, Part, data_paths, merge, part_names
from multibox.data.policies import DEFAULT_POLICIES, Policies
from multibox.data.samples import DataSet
from multibox.data.splits import ALL, complete, find_split
from multibox.errors import InputError


class _Format(NamedTuple):
    recognise: Callable[[Path], str | None]
    read: Callable[[Path], Catalogue]


_LAST_RESORT = _Format(loose_xml.recognise, loose_xml.read)
_FORMATS = (
    _Format(voc.recognise, voc.read),
    _Format(coco.recognise, coco.read),
    _Format(yolo.recognise, yolo.read),
    _LAST_RESORT,
)


@dataclass(frozen=True, slots=True)
class LabelledData:
    """A data set whose labels have been read, its pictures not yet: opens any of its splits.

    ``root`` is its folder; ``catalogue`` has training and validation splits, made if need be.
    """

    root: Path
    catalogue: Catalogue
    policies: Policies = DEFAULT_POLICIES

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self.catalogue.splits)

    def open(self, split: str | None = None, *, classes: Sequence[str] | None = None) -> DataSet:
        """One split, or every picture, as ``open_data`` gives it.

        Raises InputError where the split or a class is unknown, or no picture is left.
        """
        root, catalogue = self.root, self.catalogue
        if split is None or split == ALL:
            chosen, pictures = ALL, _every_picture(catalogue)
        else:
            chosen = find_split(split, self.splits, root)
            pictures = list(catalogue.splits[chosen])
        names = catalogue.names if classes is None else _chosen(classes, catalogue.names, root)
        if not names:
            raise InputError(f"{root}: no labelled objects in any picture: label some first")
        samples, problems = read_samples(pictures, names, self.policies)
        if not samples:
            raise InputError(
                f"{root}: split {chosen!r} has no readable picture ({len(pictures)} are listed): "
                "check that the pictures are where the labels say"
            )
        return DataSet(
            samples=samples,
            names=names,
            split=chosen,
            root=root,
            layout=catalogue.layout,
            notes=catalogue.notes,
            problems=(*catalogue.problems, *problems),
        )


def open_data(
    path: DataPath,
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> DataSet:
    """Read one split of the labelled pictures at ``path``, a folder or a YAML or JSON file.

    ``path`` may also name several data sets, which are merged: a sequence of paths, or one text
    that joins them with ``+``.
    ``split`` may be a synonym (``valid``, ``validation``, and ``train`` for ``train2017``); None
    or ``all`` gives every picture once. Where the data has no training or validation split one is
    made from ``seed`` (see ``splits.complete``), which a note says. ``classes`` restricts the
    classes and gives their order: other objects are left out, their pictures kept. Class names are
    those of the whole data set, so that labels agree between its splits.

    Raises InputError where no data set is recognised, a label file cannot be parsed, a split or
    class is unknown, or no picture is left. Single wrong boxes and missing pictures never raise:
    they are the data set's ``problems``.
    """
    return read_labels(path, seed=seed).open(split, classes=classes)


def available_splits(path: DataPath, seed: int = 0) -> tuple[str, ...]:
    """The names of the splits that ``open_data`` knows at ``path``, those it makes included.

    Raises InputError as ``open_data`` does.
    """
    return read_labels(path, seed=seed).splits


def read_labels(
    path: DataPath, *, seed: int = 0, policies: Policies = DEFAULT_POLICIES
) -> LabelledData:
    """Read the labels at ``path`` once, for several splits; ``seed`` is that of ``open_data``.

    Raises InputError where no data set is recognised, or for a fault whose policy is ``error``:
    by default, a label file that cannot be parsed.
    """
    root, catalogue = read_catalogue(path, seed)
    check_policies(catalogue.problems, policies)
    for pictures in catalogue.splits.values():
        for picture in pictures:
            check_policies(picture.problems, policies)
    if policies.of("similar-class-names") == "error":
        check_policies(similar_names(catalogue), policies)
    splits, made = complete(catalogue.splits, lambda picture: picture.id, seed)
    done = replace(catalogue, splits=splits, notes=(*catalogue.notes, *made))
    return LabelledData(root, done, policies)


def read_catalogue(path: DataPath, seed: int = 0) -> tuple[Path, Catalogue]:
    """The folder of the data at ``path``, and its labels and splits as they are.

    What cannot be read of single label files is among the problems. Raises InputError where no
    data set is recognised, or the file that its classes or its splits hang on cannot be parsed.
    """
    paths = data_paths(path)
    if len(paths) == 1:
        root, catalogue = _read(paths[0])
    else:
        root, names = part_names(paths)
        parts = [Part(name, _read(place)[1]) for name, place in zip(names, paths, strict=True)]
        catalogue = merge(parts, seed)
    return root, catalogue


def _read(path: Path) -> tuple[Path, Catalogue]:
    """The folder of the one data set at ``path``, and its labels as they are."""
    path, found = _locate(path)
    if not found:
        raise InputError(
            f"{path}: no data set recognised: expected a VOC folder (Annotations, JPEGImages), a "
            "COCO JSON, a YOLO YAML (or classes.txt), or pictures with VOC XML files"
        )
    catalogue = found[0][1].read(path)
    if others := [words for words, _ in found[1:]]:
        note = f"read as {found[0][0]}; also there: {', '.join(others)}"
        catalogue = replace(catalogue, notes=(note, *catalogue.notes))
    return path if path.is_dir() else path.parent, catalogue


def _locate(path: Path) -> tuple[Path, list[tuple[str, _Format]]]:
    """The folder or file that the data set is in, and the layouts it fits, with their words."""
    found = _recognise(path)
    if found and found[0][1] is not _LAST_RESORT:
        return path, found
    if len(inner := subfolders(path)) == 1:
        place, there = _locate(inner[0])
        if there and there[0][1] is not _LAST_RESORT:
            return place, there
    return path, found


def _recognise(path: Path) -> list[tuple[str, _Format]]:
    return [(words, one) for one in _FORMATS if (words := one.recognise(path)) is not None]


def _every_picture(catalogue: Catalogue) -> list[LabelledPicture]:
    pictures = (picture for split in catalogue.splits.values() for picture in split)
    once = {picture.id: picture for picture in pictures}
    return [once[id] for id in sorted(once)]


def _chosen(classes: Sequence[str], names: Sequence[str], root: Path) -> tuple[str, ...]:
    by_key = {name_key(name): name for name in names}
    for name in classes:
        if name_key(name) not in by_key:
            nearest = get_close_matches(name_key(name), by_key, n=1, cutoff=0.0)
            hint = f": did you mean {by_key[nearest[0]]!r}?" if nearest else ""
            raise InputError(f"{root}: no class {name!r} in the data{hint}")
    return tuple(dict.fromkeys(by_key[name_key(name)] for name in classes))
