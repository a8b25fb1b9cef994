"""The base install: no torch, no matplotlib; in an environment of its own, so it downloads."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from exported_files import images, write_onnx

from photographs import photograph

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with nothing but the base install."""
    environment = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    binaries = environment / "bin"
    subprocess.run([binaries / "pip", "install", "--quiet", ROOT], check=True)
    return binaries


def test_torch_is_not_there(bare: Path) -> None:
    listed = subprocess.run(
        [bare / "pip", "list"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "torch" not in listed
    assert "onnxruntime" in listed


def test_everything_but_training_runs(bare: Path, tmp_path: Path) -> None:
    listed = subprocess.run(
        [bare / "multibox", "models"], check=True, capture_output=True, text=True
    ).stdout
    assert "ssd300_vgg16" in listed
    data = tmp_path / "scenes"
    subprocess.run(
        [bare / "python", "-m", "multibox.data.synthetic", data, "--images", "20"], check=True
    )
    read = "from multibox.data import open_data; print(len(open_data(r'%s', split='train')))"
    found = subprocess.run(
        [bare / "python", "-c", read % data], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == "14"


def test_the_detector_in_the_package_runs(bare: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    call = [bare / "multibox", "detect", photograph("chelsea.png"), "--jsonl", "-"]
    done = subprocess.run(call, check=True, capture_output=True, text=True, cwd=tmp_path)
    (line,) = done.stdout.splitlines()
    assert [found["label"] for found in json.loads(line)["detections"]] == ["cat"]


def test_exported_files_run(bare: Path, tmp_path: Path) -> None:
    model = write_onnx(tmp_path / "model.onnx")
    cv2.imwrite(str(tmp_path / "picture.png"), images(1)[0])
    call = [bare / "multibox", "detect", tmp_path / "picture.png", "--model", model]
    call += ["--score", "0.1", "--jsonl", "-", "--out", tmp_path / "seen"]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["detections"]
    assert (tmp_path / "seen" / "picture.jpg").is_file()
    done = subprocess.run(
        [*call, "--engine", "openvino"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert 'pip install "multibox[openvino]"' in done.stderr


def test_training_says_what_to_install(bare: Path, tmp_path: Path) -> None:
    call = [bare / "multibox", "train", tmp_path, "--model", "ssd300_vgg16"]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'pip install "multibox[train]"' in done.stderr
