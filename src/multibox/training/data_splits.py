"""The two parts of a data set that a training needs: pictures to learn and pictures to judge by."""

from collections.abc import Sequence
from pathlib import Path

from multibox.data.open import read_labels
from multibox.data.readable import without_unreadable
from multibox.data.samples import DataSet, Sample
from multibox.errors import InputError


def open_parts(
    data: str | Path | DataSet | Sequence[Sample],
    names: Sequence[str] | None,
    validation: DataSet | Sequence[Sample] | None,
    classes: Sequence[str] | None,
) -> tuple[DataSet, DataSet | None]:
    """The training and the validation pictures; None for the latter where samples come without.

    Splits that have to be made do not follow the run's seed: an evaluation must find the same.

    Raises: InputError when the data, its names or its labels cannot be trained on.
    """
    if isinstance(data, str | Path):
        labelled = read_labels(data)
        return (
            without_unreadable(labelled.open("train", classes=classes)),
            without_unreadable(labelled.open("val", classes=classes)),
        )
    if isinstance(data, DataSet):
        names = names or data.names
        data = data.samples
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


def _from_samples(
    samples: Sequence[Sample], split: str, names: Sequence[str], classes: Sequence[str] | None
) -> DataSet:
    if not len(samples):
        raise InputError(f"there are no {split} samples")
    for number, sample in enumerate(samples):
        if ((sample.labels < 0) | (sample.labels >= len(names))).any():
            raise InputError(f"{split} sample {number} has a label beyond the {len(names)} names")
    whole = DataSet(samples, tuple(names), split, Path(), "samples")
    if classes is None:
        return whole
    if unknown := [name for name in classes if name not in names]:
        raise InputError(f"classes {unknown} are not among the names {list(names)}")
    return whole.restricted(classes)
