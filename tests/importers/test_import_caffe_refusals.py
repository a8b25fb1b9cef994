"""Prototxts with something that is not supported: one clear line that names it."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from caffe_files import (
    Net,
    deploy_head,
    mobilenet_ssd,
    prior,
    vgg_ssd,
)
from caffe_refusals import mobilenet, refusal

from multibox.importers.caffe import read


def vgg() -> Net:
    return vgg_ssd(3)


def refused(net: Net, folder: Path) -> str:
    """What is said of a prototxt alone: the weights are not even looked at."""
    prototxt = folder / "net.prototxt"
    prototxt.write_text(net.prototxt())
    return refusal(folder / "absent.caffemodel", prototxt)


def changed(name: str, old: str, new: str, make: Callable[[], Net] = vgg) -> Net:
    return make().replace(name, old, new)


def retyped(name: str, type: str, make: Callable[[], Net] = vgg, parameters: str = "") -> Net:
    net = make()
    net.layer(name).type = type
    net.layer(name).parameters = parameters
    return net


def rewired(name: str, bottoms: list[str], make: Callable[[], Net] = vgg) -> Net:
    net = make()
    net.layer(name).bottoms = bottoms
    return net


def without(name: str, make: Callable[[], Net] = vgg) -> Net:
    net = make()
    net.layers.remove(net.layer(name))
    return net


OUT, ORDER = "detection_out", "order: 0 order: 2 order: 3 order: 1"
NETS: dict[str, tuple[Callable[[], Net], str]] = {
    "corner boxes": (lambda: changed(OUT, "CENTER_SIZE", "CORNER"), "'detection_out'.*code_type"),
    "corner by default": (lambda: changed(OUT, "code_type: CENTER_SIZE", ""), "its default"),
    "boxes per class": (
        lambda: changed(OUT, "share_location: true", "share_location: false"), "share_location",
    ),
    "encoded variance": (
        lambda: changed(OUT, "share_location: true", "variance_encoded_in_target: true"),
        "variance_encoded_in_target",
    ),
    "other background": (
        lambda: changed(OUT, "background_label_id: 0", "background_label_id: 2"),
        "background_label_id 2",
    ),
    "no classes": (lambda: changed(OUT, "num_classes: 3", "num_classes: 1"), "num_classes 1"),
    "other classes": (lambda: changed(OUT, "num_classes: 3", "num_classes: 4"), "4 classes"),
    "adaptive suppression": (lambda: changed(OUT, "top_k: 400", "eta: 0.9"), "eta 0.9"),
    "nothing kept": (lambda: changed(OUT, "keep_top_k: 200", "keep_top_k: 0"), "lets nothing"),
    "threshold above 1": (
        lambda: changed(OUT, "nms_threshold: 0.45", "nms_threshold: 45"), "nms_threshold 45",
    ),
    "threshold not a number": (
        lambda: changed(OUT, "nms_threshold: 0.45", "nms_threshold: nan"), "nms_threshold nan",
    ),
    "no softmax": (
        lambda: rewired("mbox_conf_flatten", ["mbox_conf_reshape"]), "one Softmax",
    ),
    "softmax over boxes": (
        lambda: changed("mbox_conf_softmax", "axis: 2", "axis: 1"), "'mbox_conf_softmax'.*axis 1",
    ),
    "softmax over too many": (
        lambda: changed("mbox_conf_reshape", "dim: -1 dim: 3", "dim: -1 dim: 6"), "3 classes",
    ),
    "reshape that does not fit": (
        lambda: changed("mbox_conf_reshape", "dim: -1 dim: 3", "dim: -1 dim: 7"), "cannot bring",
    ),
    "another permutation": (
        lambda: changed("fc7_mbox_loc_perm", ORDER, "order: 0 order: 3 order: 2 order: 1"),
        r"'fc7_mbox_loc_perm'.*order \[0, 3, 2, 1\]",
    ),
    "no permutation": (
        lambda: rewired("fc7_mbox_loc_flat", ["fc7_mbox_loc"]), "'fc7_mbox_loc'.*Permute",
    ),
    "heads in different orders": (
        lambda: rewired(
            "mbox_conf",
            [f"{n}_mbox_conf_flat" for n in ("fc7", "conv4_3_norm", "conv6_2", "conv7_2")],
        ),
        "stands at its place among the boxes",
    ),
    "default boxes in another order": (
        lambda: rewired(
            "mbox_priorbox",
            [f"{n}_mbox_priorbox" for n in ("conv4_3_norm", "conv6_2", "fc7", "conv7_2")],
        ),
        "stands at its place among the boxes",
    ),
    "a map too few": (
        lambda: rewired("mbox_loc", [f"{n}_mbox_loc_flat" for n in ("conv4_3_norm", "fc7")]),
        "3|4 heads for scores",
    ),
    "default boxes of another map": (
        lambda: rewired("fc7_mbox_priorbox", ["conv6_2", "data"]), "'fc7_mbox_priorbox'.*'fc7'",
    ),
    "concatenated elsewhere": (
        lambda: changed("mbox_priorbox", "axis: 2", "axis: 1"), "'mbox_priorbox'",
    ),
    "a default box too many": (
        lambda: changed("fc7_mbox_priorbox", "min_size: 16", "min_size: 16 aspect_ratio: 5"),
        "num_output is 24, but .* need 32",
    ),
    "variances differ": (
        lambda: changed("fc7_mbox_priorbox", "variance: 0.1", "variance: 0.3"),
        "'fc7_mbox_priorbox'.*variance",
    ),
    "clip differs": (
        lambda: changed("fc7_mbox_priorbox", "clip: false", "clip: true"),
        "'fc7_mbox_priorbox'.*clip",
    ),
    "max below min": (
        lambda: changed("fc7_mbox_priorbox", "max_size: 32", "max_size: 12"), "max_size 12",
    ),
    "a size below a pixel": (
        lambda: changed("fc7_mbox_priorbox", "min_size: 16", "min_size: 0.5"), "min_size 0.5",
    ),
    "infinite step": (
        lambda: changed("fc7_mbox_priorbox", "step: 16", "step: inf"), "step inf",
    ),
    "leaky": (
        lambda: retyped("conv3_2/relu", "ReLU", vgg, "relu_param { negative_slope: 0.1 }"),
        "'conv3_2/relu'.*negative_slope 0.1",
    ),
    "PReLU": (lambda: retyped("conv3_2/relu", "PReLU"), "'conv3_2/relu' .PReLU"),
    "no ReLU": (lambda: without("conv3_2/relu"), "'conv3_2'.*no ReLU"),
    "a head before the ReLU": (
        lambda: rewired_before_relu(), "'conv6_2'|no ReLU",
    ),
    "average pooling": (lambda: changed("pool2", "MAX", "AVE"), "'pool2'.*max pooling"),
    "another pooling": (
        lambda: changed("pool5", "stride: 1 pad: 1", "stride: 1"),
        "'pool5'|conv7_2",
    ),
    "not dilated": (
        lambda: changed("fc6", "pad: 6 dilation: 6", "pad: 1"), "'fc6'.*pad is 1, but .* has 6",
    ),
    "dilated differently": (
        lambda: changed("fc6", "pad: 6 dilation: 6", "pad: 6 dilation: 5"), "'fc6'",
    ),
    "normalised over space": (
        lambda: changed("conv4_3_norm", "across_spatial: false", ""), "across_spatial",
    ),
    "not normalised": (
        lambda: renamed_bottoms("conv4_3_norm", "conv4_3"), "Normalize",
    ),
    "an odd input": (lambda: vgg_with_head(82), "rounds up"),
    "a grey input": (
        lambda: headed("input: 'data' input_shape { dim: 1 dim: 1 dim: 80 dim: 80 }"),
        "1 channels",
    ),
    "no shape": (lambda: headed("input: 'data'"), "shapes of inputs"),
    "a giant input": (lambda: vgg_with_head(10**9), "usual size"),
    "a tiny input": (lambda: vgg_with_head(2), "gives the shape"),
    "a blob from nowhere": (lambda: rewired("conv2_1", ["pool"]), "'conv2_1'.*'pool'"),
    "two of a name": (lambda: named("conv2_1", "conv2_2"), "another layer has this name"),
    "no detection": (lambda: without(OUT), "DetectionOutput"),
    "residual": (
        lambda: retyped("conv5_2/relu", "Eltwise"), "'conv5_2/relu' .Eltwise",
    ),
    "a wider network": (
        lambda: changed("conv5", "num_output: 256", "num_output: 192", mobilenet),
        "'conv5'|'conv6/dw'",
    ),
    "batch statistics": (
        lambda: changed_norm("batch_norm_param { use_global_stats: false }"), "use_global_stats",
    ),
}  # fmt: skip


def rewired_before_relu() -> Net:
    """conv7_1 goes on from the active map, the heads read the map before its ReLU."""
    net = vgg()
    net.layer("conv6_2/relu").tops = ["conv6_2_active"]
    net.layer("conv7_1").bottoms = ["conv6_2_active"]
    return net


def renamed_bottoms(old: str, new: str) -> Net:
    net = vgg()
    for layer in net.layers:
        layer.bottoms = [new if bottom == old else bottom for bottom in layer.bottoms]
    return net


def vgg_with_head(side: int) -> Net:
    return headed(deploy_head(side))


def headed(head: str) -> Net:
    net = vgg()
    net.head = head + "\n"
    return net


def named(old: str, new: str) -> Net:
    net = vgg()
    net.layer(old).name = new
    return net


def changed_norm(parameters: str) -> Net:
    net = mobilenet()
    net.layer("conv3/bn").parameters = parameters
    return net


@pytest.mark.parametrize("name", NETS)
def test_what_is_not_supported_is_named(name: str, tmp_path: Path) -> None:
    make, said = NETS[name]
    assert re.search(said, refused(make(), tmp_path))


def test_what_boxes_cannot_say_by_rule_they_say_by_shape(tmp_path: Path) -> None:
    """Several sizes, no flip, and a picture of another size become explicit shapes."""
    levels = [
        prior(12, 20, (2, 3), "flip: false"),
        prior(20, 25, (2,), "min_size: 30.9 max_size: 40"),
        prior(24, 32, (2,), "img_size: 128 step: 32"),
        prior(24, 32, (1, 2, 0.5, 2), "img_h: 64 img_w: 128 offset: 0.25"),
    ]  # fmt: skip
    extras = ((8, 12, 3, 2, 1), (8, 12, 1, 1, 0))
    net = mobilenet_ssd(3, 64, priors=levels, extras=extras)
    for kind, outputs in (("loc", 16), ("conf", 12)):
        head = net.layer(f"conv15_2_mbox_{kind}")
        wrong = head.blobs[1].size
        head.parameters = head.parameters.replace(f"num_output: {wrong}", f"num_output: {outputs}")
        head.blobs = [blob[:outputs] for blob in head.blobs]
    model, prototxt = net.save(tmp_path)
    first, second, third, fourth = read(model, None, prototxt).card.default_boxes.levels
    root = 2**0.5
    close = {"rtol": 1e-6, "atol": 0}
    np.testing.assert_allclose(
        first.shapes,
        [(12, 12), (240**0.5, 240**0.5), (12 * root, 12 / root), (12 * 3**0.5, 12 / 3**0.5)],
        **close,
    )
    np.testing.assert_allclose(
        second.shapes,
        [(20, 20), (500**0.5, 500**0.5), (20 * root, 20 / root), (20 / root, 20 * root),
         (30, 30), (1200**0.5, 1200**0.5), (30 * root, 30 / root), (30 / root, 30 * root)],
        **close,
    )  # fmt: skip
    np.testing.assert_allclose(third.shapes[0], (12, 12), **close)
    assert third.step == (16, 16)
    np.testing.assert_allclose(fourth.shapes[0], (12, 24), **close)
    assert fourth.boxes_per_cell == 4
    assert fourth.offset == 0.25
