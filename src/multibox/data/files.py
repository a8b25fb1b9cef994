"""Listing and reading files: what every format needs and none should do its own way."""

import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePath

from multibox import limits
from multibox.errors import InputError
from multibox.imaging import IMAGE_SUFFIXES

_HALVES = re.compile("[\ud800-\udfff]")
MAX_LABEL_BYTES = limits.LABEL_BYTES
"""No honest label file of one picture is larger; what is, would only eat memory."""


def name_key(name: str) -> str:
    """What two names are compared by: unicode in one normal form (NFC), no outer white space.

    File systems and archives change the form of accented names, so that a list and the file it
    names may differ in bytes while they look alike.
    """
    return unicodedata.normalize("NFC", name.strip())


def as_text(name: str) -> str:
    """``name`` without outer white space, halves of unicode pairs (surrogates) replaced.

    JSON and YAML can spell them, while no file or terminal takes them.
    """
    return _HALVES.sub("\ufffd", name).strip()


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files in ``folder`` and its subfolders with one of the lower-case ``suffixes``, sorted.

    Hidden files and folders, and the ``__MACOSX`` ones of archives, are passed over; links to
    folders are followed, each folder once.
    """
    return sorted(_walk(folder, suffixes))


def has_file_below(folder: Path, suffixes: Collection[str]) -> bool:
    """Whether ``files_below`` would find any: much quicker than finding all."""
    return next(_walk(folder, suffixes), None) is not None


def _walk(folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if is_visible(name))
        for name in files:
            if is_visible(name) and PurePath(name).suffix.lower() in suffixes:
                yield Path(parent, name)


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly in ``folder``, sorted; none where it is no folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # unlike iterdir, knows a folder without asking again
        return sorted(Path(e.path) for e in entries if is_visible(e.name) and _is_folder(e))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def child_folder(folder: Path, name: str) -> Path | None:
    """The subfolder of that name, upper or lower case alike, or None."""
    matching = [path for path in subfolders(folder) if path.name.casefold() == name.casefold()]
    return matching[0] if matching else None


def is_file(path: Path) -> bool:
    """Whether there is such a file; False as well where there can be none, the name too long."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises)


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; False as well where there can be none, the name too long."""
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises)


def is_visible(name: str) -> bool:
    """Whether a file name is meant for people: not hidden, not an archive's by-product."""
    return not name.startswith(".") and name != "__MACOSX"


def is_below(path: Path, folder: Path) -> bool:
    """Whether ``path`` as written, its ``..`` worked out, lies in ``folder``; links are not read.

    A name out of a label file is followed only where this holds.
    """
    try:
        base = os.path.abspath(folder)  # noqa: PTH100 (resolve would follow links)
        return os.path.commonpath([os.path.abspath(path), base]) == base  # noqa: PTH100
    except ValueError:  # another drive, or a zero byte in the name
        return False


def relative_id(path: Path, root: Path) -> str:
    """``path`` as written below ``root``, with forward slashes; whole where it lies elsewhere."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def read_label_bytes(path: Path, largest: int | None = None) -> bytes:
    """The contents of a label file; raises InputError where it cannot be read or is too large.

    ``largest`` is in bytes, MAX_LABEL_BYTES if left out.
    """
    largest = MAX_LABEL_BYTES if largest is None else largest
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):  # a pipe would be waited for without end
            raise InputError(f"{path}: not a regular file: remove it")
        if (size := info.st_size) > largest:
            raise InputError(f"{path}: {limits.too_large('a label file', size, largest)}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the file") from error


def read_lines(path: Path, largest: int = limits.LIST_BYTES) -> list[str]:
    """The non-empty lines of a UTF-8 text file, stripped.

    Raises InputError where it is not one, or larger than ``largest`` bytes.
    """
    try:
        text = read_label_bytes(path, largest).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: save it as UTF-8") from error
    if "\0" in text:  # UTF-16 without a mark, or no text at all
        raise InputError(f"{path}: not UTF-8 text: save it as UTF-8")
    return [stripped for line in text.splitlines() if (stripped := line.strip())]


class PictureIndex:
    """Pictures found by name, whatever their suffix, its case, and the unicode form."""

    def __init__(self, pictures: Iterable[Path]):
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for picture in pictures:
            self._by_name[name_key(picture.stem)].append(picture)

    def find(self, stem: str, *, near: Path, file_name: str = "") -> Path | None:
        """The picture called ``stem``, else the one called ``file_name``, or None.

        Of several of that stem, the one called exactly ``file_name`` is taken, then the one whose
        folders have most in common with the folder ``near``.
        """
        candidates = self._by_name.get(name_key(stem), [])
        base = file_name.replace("\\", "/").rsplit("/", 1)[-1]
        if not candidates and base:
            candidates = self._by_name.get(name_key(base)) or self._by_name.get(
                name_key(without_image_suffix(base)), []
            )
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        folders = set(near.parts)
        return max(
            candidates,
            key=lambda path: (
                name_key(path.name) == name_key(base),
                path.parent == near,
                len(folders & set(path.parent.parts)),
            ),
        )


def without_image_suffix(name: str) -> str:
    """``name`` without its suffix where that is one of a picture (``a.b`` stays whole)."""
    suffix = PurePath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else name
