"""Pictures that cannot be decoded are found before a training starts, not in the middle of it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from multibox.data.samples import DataSet, Problem, Sample
from multibox.errors import ImageError, InputError
from multibox.imaging import read_image

_READERS = 8


def without_unreadable(data: DataSet) -> DataSet:
    """``data`` without the pictures that ``read_image`` refuses, each of them a problem.

    Headers are read when a data set is opened; a file that is cut off or damaged further on shows
    itself only when it is decoded, which takes about a millisecond a picture and core.

    Raises: InputError when no picture is left.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        readable = list(pool.map(_is_readable, data.samples))
    if all(readable):
        return data
    if not any(readable):
        raise InputError(f"{data.root}: none of the {len(data)} pictures can be decoded")
    samples, problems = [], list(data.problems)
    for sample, fine in zip(data.samples, readable, strict=True):
        if fine:
            samples.append(sample)
        else:
            file = str(sample.image) if isinstance(sample.image, Path) else sample.id
            problems.append(Problem(file, None, "picture cannot be decoded", "left out"))
    return replace(data, samples=samples, problems=tuple(problems))


def _is_readable(sample: Sample) -> bool:
    try:
        read_image(sample.image)
    except ImageError:
        return False
    return True
