"""Planted faults: the step that meets them says what, where and in which picture, and replays."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_detectors
import torch
from tiny_runs import Train

from multibox import checkpoints
from multibox.checkpoints import write_json
from multibox.data.batches import Key, TrainingPicture, TrainingPictures
from multibox.errors import InputError, MultiboxError
from multibox.imaging import Image
from multibox.training import forensics
from multibox.training.forensics import TOGETHER, replay
from multibox.training.loop import Step

LAYER = "backbone.coarse.0"


def fails(run: Train, **options: Any) -> tuple[str, Path]:
    """The one line, and the folder it names."""
    with pytest.raises(MultiboxError) as caught:
        run(**options)
    assert caught.value.exit_code == 1
    line = str(caught.value)
    assert "\n" not in line
    folder = Path(line.rpartition("multibox.training.forensics ")[2])
    assert folder.is_dir()
    return line, folder


def plant_box(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[np.ndarray], None], epoch: int = 1
) -> list[str]:
    """Change the first box of the first picture of ``epoch`` that has one, past all checks."""
    planted: list[str] = []
    real = TrainingPictures.write

    def damaged(self: TrainingPictures, key: Key, out: Image | None = None) -> TrainingPicture:
        picture = real(self, key, out)
        if key.epoch == epoch and len(picture.boxes) and not planted:
            boxes = picture.boxes.copy()
            change(boxes[0])
            planted.append(str(self.samples[key.picture].image))
            return picture._replace(boxes=boxes)
        return picture

    monkeypatch.setattr(TrainingPictures, "write", damaged)
    return planted


def no_width(box: np.ndarray) -> None:
    box[2] = box[0]


def no_height(box: np.ndarray) -> None:
    box[3] = box[1]


def inverted(box: np.ndarray) -> None:
    box[[0, 2]] = box[[2, 0]]


def not_a_number(box: np.ndarray) -> None:
    box[1] = np.nan


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (no_width, "has zero width"),
        (no_height, "has zero height"),
        (inverted, "is inverted"),
        (not_a_number, "is not finite"),
    ],
)
@pytest.mark.parametrize("least_overlap", [1e-6, pytest.param(-1.0, marks=pytest.mark.slow)])
def test_a_box_without_area_is_named_with_its_picture(
    run: Train,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[np.ndarray], None],
    expected: str,
    least_overlap: float,
) -> None:
    """Whether the matching would have passed it over or divided by its width."""
    planted = plant_box(monkeypatch, change)
    line, folder = fails(run, augment=False, least_overlap=least_overlap)
    assert line.startswith("step 3 (epoch 2) is not finite")
    assert f"box 0 of {planted[0]} {expected}" in line
    assert replay(folder).line in line


@pytest.mark.parametrize("rate", [float("inf"), 1e31])
def test_an_infinite_learning_rate_stops_the_first_step(run: Train, rate: float) -> None:
    line, folder = fails(run, learning_rate=rate, clip_gradient=0.0)
    assert line.startswith("step 1 (epoch 1)")
    assert "likely cause: the learning rate" in line
    assert "give a lower --learning-rate" in line
    report = replay(folder)
    assert report.line in line
    assert np.isfinite(report.found.losses).all()


def test_a_mosaic_has_the_names_of_its_pictures(run: Train) -> None:
    mosaics = {"mosaic_probability": 1.0, "mosaic_until": 1.0}
    line, folder = fails(run, learning_rate=1e31, clip_gradient=0.0, **mosaics)
    failed = replay(folder).failed
    names = [name.split(TOGETHER) for name in failed.pictures]
    assert {len(four) for four in names} == {4}
    assert all(Path(name).is_file() for four in names for name in four)
    assert TOGETHER.join(Path(name).name for name in names[0]) in line


def test_a_learning_rate_that_diverges_names_the_layer(run: Train) -> None:
    line, folder = fails(run, learning_rate=1e25, clip_gradient=0.0)
    assert "step 2 (epoch 1)" in line
    assert "the training has diverged (weights up to" in line
    report = replay(folder)
    assert report.line in line
    modules = dict(tiny(folder).named_modules())
    assert report.found.layer in modules


def tiny(folder: Path) -> torch.nn.Module:
    from multibox.ssd.model import build_ssd

    return build_ssd(checkpoints.load(folder / "weights.safetensors").card)


def test_a_corrupted_weight_in_the_file_to_begin_with(run: Train, tmp_path: Path) -> None:
    good = checkpoints.load(run(out=tmp_path / "good", epochs=1).best)
    arrays = {name: array.copy() for name, array in good.arrays.items()}
    arrays[f"{LAYER}.weight"][3, 2, 1, 0] = np.nan
    bad = tmp_path / "bad.safetensors"
    checkpoints.save(bad, arrays, good.card)
    line, folder = fails(run, weights=str(bad), mosaic_probability=0.0)
    assert line.startswith("step 1 (epoch 1)")
    assert f"first in the output of layer {LAYER}" in line
    assert f"weight {LAYER}.weight was not finite before the step, 1 of 512 values" in line
    assert "came so with the weights the run began with" in line
    assert "other arrays" not in line  # the statistics are spoilt by the step, not before it
    assert f"; pictures {Path(replay(folder).failed.pictures[0]).name}, " in line
    assert replay(folder).line in line


@pytest.mark.parametrize("model", ["tiny_plain", "tiny_lite"])
def test_a_weight_corrupted_in_the_middle(
    run: Train, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    real, steps = Step.__call__, []

    def corrupt(self: Step, batch: Any) -> Any:
        steps.append(1)
        if len(steps) == 4:
            with torch.no_grad():
                self._model.get_parameter(f"{LAYER}.weight")[0, 0, 0, 0] = float("inf")
        return real(self, batch)

    monkeypatch.setattr(Step, "__call__", corrupt)
    line, folder = fails(run, model=model)
    assert line.startswith("step 4 (epoch 2)")
    assert f"weight {LAYER}.weight was not finite before the step, 1 of 512 values" in line
    assert "corrupted from outside the training" in line
    assert replay(folder).line in line


def test_the_folder_has_all_of_the_step(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_box(monkeypatch, no_width)
    _, folder = fails(run, augment=False, accumulate=2, model="tiny_lite")
    names = {path.name for path in folder.iterdir()}
    pictures = {f"picture-{i:03d}.png" for i in range(4)}
    assert names == pictures | {
        "boxes.json",
        "replay.json",
        "report.txt",
        "weights.safetensors",
    }
    entries = json.loads((folder / "boxes.json").read_text())
    assert [entry["file"] for entry in entries] == sorted(pictures)
    values = json.loads((folder / "replay.json").read_text())
    assert values["portions"] == [2, 2]
    assert values["recipe"]["accumulate"] == 2


COMMAND = """
import sys
import tiny_detectors
from multibox.training.forensics import main
with tiny_detectors.registered():
    sys.exit(main(sys.argv[1:]))
