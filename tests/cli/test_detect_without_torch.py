"""The command on an exported file, in a process where nothing of PyTorch can be imported."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from exported_files import NAMES, images, write_onnx

BLOCKED = ("torch", "torchvision", "timm", "accelerate", "matplotlib", "onnx", "openvino")
RUN = f"""
import sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
from multibox.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    for i, image in enumerate(images(2)):
        cv2.imwrite(str(folder / f"{i}.png"), image[..., ::-1])
    write_onnx(folder / "model.onnx")
    return folder


def multibox(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=folder, capture_output=True, text=True
    )


def test_detect(folder: Path) -> None:
    done = multibox(
        folder,
        "detect",
        "0.png",
        "1.png",
        "--model",
        "model.onnx",
        "--jsonl",
        "-",
        "--score",
        "0.1",
    )
    assert (done.returncode, done.stderr.count("\n")) == (0, 2)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines] == ["0.png", "1.png"]
    for line in lines:
        assert {found["label"] for found in line["detections"]} <= set(NAMES)
        assert len(line["detections"]) > 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--engine", "openvino"], 'pip install "multibox[openvino]"'),
        (["--engine", "torch"], "model.onnx: an exported file, which torch cannot run"),
        (["--threads", "0"], "--threads"),
        (["--goal", "speed"], "--goal"),
        (["--precision", "bf16", "--engine", "onnxruntime"], "use --engine openvino"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder: Path, options: list[str], expected: str) -> None:
    done = multibox(folder, "detect", "0.png", "--model", "model.onnx", *options)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
