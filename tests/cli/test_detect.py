import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from multibox import zoo
from multibox.cli import main
from multibox.cli.sources import find_pictures
from multibox.detector import Detector
from multibox.engines import RawDetections
from multibox.errors import InputError
from multibox.imaging import read_image

CARD = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"], image_size=(64, 64))


class BrightnessEngine:
    """Finds a cat in the left half, scored by the picture's brightness, and a dim dog."""

    name = "fake"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: npt.NDArray[np.uint8]) -> RawDetections:
        b = len(images)
        self.batches.append(b)
        cat = images.mean(axis=(1, 2, 3), dtype=np.float64) / 256
        return RawDetections(
            num=np.full(b, 2, np.int32),
            boxes=np.tile(np.array([[0, 0, 0.5, 1], [0.25, 0.25, 1, 1]], np.float32), (b, 1, 1)),
            scores=np.stack([cat, np.full(b, 0.125)], axis=1).astype(np.float32),
            classes=np.tile(np.array([0, 1], np.int32), (b, 1)),
        )


@pytest.fixture(autouse=True)
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BrightnessEngine:
    """What the command runs; the work folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    engine = BrightnessEngine()
    monkeypatch.setattr("multibox.cli.detect.load", lambda model, **options: Detector(engine, CARD))
    return engine


def write_picture(path: str, level: int = 192, width: int = 40, height: int = 20) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(Path(path).suffix, np.full((height, width, 3), level, np.uint8))[1]
    Path(path).write_bytes(encoded.tobytes())


def detect(*arguments: str) -> int:
    return main(["detect", *arguments, "--model", "m.safetensors"])


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_jsonl_is_the_contract_to_the_letter(capsys: pytest.CaptureFixture[str]) -> None:
    write_picture("in/a.png", level=192)
    write_picture("in/b.png", level=128, width=10, height=10)
    Path("in/c.png").write_bytes(b"not a picture")
    assert detect("in", "--jsonl", "-", "--score", "0.1") == 1
    out, err = capsys.readouterr()
    first, second, third = out.splitlines()
    assert first == (
        '{"image": "in/a.png", "width": 40, "height": 20, "detections": ['
        '{"label": "cat", "score": 0.75, "box": [0.0, 0.0, 20.0, 20.0]}, '
        '{"label": "dog", "score": 0.125, "box": [10.0, 5.0, 40.0, 20.0]}]}'
    )
    assert second == (
        '{"image": "in/b.png", "width": 10, "height": 10, "detections": ['
        '{"label": "cat", "score": 0.5, "box": [0.0, 0.0, 5.0, 10.0]}, '
        '{"label": "dog", "score": 0.125, "box": [2.5, 2.5, 10.0, 10.0]}]}'
    )
    assert json.loads(third).keys() == {"image", "error"}
    assert json.loads(third)["image"] == "in/c.png"
    assert "in/a.png: cat 0.75, dog 0.12" in err
    assert "c.png" in err
    assert not Path("detections").exists()


def test_the_default_is_annotated_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    write_picture("a.png")
    assert detect("a.png") == 0
    out, err = capsys.readouterr()
    assert out == "a.png: cat 0.75\nannotated pictures: detections\n"
    assert err == ""
    annotated = read_image("detections/a.jpg")
    assert annotated.shape == (20, 40, 3)
    assert not (annotated == 192).all()


def test_jsonl_to_a_file_beside_annotated_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    write_picture("a.png")
    assert detect("a.png", "--jsonl", "new/a.jsonl", "--out", "seen") == 0
    assert capsys.readouterr().out.startswith("a.png: cat 0.75")
    (line,) = lines_of(Path("new/a.jsonl").read_text())
    assert line["image"] == "a.png"
    assert Path("seen/a.jpg").is_file()


def test_nothing_above_the_threshold_shows_the_best_below(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_picture("dark.png", level=64)
    assert detect("dark.png", "--jsonl", "a.jsonl") == 0
    out = capsys.readouterr().out
    assert out == "dark.png: nothing above 0.50; best below: cat 0.25, dog 0.12\n"
    assert lines_of(Path("a.jsonl").read_text())[0]["detections"] == []


def test_unreadable_pictures_do_not_stop_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(11):
        write_picture(f"in/{i:02}.png")
    for i in (0, 4, 5, 6, 7, 10):  # a whole batch among them
        Path(f"in/{i:02}.png").write_bytes(b"")
    assert detect("in", "gone.png", "--jsonl", "-") == 1
    lines = lines_of(capsys.readouterr().out)
    assert [line["image"] for line in lines] == [f"in/{i:02}.png" for i in range(11)] + ["gone.png"]
    assert [i for i, line in enumerate(lines) if "error" in line] == [0, 4, 5, 6, 7, 10, 11]


@pytest.mark.parametrize(("goal", "batches"), [("latency", [4, 4, 4, 2]), ("throughput", [7, 7])])
def test_for_throughput_every_thread_has_a_picture(
    goal: str, batches: list[int], engine: BrightnessEngine
) -> None:
    for i in range(14):
        write_picture(f"in/{i:02}.png")
    assert detect("in", "--jsonl", "a.jsonl", "--goal", goal, "--threads", "7") == 0
    assert engine.batches == batches


def test_no_annotated_picture_replaces_another_or_an_original() -> None:
    for name in ("in/a.png", "in/sub/a.png", "other/a.png", "in/a.jpg"):
        write_picture(name)
    before = Path("in/a.jpg").read_bytes()
    assert detect("in", "other/a.png", "--out", "in") == 0
    assert Path("in/a.jpg").read_bytes() == before
    written = {str(p) for p in Path("in").rglob("*.jpg")} - {"in/a.jpg"}
    assert written == {"in/a_2.jpg", "in/a_3.jpg", "in/a_4.jpg", "in/sub/a.jpg"}


def test_a_second_run_does_not_detect_in_its_own_results(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_picture("a.png")
    assert detect(".") == 0
    first = capsys.readouterr().out
    assert detect(".") == 0
    assert capsys.readouterr().out == first
    assert [p.name for p in Path("detections").iterdir()] == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["detect", "--model", "m"], "no pictures given"),
        (["detect", "gone.png", "--model", "m"], "gone.png: no such picture or folder"),
        (["detect", "empty", "--model", "m"], "empty: no pictures in this folder"),
        (["detect", "*.gone", "--model", "m"], "*.gone: matches no pictures"),
        (["detect", "a.png", "--model", "m", "--out", "a.png"], "a.png: not a folder to write to"),
        (["detect", "a.png", "--model", "m", "--jsonl", "empty"], "empty: cannot be written"),
        (["detect", "a.png", "--model", "m", "--jsonl", "--out"], "--jsonl needs a file"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: Sequence[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture("a.png")
    Path("empty").mkdir()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("multibox: error: ")
    assert expected in err


def test_paths_are_as_given_joined_to_their_source() -> None:
    for name in ("in/b.JPG", "in/sub/a.png", "in/.hidden.jpg", "in/.cache/c.jpg", "in/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()

    def given(*sources: str) -> list[str]:
        return [picture.given for picture in find_pictures(sources)]

    assert given("in") == ["in/b.JPG", "in/sub/a.png"]
    assert given("./in/") == ["./in/b.JPG", "./in/sub/a.png"]
    assert given(f"{Path.cwd()}/in") == [f"{Path.cwd()}/in/b.JPG", f"{Path.cwd()}/in/sub/a.png"]
    assert given("in/*") == ["in/b.JPG"]
    assert given("./in/**/*.png") == ["./in/sub/a.png"]
    assert given("in/sub/a.png", "in/b.JPG") == ["in/sub/a.png", "in/b.JPG"]
    assert given("in/notes.txt") == ["in/notes.txt"]  # named outright: an unreadable picture


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_pipes_and_devices_in_a_folder_are_left_alone() -> None:
    write_picture("in/a.png")
    os.mkfifo("in/pipe.png")
    Path("in/zeros.png").symlink_to("/dev/zero")
    Path("in/dangling.png").symlink_to("gone.png")
    assert [p.given for p in find_pictures(["in"])] == ["in/a.png", "in/dangling.png"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob() -> None:
    Path("a[1].jpg").touch()
    Path("a1.jpg").touch()
    assert [p.given for p in find_pictures(["a[1].jpg"])] == ["a[1].jpg"]


def test_a_missing_path_among_others_is_kept_for_its_own_line() -> None:
    Path("a.jpg").touch()
    assert [p.given for p in find_pictures(["gone.jpg", "a.jpg"])] == ["gone.jpg", "a.jpg"]
    with pytest.raises(InputError, match=r"gone\.jpg: no such"):
        find_pictures(["gone.jpg", "gone2.jpg"])


def test_odd_names_survive(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["in/[bold]x.png", "in/a b.png", "in/犬.png"]
    for name in names:
        write_picture(name)
    assert detect("in", "--jsonl", "a.jsonl") == 0
    assert [line["image"] for line in lines_of(Path("a.jsonl").read_text())] == sorted(names)
    out = capsys.readouterr().out
    assert all(f"{name}: cat" in out for name in names)
