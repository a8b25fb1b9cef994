"""``benchmarks/gpu.py`` as it runs where no GPU is: every part but the compiler's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
MODEL = "SSDLite320-MobileNetV3"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_rehearsal_fills_the_report(tmp_path: Path) -> None:
    results = tmp_path / "figures" / "gpu.json"
    command = [
        *(sys.executable, str(BENCHMARK), "--cpu", "--json", str(results)),
        *("--minutes", "30", "--models", MODEL, "--parts", "checks,inference,training,profile"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(results.read_text())
    assert report["failed"] == report["skipped"] == []
    assert len(report["checks"]) == 9
    contenders = report["inference"][MODEL]
    assert contenders["multibox bf16"].keys() == {"1", "2"}
    assert contenders["torchvision fp32"]["1"]["pictures_per_second"] > 0
    for contender in ("multibox bf16", "torchvision bf16", "torchvision fp32"):
        assert report["training"][MODEL][contender]["images_per_second"] > 0
    assert len(report["profile"]) == 2
    assert len(report["ratios"]) == 4
