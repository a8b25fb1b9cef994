"""A clean labelled set in any format, and faults to plant in it, each with what is to be found.

The set is two pictures to train on and one to validate on, all different, 64 x 48 pixels, with two
objects of two classes each.
"""

import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 64, 48
PICTURES = {"a": "train", "b": "train", "c": "val"}
BOXES = {"cat": (4, 6, 34, 36), "dog": (20, 10, 60, 44)}
FORMATS = ("voc", "coco", "yolo")


def pixels(name: str, width: int = WIDTH, height: int = HEIGHT):
    rng = np.random.default_rng(list(name.encode()))
    small = rng.integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(suffix: str, image) -> bytes:
    done, data = cv2.imencode(suffix, image)
    assert done
    return data.tobytes()


class CleanSet:
    """A data set on disk, and where its parts are; change ``objects`` and ``sizes``, then write."""

    def __init__(self, root: Path, kind: str):
        self.root, self.kind = root, kind
        self.objects = {name: list(BOXES.items()) for name in PICTURES}
        self.sizes = dict.fromkeys(PICTURES, (WIDTH, HEIGHT))
        self.names = ["cat", "dog"]
        for name in PICTURES:
            self.image(name).parent.mkdir(parents=True, exist_ok=True)
            self.image(name).write_bytes(encode(".jpg", pixels(name)))
        self.write()

    def image(self, name: str) -> Path:
        split = PICTURES.get(name, "train")
        folder = {"voc": "JPEGImages", "coco": split, "yolo": f"images/{split}"}[self.kind]
        return self.root / folder / f"{name}.jpg"

    def label(self, name: str) -> Path:
        split = PICTURES.get(name, "train")
        return {
            "voc": self.root / "Annotations" / f"{name}.xml",
            "coco": self.root / "annotations" / f"instances_{split}.json",
            "yolo": self.root / "labels" / split / f"{name}.txt",
        }[self.kind]

    def place(self, name: str, index: int) -> int:
        """The number of an object within its label file."""
        if self.kind != "coco":
            return index
        before = [n for n in self.objects if PICTURES[n] == PICTURES[name] and n < name]
        return sum(len(self.objects[n]) for n in before) + index

    def write(self):
        getattr(self, f"_write_{self.kind}")()
        return self

    def _write_voc(self):
        for name, objects in self.objects.items():
            items = "".join(
                f"<object><name>{c}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
                f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
                for c, (x0, y0, x1, y1) in objects
            )
            w, h = self.sizes[name]
            size = f"<size><width>{w}</width><height>{h}</height></size>"
            self._put(self.label(name), f"<annotation>{size}{items}</annotation>")
        for split in set(PICTURES.values()):
            names = [name for name in PICTURES if PICTURES[name] == split]
            self._put(self.root / "ImageSets" / "Main" / f"{split}.txt", "\n".join(names))

    def _write_coco(self, first_id: int = 1):
        ids = {name: i for i, name in enumerate(self.names, first_id)}
        for split in set(PICTURES.values()):
            names = [name for name in PICTURES if PICTURES[name] == split]
            content = {
                "images": [
                    {"id": i, "file_name": f"{n}.jpg", "width": w, "height": h}
                    for i, n in enumerate(names, 1)
                    for w, h in [self.sizes[n]]
                ],
                "annotations": [],
                "categories": [{"id": i, "name": name} for name, i in ids.items()],
            }
            for i, name in enumerate(names, 1):
                for c, (x0, y0, x1, y1) in self.objects[name]:
                    content["annotations"].append({
                        "id": len(content["annotations"]) + 1, "image_id": i,
                        "category_id": ids.get(c, 77), "bbox": [x0, y0, x1 - x0, y1 - y0],
                    })  # fmt: skip
            path = self.root / "annotations" / f"instances_{split}.json"
            self._put(path, json.dumps(content))

    def _write_yolo(self):
        for name, objects in self.objects.items():
            width, height = self.sizes[name]
            lines = [
                f"{self.names.index(c) if c in self.names else 7} {(x0 + x1) / 2 / width} "
                f"{(y0 + y1) / 2 / height} {(x1 - x0) / width} {(y1 - y0) / height}"
                for c, (x0, y0, x1, y1) in objects
            ]
            self._put(self.label(name), "\n".join(lines))
        names = json.dumps(self.names)
        self._put(
            self.root / "data.yaml", f"train: images/train\nval: images/val\nnames: {names}\n"
        )

    def _put(self, path: Path, text: str):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0" * 6
    block = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def png_of_claimed_size(width: int, height: int) -> bytes:
    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


