"""From what was given to ``detect`` (pictures, videos, folders, globs) to the files."""

import os
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from multibox.errors import InputError
from multibox.imaging import IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"})
"""Lower-case file name endings of the videos that are read; FFmpeg, within OpenCV, does it."""


class PictureFile(NamedTuple):
    """A picture or a video.

    ``given`` is the path exactly as given, ``relative`` its place below the source.
    """

    given: str
    relative: Path


def find_pictures(sources: Sequence[str], leave_out: Path | None = None) -> list[PictureFile]:
    """The pictures of all ``sources``, in their order; those of a folder or a glob are sorted.

    Videos are found where they are named, or match a glob, not in folders.

    A path that is not there is kept as long as another one is: it becomes one unreadable picture.
    ``leave_out`` is a folder that is not looked into: where annotated pictures are written.

    Raises: InputError for a folder without pictures, a glob that matches none, and when nothing
    that was given is there.
    """
    if not sources:
        raise InputError("no pictures given: name pictures, folders or globs")
    if not any(Path(source).exists() or has_magic(source) for source in sources):
        raise InputError(f"{sources[0]}: no such picture or folder")
    return [picture for source in sources for picture in _expand(source, leave_out)]


def _expand(source: str, leave_out: Path | None) -> list[PictureFile]:
    if Path(source).is_dir():
        what = "no pictures in this folder"
        # Joined as text: Path would drop a leading "./" from what was given.
        found = [
            PictureFile(os.path.join(source, relative), relative)  # noqa: PTH118
            for relative in sorted(_pictures_below(Path(source), leave_out))
        ]
    elif has_magic(source) and not Path(source).exists():
        what = "matches no pictures"
        matches = sorted(glob(source, recursive=True))  # noqa: PTH207 (knows no absolute globs)
        found = [
            PictureFile(m, Path(Path(m).name))
            for m in matches
            if _is_picture(Path(m)) or is_video(m)
        ]
    else:
        return [PictureFile(source, Path(Path(source).name))]
    if not found:
        raise InputError(f"{source}: {what} ({' '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def _pictures_below(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    """The pictures below ``folder``, relative to it; not those that are hidden."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and (leave_out is None or Path(parent, name).resolve() != leave_out.resolve())
        ]
        paths = (Path(parent, name) for name in files if _is_picture(Path(name)))
        yield from (path.relative_to(folder) for path in paths if not _is_endless(path))


def _is_endless(path: Path) -> bool:
    """Whether it is a pipe or a device: reading one may never end."""
    return path.exists() and not path.is_file()


def is_video(path: str) -> bool:
    """Whether the name is that of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
