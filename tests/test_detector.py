from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibox import checkpoints, load, zoo
from multibox.detector import Detector
from multibox.engines import ExportedModel, RawDetections
from multibox.errors import ImageError, InputError
from multibox.imaging import to_network_input

CARD = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"], image_size=(64, 96))
BOXES = [[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 1.0, 1.0], [0.1, 0.2, 0.3, 0.4]]


class FakeEngine:
    """The same three detections in every picture, the best not first, then padding."""

    name = "fake"

    def __init__(self, boxes: npt.ArrayLike = BOXES, scores: npt.ArrayLike = (0.6, 0.9, 0.3)):
        self.boxes = np.asarray(boxes, np.float32)
        self.scores = np.asarray(scores, np.float32)
        self.batches: list[npt.NDArray[np.uint8]] = []

    def __call__(self, images: npt.NDArray[np.uint8]) -> RawDetections:
        self.batches.append(images)
        b, n = len(images), len(self.scores)
        boxes = np.full((b, n + 2, 4), 0.5, np.float32)
        scores = np.full((b, n + 2), 0.99, np.float32)  # padding must not count, however good
        boxes[:, :n], scores[:, :n] = self.boxes, self.scores
        classes = np.tile(np.arange(n + 2, dtype=np.int32) % 2, (b, 1))
        return RawDetections(np.full(b, n, np.int32), boxes, scores, classes)


def picture(width: int = 40, height: int = 20) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)


def test_one_picture_best_first_in_pixels() -> None:
    found = Detector(FakeEngine(), CARD)(picture(40, 20), score=0.5)
    assert (found.width, found.height) == (40, 20)
    assert [(d.label, round(d.score, 3), d.box) for d in found] == [
        ("dog", 0.9, (0, 0, 40, 20)),
        ("cat", 0.6, (10, 10, 30, 20)),
    ]
    assert found.boxes.dtype == np.float32
    assert found.labels.dtype == np.int64


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    box=st.tuples(*[st.floats(0, 1, width=32)] * 4),
)
def test_boxes_scale_with_the_picture(
    width: int, height: int, box: tuple[float, float, float, float]
) -> None:
    engine = FakeEngine([box], [0.7])
    found = Detector(engine, CARD)(np.zeros((height, width, 3), np.uint8))
    expected = [box[0] * width, box[1] * height, box[2] * width, box[3] * height]
    np.testing.assert_allclose(found.boxes, [expected], rtol=1e-6)
    assert (found.boxes <= [width, height, width, height]).all()
    assert engine.batches[0].shape == (1, 64, 96, 3)


def test_a_sequence_of_different_sizes() -> None:
    engine = FakeEngine()
    detector = Detector(engine, CARD)
    sizes = [(10, 20), (300, 200), (64, 64), (1, 1), (5, 500)]
    found = detector([picture(*size) for size in sizes], batch_size=2)
    assert [(d.width, d.height) for d in found] == sizes
    assert [len(batch) for batch in engine.batches] == [2, 2, 1]
    for (width, height), one in zip(sizes, found, strict=True):
        np.testing.assert_array_equal(one.boxes[0], [0, 0, width, height])
        alone = detector(picture(width, height))
        np.testing.assert_array_equal(one.boxes, alone.boxes)


def test_path_text_bytes_and_array_are_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = picture()
    cv2.imwrite(str(path), pixels[..., ::-1])
    engine = FakeEngine()
    detector = Detector(engine, CARD)
    for source in (path, str(path), path.read_bytes(), pixels):
        assert len(detector(source)) == 2
    assert all(np.array_equal(batch, engine.batches[0]) for batch in engine.batches)


def test_an_array_of_four_dimensions_is_a_sequence() -> None:
    found = Detector(FakeEngine(), CARD)(np.zeros((3, 10, 20, 3), np.uint8))
    assert isinstance(found, list)
    assert len(found) == 3


@pytest.mark.parametrize(("score", "count"), [(0.0, 3), (0.6, 2), (0.61, 1), (1.0, 0)])
def test_the_threshold_includes_itself(score: float, count: int) -> None:
    found = Detector(FakeEngine(), CARD)(picture(), score=score)
    assert len(found) == count


def test_no_pictures_and_no_detections() -> None:
    detector = Detector(FakeEngine(np.zeros((0, 4)), []), CARD)
    assert detector([]) == []
    found = detector(picture())
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_equal_scores_keep_the_engines_order() -> None:
    found = Detector(FakeEngine(scores=(0.7, 0.7, 0.7)), CARD)(picture())
    assert [d.label for d in found] == ["cat", "dog", "cat"]


def test_names_and_card() -> None:
    detector = Detector(FakeEngine(), CARD)
    assert detector.names == ("cat", "dog")
    assert detector.card is CARD


def test_an_unreadable_picture_names_its_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        Detector(FakeEngine(), CARD)([picture(), bad])


def test_load_runs_a_checkpoint(tmp_path: Path) -> None:
    from multibox.ssd.model import build_ssd

    path = tmp_path / "best.safetensors"
    arrays = {name: value.numpy() for name, value in build_ssd(CARD).state_dict().items()}
    checkpoints.save(path, arrays, CARD)
    detector = load(str(path))
    assert detector.card == CARD
    assert detector.engine.name == "torch"
    assert len(detector([picture(), picture(7, 9)], score=0)) == 2


def test_pictures_of_different_sizes_are_what_the_engine_gets_one_by_one() -> None:
    engine = FakeEngine()
    pictures = [picture(90, 70), picture(96, 64), picture(11, 300)]
    Detector(engine, CARD)(pictures)
    (batch,) = engine.batches
    for i, one in enumerate(pictures):
        np.testing.assert_array_equal(batch[i], to_network_input(one, CARD.preprocessing))


def test_threads_are_made_once_and_for_one_picture_not_at_all() -> None:
    detector = Detector(FakeEngine(), CARD)
    detector(picture())
    detector([picture()])
    assert "_readers" not in vars(detector)
    detector([picture(), picture()])
    readers = detector._readers
    detector([picture(), picture()])
    assert detector._readers is readers


@pytest.mark.parametrize("name", ["a.onnx", "a.xml"])
def test_a_missing_exported_file(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: no such file: check the path of the exported"):
        load(name)


def test_options_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def open_engine(model: object, kind: str, **options: object) -> FakeEngine:
        given.update(options, kind=kind)
        return FakeEngine()

    monkeypatch.setattr("multibox.detector.read_exported", lambda path: ExportedModel(path, CARD))
    monkeypatch.setattr("multibox.detector.open_engine", open_engine)
    options = {"goal": "throughput", "threads": 3, "precision": "bf16", "pictures": 7}
    detector = load("a.onnx", engine="openvino", **options)  # type: ignore[arg-type]
    assert given == {**options, "kind": "openvino"}
    assert detector.card is CARD


def test_a_zoo_name_has_no_weights_yet() -> None:
    with pytest.raises(InputError, match=r"train it .*--model ssd300_vgg16"):
        load("ssd300_vgg16")


def test_a_misspelt_zoo_name_is_suggested() -> None:
    with pytest.raises(InputError, match="did you mean ssd300_vgg16"):
        load("ssd300_vgg")


@pytest.mark.parametrize("model", ["runs/x/best.safetensors", "best.safetensors", "runs/x"])
def test_a_missing_file(model: str) -> None:
    with pytest.raises(InputError, match=f"{model}: no such file"):
        load(model)


def test_a_file_named_like_a_zoo_model_is_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ssd300_vgg16").write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        load("ssd300_vgg16")
