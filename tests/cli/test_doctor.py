import json
from pathlib import Path

import pytest

from multibox.cli import main
from multibox.data import synthetic


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return synthetic.generate(tmp_path / "scenes", images=10)


def test_a_clean_set(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in scenes.rglob("*") if path.is_file()}
    report = tmp_path / "report.json"
    assert main(["doctor", str(scenes), "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert "0 errors, 0 warnings" in out
    assert "default boxes of ssdlite320_mobilenet_v2" in out
    content = json.loads(report.read_text())
    assert set(content) == {"findings", "summary"}
    assert content["findings"] == []
    assert content["summary"]["pictures"] == 10
    assert 0 <= content["summary"]["default_boxes"]["suggested"]["recall"] <= 1
    assert before == {path: path.read_bytes() for path in scenes.rglob("*") if path.is_file()}


def test_errors_make_the_exit_code_1(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = scenes / "JPEGImages" / "scene_00003.jpg"
    picture.write_bytes(picture.read_bytes()[:2000])
    report = tmp_path / "report.json"
    assert main(["doctor", str(scenes), "--json", str(report), "--model", "ssd300_vgg16"]) == 1
    (found,) = json.loads(report.read_text())["findings"]
    assert set(found) == {"kind", "severity", "file", "object", "detail"}
    assert (found["kind"], found["severity"]) == ("truncated-image", "error")
    assert (found["file"], found["object"]) == (str(picture), None)
    assert "truncated-image" in capsys.readouterr().out


def test_no_data_set_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path)]) == 2
    assert "no data set recognised" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "nowhere")]) == 2
    assert main(["doctor", str(tmp_path), "--model", "ssd3000"]) == 2
