"""The ring of pinned memory, on a pretended CUDA: what is waited for, and when."""

from typing import Any

import numpy as np
import pytest
import torch

from multibox.data import Sample
from multibox.data.batches import Key, TrainingPictures
from multibox.training.batch_ring import BatchRing
from multibox.training.loading import load_batches

SIZE = (32, 40)


class Cuda:
    """Notes every call; ``error`` is what pinning returns."""

    def __init__(self, error: int = 0) -> None:
        self.calls: list[str] = []
        self.events: list[Any] = []
        self._error = error

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        self.calls.append(f"pin {size}")
        return self._error

    def cudaHostUnregister(self, address: int) -> int:
        self.calls.append("unpin")
        return 0

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def event(self) -> Any:
        cuda = self

        class Event:
            number = len(cuda.events)

            def record(self) -> None:
                cuda.calls.append(f"record {self.number}")

            def synchronize(self) -> None:
                cuda.calls.append(f"wait {self.number}")

        cuda.events.append(Event())
        return cuda.events[-1]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    cuda = Cuda()
    monkeypatch.setattr("multibox.training.batch_ring._runtime", lambda: cuda)
    monkeypatch.setattr("torch.cuda.Event", cuda.event)
    monkeypatch.setattr("torch.cuda.synchronize", cuda.synchronize)
    return cuda


def test_a_batchs_memory_is_written_anew_when_the_device_has_read_it(
    cuda: Cuda, samples: list[Sample]
) -> None:
    pictures = TrainingPictures(samples, SIZE, augmentation=None)
    keys = [[Key(0, number % 8), Key(0, (number + 1) % 8)] for number in range(20)]
    places = []
    for number, batch in enumerate(load_batches(pictures, iter(keys), workers=1, pinned=True)):
        # This batch and the four that a worker may be ahead; two before it may be in use still.
        assert f"wait {number - 2}" not in cuda.calls
        ahead = min(number + 4, 19)
        assert (f"wait {ahead - 7}" in cuda.calls) == (ahead >= 7)
        assert f"record {number - 1}" in cuda.calls or number == 0
        assert f"record {number}" not in cuda.calls
        np.testing.assert_array_equal(batch.images[1].numpy(), pictures[keys[number][1]].image)
        places.append(batch.images.data_ptr())
    assert len(set(places)) == 7
    assert cuda.calls[0] == f"pin {7 * 2 * 32 * 40 * 3}"
    assert cuda.calls[-2:] == ["synchronize", "unpin"]


def test_memory_that_cannot_be_pinned_is_used_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda, asked = Cuda(error=2), []

    def kernel(*_: Any, **__: Any) -> None:
        asked.append("kernel")
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr("multibox.training.batch_ring._runtime", lambda: cuda)
    monkeypatch.setattr(torch, "zeros", kernel)
    with BatchRing(2, (1, 4, 4, 3), pinned=True) as ring:
        ring.array(1)[:] = 7
        assert bool((ring.tensor(1) == 7).all())
        ring.used(1)
        ring.wait(1)
    assert cuda.calls == [f"pin {2 * 48}"]
    assert asked == ["kernel"]  # which took the error
