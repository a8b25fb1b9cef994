"""ONNX Runtime and OpenVINO on exported files, against PyTorch on the same weights."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_files import SIZE, card, detector, images, onnx_bytes, write_onnx, write_openvino

from multibox.engines import Engine, RawDetections, open_engine, read_exported
from multibox.engines.torch import TorchEngine
from multibox.errors import InputError

CASES = [
    (kind, suffix)
    for kind, suffix in (("onnxruntime", "onnx"), ("openvino", "onnx"), ("openvino", "xml"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(folder: Path) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIBOX_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="module")
def file(folder: Path) -> Callable[..., Path]:
    def written(suffix: str, scores: str = "softmax", nms: bool = True) -> Path:
        path = folder / f"{scores}-{nms}.{suffix}"
        if not path.exists():
            (write_onnx if suffix == "onnx" else write_openvino)(path, scores, nms=nms)
        return path

    return written


def opened(path: Path, kind: str, **options: object) -> Engine:
    return open_engine(read_exported(path), kind, threads=2, **options)  # type: ignore[arg-type]


def assert_same(found: RawDetections, expected: RawDetections) -> None:
    """The same detections: boxes to 1e-4 of the picture, scores to 3e-5 (random layers amplify)."""
    np.testing.assert_array_equal(found.num, expected.num)
    for i, n in enumerate(expected.num):
        free = np.ones(n, bool)
        for box, score, label in zip(
            found.boxes[i, :n], found.scores[i, :n], found.classes[i, :n], strict=True
        ):
            same = free & (expected.classes[i, :n] == label)
            same &= np.abs(expected.scores[i, :n] - score) < 3e-5
            same &= (np.abs(expected.boxes[i, :n] - box) < 1e-4).all(axis=1)
            assert same.any(), (label, score, box)
            free[np.flatnonzero(same)[0]] = False


@pytest.mark.parametrize("nms", [True, False])
@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("kind", "suffix"), CASES)
def test_as_torch(
    kind: str, suffix: str, scores: str, nms: bool, file: Callable[..., Path]
) -> None:
    pictures = images(3)
    engine = opened(file(suffix, scores, nms), kind)
    expected = TorchEngine.from_module(detector(scores), card(scores))(pictures)  # type: ignore[arg-type]
    assert (expected.num > 20).all(), "there is something to compare"
    assert engine.name == kind
    assert engine.card == card(scores)  # type: ignore[arg-type]
    assert_same(engine(pictures), expected)


@pytest.mark.parametrize(("kind", "suffix"), CASES)
def test_neither_batches_nor_goals_change_the_result(
    kind: str, suffix: str, file: Callable[..., Path]
) -> None:
    pictures = images(5)
    path = file(suffix)
    latency, throughput = (opened(path, kind, goal=goal) for goal in ("latency", "throughput"))
    together = latency(pictures)
    assert_same(throughput(pictures), together)
    for size in (1, 2):
        part = latency(pictures[:size])
        for column, whole in zip(part, together, strict=True):
            np.testing.assert_array_equal(column, whole[:size])
    for engine in (latency, throughput):
        apart = engine.detections(engine.network(pictures))
        for column, whole in zip(apart, engine(pictures), strict=True):
            np.testing.assert_array_equal(column, whole)


@pytest.mark.parametrize(("kind", "suffix"), CASES)
def test_results_are_not_overwritten_by_the_next(
    kind: str, suffix: str, file: Callable[..., Path]
) -> None:
    engine = opened(file(suffix), kind)
    first, second = images(2)[:1], images(2)[1:]
    outputs = engine.network(first)
    kept = [array.copy() for array in outputs]
    engine.network(second)
    for array, before in zip(outputs, kept, strict=True):
        np.testing.assert_array_equal(array, before)


def without_inner_names(data: bytes) -> onnx.ModelProto:
    """As a tool that renames tensors would leave it: only the contract's outputs have names."""
    model = onnx.ModelProto.FromString(data)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name in ("scores", "boxes", "class_logits", "box_offsets"):
                    names[i] = f"renamed_{name}"
    return model


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
def test_a_graph_without_inner_names_runs_whole(
    kind: str, folder: Path, file: Callable[..., Path]
) -> None:
    path = folder / "renamed.onnx"
    path.write_bytes(without_inner_names(onnx_bytes()).SerializeToString())
    found = opened(path, kind)(images(2))
    assert_same(found, opened(file("onnx"), kind)(images(2)))


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
def test_graphs_that_are_no_detector(kind: str, folder: Path) -> None:
    path = folder / "headless.onnx"
    model = without_inner_names(onnx_bytes(nms=False))
    for i, output in enumerate(model.graph.output):
        output.name = f"renamed_{('class_logits', 'box_offsets')[i]}"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="none of the outputs of an exported detector"):
        opened(path, kind)


