"""The PyTorch ports' state dicts; that they give the original's answers is in parity/."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multibox.errors import InputError
from multibox.importers import amdegroot, lufficc, nvidia, qfgaohao
from multibox.importers.imported import Foreign
from multibox.importers.layers import Layers
from multibox.importers.names import COCO, VOC
from multibox.parity.recorded import CONVERT, load, variants
from multibox.ssd.model import SSD

FILE = Path("weights.pth")
SMALL = "qfgaohao-mb2-ssd-lite"
HEAD_NAMES = ("conf.", "cls_headers.", "classification_headers.")
# Model, side, mean, std, default boxes, score, IoU, top k, keep (the projects' configurations).
VGG, CENTRED = ((123, 117, 104), (1, 1, 1)), ((127, 127, 127), (128, 128, 128))
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
FACTS = {
    "amdegroot-ssd300": ("ssd300_vgg16", 300, *VGG, 8732, 0.01, 0.45, 200, 200),
    "lufficc-vgg_ssd300": ("ssd300_vgg16", 300, *VGG, 8732, 0.01, 0.45, 8732, 100),
    "lufficc-vgg_ssd512": ("ssd512_vgg16", 512, *VGG, 24564, 0.01, 0.45, 24564, 100),
    "lufficc-mobilenet_v2_ssd320": (
        "ssdlite320_mobilenet_v2", 320, *VGG, 3234, 0.01, 0.45, 3234, 100,
    ),
    "qfgaohao-vgg16-ssd": ("ssd300_vgg16", 300, *VGG, 8732, 0.01, 0.45, 200, 200),
    "qfgaohao-mb1-ssd": ("ssd300_mobilenet_v1", 300, *CENTRED, 3000, 0.01, 0.45, 200, 200),
    "qfgaohao-mb2-ssd-lite": (
        "ssdlite300_mobilenet_v2", 300, *CENTRED, 3000, 0.01, 0.45, 200, 200,
    ),
    "nvidia-resnet50": ("ssd300_resnet50", 300, *IMAGENET, 8732, 0.05, 0.5, 200, 200),
    "nvidia-resnet34": ("ssd300_resnet34", 300, *IMAGENET, 8732, 0.05, 0.5, 200, 200),
    "mlperf-resnet34": ("ssd300_resnet34", 300, *IMAGENET, 8732, 0.05, 0.5, 200, 200),
}  # fmt: skip

Arrays = dict[str, np.ndarray[Any, Any]]


def state_dict(variant: str, classes: int = 20) -> Arrays:
    """Arrays of the original's names and shapes, all zeros; ``classes`` beside the background."""
    record = load(variant)
    recorded_classes = 80 if record.source == "nvidia" else 2 if "512" in variant else 20
    arrays: Arrays = {}

    def put(name: str, *shape: int) -> None:
        arrays[name] = np.broadcast_to(np.float32(0), shape)

    for name, (outputs, inputs, kernel, bias) in record.convolutions.items():
        # The depthwise part of a separable head has no outputs for classes.
        if any(head in name for head in HEAD_NAMES) and inputs > 1:
            outputs = outputs // (recorded_classes + 1) * (classes + 1)
        put(f"{name}.weight", outputs, inputs, kernel, kernel)
        if bias:
            put(f"{name}.bias", outputs)
    for name, channels in record.norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            put(f"{name}.{part}", channels)
        arrays[f"{name}.num_batches_tracked"] = np.array(7)
    for name, channels in record.lengths.items():
        put(name, channels)
    return arrays


def convert(variant: str, arrays: Mapping[str, Any], names: list[str] | None = None) -> Any:
    return CONVERT[load(variant).source](arrays, FILE, names)


@pytest.mark.parametrize("classes", [1, 20, 80])
@pytest.mark.parametrize("variant", FACTS)
def test_every_array_finds_its_place_for_every_class_count(variant: str, classes: int) -> None:
    imported = convert(variant, state_dict(variant, classes))
    with torch.device("meta"):
        ours = SSD(imported.card).state_dict()
    assert {name: a.shape for name, a in imported.arrays.items()} == {
        name: tuple(tensor.shape) for name, tensor in ours.items()
    }
    assert imported.unused == ()
    assert imported.card.names == {1: ("class_1",), 20: VOC, 80: COCO}[classes]


