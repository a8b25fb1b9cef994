import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from multibox import checkpoints, zoo
from multibox.checkpoints import Checkpoint
from multibox.engines import RawDetections, open_engine
from multibox.engines.torch import TorchEngine
from multibox.errors import InputError
from multibox.ssd.model import SSD, build_ssd

CARD = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"], image_size=(64, 96))


@pytest.fixture(scope="module")
def model() -> SSD:
    torch.manual_seed(0)
    return build_ssd(CARD).eval()


@pytest.fixture
def checkpoint(model: SSD) -> Checkpoint:
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    return Checkpoint(arrays, CARD, Path("model.safetensors"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)


def assert_equal(a: RawDetections, b: RawDetections) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_result_keeps_the_contract(checkpoint: Checkpoint, images: np.ndarray) -> None:
    raw = open_engine(checkpoint)(images)
    keep = CARD.postprocessing.keep
    assert raw.num.shape == (3,)
    assert raw.boxes.shape == (3, keep, 4)
    assert raw.boxes.dtype == raw.scores.dtype == np.float32
    assert np.issubdtype(raw.num.dtype, np.integer)
    assert np.issubdtype(raw.classes.dtype, np.integer)
    for i, n in enumerate(raw.num):
        assert n > 0  # an untrained network gives every class about a third
        assert (raw.boxes[i, :n] >= 0).all()
        assert (raw.boxes[i, :n] <= 1).all()
        assert (raw.scores[i, :n] > CARD.postprocessing.score_threshold).all()
        assert set(raw.classes[i, :n]) <= {0, 1}


def test_a_checkpoint_on_disk_gives_what_the_module_gives(
    model: SSD, checkpoint: Checkpoint, images: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    checkpoints.save(path, checkpoint.arrays, CARD)
    engine = TorchEngine.from_checkpoint(checkpoints.load(path), device="cpu")
    assert_equal(engine(images), TorchEngine.from_module(model, CARD)(images))


def test_detections_do_not_depend_on_the_rest_of_the_batch(model: SSD, images: np.ndarray) -> None:
    engine = TorchEngine.from_module(model, CARD)
    together = engine(images)
    for i in range(len(images)):
        alone = engine(images[i : i + 1])
        assert_equal(alone, RawDetections(*(column[i : i + 1] for column in together)))


def test_a_module_in_training_is_left_as_it_was(images: np.ndarray) -> None:
    model = build_ssd(CARD).train()
    frozen = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: part.training for name, part in model.named_modules()}

    TorchEngine.from_module(model, CARD)(images)

    assert {name: part.training for name, part in model.named_modules()} == modes
    assert model.training
    assert not frozen.training
    for name, value in model.state_dict().items():  # batch statistics among them
        assert torch.equal(value, before[name]), name


def test_modes_return_even_when_the_module_fails() -> None:
    model = build_ssd(CARD).train()
    model.heads.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        TorchEngine.from_module(model, CARD)(np.zeros((1, 64, 96, 3), np.uint8))
    assert all(part.training for part in model.modules())


def test_new_weights_are_seen_at_once(images: np.ndarray) -> None:
    model = build_ssd(CARD)
    engine = TorchEngine.from_module(model, CARD)
    assert engine(images).num.sum() > 0
    with torch.no_grad():
        for parameter in model.heads.classes.parameters():
            parameter.fill_(float("nan"))
    assert engine(images).num.sum() == 0  # NaN passes no threshold


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: {k: v for k, v in a.items() if k != min(a)}, "lacks the array"),
        (lambda a: a | {"extra": np.zeros(1, np.float32)}, "beyond its card the array 'extra'"),
        (lambda a: a | {min(a): np.zeros((1, 2, 3), np.float32)}, "in another shape"),
    ],
)
def test_arrays_that_do_not_fit_the_card(
    checkpoint: Checkpoint, change: object, expected: str
) -> None:
    assert callable(change)
    wrong = Checkpoint(change(dict(checkpoint.arrays)), CARD, checkpoint.path)
    with pytest.raises(InputError, match=expected) as error:
        open_engine(wrong, "torch")
    assert str(error.value).startswith("model.safetensors: ")


@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
def test_other_engines_cannot_run_a_checkpoint(checkpoint: Checkpoint, kind: str) -> None:
    with pytest.raises(InputError, match=r"safetensors: a checkpoint.*--engine torch, or multibox"):
        open_engine(checkpoint, kind)  # type: ignore[arg-type]


def test_an_unknown_engine(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="no engine 'tensorrt': choose one of auto, onnxruntime"):
        open_engine(checkpoint, "tensorrt")  # type: ignore[arg-type]


def test_without_torch_the_remedy_is_named(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "multibox.engines.torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r'pip install "multibox\[train\]", or multibox export'):
        open_engine(checkpoint)
