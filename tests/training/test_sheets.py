from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from multibox.data import DataSet, Sample
from multibox.detections import Detections
from multibox.drawing import class_colour
from multibox.imaging import read_image
from multibox.training.sheets import draw_predictions

NAMES = ("cat", "dog")
LABELLED, FOUND = (20, 60, 100, 140), (150, 60, 230, 140)


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    return np.zeros((200, 260, 3), np.uint8)


def sheet(
    path: Path, samples: Sequence[Sample], scores: Sequence[float]
) -> npt.NDArray[np.integer]:
    data = DataSet(samples, NAMES, "val", Path(), "VOC")
    n = len(scores)
    found = Detections(
        np.array([FOUND] * n, np.float32).reshape(n, 4), np.array(scores, np.float32),
        np.ones(n, np.int64), NAMES, 260, 200,
    )  # fmt: skip
    draw_predictions(path, data, [found] * len(samples))
    return read_image(path).astype(int)


def share_coloured(sheet: npt.NDArray[np.integer], label: int, box: Sequence[int]) -> float:
    """The share of a box's lower side that has the colour of a class.

    One picture of 260 pixels' width fills the sheet.
    """
    scale = (sheet.shape[1] - 12) / 260
    x0, _, x1, y1 = (round(side * scale) + 6 for side in box)
    side = sheet[y1 - 3 : y1 + 4, x0 + 8 : x1 - 8]
    near = (np.abs(side - class_colour(label)).max(axis=2) < 70).any(axis=0)
    return float(near.mean())


def test_labels_are_dashed_and_detections_are_not(
    tmp_path: Path, picture: npt.NDArray[np.uint8]
) -> None:
    sample = Sample.of(picture, [LABELLED], [0], width=260, height=200)
    drawn = sheet(tmp_path / "sheet.png", [sample], [0.9])
    assert 0.3 < share_coloured(drawn, 0, LABELLED) < 0.8
    assert share_coloured(drawn, 1, FOUND) > 0.95


def test_detections_lie_over_the_labels(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    sample = Sample.of(picture, [FOUND], [0], width=260, height=200)
    drawn = sheet(tmp_path / "sheet.png", [sample], [0.9])
    assert share_coloured(drawn, 1, FOUND) > 0.95


def test_weak_detections_are_left_out(tmp_path: Path, picture: npt.NDArray[np.uint8]) -> None:
    sample = Sample.of(picture, [], [], width=260, height=200)
    drawn = sheet(tmp_path / "sheet.png", [sample], [0.49])
    assert share_coloured(drawn, 1, FOUND) == 0
    assert share_coloured(sheet(tmp_path / "sheet.png", [sample], [0.5]), 1, FOUND) > 0.95


def test_the_first_twelve_pictures_are_shown(
    tmp_path: Path, picture: npt.NDArray[np.uint8]
) -> None:
    samples = [
        Sample.of(picture + 10 * i, [LABELLED], [0], width=260, height=200) for i in range(13)
    ]
    many = sheet(tmp_path / "many.png", samples, [0.9])
    twelve = sheet(tmp_path / "twelve.png", samples[:12], [0.9])
    np.testing.assert_array_equal(many, twelve)
    assert many.shape != sheet(tmp_path / "four.png", samples[:4], [0.9]).shape
