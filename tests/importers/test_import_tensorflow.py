"""Graphs like TensorFlow's, imported: their outputs against TensorFlow's own, and their cards."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorflow_graphs import RATIOS, RECORDED, SCALES, Form, frozen_graph, pictures

from multibox.default_boxes import default_boxes, to_corners
from multibox.importers.imported import Imported
from multibox.importers.names import coco_by_id
from multibox.importers.tensorflow import read
from multibox.ssd.model import SSD
from multibox.ssd.postprocess import postprocess
from multibox.zoo import new_card

ANSWERS = Path(__file__).parent / "recorded_tensorflow"


def write(folder: Path, form: Form) -> Path:
    path = folder / "frozen_inference_graph.pb"
    path.write_bytes(frozen_graph(form).SerializeToString())
    return path


def network(imported: Imported) -> SSD:
    model = SSD(imported.card).eval()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in imported.arrays.items()})
    return model


@pytest.fixture(scope="module", params=RECORDED, name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def imported(name: str, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return read(write(tmp_path_factory.mktemp(name), RECORDED[name]), None)


@pytest.fixture(scope="module")
def answers(name: str) -> dict:
    return json.loads((ANSWERS / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def outputs(name: str, imported: Imported) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        logits, offsets = network(imported)(torch.from_numpy(pictures(RECORDED[name])))
    return logits, offsets


def test_class_logits_are_tensorflows(answers, outputs) -> None:
    recorded = answers["class_logits"]
    ours = outputs[0].numpy()
    assert list(ours.shape) == recorded["shape"]
    np.testing.assert_allclose(ours.ravel()[recorded["places"]], recorded["values"], atol=1e-4)


def test_box_offsets_are_tensorflows_with_x_first(answers, outputs) -> None:
    recorded = answers["box_encodings"]
    # TensorFlow's are (y, x, height, width): two swaps lead there and back.
    ours = outputs[1].numpy()[..., [1, 0, 3, 2]]
    places, values = recorded["places"], np.array(recorded["values"])
    np.testing.assert_allclose(ours.ravel()[places], values, atol=1e-4)
    unswapped = outputs[1].numpy().ravel()[places]
    assert np.abs(unswapped - values).max() > 0.1


def test_detections_are_tensorflows(answers, outputs, imported) -> None:
    recorded = answers["detections"]
    card = imported.card
    found = postprocess(
        *outputs,
        torch.from_numpy(default_boxes(card.default_boxes)),
        card.default_boxes.variances,
        card.postprocessing,
    )
    assert found.num[:, 0].tolist() == recorded["num_detections"]
    boxes = found.boxes[:, :8].numpy()[..., [1, 0, 3, 2]]
    np.testing.assert_allclose(boxes, recorded["detection_boxes"], atol=1e-5)
    np.testing.assert_allclose(found.scores[:, :8], recorded["detection_scores"], atol=1e-5)
    labels = found.classes[:, :8].numpy() + 1
    np.testing.assert_array_equal(labels, recorded["detection_classes"])


def test_the_card_says_what_the_graph_does(name: str, imported: Imported) -> None:
    card, form = imported.card, RECORDED[name]
    assert card.preprocessing.image_size == form.image_size
    assert card.preprocessing.mean == card.preprocessing.std == (127.5, 127.5, 127.5)
    assert card.preprocessing.interpolation == "linear-corner"
    assert card.default_boxes.variances == (0.1, 0.1, 0.2, 0.2)
    settings = card.postprocessing
    assert (settings.scores, settings.clip) == ("sigmoid", "after")
    assert (settings.score_threshold, settings.iou_threshold) == (1e-8, 0.6)
    assert (settings.top_k, settings.keep) == (card.default_boxes.count, 100)
    assert card.architecture.padding == "tensorflow"
    assert card.architecture.activation == "relu6"
    assert card.architecture.norm_epsilon == card.architecture.backbone_norm_epsilon == 1e-3
    kind = ("separable", "separable") if form.lite else ("conv-norm", "conv1x1")
    assert (card.architecture.extra_kind, card.architecture.heads[0]) == kind


def test_default_boxes_are_the_generators(name: str, imported: Imported) -> None:
    """By the rule of multiple_grid_anchor_generator.py: (y, x) of a fraction of the lesser side."""
    height, width = RECORDED[name].image_size
    side = min(height, width)
    boxes = []
    for level, spec in enumerate(imported.card.default_boxes.levels):
        rows, columns = spec.grid
        scale, following = SCALES[level], SCALES[level + 1]
        pairs = [(scale, ratio) for ratio in RATIOS] + [((scale * following) ** 0.5, 1.0)]
        if level == 0:
            pairs = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        assert spec.boxes_per_cell == len(pairs)
        for row in range(rows):
            for column in range(columns):
                for size, ratio in pairs:
                    tall, wide = size / ratio**0.5 * side, size * ratio**0.5 * side
                    y, x = (row + 0.5) / rows * height, (column + 0.5) / columns * width
                    boxes.append((x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2))
    ours = to_corners(default_boxes(imported.card.default_boxes)) * (width, height, width, height)
    np.testing.assert_allclose(ours, boxes, atol=1e-3)


@pytest.mark.parametrize("size", [(300, 300), (128, 160)])
def test_the_zoo_has_the_same_detector(tmp_path: Path, size: tuple[int, int]) -> None:
    card = read(write(tmp_path, Form(image_size=size, splat=True)), ("a", "b", "c")).card
    zoo = new_card("ssdlite300_mobilenet_v2", ("a", "b", "c"), image_size=size)
    np.testing.assert_allclose(
        default_boxes(card.default_boxes), default_boxes(zoo.default_boxes), atol=1e-6
    )
    if size == (300, 300):
        assert card.default_boxes.count == 1917
        assert card.postprocessing == zoo.postprocessing
        assert card.preprocessing == zoo.preprocessing
        # Both are ReLU6 everywhere; the graph says so, the zoo leaves it to the parts.
        assert card.architecture.model_copy(update={"activation": None}) == zoo.architecture


def test_default_boxes_of_graphs_that_ask_for_the_shapes_of_maps(tmp_path: Path) -> None:
    asking = read(write(tmp_path, Form(asks_shapes=True, splat=True)), None).card
    assert asking.default_boxes == read(write(tmp_path, Form(splat=True)), None).card.default_boxes


def test_norms_that_were_written_out_or_folded_are_the_same(tmp_path: Path) -> None:
    """A product and a sum, or a bias alone, in the place of a fused BatchNorm."""
    form = {"backbone": "mobilenet_v1", "lite": False, "image_size": (64, 64)}
    fused = read(write(tmp_path, Form(**form)), None)
    written_out = read(write(tmp_path, Form(**form, norm="written out")), None)
    folded = read(write(tmp_path, Form(**form, norm="folded")), None)
    images = torch.from_numpy(pictures(Form(image_size=(64, 64))))
    with torch.inference_mode():
        first, second, third = (network(i)(images)[0] for i in (fused, written_out, folded))
    torch.testing.assert_close(second, first, atol=1e-4, rtol=0)
    assert (third - first).abs().max() > 0.1  # the folded one lacks gamma, mean and variance
    name = "backbone.features.3.1."
    np.testing.assert_array_equal(folded.arrays[name + "weight"], 1)
    variance = folded.arrays[name + "running_var"] + folded.card.architecture.norm_epsilon
    np.testing.assert_allclose(variance, 1, atol=1e-6)
    np.testing.assert_array_equal(folded.arrays[name + "bias"], fused.arrays[name + "bias"])


@pytest.mark.parametrize(
    ("form", "part", "expected"),
    [
        (Form(resize={"half_pixel_centers": True}), "preprocessing.interpolation", "linear"),
        (Form(scores="Softmax"), "postprocessing.scores", "softmax"),
        (Form(clip="before"), "postprocessing.clip", "before"),
        (Form(suppression="NonMaxSuppressionV2"), "postprocessing.score_threshold", 0.0),
        (Form(lite=False, head_size=3), "architecture.heads", ("conv3x3",) * 6),
        (Form(classes=20), "names", "aeroplane"),
        (Form(classes=4), "names", "class_1"),
    ],
)
def test_variants(tmp_path: Path, form: Form, part: str, expected: object) -> None:
    small = Form(**{**form.__dict__, "splat": True, "image_size": (64, 64)})
    value = read(write(tmp_path, small), None).card
    for name in part.split("."):
        value = getattr(value, name)
    assert (value[0] if part == "names" else value) == expected


def test_names(tmp_path: Path) -> None:
    one = write(tmp_path, Form(classes=1, splat=True, image_size=(64, 64)))
    assert read(one, ["person"]).card.names == ("person",)
    ninety = write(tmp_path, Form(classes=90, splat=True, image_size=(64, 64)))
    assert read(ninety, None).card.names == coco_by_id()
