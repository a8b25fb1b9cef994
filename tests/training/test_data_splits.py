from pathlib import Path

import numpy as np
import pytest

from multibox.data import open_data
from multibox.data.samples import Sample
from multibox.errors import InputError
from multibox.training.data_splits import open_parts

NAMES = ["cat", "red fox", "Ænder"]


def sample(*labels: int) -> Sample:
    picture = np.zeros((20, 30, 3), np.uint8)
    return Sample.of(picture, [[1, 2, 11, 12]] * len(labels), labels, width=30, height=20)


def test_samples_become_both_parts() -> None:
    training, validation = open_parts([sample(0, 2), sample()], NAMES, [sample(1)], None)
    assert validation is not None
    assert (len(training), training.split, training.names) == (2, "train", tuple(NAMES))
    assert (len(validation), validation.split) == (1, "val")


def test_samples_without_validation() -> None:
    assert open_parts([sample(0)], NAMES, None, None)[1] is None


def test_a_data_set_brings_its_names(scenes: Path) -> None:
    opened = open_data(scenes, split="train")
    training, validation = open_parts(opened, None, open_data(scenes, split="val"), None)
    assert training.names == opened.names
    assert validation is not None
    with pytest.raises(InputError, match="differ in their class names"):
        open_parts(opened, None, open_data(scenes, split="val", classes=["ring"]), None)


def test_some_classes_in_the_order_given() -> None:
    training, _ = open_parts([sample(0, 1, 2)], NAMES, None, ["Ænder", "cat"])
    assert training.names == ("Ænder", "cat")
    assert training.samples[0].labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("samples", "names", "classes", "message"),
    [
        ([sample(3)], NAMES, None, "train sample 0 has a label beyond the 3 names"),
        ([sample(0), sample(-1)], NAMES, None, "train sample 1 has a label"),
        ([], NAMES, None, "there are no train samples"),
        ([sample(0)], None, None, "names=[...]"),
        ([sample(0)], NAMES, ["dog"], "dog"),
    ],
)
def test_what_cannot_be_trained_on(
    samples: list[Sample], names: list[str] | None, classes: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError) as error:
        open_parts(samples, names, None, classes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "box", [(5, 2, 5, 12), (5, 2, 9, 2), (9, 2, 5, 12), (5, np.nan, 9, 12), (5, 2, np.inf, 12)]
)
def test_a_box_that_nothing_can_be_learned_from_is_named(box: tuple[float, ...]) -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    bad = Sample.of(picture, [(1, 2, 11, 12), box], [0, 1], width=30, height=20, id="lab/7.png")
    with pytest.raises(InputError, match=r"^train sample 1 \(lab/7.png\): box 1 has no area"):
        open_parts([sample(0), bad], NAMES, None, None)
    with pytest.raises(InputError, match=r"^val sample 0 \(lab/7.png\): box 1 has no area"):
        open_parts([sample(0)], NAMES, [bad], None)


def test_a_folder_is_read_and_its_damaged_pictures_left_out(scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for path in scenes.rglob("*.*"):
        copy = folder / path.relative_to(scenes)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    whole, _ = open_parts(folder, None, None, None)
    damaged = whole.samples[0].image
    assert isinstance(damaged, Path)
    damaged.write_bytes(damaged.read_bytes()[:800])
    training, validation = open_parts(folder, None, None, None)
    assert validation is not None
    assert len(training) == len(whole) - 1
    assert [problem.file for problem in training.problems] == [str(damaged)]
