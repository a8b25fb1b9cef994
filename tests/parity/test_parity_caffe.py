"""The reference for Caffe's files: right by OpenCV's recorded answers, and telling of our import.

The generated networks lie with the importer's tests.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from caffe_answers import CASES, recorded, sampled
from caffe_files import Net, mobilenet_ssd, picture, prior, vgg_ssd

from multibox.importers.caffe import read
from multibox.importers.imported import Imported
from multibox.parity import caffe
from multibox.parity.caffe import reference
from multibox.parity.compare import Parity, compare
from multibox.parity.reference import Found, RawOutputs, Reference
from multibox.ssd.model import SSD
from multibox.ssd.postprocess import postprocess

LITERAL = "the prototxt itself, layer by layer"
SMALL = [
    prior(12, None, (2,)),
    *(prior(20 + 8 * i, 28 + 8 * i, (2,)) for i in range(5)),
]


@pytest.fixture(autouse=True)
def _without_opencv_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """The literal execution also where OpenCV could be asked."""
    torch.set_num_threads(1)
    monkeypatch.setattr(caffe, "cv2", SimpleNamespace(dnn=SimpleNamespace()))


def files(net: Net, folder: Path) -> tuple[Imported, Reference]:
    model, prototxt = net.save(folder)
    given = read(model, None, prototxt)
    return given, reference(model, prototxt)


@torch.no_grad()
def parity(given: Imported, theirs: Reference) -> Parity:
    images = picture(given.card.preprocessing.image_size[0], 2)
    model = SSD(given.card).eval()
    arrays = {name: torch.from_numpy(array.copy()) for name, array in given.arrays.items()}
    model.load_state_dict(arrays, strict=True)
    logits, offsets = model(torch.from_numpy(images))
    spec = given.card.default_boxes
    batch = postprocess(
        logits, offsets, model.default_boxes, spec.variances, given.card.postprocessing
    )
    ours = [
        Found(boxes[:n].numpy(), scores[:n].numpy(), classes[:n].long().numpy())
        for n, boxes, scores, classes in zip(
            batch.num[:, 0].tolist(), batch.boxes, batch.scores, batch.classes, strict=True
        )
    ]
    raw = RawOutputs(logits.numpy(), offsets.numpy())
    found = theirs.detect(images)
    return compare(theirs.name, theirs.raw(images), raw, spec.image_size, found, ours)


def test_the_literal_execution_is_right(tmp_path: Path) -> None:
    _, theirs = files(CASES["mobilenet_ssd"].net(), tmp_path)
    assert theirs.name == LITERAL
    answers = recorded("mobilenet_ssd")
    logits, offsets = theirs.raw(picture(300))
    for name, values in (("mbox_conf", logits), ("mbox_loc", offsets)):
        np.testing.assert_allclose(sampled(name, values), answers[name], rtol=0, atol=1e-4)
    (found,) = theirs.detect(picture(300)) or []
    rows = answers["detection_out"][np.argsort(-answers["detection_out"][:, 2])]
    np.testing.assert_allclose(found.scores, rows[:, 2], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.labels, rows[:, 1] - 1)
    np.testing.assert_allclose(found.boxes, rows[:, 3:].clip(0, 1), rtol=0, atol=3e-6)


def plain() -> Net:
    return vgg_ssd(3)


def in_another_order() -> Net:
    """The levels joined in another order, and each with a Softmax of its own."""
    net = mobilenet_ssd(3, 64, priors=SMALL)
    for name in ("mbox_loc", "mbox_conf", "mbox_priorbox"):
        net.layer(name).bottoms.reverse()
    softmax = net.layer("mbox_conf_softmax")
    reshape, flatten = net.layer("mbox_conf_reshape"), net.layer("mbox_conf_flatten")
    for layer in (softmax, reshape, flatten):
        net.layers.remove(layer)
    concat = net.layer("mbox_conf")
    at = net.layers.index(concat)
    for i, bottom in enumerate(concat.bottoms):
        shaped = net.add(f"shaped{i}", "Reshape", bottom, reshape.parameters)
        concat.bottoms[i] = net.add(f"scored{i}", "Softmax", shaped, softmax.parameters)
    added = net.layers[-2 * len(concat.bottoms) :]
    del net.layers[-2 * len(concat.bottoms) :]
    net.layers[at:at] = added
    net.add("flat", "Flatten", "mbox_conf")
    net.layers.insert(net.layers.index(net.layer("detection_out")), net.layers.pop())
    net.layer("detection_out").bottoms[1] = "flat"
    return net


def odd_default_boxes() -> Net:
    """Sizes to truncate, no flip, clip, one variance, steps of their own."""
    levels = [
        f"min_size: {10.7 + 8 * i} max_size: {18.6 + 8 * i} aspect_ratio: 2 aspect_ratio: 2 "
        f"flip: {'false' if i % 2 else 'true'} clip: true variance: 0.15 step: {4 << i}"
        for i in range(6)
    ]
    net = mobilenet_ssd(
        3, 64, priors=[level.replace("aspect_ratio: 2 ", "", 1) for level in levels]
    )
    for layer in net.layers:
        if layer.type == "PriorBox":
            layer.parameters = layer.parameters.replace(
                "aspect_ratio: 2", "aspect_ratio: 2 aspect_ratio: 2"
            )
    return net


def sigmoid_and_own_colours() -> Net:
    data = """layer { name: "in" type: "AnnotatedData" top: "data" top: "label"
      transform_param { scale: 0.02 mean_value: 90 mean_value: 110 mean_value: 130
        resize_param { height: 64 width: 64 } } }
    """
    net = mobilenet_ssd(3, priors=SMALL, head=data)
    net.layer("mbox_conf_softmax").type = "Sigmoid"
    return net


NETS = {
    "VGG": plain,
    "levels in another order": in_another_order,
    "odd default boxes": odd_default_boxes,
    "sigmoid and its own colours": sigmoid_and_own_colours,
}


@pytest.mark.parametrize("name", NETS)
def test_what_we_import_is_what_the_prototxt_says(name: str, tmp_path: Path) -> None:
    make: Callable[[], Net] = NETS[name]
    given, theirs = files(make(), tmp_path)
    found = parity(given, theirs)
    assert found.class_logits < 5e-5
    assert found.box_offsets < 5e-5
    assert found.detections is not None
    assert found.detections > 50
    assert (found.lost, found.gained) == (0, 0)
    assert found.boxes is not None
    assert found.boxes < 1e-3
    assert found.scores is not None
    assert found.scores < 1e-5


def test_a_wrong_import_shows(tmp_path: Path) -> None:
    given, theirs = files(mobilenet_ssd(3, 64, priors=SMALL), tmp_path)
    arrays = {**given.arrays}
    arrays["heads.boxes.0.bias"] = arrays["heads.boxes.0.bias"][::-1]
    found = parity(Imported(arrays, given.card), theirs)
    assert found.box_offsets > 0.01
    assert found.class_logits < 5e-5


def test_a_network_for_training_has_no_detections(tmp_path: Path) -> None:
    net = mobilenet_ssd(3, 64, priors=SMALL)
    del net.layers[-4:]
    net.head += 'input: "label" input_shape { dim: 1 dim: 1 dim: 1 dim: 8 }\n'
    net.add("loss", "MultiBoxLoss", ["mbox_loc", "mbox_conf", "mbox_priorbox", "label"],
            "multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE }")  # fmt: skip
    given, theirs = files(net, tmp_path)
    found = parity(given, theirs)
    assert found.detections is None
    assert found.class_logits < 5e-5


ASK = """
import sys
from pathlib import Path
import numpy as np
from multibox.parity.caffe import reference
model, prototxt, images, out = map(Path, sys.argv[1:])
theirs = reference(model, prototxt)
pictures = np.load(images)
raw, found = theirs.raw(pictures), theirs.detect(pictures)
parts = {f"{part}{i}": x for i, one in enumerate(found) for part, x in one._asdict().items()}
np.savez(out, name=theirs.name, **raw._asdict(), **parts)
"""


class Answered:
    """What a reference answered in another process."""

    def __init__(self, file: Path) -> None:
        with np.load(file) as parts:
            self._parts = dict(parts)
        self.name = str(self._parts["name"])

    def raw(self, images: np.ndarray) -> RawOutputs:
        return RawOutputs(self._parts["class_logits"], self._parts["box_offsets"])

    def detect(self, images: np.ndarray) -> list[Found]:
        fields = Found._fields
        return [Found(*(self._parts[f"{part}{i}"] for part in fields)) for i in range(len(images))]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("norms", [True, False])
def test_opencv_4_is_the_reference_where_it_is_installed(norms: bool, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages,
         "opencv-python-headless<5"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"pip cannot install OpenCV 4: {done.stderr.strip()[-200:]}")
    net = mobilenet_ssd(3, 64, priors=SMALL, norms=norms)
    for name in ("mbox_loc", "mbox_conf", "mbox_priorbox"):
        net.layer(name).bottoms.reverse()
    model, prototxt = net.save(tmp_path)
    images, out = tmp_path / "images.npy", tmp_path / "out.npz"
    np.save(images, picture(64, 2))
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    call = [sys.executable, "-c", ASK, model, prototxt, images, out]
    subprocess.run(call, check=True, env=environment)
    found = parity(read(model, None, prototxt), Answered(out))
    assert found.reference.startswith("OpenCV 4.")
    assert found.class_logits < 5e-5
    assert found.box_offsets < 5e-5
    assert (found.lost, found.gained) == (0, 0)
    assert found.detections is not None
    assert found.detections > 50
