import csv
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from multibox.errors import InputError
from multibox.training.run_folder import Events, claim_folder, plot_curves, write_metrics
from multibox.training.state import FILE

CONFIG: dict[str, Any] = {
    "multibox": "1",
    "model": "m",
    "image_size": (64, 64),
    "recipe": {"epochs": 3, "ema": 0.5, "workers": 2},
}
HISTORY: list[dict[str, float | int | None]] = [
    {
        "epoch": epoch,
        "step": 2 * epoch,
        "learning_rate": 0.1 / epoch,
        "loss": 5.0 / epoch,
        "confidence_loss": 3.0 / epoch,
        "localisation_loss": 2.0 / epoch,
        "map": None if epoch == 1 else 0.25 * epoch,
    }
    for epoch in (1, 2, 3)
]


def begun(folder: Path) -> Path:
    """A run that has saved its state."""
    assert not claim_folder(folder, CONFIG, resume=False)
    (folder / "last").mkdir()
    (folder / FILE).touch()
    return folder


def refusal(folder: Path, config: dict[str, Any] = CONFIG, **options: Any) -> str:
    before = sorted(folder.rglob("*")) if folder.is_dir() else None
    with pytest.raises(InputError) as caught:
        claim_folder(folder, config, **({"resume": False} | options))
    assert before == (sorted(folder.rglob("*")) if before is not None else None)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_new_folder_gets_the_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "new"
    assert not claim_folder(folder, CONFIG, resume=False)
    text = (folder / "config.json").read_text()
    assert json.loads(text) == CONFIG | {"image_size": [64, 64]}
    assert text.endswith("}\n")


def test_only_the_rank_that_is_to_write_writes(tmp_path: Path) -> None:
    assert not claim_folder(tmp_path / "new", CONFIG, resume=False, write=False)
    assert not (tmp_path / "new").exists()


def test_resume_starts_what_has_no_state_and_continues_what_has(tmp_path: Path) -> None:
    assert not claim_folder(tmp_path / "a", CONFIG, resume=True)
    assert not claim_folder(tmp_path / "a", CONFIG, resume=True)
    assert claim_folder(begun(tmp_path / "b"), CONFIG, resume=True)


def test_another_run_is_not_written_over(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    assert "already holds a run: continue it with --resume" in refusal(folder)
    (folder / FILE).unlink()
    (folder / "best.safetensors").touch()
    assert "already holds a run: choose another --out" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": "n"}, "model = 'm', not 'n'"),
        ({"image_size": (64, 80)}, "image_size = [64, 64], not [64, 80]"),
        ({"recipe": CONFIG["recipe"] | {"ema": 0.1}}, "recipe.ema = 0.5, not 0.1"),
        ({"recipe": CONFIG["recipe"] | {"new": 1}}, "recipe.new = None, not 1"),
    ],
)
def test_a_run_is_not_continued_with_other_options(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    message = refusal(begun(tmp_path / "run"), CONFIG | change, resume=True)
    assert expected in message
    assert "resume with the same options" in message


def test_the_number_of_workers_may_change(tmp_path: Path) -> None:
    changed = CONFIG | {"recipe": CONFIG["recipe"] | {"workers": 0}}
    assert claim_folder(begun(tmp_path / "run"), changed, resume=True)


def test_the_memory_for_files_may_change(tmp_path: Path) -> None:
    changed = CONFIG | {"recipe": CONFIG["recipe"] | {"cache_files": 500}}
    assert claim_folder(begun(tmp_path / "run"), changed, resume=True)


def test_a_run_begun_before_there_were_quick_pixels_has_exact_ones(tmp_path: Path) -> None:
    exact = CONFIG | {"recipe": CONFIG["recipe"] | {"exact_pixels": True}}
    assert claim_folder(begun(tmp_path / "run"), exact, resume=True)
    quick = CONFIG | {"recipe": CONFIG["recipe"] | {"exact_pixels": False}}
    assert "recipe.exact_pixels = True, not False" in refusal(tmp_path / "run", quick, resume=True)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text('{"mult')])
def test_a_state_without_its_configuration(tmp_path: Path, damage: Any) -> None:
    folder = begun(tmp_path / "run")
    damage(folder / "config.json")
    assert "config.json is missing or damaged" in refusal(folder, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "holiday.jpg").touch()
    (tmp_path / "config.json").write_text('{"of": "another program"}')
    assert "is not empty and holds no run: choose another --out" in refusal(tmp_path, resume=resume)
    assert "is a file" in refusal(tmp_path / "holiday.jpg", resume=resume)


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / ".keep").touch()
    assert not claim_folder(tmp_path, CONFIG, resume=False)


def test_the_data_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert "lies in the data folder" in refusal(data, data=data)
    assert "lies in the data folder" in refusal(data / "images" / "run", data=data)
    monkeypatch.chdir(data)
    assert "lies in the data folder" in refusal(Path("run"), data=data)
    assert not claim_folder(tmp_path / "data-run", CONFIG, resume=False, data=data)


def test_metrics_are_a_line_an_epoch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for end in (1, 2, 3):
        write_metrics(path, HISTORY[:end])
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["epoch"]) for row in rows] == list(range(1, end + 1))
    assert rows[0]["map"] == ""
    assert float(rows[2]["map"]) == 0.75
    assert float(rows[1]["learning_rate"]) == HISTORY[1]["learning_rate"]


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_curves_are_a_picture(tmp_path: Path, epochs: int) -> None:
    path = tmp_path / "curves.png"
    plot_curves(path, HISTORY[:epochs])
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape[1] > 1000
    assert picture.std() > 5


def test_the_curves_leave_the_callers_matplotlib_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.setattr("matplotlib.use", None)
    plot_curves(tmp_path / "curves.png", HISTORY)
    assert (tmp_path / "curves.png").exists()


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, round(event.value, 6)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_events_hold_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    events = Events(tmp_path, 0)
    for row in HISTORY:
        events.write(row)
    events.close()
    figures = read_events(tmp_path)
    assert figures["loss"] == [(2, 5.0), (4, 2.5), (6, 1.666667)]
    assert figures["map"] == [(4, 0.5), (6, 0.75)]
    assert "epoch" not in figures


def test_after_a_kill_events_are_there_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    killed = Events(tmp_path, 0)
    for row in HISTORY:
        killed.write(row)
    killed.close()
    resumed = Events(tmp_path, 4)  # the state of epoch 2 was the last that reached the disk
    resumed.write(HISTORY[2])
    resumed.close()
    assert read_events(tmp_path)["loss"] == [(2, 5.0), (4, 2.5), (6, 1.666667)]


def test_without_tensorboard_events_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    events = Events(tmp_path, 0)
    events.write(HISTORY[0])
    events.close()
    assert not list(tmp_path.iterdir())
