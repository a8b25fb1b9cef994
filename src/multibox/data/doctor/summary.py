"""Figures about a whole data set: its splits, its class balance, and how default boxes fit it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from multibox.card import DefaultBoxSpec
from multibox.data.box_fit import fit, suggest
from multibox.data.doctor.finding import Finding
from multibox.data.doctor.labels import ReadPicture, place_of
from multibox.data.files import name_key
from multibox.data.labels import Catalogue, first_few
from multibox.data.policies import CHOICES, KINDS
from multibox.data.splits import UNSPLIT, canonical
from multibox.default_boxes import default_boxes

UNREACHED_SHOWN = 1_000


def summarise(
    catalogue: Catalogue,
    read: Sequence[ReadPicture],
    unlisted: Sequence[Path],
    findings: Iterable[Finding],
    spec: DefaultBoxSpec,
) -> dict[str, Any]:
    """The summary of the JSON report; every value is one that JSON has."""
    findings = list(findings)
    kinds = Counter(item.kind for item in findings)
    severities = Counter(item.severity for item in findings)
    return {
        "layout": catalogue.layout,
        "pictures": len(read),
        "unlisted_pictures": len(unlisted),
        "objects": sum(len(one.picture.objects) for one in read),
        "errors": severities["error"],
        "warnings": severities["warning"],
        "findings": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
        "splits": {
            split or "undivided": {
                "pictures": len(pictures),
                "objects": sum(len(picture.objects) for picture in pictures),
            }
            for split, pictures in catalogue.splits.items()
        },
        "classes": _classes(catalogue, read),
        "notes": [*catalogue.notes, *_on_classes(catalogue), *_on_unlisted(unlisted)],
        "policies": {kind: CHOICES[kind].default for kind in KINDS},
        "default_boxes": _default_boxes(catalogue, read, spec),
    }


def _classes(
    catalogue: Catalogue, read: Sequence[ReadPicture]
) -> dict[str, dict[str, int | dict[str, int]]]:
    """Objects and pictures of each class, and its objects in each split, commonest class first."""
    objects: Counter[str] = Counter()
    pictures: Counter[str] = Counter()
    for one in read:
        names = [name_key(item.name) for item in one.picture.objects]
        objects.update(names)
        pictures.update(set(names))
    in_split = {
        split or "undivided": Counter(name_key(o.name) for p in pictures for o in p.objects)
        for split, pictures in catalogue.splits.items()
    }
    keys = sorted(map(name_key, catalogue.names), key=lambda key: -objects[key])
    return {
        key: {
            "objects": objects[key],
            "pictures": pictures[key],
            "splits": {split: count[key] for split, count in in_split.items()},
        }
        for key in keys
    }


def _on_classes(catalogue: Catalogue) -> Iterator[str]:
    """Classes that a training cannot learn: without an object, or without one where it learns."""
    learned: set[str] = set()
    others: dict[str, str] = {}
    for split, pictures in catalogue.splits.items():
        names = {name_key(item.name) for picture in pictures for item in picture.objects}
        if canonical(split) in ("train", "trainval", UNSPLIT):
            learned |= names
        else:
            others |= dict.fromkeys(sorted(names - others.keys()), split)
    keys = [name_key(name) for name in catalogue.names]
    if learned:
        for key in keys:
            if key not in learned and key in others:
                yield (
                    f"class {key!r} has objects in {others[key]} and none to train on: it cannot "
                    "be found, and counts as 0 where its split is measured"
                )
    if absent := [repr(key) for key in keys if key not in learned and key not in others]:
        yield f"classes without an object: {first_few(absent)}"


def _on_unlisted(unlisted: Sequence[Path]) -> Iterator[str]:
    if unlisted:
        count = f"{len(unlisted)} pictures" if len(unlisted) > 1 else "1 picture"
        verb, more = ("are", ", …") if len(unlisted) > 1 else ("is", "")
        yield f"{count} of its folders {verb} in no split: {unlisted[0]}{more}"


def _default_boxes(
    catalogue: Catalogue, read: Sequence[ReadPicture], spec: DefaultBoxSpec
) -> Mapping[str, Any] | None:
    """How the default boxes fit, and others that fit better; None without objects."""
    labels = {name_key(name): i for i, name in enumerate(catalogue.names)}
    boxes: list[list[float]] = []
    classes: list[int] = []
    places: list[tuple[str, int]] = []
    for one in read:
        if one.checked is None or one.header is None:
            continue
        width, height = one.header.upright_size
        for item, box in zip(one.picture.objects, one.checked.boxes, strict=True):
            label = labels.get(name_key(item.name))
            if box is not None and label is not None and not item.difficult and not item.crowd:
                boxes.append([box[0] / width, box[1] / height, box[2] / width, box[3] / height])
                classes.append(label)
                places.append((place_of(one.picture.label_file)[0], item.place))
    if not boxes:
        return None
    corners = np.array(boxes)
    found = suggest(spec, corners, np.array(classes, np.int64))
    current, suggested = fit(spec, corners), fit(found, corners)
    return {
        "image_size": list(spec.image_size),
        "count": len(default_boxes(spec)),
        "current": current.as_json(),
        "unreached": [
            {"file": places[i][0], "object": places[i][1]} for i in current.missed[:UNREACHED_SHOWN]
        ],
        "suggested": suggested.as_json()
        | {"unchanged": found == spec, "levels": [] if found == spec else _levels(found)},
    }


def _levels(spec: DefaultBoxSpec) -> list[dict[str, Any]]:
    return [
        {
            "grid": list(level.grid),
            "boxes": [
                {
                    "width": width,
                    "height": height,
                    "scale": round(sqrt(width * height) / sqrt(np.prod(spec.image_size)), 4),
                    "aspect_ratio": round(width / height, 3),
                }
                for width, height in level.shapes or ()
            ],
        }
        for level in spec.levels
    ]
