"""Caffe's networks imported: the same detector as OpenCV's importer makes of the same files."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import DEFAULT, patch

import numpy as np
import pytest
import torch
from caffe_answers import CASES, ask_opencv, recorded, sampled
from caffe_files import (
    EXTRAS_512,
    PRIORS_512,
    Net,
    mobilenet_ssd,
    picture,
    single,
    tagged,
    varint,
    vgg_ssd,
)

from multibox.card import ModelCard
from multibox.default_boxes import default_boxes, to_corners
from multibox.importers.caffe import read
from multibox.importers.imported import Imported
from multibox.ssd.model import SSD
from multibox.ssd.postprocess import postprocess


def imported(net: Net, folder: Path, names: list[str] | None = None) -> Imported:
    model, prototxt = net.save(folder)
    return read(model, names, prototxt)


def built(given: Imported) -> SSD:
    # Every value is replaced at once: drawing some first would only cost time.
    with patch.multiple(torch.nn.init, kaiming_uniform_=DEFAULT, xavier_uniform_=DEFAULT):
        model = SSD(given.card).eval()
    arrays = {name: torch.from_numpy(array.copy()) for name, array in given.arrays.items()}
    model.load_state_dict(arrays, strict=True)
    return model


@torch.no_grad()
def answers(given: Imported) -> dict[str, np.ndarray]:
    """Ours, laid out as OpenCV's are."""
    torch.set_num_threads(1)
    model = built(given)
    kept: dict[str, torch.Tensor] = {}
    if given.card.architecture.backbone == "vgg16":
        norm = model.backbone.l2norm
        norm.register_forward_hook(lambda *call: kept.update(conv4_3_norm=call[2]))
    side = given.card.preprocessing.image_size[0]
    logits, offsets = model(torch.from_numpy(picture(side)))
    spec = given.card.default_boxes
    found = postprocess(
        logits, offsets, model.default_boxes, spec.variances, given.card.postprocessing
    )
    corners = to_corners(default_boxes(spec))
    variances = np.broadcast_to(np.array(spec.variances, np.float32), corners.shape)
    rows = torch.cat(
        [torch.zeros_like(found.scores)[..., None], found.classes[..., None] + 1.0,
         found.scores[..., None], found.boxes], dim=2,
    )  # fmt: skip
    return {
        "mbox_loc": offsets.numpy(),
        "mbox_conf": logits.numpy(),
        "mbox_priorbox": np.stack([corners, variances]),
        "detection_out": rows[0, : found.num.item()].numpy(),
        **{name: value.numpy() for name, value in kept.items()},
    }


