"""Preprocessing and post-processing: from the prototxt where it says them, else as published."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from multibox.card import PostProcessing, Preprocessing
from multibox.default_boxes import Grid
from multibox.importers.caffe.graph import Layer
from multibox.importers.caffe.outputs import Outputs

Colour = tuple[float, float, float]

# Mean in blue, green, red, and the factor: what the authors' programs do before the network.
_PUBLISHED: dict[str, tuple[Colour, float]] = {
    "vgg16": ((104.0, 117.0, 123.0), 1.0),
    "mobilenet_v1": ((127.5, 127.5, 127.5), 0.007843),
}
_TOP_KEEP = {"vgg16": (400, 200), "mobilenet_v1": (100, 100)}


def preprocessing(data: Layer, image: Grid, backbone: str) -> tuple[Preprocessing, str]:
    """From the ``data`` layer's transform_param; a remark where there is none.

    Raises: InputError when it says something that the card cannot.
    """
    remark = ""
    interpolation: Literal["linear", "area"] = "linear"
    if data.parameters.HasField("transform_param"):
        said = data.parameters.transform_param
        for name in ("mean_file", "crop_size", "crop_h", "crop_w", "force_gray"):
            if getattr(said, name):
                raise data.refused(f"{name} is not supported")
        if len(said.mean_value) not in (0, 1, 3):
            raise data.refused(f"has {len(said.mean_value)} mean_value, expected one or three")
        blue, green, red = (list(map(_decimal, said.mean_value)) or [0.0]) * (
            1 if len(said.mean_value) == 3 else 3
        )
        scale = _decimal(said.scale)
        interpolation = _interpolation(data)
    else:
        (blue, green, red), scale = _PUBLISHED[backbone]
        remark = "mean and scale are the published ones, as the prototxt has none"
    if not 0 < scale < 1e6 or not all(math.isfinite(value) for value in (blue, green, red)):
        raise data.refused(
            f"scale {scale:g} and mean_value {blue:g} {green:g} {red:g}: not possible"
        )
    deviation = 1 / scale
    return (
        Preprocessing(
            image_size=image,
            mean=(red, green, blue),
            std=(deviation, deviation, deviation),
            channel_order="bgr",
            interpolation=interpolation,
        ),
        remark,
    )


def _interpolation(data: Layer) -> Literal["linear", "area"]:
    """When training, Caffe draws one of several; of those linear is what its tests use."""
    resize = data.parameters.transform_param.resize_param
    if resize.resize_mode != 1:
        raise data.refused("resize_mode other than WARP is not supported")
    return "area" if set(resize.interp_mode) == {2} else "linear"


def postprocessing(outputs: Outputs, backbone: str, boxes: int) -> tuple[PostProcessing, str]:
    """From a DetectionOutput layer; the published ones where the network ends with its loss.

    Raises: InputError when it says something that the card cannot.
    """
    layer = outputs.layer
    if layer.type == "MultiBoxLoss":
        top_k, keep = _TOP_KEEP[backbone]
        settings = PostProcessing(scores=outputs.scores, top_k=top_k, keep=keep)
        return settings, "thresholds are the published ones, as the prototxt is one for training"
    said = layer.parameters.detection_output_param
    nms = said.nms_param
    if nms.eta != 1:
        raise layer.refused(f"eta {nms.eta:g} (a changing nms_threshold) is not supported")
    for name, value in (
        ("nms_threshold", nms.nms_threshold),
        ("confidence_threshold", said.confidence_threshold),
    ):
        if not value <= 1 or (name == "nms_threshold" and value < 0):
            raise layer.refused(f"{name} {value:g} is not possible: expected 0 to 1")
    # Minus one, and nothing said about top_k, is no limit.
    limits: Sequence[int] = (nms.top_k if nms.HasField("top_k") else -1, said.keep_top_k)
    if 0 in limits:
        raise layer.refused("top_k or keep_top_k 0 lets nothing through")
    top_k = min(limits[0], boxes) if limits[0] > 0 else boxes
    most = top_k * (outputs.classes - 1)
    return (
        PostProcessing(
            scores=outputs.scores,
            score_threshold=max(_decimal(said.confidence_threshold), 0.0),
            iou_threshold=_decimal(nms.nms_threshold),
            top_k=top_k,
            keep=min(limits[1], most) if limits[1] > 0 else most,
        ),
        "",
    )


def _decimal(value: float) -> float:
    """The decimal number that was written, of its single precision."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))
