"""Every detector trains: one step of it at a small size, and what its card says of its origin."""

import numpy as np
import pytest
import torch
from torch import nn

from multibox.card import ModelCard
from multibox.default_boxes import default_boxes
from multibox.ssd.box_coder import decode
from multibox.ssd.model import build_ssd
from multibox.zoo import MODELS, find_model, new_card

BATCH, SIDE = 2, 64


def small(name: str) -> ModelCard:
    return new_card(name, ["cat", "dog"], image_size=(SIDE, SIDE))


@pytest.mark.parametrize("name", MODELS)
def test_a_step_reaches_every_weight(name: str) -> None:
    torch.manual_seed(0)
    card = small(name)
    model = build_ssd(card).train()
    images = torch.randint(0, 256, (BATCH, SIDE, SIDE, 3), dtype=torch.uint8)
    logits, offsets = model(images)
    assert logits.shape == (BATCH, card.default_boxes.count, 3)
    boxes = decode(offsets, model.default_boxes, card.default_boxes.variances)
    loss = logits.square().mean() + boxes.square().mean()
    loss.backward()
    assert bool(loss.isfinite())
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    np.testing.assert_array_equal(model.default_boxes.numpy(), default_boxes(card.default_boxes))


@pytest.mark.parametrize("name", MODELS)
def test_figures_and_where_they_stand(name: str) -> None:
    published = find_model(name).published
    assert published
    for figure in published:
        assert 0.1 < figure.value < 0.9
        assert figure.metric.split()[0] in ("VOC2007", "COCO")
        assert figure.source
        assert figure.trained_on


def kinds(extra: nn.Module) -> list[tuple[object, ...]]:
    """Kernel, stride, padding and bias of the convolutions, and what follows them."""
    return [
        (m.kernel_size[0], m.stride[0], m.padding[0], m.bias is not None, m.groups > 1)
        if isinstance(m, nn.Conv2d)
        else (type(m).__name__,)
        for m in extra
    ]


CONV = [(1, 1, 0, True, False), ("ReLU",), (3, 2, 1, True, False), ("ReLU",)]
CONV_NORM = [
    (1, 1, 0, False, False), ("BatchNorm2d",), ("ReLU",),
    (3, 2, 1, False, False), ("BatchNorm2d",), ("ReLU",),
]  # fmt: skip
LITE = [
    (1, 1, 0, False, False), ("BatchNorm2d",), ("ReLU6",),
    (3, 2, 1, False, True), ("BatchNorm2d",), ("ReLU6",),
    (1, 1, 0, False, False), ("BatchNorm2d",), ("ReLU6",),
]  # fmt: skip
# (squeeze, channels) of each extra layer; the layers of the first one; epsilon of its BatchNorm;
# kernels of a head. From: ssd_pascal.py; deploy.prototxt; torchvision's ssdlite.py; MLPerf's
# ssd300.py; NVIDIA's model.py; GluonCV's feature.py (mx.sym.BatchNorm's eps is 1e-3).
LAYERS = {
    "ssd300_vgg16": ([(256, 512), (128, 256), (128, 256), (128, 256)], CONV, None, [3]),
    "ssd512_vgg16": ([(256, 512), *[(128, 256)] * 4], CONV, None, [3]),
    "ssd300_mobilenet_v1": (
        [(256, 512), (128, 256), (128, 256), (64, 128)], CONV_NORM, 1e-5, [1],
    ),
    "ssdlite320_mobilenet_v2": (
        [(256, 512), (128, 256), (128, 256), (64, 128)], LITE, 1e-3, [3, 1],
    ),
    "ssdlite320_mobilenet_v3_large": (
        [(256, 512), (128, 256), (128, 256), (64, 128)], LITE, 1e-3, [3, 1],
    ),
    "ssdlite320_mobilenet_v3_small": (
        [(256, 512), (128, 256), (128, 256), (64, 128)], LITE, 1e-3, [3, 1],
    ),
    "ssd300_resnet34": (
        [(256, 512), (256, 512), (128, 256), (128, 256), (128, 256)], CONV, None, [3],
    ),
    "ssd300_resnet50": (
        [(256, 512), (256, 512), (128, 256), (128, 256), (128, 256)], CONV_NORM, 1e-5, [3],
    ),
    "ssd512_resnet50": (
        [(512, 512), (512, 512), (256, 256), (256, 256)], CONV_NORM, 1e-3, [3],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_extra_layers_and_heads_are_the_originals(name: str) -> None:
    widths, first, epsilon, kernels = LAYERS[name]
    card = new_card(name, ["cat"])
    with torch.device("meta"):
        model = build_ssd(card)
    assert [(layer.squeeze, layer.channels) for layer in card.architecture.extras] == widths
    assert kinds(model.extras[0]) == first
    norms = {m.eps for m in model.extras.modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == ({epsilon} if epsilon else set())
    for head in (*model.heads.classes, *model.heads.boxes):
        convolutions = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
        assert [m.kernel_size[0] for m in convolutions] == kernels
        assert convolutions[-1].bias is not None


# Score threshold, IoU threshold, top k, keep; mean and std on 0..255; channel order. From:
# ssd_pascal.py; MobileNet-SSD's gen.py (test network) and template; MLPerf's train.py and utils.py;
# NVIDIA's evaluate.py and utils.py; GluonCV's ssd.py.
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CENTRED = ((127.5,) * 3, (127.5,) * 3)
SETTINGS = {
    "ssd300_vgg16": (0.01, 0.45, 400, 200, CENTRED, "rgb"),
    "ssd512_vgg16": (0.01, 0.45, 400, 200, CENTRED, "rgb"),
    "ssd300_mobilenet_v1": (0.01, 0.45, 400, 200, CENTRED, "bgr"),
    "ssd300_resnet34": (0.05, 0.5, 200, 200, IMAGENET, "rgb"),
    "ssd300_resnet50": (0.05, 0.5, 200, 200, IMAGENET, "rgb"),
    "ssd512_resnet50": (0.01, 0.45, 400, 100, IMAGENET, "rgb"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_pixels_and_thresholds(name: str) -> None:
    score, iou, top_k, keep, (mean, std), order = SETTINGS[name]
    card = new_card(name, ["cat"])
    settings = card.postprocessing
    assert (settings.score_threshold, settings.iou_threshold) == (score, iou)
    assert (settings.top_k, settings.keep) == (top_k, keep)
    assert card.preprocessing.mean == pytest.approx(mean)
    assert card.preprocessing.std == pytest.approx(std)
    assert card.preprocessing.channel_order == order
    assert card.default_boxes.variances == (0.1, 0.1, 0.2, 0.2)
