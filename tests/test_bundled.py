"""The detector in the package finds what it is for, and its file says where it comes from."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import multibox
from multibox import bundled
from multibox.cli import main
from multibox.detector import model_file
from multibox.training.recipe_cards import CARDS
from photographs import photograph

ANIMALS = CARDS["animals"]


@pytest.mark.parametrize(("name", "label"), [("chelsea.png", "cat"), ("astronaut.png", "person")])
def test_what_it_finds(name: str, label: str) -> None:
    picture = cv2.imread(str(photograph(name)))
    found = multibox.load()(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).above(0.5)
    assert [found.names[i] for i in found.labels] == [label]
    # Both fill most of their picture.
    (x0, y0, x1, y1), (height, width) = found.boxes[0], picture.shape[:2]
    assert (x1 - x0) * (y1 - y0) > 0.4 * width * height


def test_nothing_in_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    assert not len(multibox.load()(noise).above(0.5))


def test_the_command_line_takes_it_when_no_other_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["detect", str(photograph("chelsea.png")), "--out", "found"]) == 0
    assert "cat" in capsys.readouterr().out
    assert Path("found/chelsea.jpg").is_file()


def test_a_file_or_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("animals").mkdir()
    assert model_file(bundled.NAME) == bundled.FILE
    Path("animals").rmdir()
    Path("animals").touch()
    assert model_file(bundled.NAME) == Path("animals")


def test_its_card() -> None:
    card = multibox.load().card
    assert card.names == ANIMALS.data.classes
    assert card.model == ANIMALS.model
    assert card.recipe is not None
    assert card.recipe["seed"] == 0
    # The run was that of ``modern``, which the recipe card writes out.
    given = {key: value for key, value in card.recipe.items() if key not in ("seed", "name")}
    assert ANIMALS.recipe.changed(given) == ANIMALS.recipe
    measured = card.metrics["validation"]["map"]
    assert measured == pytest.approx(ANIMALS.final[0].value, abs=5e-4)


def test_it_is_small() -> None:
    assert bundled.FILE.stat().st_size < 10e6
