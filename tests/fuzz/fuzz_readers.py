"""Every reader of the base install with a small valid file of its kind.

A target writes the files that stay as they are once, and then reads the one that is damaged.
Nothing here imports torch.
"""

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np

from multibox import checkpoints, zoo
from multibox.card import CARD_KEY
from multibox.data import open_data
from multibox.engines import exported
from multibox.imaging import image_size, read_image
from multibox.importers import caffe, tensorflow
from multibox.importers.caffe.files import read_caffemodel

sys.path.insert(0, str(Path(__file__).parents[1] / "importers"))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from caffe_files import Net, mobilenet_ssd
from label_files import voc_object, write_coco, write_list, write_picture, write_voc, write_xml
from tensorflow_graphs import Form, frozen_graph


@dataclass(frozen=True)
class Target:
    """``prepare`` makes a folder and returns the file to damage; ``read`` is then given it."""

    prepare: Callable[[Path], Path]
    read: Callable[[Path], object]


def _picture(suffix: str, options: list[int], kind: str = "rgb") -> Target:
    def prepare(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        depth, channels = {"rgb": (np.uint8, 3), "rgba": (np.uint8, 4), "16 bits": (np.uint16, 3)}[
            kind
        ]
        pixels = rng.integers(0, np.iinfo(depth).max, (6, 8, channels), depth)
        pixels = cv2.resize(pixels, (24, 18))
        path = folder / f"picture{suffix}"
        path.write_bytes(cv2.imencode(suffix, pixels, options)[1].tobytes())
        return path

    return Target(prepare, _read_picture)


def _turned_jpeg(folder: Path) -> Path:
    return write_picture(folder / "turned.jpg", 24, 18, orientation=6)


def _read_picture(path: Path) -> None:
    width, height = image_size(path)
    assert read_image(path).shape == (height, width, 3)


def _open(path: Path) -> None:
    """The data set that ``path`` belongs to: the nearest folder called data."""
    root = next(parent for parent in path.parents if parent.name == "data")
    open_data(root)
    open_data(root, split="train")


def _voc(folder: Path) -> Path:
    objects = [voc_object("cat", (3, 4, 20, 18)), voc_object("dog", (1, 1, 9, 9), difficult=1)]
    return write_voc(
        folder / "data", {"a": objects, "b": objects[:1]}, {"train": ["a"], "val": ["b"]}
    )


def _voc_xml(folder: Path) -> Path:
    _voc(folder)
    return folder / "data" / "Annotations" / "a.xml"


def _voc_list(folder: Path) -> Path:
    _voc(folder)
    return folder / "data" / "ImageSets" / "Main" / "train.txt"


def _loose_xml(folder: Path) -> Path:
    write_picture(folder / "data" / "a.jpg")
    return write_xml(folder / "data" / "a.xml", voc_object("cat", (3, 4, 20, 18)))


def _coco(folder: Path) -> Path:
    for name in ("a", "b"):
        write_picture(folder / "data" / "train" / f"{name}.jpg")
    return write_coco(
        folder / "data" / "annotations" / "instances_train.json",
        [(7, "a.jpg"), (8, "b.jpg")],
        [(7, 1, [1, 2, 10.5, 12], {"area": 9}), (8, 2, [0, 0, 9, 9], {"iscrowd": 1})],
        [(1, "cat", "animal"), (2, "dög", "animal")],
    )


def _yolo(folder: Path) -> Path:
    data = folder / "data"
    for split, name in (("train", "a"), ("val", "b")):
        write_picture(data / "images" / split / f"{name}.jpg")
        write_list(data / "labels" / split / f"{name}.txt", ["0 0.5 0.5 0.2 0.3", "1 .2 .2 .1 .1"])
    text = "path: .\ntrain: images/train\nval: [images/val]\nnc: 2\nnames: {0: cat, 1: 'big dog'}\n"
    (data / "data.yaml").write_text(text)
    return data / "data.yaml"


def _yolo_label(folder: Path) -> Path:
    _yolo(folder)
    return folder / "data" / "labels" / "train" / "a.txt"


def _class_names(folder: Path) -> Path:
    _yolo(folder).unlink()
    return write_list(folder / "data" / "classes.txt", ["cat", "größe", "犬"])


def _checkpoint(folder: Path) -> Path:
    card = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"])
    arrays = {
        "a.weight": np.ones((2, 3), np.float32),
        "n": np.array(3),
        "h": np.ones(5, np.float16),
    }
    checkpoints.save(folder / "model.safetensors", arrays, card)
    return folder / "model.safetensors"


def _read_checkpoint(path: Path) -> None:
    checkpoints.read_card(path)
    checkpoints.load(path)


def _caffemodel(folder: Path) -> Path:
    net = Net("")
    blobs = [np.ones((2, 3, 1, 1), np.float32), np.ones(2, np.float32)]
    for name in ("conv1", "conv2"):
        net.add(name, "Convolution", "data", blobs=blobs)
    return net.save(folder)[0]


def _prototxt(folder: Path) -> Path:
    return mobilenet_ssd(2, 300).save(folder)[1]


def _read_prototxt(path: Path) -> None:
    (model,) = path.parent.glob("*.caffemodel")
    caffe.read(model, None, path)


def _frozen_graph(folder: Path) -> Path:
    graph = frozen_graph(Form(splat=True))
    path = folder / "frozen_inference_graph.pb"
    path.write_bytes(graph.SerializeToString())
    return path


def _bmp(folder: Path) -> Path:
    """With its height negative, as rows from the top are written."""
    path = _picture(".bmp", []).prepare(folder)
    data = bytearray(path.read_bytes())
    data[22:26] = struct.pack("<i", -18)
    path.write_bytes(data)
    return path


def _gif(folder: Path) -> Path:
    """One black pixel."""
    path = folder / "picture.gif"
    path.write_bytes(b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;")
    return path


def _onnx(folder: Path) -> Path:
    card = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"]).model_dump_json()
    model = exported._ONNX.message("Model")(ir_version=9, graph=b"graph" * 20)
    model.metadata_props.add(key=CARD_KEY, value=card)
    model.metadata_props.add(key="other", value="größe")
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _openvino(folder: Path) -> Path:
    card = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"]).model_dump_json()
    (folder / "model.bin").touch()
    path = folder / "model.xml"
    path.write_text(f"<net><rt_info><{CARD_KEY} value={quoteattr(card)}/></rt_info></net>")
    return path


TARGETS: dict[str, Target] = {
    "jpeg": _picture(".jpg", []),
    "jpeg-progressive": _picture(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "jpeg-exif": Target(_turned_jpeg, _read_picture),
    "png": _picture(".png", []),
    "png-alpha": _picture(".png", [], "rgba"),
    "png-16-bits": _picture(".png", [], "16 bits"),
    "webp": _picture(".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "webp-lossless-alpha": _picture(".webp", [cv2.IMWRITE_WEBP_QUALITY, 101], "rgba"),
    "bmp": Target(_bmp, _read_picture),
    "tiff": _picture(".tif", []),
    "ppm": _picture(".ppm", []),
    "gif": Target(_gif, _read_picture),
    "avif": _picture(".avif", []),
    "voc-xml": Target(_voc_xml, _open),
    "voc-list": Target(_voc_list, _open),
    "loose-xml": Target(_loose_xml, _open),
    "coco-json": Target(_coco, _open),
    "yolo-yaml": Target(_yolo, _open),
    "yolo-label": Target(_yolo_label, _open),
    "class-names": Target(_class_names, _open),
    "checkpoint": Target(_checkpoint, _read_checkpoint),
    "onnx-metadata": Target(_onnx, exported.read_exported),
    "openvino-metadata": Target(_openvino, exported.read_exported),
    "caffemodel": Target(_caffemodel, read_caffemodel),
    "prototxt": Target(_prototxt, _read_prototxt),
    "frozen-graph": Target(_frozen_graph, lambda path: tensorflow.read(path, None)),
}
