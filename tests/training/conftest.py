from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_detectors
import torch
from tiny_runs import OPTIONS, Train

from multibox.data import Sample, open_data, synthetic
from multibox.training.train import TrainResult, train


@pytest.fixture(scope="session", autouse=True)
def _tiny_detectors() -> Iterator[None]:
    torch.set_num_threads(1)
    with tiny_detectors.registered(), pytest.MonkeyPatch.context() as patch:
        # Matplotlib would take most of the time of so small a run.
        patch.setattr("multibox.training.epoch_end.plot_curves", lambda *_: None)
        patch.setattr("multibox.training.epoch_end.plot_precision_recall", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 labelled pictures of 96 x 72 pixels as a VOC folder: 9 to train on, 3 to validate."""
    return synthetic.generate(
        tmp_path_factory.mktemp("data") / "scenes",
        images=12,
        size=(96, 72),
        splits={"train": 0.75, "val": 0.25},
    )


@pytest.fixture(scope="session")
def samples(scenes: Path) -> list[Sample]:
    return list(open_data(scenes, split="train").samples)


@pytest.fixture
def run(scenes: Path, tmp_path: Path) -> Train:
    """``train`` with small values; keywords change them."""

    def start(**changes: Any) -> TrainResult:
        arguments = {"data": scenes, "out": tmp_path / "run"} | OPTIONS | changes
        return train(**arguments)

    return start