def check_against_opencv(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert {"mbox_loc", "mbox_conf", "mbox_priorbox", "detection_out"} <= set(theirs) == set(ours)
    detections = theirs.pop("detection_out"), ours.pop("detection_out")
    for name, values in theirs.items():
        assert values.shape == ours[name].shape, name
        assert values.std() > 0.01, name
        np.testing.assert_allclose(ours[name], values, rtol=0, atol=1e-4, err_msg=name)
    theirs_by_score, ours_by_score = (one[np.argsort(-one[:, 2])] for one in detections)
    assert len(theirs_by_score) == len(ours_by_score) == 200
    assert len(set(theirs_by_score[:, 1])) == 3
    theirs_by_score[:, 3:] = theirs_by_score[:, 3:].clip(0, 1)  # Caffe leaves that to its callers
    np.testing.assert_allclose(ours_by_score[:, :3], theirs_by_score[:, :3], rtol=0, atol=1e-5)
    pixels = np.abs(ours_by_score[:, 3:] - theirs_by_score[:, 3:]) * 300
    assert pixels.max() < 1e-3


@pytest.mark.parametrize("name", CASES)
def test_recorded_answers_of_opencv(name: str, tmp_path: Path) -> None:
    ours = answers(imported(CASES[name].net(), tmp_path))
    theirs = recorded(name)
    assert str(theirs.pop("version")).startswith("4.")
    check_against_opencv({key: sampled(key, values) for key, values in ours.items()}, theirs)


def test_suppression_has_work_to_do(tmp_path: Path) -> None:
    """The recorded networks score thousands of boxes, which only suppression brings down."""
    given = imported(CASES["mobilenet_ssd"].net(), tmp_path)
    settings = given.card.postprocessing
    model = built(given)
    with torch.no_grad():
        logits, offsets = model(torch.from_numpy(picture(300)))
    spec = given.card.default_boxes
    kept = {}
    for threshold in (0.45, 1.0):
        some = settings.model_copy(update={"iou_threshold": threshold, "keep": 5000})
        boxes = postprocess(logits, offsets, model.default_boxes, spec.variances, some)
        kept[threshold] = int(boxes.num)
    assert kept[1.0] == 3 * 400
    assert 200 < kept[0.45] < 0.8 * kept[1.0]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_live_answers_of_opencv(name: str, opencv_4: Path, tmp_path: Path) -> None:
    theirs = ask_opencv(opencv_4, name, tmp_path)
    assert str(theirs.pop("version")).startswith("4.")
    given = read(tmp_path / f"{name}.caffemodel", None, tmp_path / f"{name}.prototxt")
    ours = answers(given)
    shaped = {key: values.reshape(ours[key].shape) for key, values in theirs.items()}
    check_against_opencv(ours, shaped)


@pytest.fixture(scope="module")
def opencv_4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment of its own whose OpenCV still reads Caffe's files."""
    environment = tmp_path_factory.mktemp("opencv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "opencv-python-headless<5"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"pip cannot install OpenCV 4: {done.stderr.strip()[-200:]}")
    return python


def card_of(net: Net, folder: Path) -> ModelCard:
    return imported(net, folder).card


@pytest.fixture(scope="module")
def vgg_80(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return imported(vgg_ssd(3), tmp_path_factory.mktemp("vgg"))


def same_detector(ours: Imported, theirs: Imported) -> None:
    assert ours.card == theirs.card
    assert set(ours.arrays) == set(theirs.arrays)
    for name, array in theirs.arrays.items():
        np.testing.assert_array_equal(ours.arrays[name], array, err_msg=name)


def test_names_and_the_order_of_weights_mean_nothing(vgg_80: Imported, tmp_path: Path) -> None:
    net = vgg_ssd(3).rename(lambda name: f"x{sum(map(ord, name)) * 31}_{len(name)}_{name[::-1]}")
    net.head = """layer { name: "first" type: "Input" top: "camera"
      input_param { shape { dim: 8 dim: 3 dim: 80 dim: 80 } } } """
    for layer in net.layers:
        layer.bottoms = ["camera" if bottom == "data" else bottom for bottom in layer.bottoms]
    model, prototxt = net.save(tmp_path)
    model.write_bytes(net.caffemodel(order=lambda layers: layers[::-1]))
    same_detector(read(model, None, prototxt), vgg_80)


def test_layers_may_stand_in_any_order_that_caffe_runs(vgg_80: Imported, tmp_path: Path) -> None:
    """Heads right behind their map, ReLU under names of its own, default boxes first of all."""
    net = vgg_ssd(3)
    heads = [layer for layer in net.layers if "mbox" in layer.name and layer.name[:4] != "mbox"]
    for layer in heads:
        net.layers.remove(layer)
    for layer in heads[::-1]:
        source = layer.bottoms[0].split("_mbox")[0]
        at = max(i for i, other in enumerate(net.layers) if source in other.tops)
        later = [i for i, other in enumerate(net.layers) if layer.bottoms[0] in other.tops]
        net.layers.insert(max([at, *later]) + 1, layer)
    order = [layer.name for layer in net.layers]
    assert order.index("fc7_mbox_loc") < order.index("conv6_1")
    for layer in net.layers:
        if layer.type == "ReLU" and layer.name.startswith("conv5"):
            layer.tops = [f"{layer.bottoms[0]}_active"]
    active = {f"conv5_{i}" for i in (1, 2, 3)}
    for layer in net.layers:
        if layer.type != "ReLU":
            layer.bottoms = [f"{b}_active" if b in active else b for b in layer.bottoms]
    same_detector(imported(net, tmp_path), vgg_80)


def test_default_boxes_may_read_the_map_before_its_norm(vgg_80: Imported, tmp_path: Path) -> None:
    net = vgg_ssd(3)
    net.layer("conv4_3_norm_mbox_priorbox").bottoms[0] = "conv4_3"
    same_detector(imported(net, tmp_path), vgg_80)


def test_levels_may_be_joined_in_another_order(vgg_80: Imported, tmp_path: Path) -> None:
    net = vgg_ssd(3)
    for name in ("mbox_loc", "mbox_conf", "mbox_priorbox"):
        layer = net.layer(name)
        layer.bottoms = [layer.bottoms[i] for i in (2, 0, 3, 1)]
    same_detector(imported(net, tmp_path), vgg_80)


def test_other_ways_to_write_the_same_network(vgg_80: Imported, tmp_path: Path) -> None:
    net = vgg_ssd(3)
    net.replace("conv1_1", "kernel_size: 3 pad: 1", "kernel_h: 3 kernel_w: 3 pad_h: 1 pad_w: 1")
    net.replace("conv1_2", "kernel_size: 3 pad: 1", "kernel_size: [3, 3] pad: 1 pad: 1 axis: 1")
    net.replace(
        "pool1", "kernel_size: 2 stride: 2", "kernel_h: 2 kernel_w: 2 stride_h: 2 stride_w: 2"
    )
    net.replace("mbox_loc", "axis: 1", "concat_dim: 1")
    net.replace("mbox_conf", "axis: 1", "axis: -1")
    net.replace("mbox_conf_reshape", "dim: 0 dim: -1 dim: 3", "dim: 1 dim: 590 dim: -1")
    net.replace("mbox_conf_softmax", "axis: 2", "axis: -1")
    net.replace("fc7_mbox_loc_perm", "order: 0 order: 2 order: 3 order: 1", "order: [0, 2, 3]")
    flat = net.layer("fc7_mbox_loc_flat")
    flat.type, flat.parameters = "Reshape", "reshape_param { shape { dim: 0 dim: -1 } }"
    net.head = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 80 input_dim: 80\n'
    where = net.layers.index(net.layer("conv6_1"))
    net.add("drop7", "Dropout", "fc7", "dropout_param { dropout_ratio: 0.5 }", top="fc7")
    net.layers.insert(where, net.layers.pop())
    net.layer("conv1_2/relu").parameters = "relu_param { engine: CAFFE negative_slope: 0 }"
    net.layer("conv2_1").parameters += " param { lr_mult: 0 } some_fork_param { a: 1 b { c: 'd' } }"
    same_detector(imported(net, tmp_path), vgg_80)


@pytest.mark.parametrize("packed", [True, False])
def test_old_shapes_and_numbers_one_by_one(packed: bool, tmp_path: Path) -> None:
    """A blob with num, channels, height and width; numbers without [packed = true]."""
    net = mobilenet_ssd(2, 64, priors=[p.replace("285", "284") for p in PRIORS_64])
    model, prototxt = net.save(tmp_path)
    expected = read(model, None, prototxt).arrays["heads.boxes.5.bias"]
    name = "conv17_2_mbox_loc"
    kernel, bias = net.layer(name).blobs
    net.layer(name).blobs = []
    blobs = b""
    for values in (kernel, bias):
        shape = (1,) * (4 - values.ndim) + values.shape
        old = b"".join(varint(i << 3) + varint(side) for i, side in enumerate(shape, start=1))
        if packed:
            old += tagged(8, values.astype("<f8").tobytes())
        else:
            old += b"".join(single(5, value) for value in values.ravel())
        blobs += tagged(7, old)
    model.write_bytes(net.caffemodel() + tagged(100, tagged(1, name.encode()) + blobs))
    given = read(model, None, prototxt)
    np.testing.assert_array_equal(given.arrays["heads.boxes.5.bias"], expected)
    np.testing.assert_array_equal(given.arrays["heads.boxes.5.weight"], kernel)


PRIORS_64 = [
    "min_size: 12 aspect_ratio: 2 clip: false",
    *(f"min_size: {20 + 8 * i} max_size: {28 + 8 * i} aspect_ratio: 2" for i in range(5)),
]


def test_ssd512_cuts_its_sizes_to_whole_pixels(tmp_path: Path) -> None:
    card = card_of(vgg_ssd(21, 512, EXTRAS_512, PRIORS_512), tmp_path)
    assert card.model == "ssd512_vgg16"
    assert card.names[14] == "person"
    assert card.default_boxes.truncate_sizes
    assert card.default_boxes.count == 24564
    assert [level.grid[0] for level in card.default_boxes.levels] == [64, 32, 16, 8, 4, 2, 1]
    boxes = default_boxes(card.default_boxes) * 512
    np.testing.assert_allclose(boxes[0], (4, 4, 35, 35), atol=1e-4)
    np.testing.assert_allclose(boxes[1, 2:], (35 * 76) ** 0.5, atol=1e-4)
    np.testing.assert_allclose(boxes[-4, 2:], 460, atol=1e-4)
    assert card.architecture.extras[-1].kernel == 4


def test_a_trained_batch_norm_equals_its_merged_form(tmp_path: Path) -> None:
    """Norms of several epsilons against the same network with the norms multiplied in by hand."""
    epsilons = {"conv0": 1e-3, "conv5/dw": 2e-4, "conv14_2": 1e-2}
    net = mobilenet_ssd(3, 64, priors=PRIORS_64)
    merged = mobilenet_ssd(3, 64, priors=PRIORS_64, norms=False)
    for name, epsilon in epsilons.items():
        net.layer(f"{name}/bn").parameters = f"batch_norm_param {{ eps: {epsilon} }}"
    for layer in merged.layers:
        if layer.type == "Convolution" and "mbox" not in layer.name:
            kernel = net.layer(layer.name).blobs[0].astype(np.float64)
            mean, variance, count = net.layer(f"{layer.name}/bn").blobs
            gamma, beta = net.layer(f"{layer.name}/scale").blobs
            by = gamma / np.sqrt(variance / count + epsilons.get(layer.name, 1e-5))
            layer.blobs = [
                (kernel * by[:, None, None, None]).astype(np.float32),
                (beta - mean / count * by).astype(np.float32),
            ]
    one, other = imported(net, tmp_path), imported(merged, tmp_path)
    assert one.card.architecture == other.card.architecture
    ours, theirs = answers(one), answers(other)
    assert ours["mbox_conf"].std() > 0.5
    for name in ("mbox_loc", "mbox_conf"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-4)


def test_a_shared_scale_is_given_to_every_channel(tmp_path: Path) -> None:
    net = vgg_ssd(2).replace("conv4_3_norm", "channel_shared: false", "channel_shared: true")
    net.layer("conv4_3_norm").blobs = [np.array([7.5], np.float32).reshape(())]
    scale = imported(net, tmp_path).arrays["backbone.l2norm.scale"]
    np.testing.assert_array_equal(scale, np.full(512, 7.5, np.float32))


def test_colours_and_thresholds_are_the_files(tmp_path: Path) -> None:
    data = """layer { name: "in" type: "AnnotatedData" top: "data" top: "label"
      transform_param { scale: 0.5 mean_value: 10 mean_value: 20 mean_value: 30
        resize_param { resize_mode: WARP height: 64 width: 64 interp_mode: LINEAR } } }
    """
    net = mobilenet_ssd(4, priors=PRIORS_64, head=data)
    net.replace("detection_out", "nms_threshold: 0.45 top_k: 400", "nms_threshold: 0.6 top_k: 77")
    net.replace("detection_out", "confidence_threshold: 0.01 keep_top_k: 200", "keep_top_k: -1")
    card = imported(net, tmp_path, ["cat", "dog", "hen"]).card
    assert card.preprocessing.mean == (30, 20, 10)
    assert card.preprocessing.std == (2, 2, 2)
    assert card.preprocessing.channel_order == "bgr"
    assert card.names == ("cat", "dog", "hen")
    settings = card.postprocessing
    assert (settings.top_k, settings.keep) == (77, 3 * 77)
    assert settings.iou_threshold == 0.6
    assert settings.score_threshold == 0
    assert "published" not in card.origin


def test_a_network_for_training(tmp_path: Path) -> None:
    data = """layer { name: "in" type: "AnnotatedData" top: "data" top: "label"
      include { phase: TRAIN } transform_param { mean_value: 104 mean_value: 117 mean_value: 123
        resize_param { height: 80 width: 80 interp_mode: LINEAR interp_mode: AREA } } }
    """
    net = vgg_ssd(3, head=data)
    del net.layers[-4:]
    net.add("loss", "MultiBoxLoss", ["mbox_loc", "mbox_conf", "mbox_priorbox", "label"],
            "include { phase: TRAIN } multibox_loss_param { num_classes: 3 "
            "code_type: CENTER_SIZE }")  # fmt: skip
    card = card_of(net, tmp_path)
    assert card.preprocessing.mean == (123, 117, 104)
    assert (card.postprocessing.top_k, card.postprocessing.keep) == (400, 200)
    assert "thresholds are the published ones" in card.origin


def test_silence_about_colours_is_said(tmp_path: Path) -> None:
    card = card_of(vgg_ssd(2), tmp_path)
    assert card.preprocessing.mean == (123, 117, 104)
    assert card.preprocessing.std == (1, 1, 1)
    assert "mean and scale are the published ones" in card.origin
    assert "net.caffemodel" in card.origin
