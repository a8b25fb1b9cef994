"""What ``multibox bench --train`` reports, and that what it times is the training's own step."""

import json
from pathlib import Path

import pytest
import torch

from multibox.benchmarking import train as bench_train
from multibox.benchmarking.train import TrainReport, bench_training, table
from multibox.benchmarking.train_contenders import made_up_batch, our_step, torchvisions_step
from multibox.cli import main
from multibox.errors import InputError
from multibox.training.recipes import modern
from multibox.training.step import StepFigures
from multibox.zoo import new_card

MODEL = "ssdlite320_mobilenet_v3_large"
SMALL = new_card(MODEL, ["a", "b"], image_size=(64, 64))


@pytest.fixture(scope="module")
def report() -> TrainReport:
    """Of small pictures, which torchvision enlarges to its own 320 pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_train, "new_card", lambda *_: SMALL)
        patch.setattr("multibox.benchmarking.peak._SHAPES", ((32, 10),))
        patch.setattr("multibox.benchmarking.interleave._WARM_UP", 1)
        return bench_training(MODEL, batch_size=2, threads=1, seconds=0.01, device="cpu")


def test_the_figures_fit_together(report: TrainReport) -> None:
    stages = report.stages.model_dump().values()
    assert all(stage["p50"] > 0 for stage in stages)
    assert report.pictures_per_second == pytest.approx(2000 / report.milliseconds.p50)
    assert report.data.p50 > 0
    assert report.torchvision_milliseconds is not None
    assert report.times_torchvision == pytest.approx(
        report.torchvision_milliseconds.p50 / report.milliseconds.p50
    )
    assert report.operations_per_second == pytest.approx(
        6 * report.multiply_adds * report.pictures_per_second
    )
    if report.peak is not None:
        assert report.fraction_of_peak == pytest.approx(
            report.operations_per_second / report.peak.operations_per_second
        )


def test_it_is_a_table_and_json(report: TrainReport) -> None:
    assert table(report).row_count == 2
    assert TrainReport.model_validate(json.loads(report.model_dump_json())) == report


def test_our_step_learns_from_the_batch_and_names_its_stages() -> None:
    batch = made_up_batch(SMALL, 2)
    step = our_step(SMALL, batch, modern(), torch.device("cpu"), bf16=False)
    seen: list[str] = []
    figures = step(seen.append)
    assert seen == ["forward", "targets", "loss", "backward", "optimiser"]
    assert isinstance(figures, StepFigures)
    assert min(figures) > 0


def test_torchvision_has_two_of_the_detectors() -> None:
    batch = made_up_batch(SMALL, 2)
    cpu = torch.device("cpu")
    assert torchvisions_step("ssd512_vgg16", SMALL, batch, cpu) is None
    assert torchvisions_step(MODEL, SMALL, batch, cpu) is not None


@pytest.mark.parametrize("values", [{"batch_size": 1}, {"seconds": 0}, {"threads": 0}])
def test_numbers_that_cannot_be(values: dict[str, int]) -> None:
    with pytest.raises(InputError, match="a batch must have 2 pictures"):
        bench_training(MODEL, **values)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonesuch", "--train"], "no model named nonesuch"),
        (["a", "b", "--train"], "one detector of the zoo at a time"),
        (["a", "--batch-size", "4"], "--batch-size goes with --train"),
    ],
)
def test_a_wrong_call_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_command_prints_and_writes(
    report: TrainReport,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench_train, "bench_training", lambda *_, **__: report)
    path = tmp_path / "report.json"
    assert main(["bench", MODEL, "--train", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "times torchvision's reference loop" in out
    assert "multibox" in out
    assert TrainReport.model_validate_json(path.read_text()) == report
