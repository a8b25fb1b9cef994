"""What ``multibox export`` refuses, in one line, before any work is done."""

import importlib.util
from pathlib import Path

import pytest
import torch

from multibox import checkpoints
from multibox.cli import main
from multibox.ssd.model import SSD
from multibox.zoo import new_card


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    card = new_card("ssdlite320_mobilenet_v3_small", ["cat"], image_size=(64, 64))
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    arrays = {name: value.numpy() for name, value in SSD(card).state_dict().items()}
    checkpoints.save(path, arrays, card)
    return path


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["MODEL", "--out", "."], "is a folder: name the file to write"),
        (["MODEL", "--out", "a.xml"], "an onnx file ends with .onnx: --out a.onnx"),
        (["MODEL", "--out", "a.onnx", "--format", "openvino"], "ends with .xml: --out a.xml"),
        (["MODEL", "--out", "a"], "ends with .onnx"),
        (["MODEL", "--out", "file/a.onnx"], "is not a folder to write to"),
        (["MODEL"], "--out"),
        (["MODEL", "--out", "a.onnx", "--format", "tflite"], "tflite"),
        (["MODEL", "--out", "a.onnx", "--precision", "int4"], "int4"),
        (["MODEL", "--out", "a.onnx", "--precision", "int8"], "give --calibrate DATA"),
        (["MODEL", "--out", "a.onnx", "--calibrate", "."], "is for --precision int8, not for fp32"),
        (
            ["MODEL", "--out", "a.onnx", "--precision", "int8", "--calibrate", "nowhere"],
            "nowhere",
        ),
        (["ssd300_vgg16", "--out", "a.onnx"], "no trained weights are published under this name"),
        (["ssd300_vgg17", "--out", "a.onnx"], "did you mean"),
        (["missing.safetensors", "--out", "a.onnx"], "missing.safetensors"),
        (["other.onnx", "--out", "a.onnx"], "is exported already: give the checkpoint"),
        (["file", "--out", "a.onnx"], "file"),
    ],
)
def test_refused_in_one_line(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("nothing")
    given = [str(checkpoint) if word == "MODEL" else word for word in arguments]
    assert main(["export", *given]) == 2
    assert reason in error_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("package", "format", "extra"),
    [("onnx", "onnx", "export"), ("onnxscript", "onnx", "export"), ("openvino",) * 3],
)
def test_a_package_that_is_not_installed(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    format: str,
    extra: str,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "multibox.exporting.export.find_spec", lambda name: None if name == package else find(name)
    )
    out = tmp_path / ("a.xml" if format == "openvino" else "a.onnx")
    assert main(["export", str(checkpoint), "--format", format, "--out", str(out)]) == 2
    assert f'needs {package}: pip install "multibox[{extra}]"' in error_line(capsys)


def test_a_network_that_cannot_be_exported(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def forward(self: SSD, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = images.float().flatten(1)
        if values.sum() > 3:  # a branch on what is in the picture
            values = -values
        return values[:, None, :2], values[:, None, :4]

    monkeypatch.setattr(SSD, "forward", forward)
    assert main(["export", str(checkpoint), "--out", str(tmp_path / "a.onnx")]) == 1
    assert "ssdlite320_mobilenet_v3_small on" in (line := error_line(capsys))
    assert "cannot be exported to ONNX: " in line
    assert len(line) < 500
    assert list(tmp_path.iterdir()) == []
