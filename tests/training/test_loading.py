import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multibox.data import Sample
from multibox.data.augmentation import Augmentation
from multibox.data.batches import Key, TrainingPicture, TrainingPictures, remaining_batches
from multibox.data.file_cache import FileCache
from multibox.errors import ImageError, MultiboxError
from multibox.training.loading import (
    Batch,
    default_workers,
    load_batches,
    lost_workers_explained,
)

SIZE = (32, 40)


def loaded(pictures: TrainingPictures, workers: int) -> list[Batch]:
    keys = remaining_batches(len(pictures), 4, seed=1, epochs=2, steps_done=1)
    batches = load_batches(pictures, keys, workers=workers, pinned=False)
    # Their memory is used again.
    return [batch._replace(images=batch.images.clone()) for batch in batches]


def test_the_batches_are_the_same_with_any_number_of_workers(samples: list[Sample]) -> None:
    pictures = TrainingPictures(samples, SIZE, augmentation=Augmentation(SIZE, (0, 0, 0)), seed=1)
    alone = loaded(pictures, 0)
    assert [batch.images.shape for batch in alone] == [(4, 32, 40, 3)] * 3
    assert alone[0].images.dtype == torch.uint8
    for workers in (1, 2):
        for one, two in zip(alone, loaded(pictures, workers), strict=True):
            assert torch.equal(one.images, two.images)
            for ours, theirs in ((one.boxes, two.boxes), (one.labels, two.labels)):
                assert all(map(torch.equal, ours, theirs))
                assert len(ours) == 4


def test_the_memory_of_a_batch_is_used_again_and_never_too_early(samples: list[Sample]) -> None:
    chance = Augmentation(SIZE, (0, 0, 0))
    pictures = TrainingPictures(samples, SIZE, augmentation=chance, cache=FileCache(9, 10**6))
    alone = TrainingPictures(samples, SIZE, augmentation=chance)
    keys = [[Key(epoch, epoch % 8), Key(epoch, (epoch + 3) % 8)] for epoch in range(12)]
    places = []
    batches = load_batches(pictures, iter(keys), workers=1, pinned=False)
    for number, batch in enumerate(batches):
        time.sleep(0.02)  # the worker is as far ahead as it may be
        for image, key in zip(batch.images, keys[number], strict=True):
            np.testing.assert_array_equal(image.numpy(), alone[key].image)
        places.append(batch.images.data_ptr())
    assert places[:5] == places[5:10]
    assert len(set(places)) == 5


def test_the_pictures_are_those_of_the_keys(samples: list[Sample]) -> None:
    pictures = TrainingPictures(samples, SIZE, augmentation=None)
    keys = [[Key(0, 5), Key(0, 2)], [Key(0, 7)]]
    first, second = load_batches(pictures, iter(keys), workers=0, pinned=False)
    np.testing.assert_array_equal(first.images[1].numpy(), pictures[Key(0, 2)].image)
    np.testing.assert_array_equal(first.boxes[0].numpy(), pictures[Key(0, 5)].boxes)
    np.testing.assert_array_equal(second.labels[0].numpy(), pictures[Key(0, 7)].labels)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_one_line(
    samples: list[Sample], tmp_path: Path, workers: int
) -> None:
    gone = Sample.of(tmp_path / "gone.jpg", [], [], width=9, height=9)
    pictures = TrainingPictures([*samples, gone], SIZE, augmentation=None)
    keys: Iterator[list[Key]] = iter([[Key(0, 0), Key(0, 3)], [Key(0, 1), Key(0, len(samples))]])
    batches = load_batches(pictures, keys, workers=workers, pinned=False)
    assert len(next(batches).images) == 2
    with pytest.raises(ImageError, match=r"gone\.jpg") as caught:
        next(batches)
    assert "\n" not in str(caught.value)


def test_a_worker_that_is_killed_is_one_line(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system does it when memory runs out."""
    here, real = os.getpid(), TrainingPictures.write

    def killed(self: TrainingPictures, key: Key, out: Any = None) -> TrainingPicture:
        if key.picture == 5:
            assert os.getpid() != here
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, key, out)

    monkeypatch.setattr(TrainingPictures, "write", killed)
    pictures = TrainingPictures(samples, SIZE, augmentation=None)
    batches = load_batches(
        pictures, iter([[Key(0, i % 6)] for i in range(99)]), workers=1, pinned=False
    )
    with (
        pytest.raises(MultiboxError, match=r"has died .* fewer --workers") as caught,
        lost_workers_explained(),
    ):
        for _ in batches:
            pass
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_explained_away() -> None:
    with pytest.raises(RuntimeError, match="of another kind"), lost_workers_explained():
        raise RuntimeError("of another kind")


LEFT_OPEN = """
import sys
import numpy as np
from multibox.data import Sample
from multibox.data.batches import Key, TrainingPictures
from multibox.training.loading import load_batches

if __name__ == "__main__":
    import multiprocessing
    multiprocessing.set_start_method(sys.argv[1])
    image = np.arange(432, dtype=np.uint8).reshape(12, 12, 3)
    samples = [Sample.of(image, [[1, 2, 8, 9]], [0], width=12, height=12)]
    pictures = TrainingPictures(samples, (12, 12), augmentation=None)
    batches = load_batches(pictures, iter([[Key(0, 0)]] * 99), workers=2, pinned=False)
    for _ in range(12):
        assert (next(batches).images[0].numpy() == image).all()
    print("read")
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_ends_that_has_not_read_all(tmp_path: Path, method: str) -> None:
    """The workers leave SIGTERM to the main process; nobody may wait for them because of it."""
    script = tmp_path / "script.py"
    script.write_text(LEFT_OPEN)
    done = subprocess.run(
        [sys.executable, script, method], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")


def test_no_batches_are_none(samples: list[Sample]) -> None:
    pictures = TrainingPictures(samples, SIZE, augmentation=None)
    assert list(load_batches(pictures, iter([]), workers=1, pinned=False)) == []


@given(pictures=st.integers(1, 20), of=st.integers(1, 6))
def test_the_portions_of_a_batch_make_up_the_batch(pictures: int, of: int) -> None:
    batch = Batch(
        torch.arange(pictures)[:, None],
        [torch.full((i % 3, 4), float(i)) for i in range(pictures)],
        [torch.full((i % 3,), i) for i in range(pictures)],
    )
    portions = [batch.portion(index, of) for index in range(of)]
    sizes = [len(portion.images) for portion in portions]
    assert max(sizes) - min(sizes) <= 1
    assert torch.equal(torch.cat([portion.images for portion in portions]), batch.images)
    for field in ("boxes", "labels"):
        joined = [tensor for portion in portions for tensor in getattr(portion, field)]
        assert all(a is b for a, b in zip(joined, getattr(batch, field), strict=True))


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 1), (8, 4), (128, 16)])
def test_the_network_keeps_most_of_few_cores(
    cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_workers() == expected


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 1), (16, 15), (128, 16)])
def test_an_accelerator_leaves_the_cores_to_the_workers(
    cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_workers(accelerated=True) == expected
