"""``examine``: every picture and label of a data set read once, and what is wrong with them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multibox.card import DefaultBoxSpec
from multibox.data.doctor.duplicates import duplicate_images
from multibox.data.doctor.finding import Finding, finding
from multibox.data.doctor.labels import (
    ReadPicture,
    catalogue_findings,
    picture_findings,
    tiny_boxes,
)
from multibox.data.doctor.orphans import find_orphans
from multibox.data.doctor.pictures import PictureFacts
from multibox.data.doctor.pool import look_at_all
from multibox.data.doctor.summary import summarise
from multibox.data.files import files_below, has_file_below
from multibox.data.labels import Catalogue, LabelledPicture
from multibox.data.merging import DataPath, data_paths
from multibox.data.open import read_catalogue
from multibox.data.policies import KINDS
from multibox.errors import InputError
from multibox.imaging import IMAGE_SUFFIXES

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Report:
    """The findings, errors first and then by kind and file, and figures about the whole set."""

    findings: tuple[Finding, ...]
    summary: Mapping[str, Any]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(item.severity == "error" for item in self.findings)

    def as_json(self) -> dict[str, Any]:
        """``{"findings": [...], "summary": {...}}``."""
        return {
            "findings": [item.as_json() for item in self.findings],
            "summary": dict(self.summary),
        }


def examine(
    data: DataPath,
    spec: DefaultBoxSpec,
    *,
    on_progress: Progress = lambda done, total: None,
    workers: int | None = None,
) -> Report:
    """Read everything at ``data`` and report; nothing is changed.

    ``spec`` are the default boxes of the detector that is to be trained, whose input size decides
    which objects are tiny. Pictures are read by ``workers`` processes (one a core if left out, none
    for 0); ``on_progress(done, total)`` counts them.

    Raises InputError where no data set is recognised.
    """
    try:
        root, catalogue = read_catalogue(data)
    except InputError as error:
        broken = _broken_label_files(data, error)
        if not broken:
            raise
        return Report(tuple(broken), summarise(Catalogue("", (), {}), [], [], broken, spec))
    orphans = find_orphans(root, catalogue)
    once = {
        (picture.image, picture.label_file, _first_place(picture)): picture
        for split in catalogue.splits.values()
        for picture in split
    }
    images = [picture.image for picture in once.values() if picture.image is not None]
    paths = list(dict.fromkeys([*images, *orphans.pictures]))
    facts = look_at_all(paths, on_progress, workers=workers)

    findings = [*catalogue_findings(root, catalogue), *orphans.findings]
    for path in paths:
        findings += _picture_faults(path, facts[path])
    read = [ReadPicture.of(picture, facts) for picture in once.values()]
    for one in read:
        findings += picture_findings(one, catalogue)
        findings += tiny_boxes(one, spec.image_size)
    findings += duplicate_images(catalogue, facts, orphans.pictures)
    findings = _in_order(findings)
    return Report(tuple(findings), summarise(catalogue, read, orphans.pictures, findings, spec))


def _first_place(picture: LabelledPicture) -> int | None:
    """Tells two entries of one label file about the same picture apart."""
    return picture.objects[0].place if picture.objects else None


def _picture_faults(path: Path, facts: PictureFacts) -> list[Finding]:
    return [
        finding(kind, "error" if is_error else "warning", str(path), what, remedy)
        for kind, is_error, what, remedy in facts.faults
    ]


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Each once, errors first, then as the kinds are listed, then by file and place."""
    return sorted(
        dict.fromkeys(findings),
        key=lambda f: (
            f.severity != "error",
            KINDS.index(f.kind),
            f.file,
            -1 if f.object is None else f.object,
        ),
    )


def _broken_label_files(data: DataPath, error: InputError) -> Sequence[Finding]:
    """Findings where no data set can be read because the file that it hangs on is damaged."""
    found = []
    for place in data_paths(data):
        if not place.is_dir():
            files = [place]
        elif has_file_below(place, IMAGE_SUFFIXES):
            files = files_below(place, {".yaml", ".yml", ".json", ".txt"})
        else:
            continue
        for file in files:
            reason = str(error) if str(error).startswith(f"{file}: ") else _why_unreadable(file)
            if reason:
                what = reason.removeprefix(f"{file}: ")
                remedy = "the data set cannot be read without it"
                found.append(finding("bad-label-file", "error", str(file), what, remedy))
    return found


def _why_unreadable(file: Path) -> str:
    """Why a file that may list a data set's classes cannot be read; '' for one that can."""
    if file.suffix.lower() == ".txt":
        return ""
    try:
        _, catalogue = read_catalogue(file)
    except InputError as error:
        return str(error) if "not a readable" in str(error) else ""
    return next((p.reason for p in catalogue.problems if p.kind == "bad-label-file"), "")
