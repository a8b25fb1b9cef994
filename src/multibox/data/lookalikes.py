"""Class names that look alike and are not the same: case, spaces, hyphens, unicode forms, letters.

Names that differ in outer spaces or in unicode's normal form alone are one class everywhere in this
package (``files.name_key``); other programs take them for two.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator

from multibox.data.files import name_key
from multibox.data.labels import Catalogue
from multibox.data.samples import Problem

# Letters of other scripts that look like Latin ones, after case folding: the commonest of
# unicode's confusables (Unicode Technical Standard 39), and digits within words.
_CONFUSABLE = str.maketrans(
    "аеорсухіјѕһԁԛԝьзαβεικνορτυχγıɡℓ",
    "aeopcyxijshdqwb3abeiknoptuxyigl",
)


def look(name: str) -> str:
    """What a name looks like: names of the same look are easily mistaken for one another."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    letters = "".join(
        c for c in folded if c.isalnum() or c == "#" or unicodedata.category(c) in _MARKS
    )
    alike = (letters or folded).translate(_CONFUSABLE)
    return alike.translate(_DIGITS) if len(alike) >= _WORD and not alike.isdigit() else alike


_DIGITS = str.maketrans("01", "ol")
_WORD = 3  # where single characters are classes, as in reading plates, 0 and o are two of them
_MARKS = ("Mn", "Mc", "So", "Sm", "Sc")  # accents, and signs such as those of C+ and C++


def similar_names(catalogue: Catalogue) -> list[Problem]:
    """One problem for every spelling that looks like a commoner one of the data set.

    Its file is the first label file with that spelling, or the one that lists the classes. What
    the list itself names twice, the readers have told already.
    """
    uses, first = _uses(catalogue)
    groups: dict[str, list[str]] = defaultdict(list)
    listed = catalogue.names if catalogue.names_file else ()
    for name in dict.fromkeys([*listed, *uses]):
        groups[look(name)].append(name)
    problems = []
    for group in groups.values():
        main, *others = sorted(group, key=lambda name: -uses.get(name, 0))
        for name in others:
            file, place = first.get(name, (catalogue.names_file, None))
            if catalogue.names_file:
                file, place = catalogue.names_file, None
            same = name_key(name) == name_key(main)
            if same and catalogue.names_file:  # told as listed twice
                continue
            reason = "class name in two forms" if same else "class names look alike"
            action = "taken as one class" if same else "kept as two classes"
            value = f"{name!a} ({uses.get(name, 0)} objects) and {main!a} ({uses.get(main, 0)})"
            problems.append(Problem(file, place, reason, action, "similar-class-names", value))
    return problems


def named_twice(file: str, names: Iterable[str]) -> Iterator[Problem]:
    """A problem for every name that a list of classes has more than once."""
    first: dict[str, str] = {}
    for name in names:
        key = name_key(name)
        if key in first:
            earlier = first[key]
            reason, action = "class listed twice", "taken as one class"
            value = ascii(name) if name == earlier else f"{name!a} and {earlier!a}"
            yield Problem(file, None, reason, action, "similar-class-names", value)
        first.setdefault(key, name)


def _uses(catalogue: Catalogue) -> tuple[dict[str, int], dict[str, tuple[str, int]]]:
    """How many objects have each spelling, and the file and place of the first of them."""
    uses: dict[str, int] = defaultdict(int)
    first: dict[str, tuple[str, int]] = {}
    pictures = (picture for split in catalogue.splits.values() for picture in split)
    for picture in {picture.id: picture for picture in pictures}.values():
        for item in picture.objects:
            uses[item.name] += 1
            first.setdefault(item.name, (picture.label_file, item.place))
    return uses, first
