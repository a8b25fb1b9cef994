"""A data set against a card: what differs from the data that the figures were published for."""

import numpy as np

from multibox.data.files import name_key
from multibox.data.labels import first_few
from multibox.data.samples import DataSet
from multibox.training.recipe_cards.card import RecipeCard, Split


def differences(card: RecipeCard, training: DataSet, validation: DataSet | None) -> list[str]:
    """One line for each thing in which the data is not what ``card`` was published with.

    Looked at are the pictures and objects of both splits, and the classes. Objects that were
    dropped while reading (boxes without area) count as there: the data set has them.
    """
    lines = _classes(card, training.names)
    for kind, expected, found in (
        ("training", card.data.training, training),
        ("validation", card.data.validation, validation),
    ):
        if found is None:
            lines.append(
                f"{card.name} expects {_counted(expected, kind)} in {expected.title}, "
                "the data has none"
            )
        elif not _agrees(expected, found):
            lines.append(
                f"{card.name} expects {_counted(expected, kind)} in {expected.title}, "
                f"split {found.split} of the data has {_counted(_count(found, expected))}"
            )
    if lines:
        lines.append(f"{card.name}: its published figures are not to be expected of this data")
    return lines


def _count(data: DataSet, like: Split) -> Split:
    return Split(
        title=data.split,
        pictures=len(data),
        objects=sum(len(sample.boxes) for sample in data.samples),
        set_aside=sum(
            int(np.count_nonzero(sample.difficult | sample.crowd)) for sample in data.samples
        ),
        aside=like.aside,
    )


def _agrees(expected: Split, data: DataSet) -> bool:
    found = _count(data, expected)
    dropped = sum(problem.action == "dropped" for problem in data.problems)
    return (
        found.pictures == expected.pictures
        and 0 <= expected.objects - found.objects <= dropped
        and 0 <= expected.set_aside - found.set_aside <= dropped
    )


def _counted(split: Split, kind: str = "") -> str:
    pictures = f"{split.pictures:,} {kind} pictures" if kind else f"{split.pictures:,}"
    objects = f"{split.objects:,} objects" if kind else f"{split.objects:,}"
    return f"{pictures} with {objects} ({split.set_aside:,} {split.aside})"


def _classes(card: RecipeCard, names: tuple[str, ...]) -> list[str]:
    expected = {name_key(name) for name in card.data.classes}
    found = {name_key(name) for name in names}
    missing = [name for name in card.data.classes if name_key(name) not in found]
    extra = [name for name in names if name_key(name) not in expected]
    if not missing and not extra:
        return []
    found_instead = " and ".join(
        f"{verb} {first_few(listed)}"
        for verb, listed in (("lacks", missing), ("has besides", extra))
        if listed
    )
    classes = f"the {len(expected)} classes of {card.data.title}"
    return [f"{card.name} expects {classes}, the data {found_instead}"]
