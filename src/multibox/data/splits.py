"""Splits: their names and synonyms, and the seeded ones made where the data has none.

A picture's place in a seeded split depends on the seed and the file names alone (its rank among the
hashes of all names), not on where the folder lies or the order in which it is listed.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import TypeVar

from multibox.data.files import name_key
from multibox.errors import InputError

T = TypeVar("T")

UNSPLIT = ""
"""The key under which a reader returns pictures that the data does not divide into splits."""

ALL = "all"
"""What to ask for to get every picture of the data set once."""

HELD_OUT = 0.1
"""The share held out for validation (and as much again for a test) where the data names none."""

_SYNONYMS = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "testing": "test",
}
_USUAL = frozenset({"train", "val", "test", "trainval"})
_YEAR = re.compile(r"(?<=[a-z])[-_ ]?(?:19|20)\d\d$")


def canonical(name: str) -> str:
    """The usual name of a split: ``valid`` and ``Val2017`` are both ``val``."""
    plain = _YEAR.sub("", name_key(name).casefold())
    return _SYNONYMS.get(plain, plain)


def is_split_name(name: str) -> bool:
    """Whether ``name`` is train, val, test or trainval, a synonym, or one of these with a year."""
    return canonical(name) in _USUAL


def split_of(relative: PurePath) -> str | None:
    """The split that a path's folders name, the innermost one (``train/images`` -> ``train``)."""
    named = [part for part in relative.parent.parts if is_split_name(part)]
    return named[-1] if named else None


def by_folder(items: Sequence[tuple[Path, T]], root: Path) -> tuple[dict[str, list[T]], list[str]]:
    """Group (path, item) pairs by the split that the folders between ``root`` and the path name.

    Where none names one, all are under UNSPLIT. Where only some do, the others are left out, which
    a note says.
    """
    splits: dict[str, list[T]] = {}
    for path, item in items:
        splits.setdefault(split_of(path.relative_to(root)) or UNSPLIT, []).append(item)
    notes = []
    if len(splits) > 1 and (outside := splits.pop(UNSPLIT, [])):
        notes.append(
            f"{len(outside)} pictures outside the folders {_listed(list(splits))} left out"
        )
    return splits, notes


def find_split(asked: str, available: Sequence[str], root: Path) -> str:
    """The available split meant by ``asked``: the same name, else its one synonym.

    Raises InputError, naming what there is, where none or more than one fits.
    """
    if asked in available:
        return asked
    fitting = [name for name in available if canonical(name) == canonical(asked)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(f"{root}: split {asked!r} may be {_listed(fitting)}: name one of them")
    nearest = get_close_matches(asked, available, n=1)
    hint = f"did you mean {nearest[0]!r}? It" if nearest else "it"
    raise InputError(
        f"{root}: no split {asked!r}: {hint} has {_listed(available)} ({ALL!r} means every picture)"
    )


def complete(
    splits: Mapping[str, Sequence[T]], key: Callable[[T], str], seed: int
) -> tuple[dict[str, list[T]], list[str]]:
    """The splits, with ``train`` and ``val`` made where the data has none, and notes on that.

    - Undivided pictures: 80 % train, 10 % val, 10 % test.
    - ``train`` without ``val``: 10 % of it, at least one picture, become ``val``.
    - ``trainval`` without either: 90 % of it are ``train``, 10 % ``val``; ``trainval`` stays.

    ``key`` gives the path whose file name decides a picture's place (folders only break ties).
    """
    result = {name: list(items) for name, items in splits.items()}
    kinds = {canonical(name): name for name in result}
    if UNSPLIT in result:
        items = result.pop(UNSPLIT)
        test, rest = hold_out(items, key, seed, HELD_OUT) if len(items) > 2 else ([], items)
        val, train = hold_out(rest, key, seed, HELD_OUT * len(items) / max(len(rest), 1))
        result = {"train": train, "val": val} | ({"test": test} if test else {}) | result
        note = (
            f"no splits in the data: {len(train)} pictures for train, {len(val)} for val and "
            f"{len(test)} for test, chosen by file name with seed {seed}"
        )
        return result, [note]
    if "val" in kinds or not (source := kinds.get("train") or kinds.get("trainval")):
        return result, []
    items = result[source]
    result["val"], train = hold_out(items, key, seed, HELD_OUT)
    result["train" if canonical(source) == "trainval" else source] = train
    note = (
        f"no validation split in the data: {len(result['val'])} of the {len(items)} pictures of "
        f"{source} are held out as val, chosen by file name with seed {seed}"
    )
    return result, [note]


def hold_out(
    items: Sequence[T], key: Callable[[T], str], seed: int, share: float
) -> tuple[list[T], list[T]]:
    """Part ``items`` into (held out, rest): ``share`` of them, at least one, in their old order.

    A single item is both: there is nothing to part.
    """
    if len(items) < 2:
        return list(items), list(items)
    count = min(max(1, round(share * len(items))), len(items) - 1)
    ranked = sorted(range(len(items)), key=lambda i: _rank(key(items[i]), seed))
    chosen = frozenset(ranked[:count])
    return (
        [item for i, item in enumerate(items) if i in chosen],
        [item for i, item in enumerate(items) if i not in chosen],
    )


def _rank(path: str, seed: int) -> tuple[bytes, str, str]:
    name = name_key(PurePath(path).name)
    # File names that are not UTF-8 come with surrogates in their place.
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
    return digest, name_key(path), path


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
