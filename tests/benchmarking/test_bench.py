import sys
from pathlib import Path

import pytest

from multibox.benchmarking.bench import bench
from multibox.benchmarking.contenders import EngineChoice
from multibox.benchmarking.report import Report
from multibox.errors import InputError

pytestmark = pytest.mark.usefixtures("small_kernels")


def test_every_engine_and_batch_size_has_its_figures(checkpoint: Path, exported: Path) -> None:
    report = bench(
        [checkpoint, exported],
        engines=None,
        batch_sizes=[1, 2],
        threads=1,
        seconds=0.01,
    )
    cases = {(Path(r.model).suffix, r.engine, r.batch_size) for r in report.results}
    files = [(".safetensors", "torch"), (".onnx", "onnxruntime"), (".onnx", "openvino")]
    assert cases == {(*file, size) for file in files for size in (1, 2)}
    assert [model.file for model in report.models] == [str(checkpoint), str(exported)]
    torch_network, file = report.models
    assert torch_network.multiply_adds > 1e6
    assert file.multiply_adds == 3 * file.default_boxes * (3 + 4)
    assert [peak.precision for peak in report.peaks] == ["fp32"]
    for result in report.results:
        split = result.milliseconds
        stages = [split.decode, split.preprocess, split.network, split.postprocess]
        assert min(stage.p50 for stage in stages) > 0
        assert result.samples >= 3
        assert result.pictures_per_second == pytest.approx(
            1000 * result.batch_size / split.whole.p50
        )
        assert result.fraction_of_peak == pytest.approx(
            result.operations_per_second / report.peaks[0].operations_per_second
        )
        if result.batch_size == 1:
            assert split.network.p50 < split.whole.p50
    for model in report.models:
        found = {result.detections for result in report.results if result.model == model.file}
        assert len(found) == 1  # whatever the engine and the batch
        assert found.pop() > 0
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_an_exported_file_needs_no_torch(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    report = bench([exported], engines=["onnxruntime"], seconds=0.01, threads=1)
    assert report.results[0].engine == "onnxruntime"


def test_a_made_up_network_needs_torch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "multibox.benchmarking.spread_weights", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="needs PyTorch"):
        bench(["ssdlite320_mobilenet_v2"], seconds=0.01)


@pytest.mark.parametrize("text", ["tensorrt", "openvino:fp8", "onnxruntime:bf16", ""])
def test_an_unknown_engine_is_one_clear_line(text: str) -> None:
    with pytest.raises(InputError, match="onnxruntime"):
        EngineChoice.parse(text)


def test_engines_are_named_with_their_precision() -> None:
    assert EngineChoice.parse("openvino:bf16") == EngineChoice("openvino", "bf16")
    assert EngineChoice.parse(" torch") == EngineChoice("torch", "fp32")


@pytest.mark.parametrize(
    "wrong", [{"batch_sizes": [0]}, {"batch_sizes": []}, {"threads": 0}, {"seconds": 0}]
)
def test_numbers_are_above_zero(exported: Path, wrong: dict) -> None:
    with pytest.raises(InputError, match="above 0"):
        bench([exported], **wrong)


def test_a_missing_file_and_an_unknown_name_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        bench([tmp_path / "none.onnx"], engines=["onnxruntime"])
    with pytest.raises(InputError, match="did you mean"):
        bench(["ssd300_vgg"])