@pytest.mark.parametrize("variant", FACTS)
def test_the_card_says_what_the_project_does(variant: str) -> None:
    card = convert(variant, state_dict(variant)).card
    settings, seen = card.postprocessing, card.preprocessing
    said = (
        card.model, seen.image_size[0], seen.mean, seen.std, card.default_boxes.count,
        settings.score_threshold, settings.iou_threshold, settings.top_k, settings.keep,
    )  # fmt: skip
    model, side, mean, std, *numbers = FACTS[variant]
    assert said[:2] == (model, side)
    assert said[2:4] == (pytest.approx(mean), pytest.approx(std))
    assert list(said[4:]) == numbers
    assert card.default_boxes.clip == "centre-size"
    assert load(variant).project in card.origin


def test_the_facts_cover_every_record() -> None:
    assert sorted(FACTS) == variants()


@pytest.mark.parametrize(
    ("variant", "classes", "sizes"),
    [
        ("amdegroot-ssd300", 20, (30, 315)),
        ("amdegroot-ssd300", 1, (21, 315)),
        ("amdegroot-ssd300", 80, (21, 315)),
        ("lufficc-vgg_ssd300", 1, (30, 315)),
        ("lufficc-vgg_ssd300", 80, (21, 315)),
        ("lufficc-vgg_ssd512", 20, (35.84, 537.65)),
        ("lufficc-vgg_ssd512", 80, (20.48, 542.72)),
        ("qfgaohao-vgg16-ssd", 80, (30, 315)),
    ],
)
def test_the_class_count_chooses_the_default_boxes_as_the_project_does(
    variant: str, classes: int, sizes: tuple[float, float]
) -> None:
    card = convert(variant, state_dict(variant, classes)).card
    levels = card.default_boxes.levels
    assert (levels[0].min_size, levels[-1].max_size) == pytest.approx(sizes)


@pytest.mark.parametrize("source", CONVERT)
def test_files_of_the_other_projects_are_refused_in_one_line(source: str) -> None:
    others = [variant for variant in FACTS if load(variant).source != source]
    for variant in others:
        with pytest.raises(InputError, match="expected an array named") as caught:
            CONVERT[source](state_dict(variant), FILE, None)
        assert str(FILE) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", CONVERT)
@pytest.mark.parametrize("names", [(), ("a",), ("a", "b", "c", "d")])
def test_arrays_of_nothing_known_are_refused(source: str, names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="expected an array named"):
        CONVERT[source]({name: np.zeros(3) for name in names}, FILE, None)


def test_variants_without_a_backbone_here_are_refused_by_name() -> None:
    deep = state_dict("nvidia-resnet50")
    deep["feature_extractor.feature_extractor.6.6.conv1.weight"] = np.zeros((256, 1024, 1, 1))
    with pytest.raises(InputError, match="deeper than 50 layers"):
        nvidia.convert(deep, FILE, None)
    mobilenet_v3 = {"backbone.features.1.conv.0.weight": np.zeros((16, 1, 3, 3))}
    with pytest.raises(InputError, match="SSDLite320 on MobileNetV2"):
        lufficc.convert(mobilenet_v3, FILE, None)
    lite = state_dict("qfgaohao-mb1-ssd")
    lite["classification_headers.0.3.weight"] = lite.pop("classification_headers.0.weight")
    with pytest.raises(InputError, match="vgg16-ssd, mb1-ssd or mb2-ssd-lite"):
        qfgaohao.convert(lite, FILE, None)


