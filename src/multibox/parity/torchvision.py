"""torchvision's own detectors, loaded with the original state dict."""

from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteFeatureExtractorMobileNet, SSDLiteHead

from multibox.card import ModelCard
from multibox.errors import InputError
from multibox.importers.imported import Imported
from multibox.importers.state_dict import read_state_dict
from multibox.parity.reference import Found, RawOutputs


@dataclass(frozen=True, slots=True, eq=False)
class TorchvisionReference:
    """A model of torchvision in evaluation mode. Pictures go through it one by one."""

    name: str
    model: Any

    @torch.inference_mode()
    def raw(self, images: npt.NDArray[np.uint8]) -> RawOutputs:
        """What the heads give for RGB pictures ``[b, h, w, 3]`` of the network's input size."""
        logits, offsets = [], []
        for image in _floats(images):
            maps = self.model.backbone(self.model.transform.normalize(image)[None])
            outputs = self.model.head(list(maps.values()))
            logits.append(outputs["cls_logits"])
            offsets.append(outputs["bbox_regression"])
        return RawOutputs(torch.cat(logits).numpy(), torch.cat(offsets).numpy())

    @torch.inference_mode()
    def detect(self, images: npt.NDArray[np.uint8]) -> list[Found]:
        """The whole model's answers; its own resizing leaves pictures of that size alone."""
        height, width = images.shape[1:3]
        scale = torch.tensor([width, height, width, height])
        found = []
        for image in _floats(images):
            (answer,) = self.model([image])
            boxes, labels = answer["boxes"] / scale, answer["labels"] - 1
            found.append(Found(boxes.numpy(), answer["scores"].numpy(), labels.numpy()))
        return found


def reference(path: Path, imported: Imported) -> TorchvisionReference:
    """torchvision's model with the state dict of ``path``, which ``imported`` was made of.

    Raises: InputError when torchvision itself does not take the file.
    """
    model = _build(imported.card)
    state = {name: torch.from_numpy(array) for name, array in read_state_dict(path).items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: torchvision does not load it: {why}") from error
    return TorchvisionReference(f"torchvision {version('torchvision')}", model.eval())


def _build(card: ModelCard) -> nn.Module:
    classes = len(card.names) + 1
    model: nn.Module
    if card.model == "ssd300_vgg16":
        model = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=classes)
    elif card.architecture.backbone.endswith("reduced"):
        model = ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=classes
        )
    else:
        model = _lite_with_whole_tail(classes)
    return model


def _lite_with_whole_tail(classes: int) -> nn.Module:
    """What torchvision builds around an ImageNet backbone, without downloading one."""
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    features = mobilenet_v3_large(weights=None, norm_layer=norm).features
    boxes = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    depths = [672, 960, 512, 256, 256, 128]
    model: nn.Module = SSD(
        SSDLiteFeatureExtractorMobileNet(features, 13, norm),
        boxes,
        (320, 320),
        classes,
        head=SSDLiteHead(depths, boxes.num_anchors_per_location(), classes, norm),
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        score_thresh=0.001,
        nms_thresh=0.55,
        detections_per_img=300,
        topk_candidates=300,
    )
    return model


def _floats(images: npt.NDArray[np.uint8]) -> Tensor:
    """``[b, h, w, 3]`` bytes to ``[b, 3, h, w]`` floats in 0..1."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
