"""Small data sets written for the tests of the formats."""

import json
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np


def write_picture(path: Path, width: int = 40, height: int = 30, orientation: int = 1) -> Path:
    """A picture stored as width x height; JPEGs may carry an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, np.zeros((height, width, 3), np.uint8))
    assert ok
    content = data.tobytes()
    if orientation != 1:
        # One big-endian TIFF directory with the single SHORT entry 0x0112.
        tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes([orientation]) + b"\0" * 6
        block = b"Exif\0\0" + tiff
        content = (
            content[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + content[2:]
        )
    path.write_bytes(content)
    return path


def voc_object(name, box, difficult=0, extra=""):
    corners = "".join(
        f"<{key}>{value}</{key}>"
        for key, value in zip(("ymax", "xmin", "ymin", "xmax"), (box[3], *box[:3]), strict=True)
    )
    return (
        f"<object><name>{escape(name)}</name><difficult>{difficult}</difficult>"
        f"{extra}<bndbox>{corners}</bndbox></object>"
    )


def write_xml(path: Path, *objects: str, size=(40, 30), file_name=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = (
        "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    )
    named = "" if file_name is None else f"<filename>{escape(file_name)}</filename>"
    path.write_text(
        f"<annotation>{named}{stated}{''.join(objects)}</annotation>",
        "utf-8",
    )
    return path


def write_voc(folder: Path, pictures: dict[str, list[str]], splits: dict[str, list[str]]) -> Path:
    """``Annotations``, ``JPEGImages`` and ``ImageSets/Main`` of 40 x 30 pictures."""
    for name, objects in pictures.items():
        write_picture(folder / "JPEGImages" / f"{name}.jpg")
        write_xml(folder / "Annotations" / f"{name}.xml", *objects)
    for split, names in splits.items():
        write_list(folder / "ImageSets" / "Main" / f"{split}.txt", names)
    return folder


def write_list(path: Path, lines) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def write_coco(path: Path, images, annotations, categories) -> Path:
    """images: (id, file name); annotations: (image id, category id, box, more)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in images],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": box, **more}
            for n, (image, category, box, more) in enumerate(annotations)
        ],
        "categories": [
            {"id": i, "name": name, "supercategory": group} for i, name, group in categories
        ],
    }
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return path


def boxes_of(sample):
    return sample.boxes.tolist()


def names_of(data, sample):
    return [data.names[label] for label in sample.labels]


def by_name(data):
    """The samples by the stem of their picture."""
    return {sample.image.stem: sample for sample in data.samples}


def reasons(data):
    return [(Path(p.file).name, p.object, p.reason, p.action) for p in data.problems]