"""


def test_the_command_prints_the_same_again(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_box(monkeypatch, no_width)
    line, folder = fails(run, augment=False)
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, folder],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(tiny_detectors.__file__).parent), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (folder / "report.txt").read_text()
    assert done.stdout.splitlines()[0] in line


@pytest.mark.parametrize("name", ["replay.json", "boxes.json", "picture-000.png"])
def test_a_folder_that_is_not_whole(
    run: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    plant_box(monkeypatch, no_width, epoch=0)
    _, folder = fails(run, augment=False)
    (folder / name).write_text("{}")
    with pytest.raises(InputError, match=name if name.endswith("png") else str(folder)):
        replay(folder)
    assert forensics.main([str(folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_some_may_be_passed_over(
    run: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    planted = plant_box(monkeypatch, no_width)
    options = {"augment": False, "model": "tiny_lite", "skip_non_finite": 1}
    result = run(**options, quiet=False)
    said = [line for line in capsys.readouterr().err.splitlines() if "passed over" in line]
    assert len(said) == 1
    assert planted[0] in said[0]
    assert "1 of at most 1" in said[0]
    assert [row["step"] for row in result.history] == [2, 4, 6]
    assert all(np.isfinite(array).all() for array in checkpoints.load(result.best).arrays.values())


def test_the_limit_counts_over_the_whole_run(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    real = TrainingPictures.write

    def damaged(self: TrainingPictures, key: Key, out: Image | None = None) -> TrainingPicture:
        picture = real(self, key, out)
        boxes = np.array([[0.2, 0.2, 0.2, 0.4]], np.float32)
        return picture._replace(boxes=boxes, labels=np.array([0]))

    monkeypatch.setattr(TrainingPictures, "write", damaged)
    line, _ = fails(run, skip_non_finite=3)
    assert line.startswith("step 4 (epoch 2)")
    assert "3 such steps were passed over before it" in line


def test_a_step_passed_over_changes_nothing(
    run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither weights nor the running statistics of BatchNorm, which a forward pass has moved."""
    states: list[dict[str, torch.Tensor]] = []
    real = Step.__call__

    def look(self: Step, batch: Any) -> Any:
        states.append({n: v.clone() for n, v in self._model.state_dict().items()})
        if len(states) == 2:
            for group in self._optimiser.param_groups:
                group["lr"] = float("inf")
        return real(self, batch)

    monkeypatch.setattr(Step, "__call__", look)
    run(model="tiny_lite", epochs=2, skip_non_finite=1)
    assert any(not torch.equal(v, states[1][n]) for n, v in states[0].items())
    assert all(torch.equal(v, states[2][n]) for n, v in states[1].items())


def test_write_json_is_read_back_to_the_bit(tmp_path: Path) -> None:
    boxes = np.random.default_rng(0).random((50, 4), np.float32)
    write_json(tmp_path / "a.json", boxes.tolist())
    again = torch.tensor(json.loads((tmp_path / "a.json").read_text()), dtype=torch.float32)
    assert np.array_equal(boxes, again.numpy())
