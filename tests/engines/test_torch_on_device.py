"""The torch engine's way for GPUs, as far as a processor can tell."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multibox import zoo
from multibox.card import ModelCard
from multibox.checkpoints import Checkpoint
from multibox.engines import RawDetections, open_engine
from multibox.engines import torch as torch_engine
from multibox.engines.torch import TorchEngine
from multibox.engines.torch_fast import compiled_if_possible, fold_norms
from multibox.engines.torch_graphs import Captured, filled_up
from multibox.engines.torch_resize import resize_on_device
from multibox.errors import InputError
from multibox.imaging import to_network_input
from multibox.ssd.model import SSD, build_ssd

CARD = zoo.new_card("ssdlite320_mobilenet_v2", ["cat", "dog"], image_size=(64, 96))


def a_checkpoint(card: ModelCard = CARD) -> Checkpoint:
    torch.manual_seed(0)
    model = build_ssd(card)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as after training
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
            nn.init.normal_(layer.running_mean, 0, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    return Checkpoint(arrays, card, Path("model.safetensors"))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return a_checkpoint()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)


def assert_equal(a: RawDetections, b: RawDetections) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def assert_close(a: RawDetections, b: RawDetections, atol: float = 1e-5) -> None:
    """Networks of several pictures at once round differently."""
    np.testing.assert_array_equal(a.num, b.num)
    np.testing.assert_allclose(a.scores, b.scores, atol=atol)


def test_tensors_on_the_device(checkpoint: Checkpoint, images: np.ndarray) -> None:
    engine = TorchEngine.from_checkpoint(checkpoint, device="cpu")
    found, exact = engine.detect_on_device(torch.from_numpy(images[:1]))
    assert exact.tolist() == [True]
    expected = engine(images[:1])
    n = int(expected.num[0])
    assert n > 0
    assert found.num.tolist() == [[n]]
    np.testing.assert_allclose(found.scores.numpy(), expected.scores, atol=1e-6)
    np.testing.assert_allclose(found.boxes.numpy(), expected.boxes, atol=1e-6)
    np.testing.assert_array_equal(found.classes.numpy(), expected.classes)


def test_pictures_of_other_sizes_are_resized_there(checkpoint: Checkpoint) -> None:
    engine = TorchEngine.from_checkpoint(checkpoint, device="cpu")
    large = np.random.default_rng(1).integers(0, 256, (2, 150, 130, 3), np.uint8)
    small = np.stack([to_network_input(each, CARD.preprocessing) for each in large])
    there = engine.detect_on_device(torch.from_numpy(large))
    before = engine.detect_on_device(torch.from_numpy(small))
    for a, b in zip(there.found, before.found, strict=True):
        assert torch.equal(a, b)


def test_a_module_in_training_is_left_as_it_was(images: np.ndarray) -> None:
    model = build_ssd(CARD).train()
    TorchEngine.from_module(model, CARD).detect_on_device(torch.from_numpy(images))
    assert all(part.training for part in model.modules())


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (torch.zeros(1, 64, 96, 3), "not torch.float32"),
        (torch.zeros(64, 96, 3, dtype=torch.uint8), r"\[64, 96, 3\]"),
        (torch.zeros(1, 3, 64, 96, dtype=torch.uint8), r"\[1, 3, 64, 96\]"),
        (torch.zeros(0, 64, 96, 3, dtype=torch.uint8), "not 0 on cpu"),
        (torch.zeros(1, 64, 96, 3, dtype=torch.uint8, device="meta"), "on cpu, at least one"),
    ],
)
def test_other_tensors_are_refused(checkpoint: Checkpoint, wrong: Tensor, expected: str) -> None:
    engine = TorchEngine.from_checkpoint(checkpoint, device="cpu")
    with pytest.raises(InputError, match=expected):
        engine.detect_on_device(wrong)


class FakeGraphs:
    """Records as CUDA does: replaying writes into the same tensors, from the same input."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(
        self, function: Callable[[Tensor], tuple[Tensor, ...]], here: Tensor
    ) -> Callable[[], tuple[Tensor, ...]]:
        self.recorded += 1
        outputs = tuple(torch.empty_like(each) for each in function(here))

        def replay() -> tuple[Tensor, ...]:
            self.replayed += 1
            for mine, new in zip(outputs, function(here), strict=True):
                mine.copy_(new)
            return outputs

        return replay

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()