# Faults: each changes the set and returns the findings expected, (kind, file, object).


def unreadable(data):
    data.image("a").write_bytes(b"no picture at all")
    return [("unreadable-image", data.image("a"), None)]


def empty(data):
    data.image("a").write_bytes(b"")
    return [("unreadable-image", data.image("a"), None)]


def truncated(data):
    whole = data.image("b").read_bytes()
    data.image("b").write_bytes(whole[: len(whole) * 2 // 3])
    return [("truncated-image", data.image("b"), None)]


def oversized(data):
    data.image("a").write_bytes(png_of_claimed_size(50_000, 50_000))
    return [("oversized-image", data.image("a"), None)]


def alpha(data):
    rgba = np.dstack([pixels("a"), np.full((HEIGHT, WIDTH), 128, np.uint8)])
    data.image("a").write_bytes(encode(".png", rgba))
    return [("unusual-image", data.image("a"), None)] * 2  # it is also named .jpg


def sixteen_bits_unused(data):
    data.image("c").write_bytes(encode(".png", pixels("c").astype(np.uint16) * 4))
    return [("unusual-image", data.image("c"), None)] * 2


def turned(data):
    data.image("c").write_bytes(with_orientation(data.image("c").read_bytes(), 6))
    if data.kind != "yolo":
        data.sizes["c"] = (HEIGHT, WIDTH)
        data.objects["c"] = [("cat", (4, 6, 30, 60))]
        data.write()
    return [("exif-rotation", data.image("c"), None)]


def turned_raw_labels(data):
    data.image("c").write_bytes(with_orientation(data.image("c").read_bytes(), 8))
    return [("exif-rotation", data.image("c"), None)]


def without_image(data):
    data.image("b").unlink()
    return [("label-without-image", data.label("b"), None)]


def without_label(data):
    path = data.image("extra")
    path.write_bytes(encode(".jpg", pixels("extra")))
    return [("image-without-label", path, None)]


def bad_file(data):
    data.label("c").write_bytes(b"\xff\xfe<annotation")
    return [("bad-label-file", data.label("c"), None)]


def _object(data, name, item, kind):
    data.objects[name].append(item)
    data.write()
    return [(kind, data.label(name), data.place(name, len(data.objects[name]) - 1))]


def zero_width(data):
    return _object(data, "a", ("cat", (9, 9, 9, 30)), "degenerate-box")


def inverted(data):
    return _object(data, "b", ("cat", (30, 9, 12, 30)), "degenerate-box")


def partly_outside(data):
    return _object(data, "c", ("dog", (40, 20, 80, 40)), "box-outside")


def wholly_outside(data):
    return _object(data, "c", ("dog", (100, 20, 130, 40)), "box-outside")


def repeated(data):
    return _object(data, "b", ("dog", BOXES["dog"]), "duplicate-box")


def tiny(data):
    data.image("b").write_bytes(encode(".jpg", pixels("b", 640, 480)))
    data.sizes["b"] = (640, 480)
    data.objects["b"] = [("cat", (40, 60, 340, 360))]
    return _object(data, "b", ("dog", (300, 300, 303, 303)), "tiny-box")


def unknown_class(data):
    if data.kind == "voc":  # whose classes are those that the labels name
        (data.root / "classes.txt").write_text("cat\ndog\n")
    return _object(data, "c", ("unicorn", (10, 10, 40, 40)), "unknown-class")


def wrong_size(data):
    if data.kind == "yolo":  # which states no sizes
        return []
    data.sizes["a"] = (640, 480)
    data.write()
    return [("size-mismatch", data.label("a"), None)]


def similar_names(data):
    data.names.append("Cat ")
    found = _object(data, "a", ("Cat ", (1, 1, 40, 40)), "similar-class-names")
    if data.kind == "voc":
        return found
    file = data.root / "data.yaml" if data.kind == "yolo" else data.label("a")
    return [("similar-class-names", file, None)]


def across_splits(data):
    data.image("c").write_bytes(data.image("a").read_bytes())
    return [("duplicate-image", data.image("c"), None)]


FAULTS = [
    unreadable, empty, truncated, oversized, alpha, sixteen_bits_unused, turned, turned_raw_labels,
    without_image, without_label, bad_file, zero_width, inverted, partly_outside, wholly_outside,
    repeated, tiny, unknown_class, wrong_size, similar_names, across_splits,
]  # fmt: skip