@pytest.mark.parametrize("variant", FACTS)
def test_each_missing_or_misshapen_array_is_named(variant: str) -> None:
    arrays = state_dict(variant)
    rng = np.random.default_rng(len(variant))
    essential = [name for name in arrays if not name.endswith("num_batches_tracked")]
    # Depthwise head convolutions may have a bias or not: their norm takes it over.
    folded = {
        f"{name}.bias"
        for name, (_, inputs, _, _) in load(variant).convolutions.items()
        if "header" in name and inputs == 1
    }
    for name in rng.choice([n for n in essential if n not in folded], 2, replace=False):
        with pytest.raises(InputError) as caught:
            convert(variant, {n: a for n, a in arrays.items() if n != name})
        assert str(FILE) in str(caught.value)
        misshapen = np.zeros((*arrays[name].shape, 2), np.float32)
        with pytest.raises(InputError, match="shape") as caught:
            convert(variant, {**arrays, str(name): misshapen})
        assert repr(str(name)) in str(caught.value)


@pytest.mark.parametrize("shape", [(), (0,), (4, 512, 3, 3), (7, 512, 3, 3), (6, 2)], ids=str)
def test_heads_without_whole_classes_are_refused(shape: tuple[int, ...]) -> None:
    arrays = {**state_dict("amdegroot-ssd300"), "conf.0.weight": np.zeros(shape)}
    with pytest.raises(InputError, match=r"conf.0.weight"):
        amdegroot.convert(arrays, FILE, None)


def test_values_that_are_not_finite_are_refused() -> None:
    arrays = state_dict("qfgaohao-mb1-ssd")
    arrays["extras.0.0.bias"] = np.full(256, np.nan)
    with pytest.raises(InputError, match=r"extras.0.0.bias.*not finite"):
        convert("qfgaohao-mb1-ssd", arrays)


def test_given_names_are_kept_and_counted() -> None:
    arrays = state_dict("qfgaohao-mb1-ssd", 2)
    assert convert("qfgaohao-mb1-ssd", arrays, ["cat", "dog"]).card.names == ("cat", "dog")
    with pytest.raises(InputError, match="2 classes beside the background, but 1 names"):
        convert("qfgaohao-mb1-ssd", arrays, ["cat"])


def test_what_is_left_over_is_listed() -> None:
    arrays = {**state_dict("qfgaohao-mb1-ssd"), "fc.weight": np.zeros((2, 2))}
    assert convert("qfgaohao-mb1-ssd", arrays).unused == ("fc.weight",)


def test_containers_around_nvidias_names_are_taken_off() -> None:
    arrays = {f"1.{name}": a for name, a in state_dict("nvidia-resnet34").items()}
    assert nvidia.convert(arrays, FILE, None).unused == ()


def test_the_norms_mean_takes_over_a_bias_before_it() -> None:
    rng = np.random.default_rng(3)
    file = {f"norm.{part}": rng.random(5) for part in ("weight", "bias", "running_mean")}
    file |= {"norm.running_var": rng.random(5) + 0.5, "conv.bias": rng.random(5)}
    layers = Layers(Foreign(file, FILE, "a project"))
    layers.norm("ours", "norm", 5, after_bias_of="conv")
    x = rng.random((1, 5, 2, 2)).astype(np.float32)

    def norm(x: Any, arrays: Mapping[str, Any], name: str) -> Any:
        parts = ("running_mean", "running_var", "weight", "bias")
        values = (torch.as_tensor(arrays[f"{name}.{part}"]).float() for part in parts)
        return torch.nn.functional.batch_norm(torch.as_tensor(x).float(), *values)

    biased = x + file["conv.bias"][None, :, None, None]
    torch.testing.assert_close(norm(x, layers.arrays, "ours"), norm(biased, file, "norm"))
    assert layers.foreign.unused == ()


def test_read_opens_a_checkpoint_as_training_scripts_save_it(tmp_path: Path) -> None:
    tensors = {f"module.{n}": torch.zeros(a.shape) for n, a in state_dict(SMALL).items()}
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": tensors, "epoch": 3}, path)
    assert qfgaohao.read(path, None).card.names == VOC


@pytest.mark.parametrize("project", [amdegroot, lufficc, nvidia, qfgaohao])
def test_read_names_the_file_that_is_something_else(project: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(InputError, match=r"other.pth.*expected an array named"):
        project.read(path, None)
