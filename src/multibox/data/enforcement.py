"""Policies on faults that show only when pictures are compared, or at a detector's input size."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from multibox.data.labels import check_policies
from multibox.data.policies import Policies
from multibox.data.samples import DataSet, Problem, Sample
from multibox.imaging import read_image

TINY = 16.0
"""Square pixels of the network's input: a box with less is lost between the cells of every map."""


def without_tiny(data: DataSet, image_size: tuple[int, int], policies: Policies) -> DataSet:
    """``data`` without objects that are tiny at the input of ``image_size`` (height, width).

    Where the policy ``tiny-box`` is ``drop-image``, without their pictures. Raises InputError
    where it is ``error``.
    """
    policy = policies.of("tiny-box")
    if policy == "keep":
        return data
    samples, problems = [], list(data.problems)
    for sample in data.samples:
        scale = image_size[0] * image_size[1] / (sample.width * sample.height)
        tiny = (sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(axis=1) * scale < TINY
        action = "picture left out" if policy == "drop-image" else "dropped"
        found = [
            Problem(_name(sample), int(i), "box tiny at the input", action, "tiny-box")
            for i in np.flatnonzero(tiny)
        ]
        check_policies(found, policies)
        problems += found
        if not found or policy == "drop-box":
            samples.append(sample.select(~tiny))
    return replace(data, samples=samples, problems=tuple(problems))


def without_repeated(training: DataSet, held_out: DataSet, policies: Policies) -> DataSet:
    """``training`` without the pictures that ``held_out`` has too, pixel by pixel.

    Only where the policy ``duplicate-image`` is not ``keep``; ``error`` raises InputError. A
    picture twice in the training split does no harm and stays.
    """
    if policies.of("duplicate-image") == "keep":
        return training
    judged = {_pixels(sample): sample for sample in held_out.samples}
    samples, problems = [], []
    for sample in training.samples:
        twin = judged.get(_pixels(sample))
        if twin is None:
            samples.append(sample)
        else:
            reason, value = f"the same picture is in {held_out.split}", _name(twin)
            problems.append(
                Problem(_name(sample), None, reason, "left out", "duplicate-image", value)
            )
    check_policies(problems, policies)
    return replace(training, samples=samples, problems=(*training.problems, *problems))


def _pixels(sample: Sample) -> tuple[bytes, tuple[int, ...]]:
    image = read_image(sample.image)
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest(), image.shape


def _name(sample: Sample) -> str:
    return str(sample.image) if isinstance(sample.image, Path) else sample.id
