"""Small labelled sets drawn by hypothesis, and how each format writes them.

The writers here share no code with the readers: text by text, with the standard library only.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import strategies as st
from label_files import write_picture

WIDTH, HEIGHT = 64, 48


@dataclass(frozen=True)
class Thing:
    """A labelled object: corners in whole pixels of a 64 x 48 picture."""

    name: str
    box: tuple[int, int, int, int]
    difficult: bool = False
    crowd: bool = False


@dataclass(frozen=True)
class RandomSet:
    """Pictures (without suffix) with their objects, and the split that each is in."""

    names: tuple[str, ...]
    pictures: dict[str, tuple[Thing, ...]]
    splits: dict[str, str] = field(default_factory=dict)

    def of_split(self, split: str) -> list[str]:
        return [picture for picture, its in self.splits.items() if its == split]


def _side(length: int) -> st.SearchStrategy[tuple[int, int]]:
    """Begin and end, two pixels apart or more: in VOC one pixel is a slip of the mouse."""
    begin, size = st.integers(0, length - 2), st.integers(2, length)
    return st.tuples(begin, size).map(lambda side: (side[0], min(sum(side), length)))


def corners() -> st.SearchStrategy[tuple[int, int, int, int]]:
    return st.tuples(_side(WIDTH), _side(HEIGHT)).map(
        lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1])
    )


# What files and class names are made of: spaces, signs that formats give a meaning, other scripts.
_LETTERS = "abcXYZ 0159._-+&'<>#%äÅ犬é"
CLASS_NAMES = st.text(_LETTERS, min_size=1, max_size=8).map(str.strip).filter(bool)
PICTURE_NAMES = st.text("abcXYZ 0159_-+&'#%äÅ犬é", min_size=1, max_size=8).map(str.strip)


@st.composite
def random_sets(draw: st.DrawFn, *, flags: bool = True) -> RandomSet:
    """One to four pictures in train and val, up to three classes, up to five objects each.

    Every class is used; names differ when case and white space are set aside, and no two boxes of
    a picture are equal.
    """
    names = draw(
        st.lists(CLASS_NAMES, min_size=1, max_size=3, unique_by=lambda name: name.casefold())
    )
    stems = draw(
        st.lists(
            PICTURE_NAMES.filter(bool),
            min_size=2,
            max_size=4,
            unique_by=lambda name: name.casefold(),
        )
    )
    flag = st.booleans() if flags else st.just(False)
    pictures = {}
    for i, stem in enumerate(stems):
        boxes = draw(st.lists(corners(), max_size=5, unique=True))
        things = [Thing(draw(st.sampled_from(names)), box, draw(flag), draw(flag)) for box in boxes]
        if i == 0:  # so that no class goes unused
            things += [Thing(name, (1 + n, 2, 20 + n, 30)) for n, name in enumerate(names)]
        pictures[stem] = tuple(dict.fromkeys(things))
    splits = {stem: "val" if i == 1 else "train" for i, stem in enumerate(stems)}
    return RandomSet(tuple(names), pictures, splits)


def _write_pictures(folder: Path, stems: list[str]) -> None:
    for stem in stems:
        write_picture(folder / f"{stem}.png", WIDTH, HEIGHT)


def write_as_voc(folder: Path, data: RandomSet) -> Path:
    _write_pictures(folder / "JPEGImages", list(data.pictures))
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    for stem, things in data.pictures.items():
        root = ElementTree.Element("annotation")
        size = ElementTree.SubElement(root, "size")
        ElementTree.SubElement(size, "width").text = str(WIDTH)
        ElementTree.SubElement(size, "height").text = str(HEIGHT)
        for thing in things:
            item = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(item, "name").text = thing.name
            ElementTree.SubElement(item, "difficult").text = str(int(thing.difficult))
            box = ElementTree.SubElement(item, "bndbox")
            x0, y0, x1, y1 = thing.box
            # Counted from 1, the last pixel included.
            for key, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
                ElementTree.SubElement(box, key).text = str(value)
        ElementTree.ElementTree(root).write(folder / "Annotations" / f"{stem}.xml", "utf-8")
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("\n".join(data.of_split(split)), "utf-8")
    return folder


def write_as_coco(folder: Path, data: RandomSet, first_id: int = 1) -> Path:
    for split in ("train", "val"):
        stems = data.of_split(split)
        _write_pictures(folder / split, stems)
        annotations = [
            {
                "id": 100 * i + j,
                "image_id": 7 * i,
                "category_id": first_id + 3 * data.names.index(thing.name),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0) / 2,
                "iscrowd": int(thing.crowd),
            }
            for i, stem in enumerate(stems, 1)
            for j, thing in enumerate(data.pictures[stem], 1)
            for x0, y0, x1, y1 in [thing.box]
        ]
        content = {
            "images": [
                {"id": 7 * i, "file_name": f"{stem}.png", "width": WIDTH, "height": HEIGHT}
                for i, stem in enumerate(stems, 1)
            ],
            "annotations": annotations,
            "categories": [
                {"id": first_id + 3 * i, "name": name, "supercategory": "all of them"}
                for i, name in enumerate(data.names)
            ],
        }
        path = folder / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), "utf-8")
    return folder


def write_as_yolo(folder: Path, data: RandomSet) -> Path:
    for split in ("train", "val"):
        stems = data.of_split(split)
        _write_pictures(folder / "images" / split, stems)
        labels = folder / "labels" / split
        labels.mkdir(parents=True, exist_ok=True)
        for stem in stems:
            lines = []
            for thing in data.pictures[stem]:
                x0, y0, x1, y1 = thing.box
                middle = f"{(x0 + x1) / 2 / WIDTH!r} {(y0 + y1) / 2 / HEIGHT!r}"
                size = f"{(x1 - x0) / WIDTH!r} {(y1 - y0) / HEIGHT!r}"
                lines.append(f"{data.names.index(thing.name)} {middle} {size}")
            (labels / f"{stem}.txt").write_text("\n".join(lines), "utf-8")
    # JSON is YAML, and quotes every name.
    names = json.dumps(list(data.names), ensure_ascii=False)
    text = f"path: .\ntrain: images/train\nval: images/val\nnames: {names}\n"
    (folder / "data.yaml").write_text(text, "utf-8")
    return folder


WRITERS = {"voc": write_as_voc, "coco": write_as_coco, "yolo": write_as_yolo}
