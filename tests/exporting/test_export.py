"""``multibox.export`` and its verb, from checkpoint to file."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime
import pytest
from foreign_weights import pictures
from spread_detectors import NAMES

import multibox
from multibox.cli import main
from multibox.data.open import open_data
from multibox.data.synthetic import generate
from multibox.engines.base import RawDetections
from multibox.engines.exported import read_exported
from multibox.engines.graph import RAW, WHOLE
from multibox.engines.openvino_core import openvino_core
from multibox.errors import MultiboxError
from multibox.exporting import check as checking
from multibox.exporting import export as exporting
from multibox.exporting.accuracy import Accuracy
from multibox.parity.compare import Parity
from multibox.parity.found import found_in
from multibox.parity.reference import RawOutputs

SIDE = 64


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    multibox.export(tiny, out=out)
    return out


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_the_file_says_what_it_is(exported: Path, tiny: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version) == ("multibox", multibox.__version__)
    [images] = model.graph.input
    assert images.name == "images"
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shape = images.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", SIDE, SIDE, 3]
    assert [output.name for output in model.graph.output] == list(WHOLE)

    card = read_exported(exported).card
    original = multibox.load(tiny).card
    assert card.model_copy(update={"export": None}) == original
    assert card.export is not None
    assert (card.export["format"], card.export["precision"]) == ("onnx", "fp32")
    assert card.export["nms"] is True
    parity = Parity.model_validate(card.export["parity"])
    assert parity.reference.startswith("PyTorch ")
    assert (parity.pictures, parity.lost, parity.gained) == (6, 0, 0)
    assert parity.detections
    assert max(parity.class_logits, parity.box_offsets) < 1e-4


def test_detects_what_the_checkpoint_detects(exported: Path, tiny: Path) -> None:
    images = pictures(3, SIDE, SIDE, seed=5)
    theirs = found_in(multibox.load(tiny, engine="torch").engine(images))
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    num, boxes, scores, classes = session.run(WHOLE, {"images": images})
    for i, found in enumerate(theirs):
        n = len(found.scores)
        assert num[i, 0] == n > 5
        np.testing.assert_allclose(scores[i, :n], found.scores, atol=1e-5)
        np.testing.assert_allclose(boxes[i, :n], found.boxes, atol=1e-4)
        np.testing.assert_array_equal(classes[i, :n], found.labels)
        assert not scores[i, n:].any()
        assert not boxes[i, n:].any()
        assert not classes[i, n:].any()


def test_runs_where_there_is_no_torch(exported: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'onnx')))\n"
        "import numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1])\n"
        "outputs = session.run(None, {'images': numpy.zeros((1, 64, 64, 3), numpy.uint8)})\n"
        "import multibox\n"
        "found = multibox.load(sys.argv[1])(numpy.zeros((80, 60, 3), numpy.uint8), score=0)\n"
        "print(int(outputs[0][0, 0]), len(found))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, exported], capture_output=True, text=True, check=True
    )
    alone, ours = map(int, said.stdout.split())
    assert alone == ours > 0


def test_raw_outputs_in_half_precision(tiny: Path, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "raw.onnx"
    result = multibox.export(tiny, out=out, precision="fp16", nms=False)
    model = onnx.load(out)
    assert [output.name for output in model.graph.output] == list(RAW)
    assert all(output.type.tensor_type.elem_type == 1 for output in model.graph.output)
    halves = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert halves
    assert out.stat().st_size < 0.7 * exported.stat().st_size
    assert 1e-5 < result.parity.class_logits < 0.02
    assert read_exported(out).card.export == result.card.export


def test_openvino(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new folder" / "tiny.xml"
    call = ["export", str(tiny), "--format", "openvino", "--precision", "fp16", "--out", str(out)]
    assert main(call) == 0
    said = capfd.readouterr()
    assert said.err == ""
    first, *rest = said.out.splitlines()
    assert first.startswith(f"{out} and {out.with_suffix('.bin')}: tiny_detector, fp16")
    assert rest[0].startswith("compared with PyTorch")
    assert len(rest) == 3

    assert sorted(path.name for path in out.parent.iterdir()) == ["tiny.bin", "tiny.xml"]
    [info] = ElementTree.parse(out).getroot().iterfind("./rt_info/multibox")
    assert json.loads(info.attrib["value"])["names"] == list(NAMES)
    assert read_exported(out).card.export is not None
    model = openvino_core().read_model(out)
    assert [output.any_name for output in model.outputs] == list(WHOLE)
    assert model.inputs[0].partial_shape.to_string() == "[?,64,64,3]"


class TestOutOfTolerance:
    def test_nothing_is_written(
        self,
        tiny: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Weights that change after the graph was made are what a wrong graph looks like."""
        original = exporting._write

        def spoil(network, *rest):  # type: ignore[no-untyped-def]
            for weight in network.graph.initializer:
                values = onnx.numpy_helper.to_array(weight)
                if values.ndim == 4:
                    changed = onnx.numpy_helper.from_array(values * np.float32(1.01), weight.name)
                    weight.CopyFrom(changed)
            return original(network, *rest)

        monkeypatch.setattr(exporting, "_write", spoil)
        out = tmp_path / "tiny.onnx"
        out.write_bytes(b"old")
        assert main(["export", str(tiny), "--out", str(out)]) == 1
        line = error_line(capsys)
        assert "differs from PyTorch" in line
        assert "class scores by" in line
        assert "nothing was written" in line
        assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]
        assert out.read_bytes() == b"old"

    def test_decoding_and_suppression_are_judged_too(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A graph made from another card gives the same raw outputs."""
        from multibox.exporting import detection_graph

        add = detection_graph.add_detection
        card = multibox.load(tiny).card
        moved = card.default_boxes.model_copy(update={"variances": (0.1, 0.1, 0.19, 0.2)})
        fewer = card.postprocessing.model_copy(update={"iou_threshold": 0.05})
        for update, reason in (
            ({"default_boxes": moved}, r"boxes by .* pixels"),
            ({"postprocessing": fewer}, r"in \d+ of \d+ detections"),
        ):
            other = card.model_copy(update=update)
            monkeypatch.setattr(
                detection_graph, "add_detection", lambda graph, _, other=other: add(graph, other)
            )
            with pytest.raises(MultiboxError, match=reason):
                multibox.export(tiny, out=tmp_path / "tiny.onnx")
        assert list(tmp_path.iterdir()) == []

    def test_numbers_that_are_none(self) -> None:
        parity = Parity(
            reference="", pictures=1, class_logits=float("nan"), box_offsets=0.0, magnitude=1.0
        )
        assert checking._faults(parity, checking.TOLERANCES["fp32"])


def test_detections_in_no_order_are_not_compared() -> None:
    """Near 0, and the end of a list that is full: of a network without training, everything."""
    scores = np.array([[0.9, 0.5, 0.500001, 0.5], [0.9, 0.5, 1e-4, 0.0]], np.float32)
    boxes, labels = np.zeros((2, 4, 4), np.float32), np.zeros((2, 4), np.int32)
    raw = RawDetections(np.array([4, 3]), boxes, scores, labels)
    full, short = checking._comparable(raw, keep=4)
    np.testing.assert_array_equal(full.scores, np.float32([0.9]))
    np.testing.assert_array_equal(short.scores, np.float32([0.9, 0.5]))
    none = RawDetections(np.array([0, 0]), boxes, scores, labels)
    assert [len(found.scores) for found in checking._comparable(none, keep=4)] == [0, 0]


class TestEightBits:
    def test_accuracy_is_measured_before_and_after(
        self, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data, out = generate(tmp_path / "data", images=12), tmp_path / "tiny.onnx"
        call = ["export", str(tiny), "--precision", "int8", "--calibrate", str(data)]
        assert main([*call, "--out", str(out)]) == 0
        assert "accuracy on " in capsys.readouterr().out
        about = read_exported(out).card.export
        assert about is not None
        accuracy = Accuracy.model_validate(about["accuracy"])
        assert accuracy.split == "test"
        assert accuracy.pictures == len(open_data(data, split="test"))
        floats = tmp_path / "floats.onnx"
        multibox.export(tiny, out=floats)
        assert accuracy.before == multibox.evaluate(floats, data).map
        assert accuracy.after == multibox.evaluate(out, data).map
        assert any(n.op_type == "DequantizeLinear" for n in onnx.load(out).graph.node)

    def test_an_ir_finds_what_the_engine_finds(self, tiny: Path, tmp_path: Path) -> None:
        data, out = generate(tmp_path / "data", images=12), tmp_path / "tiny.xml"
        multibox.export(tiny, out=out, format="openvino", precision="int8", calibrate=data)
        core, image = openvino_core(), pictures(1, SIDE, SIDE, seed=5)
        model = core.read_model(out)
        assert list(model.input().shape) == [1, SIDE, SIDE, 3]
        plain = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        whole = plain({"images": image})
        found = multibox.load(out).engine(image)
        n = found.num[0]
        assert whole["num_detections"][0, 0] == n > 5
        np.testing.assert_allclose(whole["detection_scores"][0, :n], found.scores[0, :n], atol=1e-5)

    def test_a_file_that_engines_disagree_about(self, exported: Path) -> None:
        engine, images = multibox.load(exported).engine, pictures(3, SIDE, SIDE, seed=5)
        raw = RawOutputs(np.zeros((3, 1, 2), np.float32), np.zeros((3, 1, 4), np.float32))
        num, *rest = engine(images)
        whole = dict(zip(WHOLE, (num[:, None], *rest), strict=True))
        assert checking._faults_of_int8(exported, images, raw, whole, engine.card) == ()
        whole["detection_boxes"] = 1 - whole["detection_boxes"]
        [fault] = checking._faults_of_int8(exported, images, raw, whole, engine.card)
        assert "detections (at most" in fault

    def test_raw_outputs_that_engines_disagree_about(self, tiny: Path, tmp_path: Path) -> None:
        file = multibox.export(tiny, out=tmp_path / "raw.onnx", nms=False).file
        engine, images = multibox.load(file).engine, pictures(3, SIDE, SIDE, seed=5)
        raw = RawOutputs(*engine.network(images))
        assert checking._faults_of_int8(file, images, raw, None, engine.card) == ()
        wrong = RawOutputs(raw.class_logits + 1, raw.box_offsets)
        [fault] = checking._faults_of_int8(file, images, wrong, None, engine.card)
        assert "class scores by 1" in fault

    def test_too_much_lost(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = Accuracy(
            before=0.8, after=0.7, metric="voc07", pictures=9, split="test", classes=("box -0.3",)
        )
        data = generate(tmp_path / "data", images=6)
        monkeypatch.setattr("multibox.exporting.accuracy.measure", lambda *_: lost)
        with pytest.raises(MultiboxError, match=r"mAP falls from 0\.8000 to 0\.7000 on 9 pictures"):
            multibox.export(tiny, out=tmp_path / "tiny.onnx", precision="int8", calibrate=data)
        assert not (tmp_path / "tiny.onnx").exists()
        assert "more than 0.005 is lost, most of it by: box -0.3" in lost.lines()[1]
