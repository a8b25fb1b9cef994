import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from multibox import zoo
from multibox.cli import main
from multibox.cli.read_ahead import ahead, read_ahead
from multibox.cli.sources import find_pictures
from multibox.detector import Detector
from multibox.engines import RawDetections
from multibox.errors import ImageError

LEVELS = [20, 80, 140, 200, 250]


def write_video(path: Path, levels: list[int] = LEVELS) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no videos")
    for level in levels:
        writer.write(np.full((48, 64, 3), (level, 0, 0), np.uint8))  # blue, as OpenCV has it
    writer.release()


def threads() -> int:
    return sum(thread.name == "multibox-ahead" for thread in threading.enumerate())


def test_the_order_is_kept_and_the_end_ends_the_thread() -> None:
    assert list(ahead(iter(range(50)), 3)) == list(range(50))
    assert list(ahead(iter([None, None]), 1)) == [None, None]
    assert list(ahead(iter(()), 1)) == []
    assert threads() == 0


def test_it_is_ahead_but_no_further_than_that() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in itertools.count():
            made.append(i)
            yield i

    coming = ahead(items(), 3)
    assert next(coming) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    # One was taken, three wait, and one more has been made and finds no place.
    assert len(made) == 5
    coming.close()
    assert threads() == 0


def test_an_error_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("broken")

    coming = ahead(items(), 5)
    assert next(coming) == 1
    time.sleep(0.05)  # it has happened already
    assert next(coming) == 2
    with pytest.raises(ValueError, match="broken"):
        next(coming)
    assert threads() == 0


def test_leaving_early_ends_the_thread_and_closes_the_source() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    def interrupted() -> None:
        for i in ahead(items(), 2):
            if i == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threads() == 0
    assert closed == [True]


def test_pictures_and_videos_in_the_order_given(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    write_video(tmp_path / "v.avi")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    given = [str(tmp_path / name) for name in ("a.png", "v.avi", "gone.png", "broken.mp4", "a.png")]
    found = list(read_ahead(find_pictures(given), 2))
    assert [Path(each.file.given).name for each in found] == (
        ["a.png"] + ["v.avi"] * 5 + ["gone.png", "broken.mp4", "a.png"]
    )
    assert [each.frame for each in found] == [None, 0, 1, 2, 3, 4, None, None, None]
    for each, level in zip(found[1:6], LEVELS, strict=True):
        assert not isinstance(each.image, ImageError)
        assert each.image.shape == (48, 64, 3)
        np.testing.assert_allclose(each.image.mean(axis=(0, 1)), [0, 0, level], atol=8)  # RGB
    for each in found[6:8]:
        assert isinstance(each.image, ImageError)
    assert "broken.mp4: no frame of it can be decoded" in str(found[7].image)


def test_detect_writes_a_line_and_a_picture_for_each_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneCat:
        name = "fake"

        def __call__(self, images: np.ndarray) -> RawDetections:
            b = len(images)
            return RawDetections(
                num=np.ones(b, np.int32),
                boxes=np.tile(np.array([[0, 0, 0.5, 1]], np.float32), (b, 1, 1)),
                scores=np.full((b, 1), 0.75, np.float32),
                classes=np.zeros((b, 1), np.int32),
            )

    card = zoo.new_card("ssdlite320_mobilenet_v2", ["cat"], image_size=(64, 64))
    monkeypatch.setattr("multibox.cli.detect.load", lambda *_, **__: Detector(OneCat(), card))
    monkeypatch.chdir(tmp_path)
    write_video(Path("v.avi"))
    arguments = ["detect", "v.avi", "--model", "m", "--jsonl", "f.jsonl", "--out", "seen"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in Path("f.jsonl").read_text().splitlines()]
    assert [(line["image"], line["frame"]) for line in lines] == [("v.avi", i) for i in range(5)]
    assert lines[0]["detections"] == [{"label": "cat", "score": 0.75, "box": [0, 0, 32, 48]}]
    assert sorted(path.name for path in Path("seen/v").iterdir()) == [
        f"{i:06}.jpg" for i in range(5)
    ]