def cut_short(data: bytes) -> bytes:
    """A graph whose layers lead nowhere, with its card."""
    model = onnx.ModelProto.FromString(data)
    del model.graph.initializer[::2]
    return model.SerializeToString()


def other_operators(data: bytes) -> bytes:
    model = onnx.ModelProto.FromString(data)
    for node in model.graph.node[3:9]:
        node.op_type = "Convolute"
    return model.SerializeToString()


@pytest.mark.parametrize("damage", [cut_short, other_operators])
@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
def test_damaged_graphs_are_one_line(
    kind: str, damage: Callable[[bytes], bytes], folder: Path
) -> None:
    path = folder / f"{damage.__name__}.onnx"
    path.write_bytes(damage(onnx_bytes()))
    with pytest.raises(InputError, match=r"damaged or not an ONNX file") as error:
        opened(path, kind)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((*SIZE, 3), np.uint8),
        np.zeros((1, *SIZE, 3), np.float32),
        np.zeros((0, *SIZE, 3), np.uint8),
    ],
)
def test_images_of_another_kind(kind: str, wrong: np.ndarray, file: Callable[..., Path]) -> None:
    engine: Engine = (
        TorchEngine.from_module(detector(), card())
        if kind == "torch"
        else opened(file("onnx"), kind)
    )
    for call in (engine, engine.network):
        with pytest.raises(InputError, match=r"the network takes uint8 RGB \[batch, 64, 96, 3\]"):
            call(wrong)


def test_which_engine_auto_takes(
    file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(suffix: str, stored: str = "int8", **options: object) -> str:
        model = read_exported(file(suffix))
        about = {"export": {"precision": stored}}
        model = replace(model, card=model.card.model_copy(update=about))
        return open_engine(model, "auto", **options).name  # type: ignore[arg-type]

    assert taken("onnx") == taken("onnx", pictures=5000) == "openvino"
    assert taken("onnx", pictures=1) == "onnxruntime"
    assert taken("onnx", "fp32") == "onnxruntime"
    assert taken("onnx", "fp32", pictures=1, precision="bf16") == "openvino"
    assert taken("xml", "fp32", pictures=1) == "openvino"
    monkeypatch.setattr("multibox.engines.find_spec", lambda name: None)
    assert taken("onnx") == "onnxruntime"


def test_without_openvino_the_remedy_is_named(
    file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "multibox.engines.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    for kind, suffix in (("openvino", "onnx"), ("auto", "xml")):
        with pytest.raises(InputError, match=r'pip install "multibox\[openvino\]"'):
            opened(file(suffix), kind)


@pytest.mark.parametrize(
    ("suffix", "kind", "options", "expected"),
    [
        ("onnx", "torch", {}, "an exported file, which torch cannot run"),
        ("xml", "onnxruntime", {}, "an OpenVINO file, which onnxruntime cannot run"),
        ("onnx", "onnxruntime", {"precision": "bf16"}, "use --engine openvino"),
        ("onnx", "auto", {"precision": "fp8"}, "no precision 'fp8': choose one of fp32, bf16"),
        ("onnx", "auto", {"goal": "speed"}, "no goal 'speed': choose one of latency, throughput"),
        ("onnx", "auto", {"threads": 0}, "0 threads"),
    ],
)
def test_what_cannot_be_run(
    suffix: str, kind: str, options: dict[str, object], expected: str, file: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match=expected):
        open_engine(read_exported(file(suffix)), kind, **options)  # type: ignore[arg-type]


def test_bf16_is_close(file: Callable[..., Path]) -> None:
    engine = opened(file("onnx"), "openvino", precision="bf16")
    exact = opened(file("onnx"), "openvino")
    for found, expected in zip(engine.network(images(1)), exact.network(images(1)), strict=True):
        assert np.abs(found - expected).mean() < 0.1


def test_a_cache_that_cannot_be_written_is_done_without(
    file: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "occupied").touch()
    monkeypatch.setenv("MULTIBOX_CACHE", str(folder / "occupied"))
    assert opened(file("xml"), "openvino")(images(1)).num[0] > 0
