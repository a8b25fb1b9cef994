"""Pictures that cannot be decoded are found before a training starts, not in the middle of it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from multibox.data.doctor.pictures import look_at
from multibox.data.labels import check_policies, policy_of
from multibox.data.policies import DEFAULT_POLICIES, Policies
from multibox.data.samples import DataSet, Problem, Sample
from multibox.errors import ImageError, InputError
from multibox.imaging import read_image

_READERS = 8


def without_unreadable(data: DataSet, policies: Policies = DEFAULT_POLICIES) -> DataSet:
    """``data`` without the pictures that cannot be decoded whole, each of them a problem.

    Headers are read when a data set is opened; a file that is cut off or damaged further on shows
    itself only when it is decoded, which takes about a millisecond a picture and core.
    ``policies`` may drop or refuse unusual pictures (CMYK, 16 bits, alpha) as well.

    Raises: InputError when no picture is left, or for a fault whose policy is ``error``.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(_fault, data.samples))
    samples, problems = [], []
    for sample, faults in zip(data.samples, found, strict=True):
        left_out = [problem for problem in faults if policy_of(problem, policies) != "keep"]
        problems += left_out[:1]
        if not left_out:
            samples.append(sample)
    check_policies(problems, policies)
    if not problems:
        return data
    if not samples:
        raise InputError(f"{data.root}: none of the {len(data)} pictures can be decoded")
    return replace(data, samples=samples, problems=(*data.problems, *problems))


def _fault(sample: Sample) -> list[Problem]:
    if not isinstance(sample.image, Path):
        try:
            read_image(sample.image)
        except ImageError:
            return [Problem(sample.id, None, _REASON, "left out", "unreadable-image")]
        return []
    return [
        Problem(
            str(sample.image),
            None,
            _REASON if is_error and kind != "unusual-image" else "unusual picture",
            "left out",
            kind,
            what,
        )
        for kind, is_error, what, _ in look_at(sample.image).faults
    ]


_REASON = "picture cannot be decoded"
