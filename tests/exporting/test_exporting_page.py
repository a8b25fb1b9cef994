"""The page's program for plain onnxruntime does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import multibox
from multibox.data.synthetic import generate

PAGE = Path(__file__).parents[2] / "docs" / "exporting.md"


def test_the_program_finds_what_detect_finds(tiny: Path, tmp_path: Path) -> None:
    section = PAGE.read_text(encoding="utf-8").split("## In plain onnxruntime")[1]
    program = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    multibox.export(tiny, out=tmp_path / "detector.onnx")
    source = next(generate(tmp_path / "data", images=8).rglob("*.jpg"))
    source.rename(tmp_path / "picture.jpg")
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = said.stdout.splitlines()
    found = multibox.load(tmp_path / "detector.onnx")(tmp_path / "picture.jpg", score=0)
    assert len(lines) == len(found) > 0
    assert [line.split()[0] for line in lines] == [found.names[label] for label in found.labels]
