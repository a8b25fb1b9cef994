from pathlib import Path

import numpy as np
import pytest

from multibox.data.readable import without_unreadable
from multibox.data.samples import DataSet, Sample
from multibox.errors import InputError
from multibox.imaging import write_image


def data_of(*paths: Path) -> DataSet:
    samples = [Sample.of(path, [], [], width=64, height=48, id=path.name) for path in paths]
    return DataSet(samples, ("cat",), "train", paths[0].parent, "test")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    return path


@pytest.fixture
def cut_off(tmp_path: Path, whole: Path) -> Path:
    path = tmp_path / "cut off.png"
    content = whole.read_bytes()
    path.write_bytes(content[: len(content) // 2])  # the header is still there
    return path


def test_sound_pictures_stay_as_they_are(whole: Path) -> None:
    data = data_of(whole, whole)
    assert without_unreadable(data) is data


def test_a_picture_that_cannot_be_decoded_is_left_out_and_named(whole: Path, cut_off: Path) -> None:
    mended = without_unreadable(data_of(whole, cut_off, whole))
    assert [sample.image for sample in mended.samples] == [whole, whole]
    [problem] = mended.problems
    assert (problem.file, problem.action) == (str(cut_off), "left out")


def test_without_any_readable_picture_there_is_nothing_to_train_on(cut_off: Path) -> None:
    with pytest.raises(InputError, match="none of the 1 pictures"):
        without_unreadable(data_of(cut_off))
