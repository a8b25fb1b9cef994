"""What ONNX Runtime is asked to run on, with a runtime that only claims to have a GPU."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
from exported_files import images, write_onnx

from multibox.engines import onnxruntime as engine_module
from multibox.engines import open_engine, read_exported

CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))


class Session:
    """A real session on the processor that says it runs on CUDA."""

    asked: ClassVar[list[Any]] = []

    def __init__(self, data: bytes, options: Any, providers: list[Any]) -> None:
        type(self).asked = providers
        self._real = real_session(data, options, providers=[CPU])
        self.batches: list[int] = []

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def run(self, outputs: Any, inputs: dict[str, np.ndarray]) -> Any:
        self.batches.append(len(inputs["images"]))
        return self._real.run(outputs, inputs)


real_session = onnxruntime.InferenceSession


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was loaded of NVIDIA's libraries; none is here."""
    libraries: list[str] = []

    def preload() -> None:
        libraries.append("CUDA")
        print("Failed to load libcublasLt.so.13")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    return libraries


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    write_onnx(path, "softmax", nms=True)
    return path


@pytest.mark.parametrize(
    ("available", "tensorrt", "expected"),
    [
        ([CPU], True, [CPU]),
        ([TENSORRT, CUDA, CPU], False, [CUDA, CPU]),
        ([TENSORRT, CUDA, CPU], True, [TENSORRT, CUDA, CPU]),
    ],
)
def test_the_best_that_is_installed_comes_first(
    available: list[str],
    tensorrt: bool,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("MULTIBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(engine_module, "find_spec", lambda _: object() if tensorrt else None)
    providers = engine_module._providers()
    assert [each if isinstance(each, str) else each[0] for each in providers] == expected
    if TENSORRT in expected:
        assert providers[0][1]["trt_engine_cache_path"] == str(tmp_path / "cache" / "tensorrt")


def test_a_gpu_has_a_batch_at_once(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    on_processor = open_engine(read_exported(file), "onnxruntime")
    assert not loaded
    assert not on_processor._whole_batches  # type: ignore[attr-defined]
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    on_gpu = open_engine(read_exported(file), "onnxruntime")
    pictures = images(3)
    found = on_gpu(pictures)
    assert on_gpu._session.batches == [3]  # type: ignore[attr-defined]
    assert Session.asked == [CUDA, CPU]
    expected = on_processor(pictures)
    np.testing.assert_array_equal(found.num, expected.num)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert loaded == ["CUDA"]
    assert capsys.readouterr().out == ""
