"""Weights of amdegroot/ssd.pytorch: SSD300 on VGG-16.

Facts of that project (ssd.py, data/config.py, layers/functions/): default boxes are cut to 0..1 as
centres and sides; 20 classes get VOC's default boxes, every other number COCO's; the mean is taken
off in BGR order and the picture then turned to RGB. Of every class it suppresses the best 200; what
was meant to keep the best 200 of all classes changes a copy and keeps everything, where we keep
200.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from multibox.card import PostProcessing
from multibox.importers.backbone_layers import vgg16
from multibox.importers.imported import Array, Foreign, Imported
from multibox.importers.layers import Layers, expect, foreground_classes
from multibox.importers.names import class_names
from multibox.importers.state_dict import read_state_dict
from multibox.importers.vgg_cards import depths, vgg_card
from multibox.zoo import BoxSet

PROJECT = "amdegroot/ssd.pytorch"
_POSTPROCESSING = PostProcessing(score_threshold=0.01, iou_threshold=0.45, top_k=200, keep=200)


def read(path: Path, names: Sequence[str] | None) -> Imported:
    """The detector in a ``.pth`` file of that project, for the classes ``names`` where given.

    Raises: InputError when the file cannot be read or holds something else.
    """
    return convert(read_state_dict(path), path, names)


def convert(arrays: Mapping[str, Array], path: Path, names: Sequence[str] | None) -> Imported:
    """The arrays of that project's state dict under our names.

    Raises: InputError when the arrays are of something else; ``path`` is for the message.
    """
    expect(arrays, ("vgg.0.weight", "L2Norm.weight", "conf.0.weight"), path, PROJECT, "SSD300")
    classes = foreground_classes(arrays, "conf.0.weight", 4, path)
    box_set: BoxSet = "voc" if classes == 20 else "coco"
    card = vgg_card(
        "ssd300_vgg16",
        class_names(classes, names, path),
        box_set,
        origin=f"{PROJECT}, ssd300, with {box_set.upper()}'s default boxes for {classes} classes",
        postprocessing=_POSTPROCESSING,
    )
    layers = Layers(Foreign(arrays, path, PROJECT))
    vgg16(layers, "vgg")
    layers.arrays["backbone.l2norm.scale"] = layers.foreign.take("L2Norm.weight", (512,))
    extras = [(f"extras.{2 * i}", f"extras.{2 * i + 1}") for i in range(4)]
    layers.plain_extras(card.architecture, 1024, extras)
    layers.heads(card, depths(card), "conf.{}", "loc.{}")
    return Imported(layers.arrays, card, layers.foreign.unused)
