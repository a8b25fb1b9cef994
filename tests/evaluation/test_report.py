"""The per-class table, the JSON file and the plot."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from rich.console import Console

from multibox.data.samples import DataSet
from multibox.errors import InputError
from multibox.evaluation import (
    Evaluation,
    evaluate_detections,
    per_class_table,
    plot_precision_recall,
    write_json,
)

ODD_NAMES = ("[bold]cat", "_hidden $x_$", "крыса 鼠", "emu")


@pytest.fixture
def measured(scene: Callable, tmp_path: Path) -> tuple[Evaluation, DataSet]:
    detections, samples, _ = scene(1)
    dataset = DataSet(samples, ODD_NAMES, "test", tmp_path, "VOC")
    for d in detections:
        object.__setattr__(d, "names", (*ODD_NAMES[:3], "unknown"))
    return evaluate_detections(detections, samples, ODD_NAMES, metric="voc07"), dataset


def printed(evaluation: Evaluation, dataset: DataSet) -> str:
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(per_class_table(evaluation, dataset))
    return capture.get()


def test_the_table_counts_objects_and_shows_names_as_they_are(
    measured: tuple[Evaluation, DataSet],
) -> None:
    evaluation, dataset = measured
    text = printed(evaluation, dataset)
    flagged = sum(int((s.difficult | s.crowd).sum()) for s in dataset.samples)
    every = sum(len(s.labels) for s in dataset.samples)
    lines = text.splitlines()
    assert all(any(name in line for line in lines) for name in ODD_NAMES)
    assert f"{evaluation.per_class['[bold]cat']:.3f}" in next(x for x in lines if "[bold]" in x)
    assert "–" in next(line for line in lines if "emu" in line)
    foot = next(line for line in lines if "mean (voc07, IoU 0.5)" in line)
    assert [str(every - flagged), str(flagged), f"{evaluation.map:.3f}"] == foot.replace(
        "│", " "
    ).split()[-3:]


def test_the_column_of_ignored_objects_appears_only_when_there_are_any(
    scene: Callable, tmp_path: Path
) -> None:
    for share, shown in ((0.0, False), (0.5, True)):
        detections, samples, names = scene(2, difficult=share, crowd=0.0)
        evaluation = evaluate_detections(detections, samples, names, metric="voc")
        dataset = DataSet(samples, names, "test", tmp_path, "VOC")
        assert ("ignored" in printed(evaluation, dataset)) == shown


def test_json_file(measured: tuple[Evaluation, DataSet], tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "result.json"
    write_json(measured[0], path)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == measured[0].to_dict()
    assert "крыса 鼠" in text
    with pytest.raises(InputError, match="cannot be written"):
        write_json(measured[0], path.parent)
    assert [p.name for p in path.parent.parent.iterdir()] == ["new folder"]


@pytest.mark.parametrize("metric", ["voc", "coco"])
def test_plot(
    measured: tuple[Evaluation, DataSet],
    tmp_path: Path,
    metric: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pyplot keeps state for the whole process: importing it would fail here.
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)

    def drawn(evaluation: Evaluation) -> np.ndarray:
        path = tmp_path / "new folder" / "curves.png"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plot_precision_recall(evaluation, path)
        return cv2.imread(str(path))

    nothing = evaluate_detections([], [], ODD_NAMES, metric=metric)
    full, empty = drawn(measured[0]), drawn(nothing)
    assert full.shape == empty.shape
    assert (full != empty).any(axis=2).mean() > 0.01


def test_a_plot_that_cannot_be_written_names_the_file(
    measured: tuple[Evaluation, DataSet], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"curves\.unknown"):
        plot_precision_recall(measured[0], tmp_path / "curves.unknown")
    assert not list(tmp_path.iterdir())


def test_a_plot_that_fails_half_way_leaves_the_old_one(
    measured: tuple[Evaluation, DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")

    def write_half(self: object, target: Path, **_: object) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", write_half)
    with pytest.raises(InputError, match=r"curves\.png.*No space"):
        plot_precision_recall(measured[0], path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(
    ("name", "start"), [("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("a", b"\x89PNG")]
)
def test_the_suffix_chooses_the_format(
    measured: tuple[Evaluation, DataSet], tmp_path: Path, name: str, start: bytes
) -> None:
    path = tmp_path / name
    plot_precision_recall(measured[0], path)
    assert path.read_bytes().startswith(start)


def test_a_missing_matplotlib_is_named(
    measured: tuple[Evaluation, DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"multibox\[train\]"):
        plot_precision_recall(measured[0], tmp_path / "curves.png")
