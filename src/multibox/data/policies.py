"""What is done about each kind of fault in a data set: the same words for ``doctor`` and ``train``.

A policy is ``error`` (stop), ``drop-box``, ``drop-image``, ``clip`` (cut the box to the picture) or
``keep``. Every kind has a default, which is what training does unless it is told otherwise, and a
set of policies that make sense for it.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

from multibox.errors import InputError

Kind = Literal[
    "unreadable-image",
    "truncated-image",
    "oversized-image",
    "unusual-image",
    "exif-rotation",
    "label-without-image",
    "image-without-label",
    "bad-label-file",
    "degenerate-box",
    "box-outside",
    "duplicate-box",
    "tiny-box",
    "size-mismatch",
    "unknown-class",
    "similar-class-names",
    "duplicate-image",
]

Policy = Literal["error", "drop-box", "drop-image", "clip", "keep"]

KINDS: tuple[Kind, ...] = get_args(Kind)


class Choice(NamedTuple):
    """The default policy of a kind, and the others that may be chosen for it."""

    default: Policy
    others: tuple[Policy, ...]


CHOICES: Mapping[Kind, Choice] = MappingProxyType({
    "unreadable-image": Choice("drop-image", ("error",)),
    "truncated-image": Choice("drop-image", ("error",)),
    "oversized-image": Choice("drop-image", ("error",)),
    "unusual-image": Choice("keep", ("error", "drop-image")),
    "exif-rotation": Choice("keep", ("error", "drop-image")),
    "label-without-image": Choice("drop-image", ("error",)),
    "image-without-label": Choice("keep", ("error", "drop-image")),
    "bad-label-file": Choice("error", ("drop-image",)),
    "degenerate-box": Choice("drop-box", ("error", "drop-image")),
    "box-outside": Choice("clip", ("error", "drop-box", "drop-image")),
    "duplicate-box": Choice("keep", ("error", "drop-box", "drop-image")),
    "tiny-box": Choice("keep", ("error", "drop-box", "drop-image")),
    "size-mismatch": Choice("keep", ("error", "drop-image")),
    "unknown-class": Choice("drop-box", ("error", "drop-image")),
    "similar-class-names": Choice("keep", ("error",)),
    "duplicate-image": Choice("keep", ("error", "drop-image")),
})  # fmt: skip


class Policies:
    """A policy for every kind: the defaults, and what was chosen instead."""

    def __init__(self, chosen: Mapping[Kind, Policy] | None = None) -> None:
        """``chosen`` replaces defaults; raises InputError for what does not fit its kind."""
        self.chosen: dict[Kind, Policy] = {}
        for kind, policy in (chosen or {}).items():
            self.chosen[_known_kind(kind)] = _fitting(kind, policy)

    @classmethod
    def parse(cls, items: Iterable[str]) -> "Policies":
        """From texts such as ``degenerate-box=error``; a later one replaces an earlier one.

        Raises InputError for a text of another form, an unknown kind (with the nearest one), and
        a policy that its kind does not have.
        """
        chosen: dict[Kind, Policy] = {}
        for item in items:
            kind, sign, policy = (part.strip() for part in item.partition("="))
            if not sign:
                raise InputError(f"policy {item!r}: write KIND=POLICY, as in degenerate-box=error")
            known = _known_kind(kind)
            chosen[known] = _fitting(known, policy)
        return cls(chosen)

    def of(self, kind: Kind, *, readable: bool = False) -> Policy:
        """The policy of ``kind``.

        ``readable``: of a bad label file that can be read but for a part of it. That part is
        dropped by default, where a file that cannot be read at all ends the work.
        """
        if kind == "bad-label-file" and readable and kind not in self.chosen:
            return "drop-box"
        return self.chosen.get(kind, CHOICES[kind].default)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policies) and self.chosen == other.chosen

    def __hash__(self) -> int:
        return hash(frozenset(self.chosen.items()))


DEFAULT_POLICIES = Policies()


def _known_kind(name: str) -> Kind:
    for kind in KINDS:
        if kind == name:
            return kind
    near = get_close_matches(name, KINDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"
    raise InputError(f"there is no kind of finding named {name!r}: {hint}")


def _fitting(kind: Kind, policy: str) -> Policy:
    choice = CHOICES[kind]
    allowed = (choice.default, *choice.others)
    for one in allowed:
        if one == policy:
            return one
    raise InputError(f"{kind}={policy}: its policy is one of {', '.join(allowed)}")
