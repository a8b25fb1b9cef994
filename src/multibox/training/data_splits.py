"""The two parts of a data set that a training needs: pictures to learn and pictures to judge by."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from multibox.data.enforcement import without_repeated
from multibox.data.merging import DataPath, is_data_path
from multibox.data.open import LabelledData, read_labels
from multibox.data.policies import DEFAULT_POLICIES, Policies
from multibox.data.readable import without_unreadable
from multibox.data.samples import DataSet, Sample
from multibox.data.splits import ALL, canonical
from multibox.errors import InputError

USUAL_SPLITS = (("train", "val"),)


def open_parts(
    data: DataPath | DataSet | Sequence[Sample],
    names: Sequence[str] | None,
    validation: DataSet | Sequence[Sample] | None,
    classes: Sequence[str] | None,
    splits: Sequence[tuple[str, str]] = USUAL_SPLITS,
    policies: Policies = DEFAULT_POLICIES,
) -> tuple[DataSet, DataSet | None]:
    """The training and the validation pictures; None for the latter where samples come without.

    Of data that lies in files the first of ``splits`` (training, validation) is opened of which
    the data has both. Splits that have to be made do not follow the run's seed: an evaluation must
    find the same. ``policies`` say what is done about faults in them.

    Raises: InputError when the data, its names or its labels cannot be trained on.
    """
    if is_data_path(data):
        labelled = read_labels(data, policies=policies)
        train, val = _first_there(splits, labelled)
        training = without_unreadable(labelled.open(train, classes=classes), policies)
        held_out = without_unreadable(labelled.open(val, classes=classes), policies)
        training = without_repeated(training, held_out, policies)
        return training, _judged(held_out, by=training)
    if isinstance(data, DataSet):
        names = names or data.names
        data = data.samples
    data = cast(Sequence[Sample], data)
    if isinstance(validation, DataSet):
        if names != validation.names:
            raise InputError("the training and the validation samples differ in their class names")
        validation = validation.samples
    if names is None:
        raise InputError("training on samples needs the names of their classes: names=[...]")
    training = _from_samples(data, "train", names, classes)
    if validation is None:
        return training, None
    return training, _from_samples(validation, "val", names, classes)


def _first_there(splits: Sequence[tuple[str, str]], data: LabelledData) -> tuple[str, str]:
    """The first pair of which the data has both; else the last, whose opening says what is not."""
    there = {canonical(name) for name in (*data.splits, ALL)}
    for pair in splits:
        if there.issuperset(map(canonical, pair)):
            return pair
    return splits[-1]


def _judged(validation: DataSet, *, by: DataSet) -> DataSet:
    """The validation pictures, with a note where they are learned as well."""
    learned = {sample.id for sample in by.samples}
    both = sum(sample.id in learned for sample in validation.samples)
    if not both or len(by) == 1:
        return validation
    note = (
        f"{both} of the {len(validation)} pictures of {validation.split} are also in {by.split}: "
        "what is measured on them says little about other pictures"
    )
    return replace(validation, notes=(*validation.notes, note))


def _without_area(sample: Sample) -> int | None:
    """The place of the first box that nothing can be learned from."""
    # Comparisons with NaN are false.
    fine = (sample.boxes[:, 2:] > sample.boxes[:, :2]).all(axis=1)
    fine &= np.isfinite(sample.boxes).all(axis=1)
    return None if fine.all() else int(fine.argmin())


def _from_samples(
    samples: Sequence[Sample], split: str, names: Sequence[str], classes: Sequence[str] | None
) -> DataSet:
    if not len(samples):
        raise InputError(f"there are no {split} samples")
    for number, sample in enumerate(samples):
        if ((sample.labels < 0) | (sample.labels >= len(names))).any():
            raise InputError(f"{split} sample {number} has a label beyond the {len(names)} names")
        if (place := _without_area(sample)) is not None:
            corners = ", ".join(f"{value:.6g}" for value in sample.boxes[place].tolist())
            called = f" ({sample.id})" if sample.id else ""
            raise InputError(
                f"{split} sample {number}{called}: box {place} has no area or is not finite "
                f"({corners}): mend or remove it"
            )
    whole = DataSet(samples, tuple(names), split, Path(), "samples")
    if classes is None:
        return whole
    if unknown := [name for name in classes if name not in names]:
        raise InputError(f"classes {unknown} are not among the names {list(names)}")
    return whole.restricted(classes)
