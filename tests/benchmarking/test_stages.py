from typing import Any

import cv2
import numpy as np
import pytest

from multibox import zoo
from multibox.benchmarking.stages import measure
from multibox.engines import Engine, RawDetections

CARD = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"], image_size=(64, 64))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowEngine(Engine):
    """Its network takes 5 seconds a picture and what follows 2, on a clock of its own."""

    name = "fake"

    def __init__(self, clock: Clock) -> None:
        super().__init__(CARD)
        self.clock = clock

    def network(self, images: np.ndarray) -> Any:
        assert images.shape[1:] == (64, 64, 3)
        self.clock.now += 5 * len(images)
        return len(images)

    def detections(self, outputs: int) -> RawDetections:
        self.clock.now += 2 * outputs
        return _nothing(outputs)

    def __call__(self, images: np.ndarray) -> RawDetections:
        """Several pictures are worked on together, in the time of one."""
        self.clock.now += 5 + 2
        return _nothing(len(images))


def _nothing(batch: int) -> RawDetections:
    return RawDetections(
        np.zeros(batch, np.int32),
        np.zeros((batch, 1, 4), np.float32),
        np.zeros((batch, 1), np.float32),
        np.zeros((batch, 1), np.int32),
    )


@pytest.fixture
def file() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def slow_imaging(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Decoding takes 3 seconds, resizing 1."""
    from multibox import detector
    from multibox.benchmarking import stages

    read, resize = detector.read_image, detector.to_network_input

    def slow_read(source: Any) -> Any:
        clock.now += 0 if isinstance(source, np.ndarray) else 3
        return read(source)

    def slow_resize(*arguments: Any) -> Any:
        clock.now += 1
        return resize(*arguments)

    monkeypatch.setattr(detector, "read_image", slow_read)
    monkeypatch.setattr(stages, "read_image", slow_read)
    monkeypatch.setattr(detector, "to_network_input", slow_resize)


def test_a_picture_is_split_into_its_stages(monkeypatch: pytest.MonkeyPatch, file: bytes) -> None:
    clock = Clock()
    slow_imaging(monkeypatch, clock)
    stages = measure(SlowEngine(clock), [file], clock)()
    assert tuple(stages) == (3, 1, 5, 2, 11)


def test_the_whole_of_a_batch_is_the_detectors_own(
    monkeypatch: pytest.MonkeyPatch, file: bytes
) -> None:
    clock = Clock()
    slow_imaging(monkeypatch, clock)
    stages = measure(SlowEngine(clock), [file] * 4, clock)()
    assert tuple(stages) == (12, 4, 20, 8, 12 + 4 + 7)


def test_the_stages_of_a_real_clock_sum_to_the_whole(file: bytes) -> None:
    stages = measure(SlowEngine(Clock()), [file])()
    assert min(stages) > 0
    assert sum(stages[:4]) == pytest.approx(stages.whole, abs=1e-9)