def recording(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> tuple[TorchEngine, FakeGraphs]:
    """An engine as it is on a GPU, but for the GPU."""
    monkeypatch.setattr(torch_engine, "_pinned", lambda images: torch.from_numpy(images.copy()))
    engine = TorchEngine.from_checkpoint(checkpoint, device="cpu")
    graphs = FakeGraphs()
    engine._captured = Captured(engine._detect, torch.device("cpu"), graphs)
    return engine, graphs


def test_recorded_once_for_each_batch_size(
    checkpoint: Checkpoint, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, graphs = recording(checkpoint, monkeypatch)
    plain = TorchEngine.from_checkpoint(checkpoint, device="cpu")
    for batch in (images, images[:1], images[1:2], images[::-1].copy(), images[2:]):
        assert_close(engine(batch), plain(batch))
    assert (graphs.recorded, graphs.replayed) == (2, 5)


def test_detections_on_the_device_outlive_the_next_call(
    checkpoint: Checkpoint, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, graphs = recording(checkpoint, monkeypatch)
    first = engine.detect_on_device(torch.from_numpy(images[:1]))
    kept = [each.clone() for each in first.found]
    engine.detect_on_device(torch.from_numpy(images[1:2]))
    assert graphs.recorded == 1
    for a, b in zip(first.found, kept, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("candidates", "more"), [(3, 4096), (3, 4)])
def test_pictures_for_which_that_was_not_enough_are_done_again(
    checkpoint: Checkpoint,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    candidates: int,
    more: int,
) -> None:
    expected = TorchEngine.from_checkpoint(checkpoint, device="cpu")(images)
    original = torch_engine.postprocess_fixed_shape
    monkeypatch.setattr(
        torch_engine,
        "postprocess_fixed_shape",
        lambda *given, **limits: original(*given, **{"candidates": candidates} | limits),
    )
    monkeypatch.setattr(torch_engine, "_MORE_CANDIDATES", more)
    engine, _ = recording(checkpoint, monkeypatch)
    assert not engine.detect_on_device(torch.from_numpy(images)).exact.any()
    assert_close(engine(images), expected)


def test_frames_of_every_size_share_a_graph(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, graphs = recording(checkpoint, monkeypatch)
    for height, width in ((64, 96), (70, 100), (30, 200)):
        engine.detect_on_device(torch.zeros(1, height, width, 3, dtype=torch.uint8))
    assert graphs.recorded == 1


def as_it_is(outputs: tuple[Tensor, ...]) -> list[float]:
    return outputs[0].tolist()  # type: ignore[no-any-return]


def test_batches_are_filled_up_to_few_sizes() -> None:
    sizes = [filled_up(number) for number in range(1, 129)]
    assert sorted(set(sizes)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert all(number <= size <= 1.5 * number for number, size in enumerate(sizes, start=1))

    fake = FakeGraphs()
    captured = Captured(lambda x: (x + 1,), torch.device("cpu"), fake)
    for number in range(1, 9):
        batch = torch.arange(number, dtype=torch.uint8)
        assert captured(batch, as_it_is) == list(range(1, number + 1))
    assert (fake.recorded, fake.replayed) == (6, 8)  # of 1, 2, 3, 4, 6 and 8


def test_what_cannot_be_recorded_runs_as_it_is() -> None:
    class Fails(FakeGraphs):
        def __call__(self, *_: object) -> Callable[[], tuple[Tensor, ...]]:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    captured = Captured(lambda x: (x + 1,), torch.device("cpu"), Fails())
    with pytest.warns(UserWarning, match="without CUDA graphs.*stream is capturing$"):
        assert captured(torch.zeros(2), as_it_is) == [1, 1]
    assert captured(torch.zeros(5), as_it_is) == [1] * 5  # without trying, or warning, again


def test_out_of_memory_is_an_error() -> None:
    class Fails(FakeGraphs):
        def __call__(self, *_: object) -> Callable[[], tuple[Tensor, ...]]:
            raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Captured(lambda x: (x,), torch.device("cpu"), Fails())(torch.zeros(1), as_it_is)


def test_threads_take_turns(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = recording(checkpoint, monkeypatch)
    plain = TorchEngine.from_checkpoint(checkpoint, device="cpu")
    pictures = np.random.default_rng(5).integers(0, 256, (8, 1, 64, 96, 3), np.uint8)
    expected = [plain(each) for each in pictures]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(engine, pictures), expected, strict=True):
            assert_close(found, wanted)


@pytest.mark.parametrize("model", ["ssdlite320_mobilenet_v3_large", "ssd300_resnet34"])
def test_norms_are_folded_into_the_convolutions(model: str) -> None:
    card = zoo.new_card(model, ["cat"], image_size=(96, 96))
    network = SSD(card)
    network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in a_checkpoint(card).arrays.items()}
    )
    network.eval()
    pictures = torch.randint(0, 256, (1, 96, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        before = network(pictures)
        fold_norms(network)
        after = network(pictures)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    for a, b in zip(before, after, strict=True):
        assert float((a - b).norm() / a.norm()) < 1e-4


def test_half_precision(checkpoint: Checkpoint, images: np.ndarray) -> None:
    full = TorchEngine.from_checkpoint(checkpoint, device="cpu")
    half = open_engine(checkpoint, precision="bf16")
    assert isinstance(half, TorchEngine)
    logits, offsets = half.network(images)
    assert logits.dtype == offsets.dtype == torch.bfloat16
    for a, b in zip(full.network(images), (logits, offsets), strict=True):
        assert 0 < float((a - b).norm() / a.norm()) < 0.03
    assert half(images).scores.dtype == np.float32


def test_fp16_needs_a_gpu(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="--precision fp16: needs a GPU"):
        TorchEngine.from_checkpoint(checkpoint, device="cpu", precision="fp16")


def test_a_compiler_that_fails_costs_only_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*_: object) -> None:
        raise LookupError("no C compiler\nmore")

    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled)
    function = compiled_if_possible(lambda x: (x + 1,))
    with pytest.warns(UserWarning, match="uncompiled.*LookupError: no C compiler$"):
        assert function(torch.zeros(1))[0].tolist() == [1]
    assert function(torch.zeros(1))[0].tolist() == [1]


def test_the_whole_is_one_graph_for_the_compiler(
    checkpoint: Checkpoint, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what takes long, the generation of code."""
    original = torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, **given: original(function, backend="eager", fullgraph=True, **given),
    )
    plain = TorchEngine.from_checkpoint(checkpoint, device="cpu")
    compiled = TorchEngine.from_checkpoint(checkpoint, device="cpu", compile=True)
    pictures = torch.from_numpy(images)
    with warnings.catch_warnings(action="error", category=UserWarning):
        found = compiled.detect_on_device(pictures).found
    for a, b in zip(plain.detect_on_device(pictures).found, found, strict=True):
        assert torch.equal(a, b)


SIZES = [((375, 500), (300, 300)), ((600, 600), (300, 300)), ((37, 53), (64, 96)), ((1, 7), (9, 4))]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resizing_on_the_device_is_opencv_s(old: tuple[int, int], new: tuple[int, int]) -> None:
    preprocessing = CARD.preprocessing.model_copy(update={"image_size": new})
    pictures = np.random.default_rng(0).integers(0, 256, (2, *old, 3), np.uint8)
    there = resize_on_device(torch.from_numpy(pictures), preprocessing).numpy()
    here = np.stack([to_network_input(each, preprocessing) for each in pictures])
    assert there.dtype == np.uint8
    # Processors for which OpenCV has code of its own may round the other way.
    assert np.abs(there.astype(int) - here).max() <= 1
    assert (there != here).mean() < 0.01


def test_other_interpolations_are_not_done_there() -> None:
    area = CARD.preprocessing.model_copy(update={"interpolation": "area"})
    with pytest.raises(InputError, match="resized by 'area', which is not done on the device"):
        resize_on_device(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), area)
