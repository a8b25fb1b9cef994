import json
from pathlib import Path

import pytest

from multibox.benchmarking.report import Latency, Machine, Model, Peak, Report, Result, Split
from multibox.cli import main

HALF = Latency(p50=0.5, p99=None)
REPORT = Report(
    machine=Machine(processor="a chip", cores=2, system="an OS", python="3.12", packages={}),
    threads=2,
    picture="a made-up scene",
    picture_size=(375, 500),
    models=(
        Model(
            file="m.onnx",
            name="ssd300_vgg16",
            image_size=(300, 300),
            classes=20,
            default_boxes=8732,
            multiply_adds=31_400_000_000,
        ),
    ),
    peaks=(
        Peak(
            precision="fp32", operations_per_second=2.2e11, engine="openvino", kernel="convolutions"
        ),
    ),
    results=(
        Result(
            model="m.onnx",
            engine="openvino",
            precision="fp32",
            batch_size=1,
            samples=120,
            milliseconds=Split(
                decode=HALF,
                preprocess=HALF,
                network=Latency(p50=300, p99=None),
                postprocess=HALF,
                whole=Latency(p50=301.5, p99=333.25),
            ),
            pictures_per_second=3.3,
            operations_per_second=2.09e11,
            fraction_of_peak=0.951,
            detections=17,
        ),
    ),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    calls: list[tuple] = []

    def measure(models: tuple[str, ...], **wishes: object) -> Report:
        calls.append((models, wishes))
        return REPORT

    monkeypatch.setattr("multibox.cli.bench.measure", measure)
    return calls


def test_a_table_is_printed_and_the_json_has_the_documented_keys(
    asked: list[tuple], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "figures.json"
    assert main(["bench", "m.onnx", "--json", str(target)]) == 0
    out = capsys.readouterr().out
    assert "31.400 G multiply-adds" in out
    assert "peak fp32: 220 GOP/s" in out
    row = next(line for line in out.splitlines() if line.strip().startswith("openvino fp32"))
    assert row.split()[2:] == [
        "1",
        "0.50",
        "0.50",
        "300.00",
        "0.50",
        "301.50",
        "333.2",
        "3.3",
        "95%",
    ]
    written = json.loads(target.read_text())
    assert list(written) == [
        "schema_version",
        "machine",
        "threads",
        "picture",
        "picture_size",
        "models",
        "peaks",
        "results",
    ]
    assert set(written["results"][0]["milliseconds"]) == {
        "decode",
        "preprocess",
        "network",
        "postprocess",
        "whole",
    }
    assert written["results"][0]["milliseconds"]["network"] == {"p50": 300, "p99": None}


@pytest.mark.parametrize(("fraction", "said"), [(1.9, True), (1.01, False), (None, False)])
def test_more_than_the_peak_is_called_a_disturbed_measurement(
    fraction: float | None,
    said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = REPORT.results[0].model_copy(update={"fraction_of_peak": fraction})
    report = REPORT.model_copy(update={"results": (REPORT.results[0], result)})
    monkeypatch.setattr("multibox.cli.bench.measure", lambda *_, **__: report)
    assert main(["bench", "m.onnx"]) == 0
    assert ("measure again" in capsys.readouterr().out) == said


def test_long_names_do_not_cut_figures_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = f"{'a-long-folder/' * 12}m.onnx"
    model = REPORT.models[0].model_copy(update={"file": long})
    result = REPORT.results[0].model_copy(update={"model": long})
    update = {"models": (model, *REPORT.models), "results": (result, *REPORT.results)}
    report = REPORT.model_copy(update=update)
    monkeypatch.setattr("multibox.cli.bench.measure", lambda *_, **__: report)
    assert main(["bench", long, "m.onnx"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert [len(line.split()) for line in out.splitlines()[-2:]] == [12, 12]


def test_the_flags_arrive(asked: list[tuple]) -> None:
    flags = "--engines onnxruntime,openvino:bf16 --batch-sizes 1,8 --threads 2 --seconds 0.5"
    assert main(["bench", "a.onnx", "b.onnx", *flags.split(), "--picture", "cat.jpg"]) == 0
    assert asked == [
        (
            ("a.onnx", "b.onnx"),
            {
                "engines": ["onnxruntime", "openvino:bf16"],
                "batch_sizes": [1, 8],
                "threads": 2,
                "seconds": 0.5,
                "picture": Path("cat.jpg"),
            },
        )
    ]


@pytest.mark.parametrize("arguments", [[], ["m.onnx", "--batch-sizes", "1;8"]])
def test_wrong_calls_are_one_clear_line(
    asked: list[tuple], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not asked
