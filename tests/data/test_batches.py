from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multibox.data.augmentation import Augmentation
from multibox.data.batches import (
    Key,
    TrainingPictures,
    epoch_batches,
    remaining_batches,
    share_of_rank,
    steps_per_epoch,
)
from multibox.data.samples import Sample
from multibox.errors import ImageError
from multibox.imaging import read_image

SIZE = (48, 64)


@given(pictures=st.integers(1, 200), batch_size=st.integers(1, 64), seed=st.integers(0, 2**32 - 1))
def test_an_epoch_shows_every_picture_once_but_the_rest(
    pictures: int, batch_size: int, seed: int
) -> None:
    batches = epoch_batches(pictures, batch_size, seed=seed, epoch=3)
    keys = list(chain(*batches))
    assert len(batches) == steps_per_epoch(pictures, batch_size)
    assert {len(batch) for batch in batches} == {min(batch_size, pictures)}
    assert len(set(keys)) == len(keys)
    assert {key.epoch for key in keys} == {3}
    shown = {key.picture for key in keys}
    assert shown <= set(range(pictures))
    assert pictures - len(shown) == (pictures % batch_size if pictures > batch_size else 0)


def order(seed: int, epoch: int) -> list[int]:
    return [key.picture for key in chain(*epoch_batches(100, 7, seed=seed, epoch=epoch))]


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    assert order(0, 0) == order(0, 0)
    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(one) for one in orders}) == 9
    assert order(0, 0) != sorted(order(0, 0))


def test_the_rest_changes_from_epoch_to_epoch() -> None:
    left = [set(range(100)) - set(order(0, epoch)) for epoch in range(50)]
    assert all(len(one) == 2 for one in left)
    assert len(set().union(*left)) > 40


@given(
    pictures=st.integers(1, 30),
    batch_size=st.integers(1, 12),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_what_remains_is_the_tail_of_the_whole_run(
    pictures: int, batch_size: int, epochs: int, seed: int
) -> None:
    def remaining(steps_done: int) -> list[list[Key]]:
        return list(
            remaining_batches(pictures, batch_size, seed=seed, epochs=epochs, steps_done=steps_done)
        )

    whole = remaining(0)
    assert len(whole) == epochs * steps_per_epoch(pictures, batch_size)
    for steps_done in range(len(whole) + 1):
        assert remaining(steps_done) == whole[steps_done:]


@given(length=st.integers(0, 40), ranks=st.integers(1, 8))
def test_the_ranks_share_a_batch_evenly(length: int, ranks: int) -> None:
    batch = [Key(0, picture) for picture in range(length)]
    shares = [share_of_rank(batch, rank, ranks) for rank in range(ranks)]
    assert sorted(chain(*shares)) == batch
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Three pictures of noise: two plain objects, a crowd and a difficult one in each."""
    rng = np.random.default_rng(0)
    result = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), rng.integers(0, 256, (60, 80, 3), np.uint8))
        result.append(
            Sample.of(
                path,
                [[5, 5, 30, 40], [10, 20, 70, 55], [0, 0, 80, 60], [40, 10, 60, 30]],
                [0, 1, 2, 3],
                width=80,
                height=60,
                crowd=[False, False, True, False],
                difficult=[False, False, False, True],
            )
        )
    return result


def augmentation() -> Augmentation:
    return Augmentation(SIZE, (1, 2, 3))


def test_a_picture_depends_on_its_key_alone(samples: list[Sample]) -> None:
    keys = [Key(epoch, picture) for epoch in range(3) for picture in range(3)]
    forwards = TrainingPictures(samples, SIZE, augmentation=augmentation(), seed=4)
    backwards = TrainingPictures(samples, SIZE, augmentation=augmentation(), seed=4)
    late = {key: backwards[key] for key in reversed(keys)}
    for key in keys:
        first, second, again = forwards[key], late[key], forwards[key]
        for one, two, three in zip(first, second, again, strict=True):
            np.testing.assert_array_equal(one, two)
            np.testing.assert_array_equal(one, three)
    other_seed = TrainingPictures(samples, SIZE, augmentation=augmentation(), seed=5)
    assert not np.array_equal(forwards[keys[0]].image, other_seed[keys[0]].image)
    assert not np.array_equal(forwards[Key(0, 0)].image, forwards[Key(1, 0)].image)


@pytest.mark.parametrize("exact", [True, False])
def test_a_jpeg_is_decided_on_before_it_is_decoded(tmp_path: Path, exact: bool) -> None:
    """The same as a decoded picture gives, exactly or nearly; in place of what was there."""
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (320, 240))
    cv2.imwrite(str(tmp_path / "a.jpg"), pixels)
    boxes, labels = [[20, 30, 200, 180], [100, 10, 300, 220]], [0, 1]
    lazy = Sample.of(tmp_path / "a.jpg", boxes, labels, width=320, height=240)
    eager = replace(lazy, image=read_image(tmp_path / "a.jpg"))
    chance = replace(augmentation(), exact=exact)
    files, arrays = (
        TrainingPictures([sample], SIZE, augmentation=each)
        for sample, each in ((lazy, chance), (eager, augmentation()))
    )
    for epoch in range(30):
        out = np.full((*SIZE, 3), 99, np.uint8)
        picture = files.write(Key(epoch, 0), out)
        expected = arrays[Key(epoch, 0)]
        assert picture.image is out
        np.testing.assert_array_equal(picture.labels, expected.labels)
        if exact:
            np.testing.assert_array_equal(out, expected.image)
            np.testing.assert_array_equal(picture.boxes, expected.boxes)
        else:
            assert np.abs(out.astype(int) - expected.image).mean() < 8
            np.testing.assert_allclose(picture.boxes, expected.boxes, atol=1 / 48)


def test_shapes_types_and_ranges(samples: list[Sample]) -> None:
    pictures = TrainingPictures(samples, SIZE, augmentation=augmentation())
    assert len(pictures) == 3
    seen = 0
    for epoch in range(40):
        image, boxes, labels = pictures[Key(epoch, epoch % 3)]
        assert image.shape == (48, 64, 3)
        assert (image.dtype, boxes.dtype, labels.dtype) == (np.uint8, np.float32, np.int64)
        assert boxes.shape == (len(labels), 4)
        assert (boxes >= 0).all()
        assert (boxes <= 1).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        seen += len(labels)
    assert seen > 40


def test_without_augmentation_the_whole_picture_is_resized(samples: list[Sample]) -> None:
    pictures = TrainingPictures(samples, SIZE, augmentation=None)
    image, boxes, labels = pictures[Key(0, 1)]
    assert image.shape == (48, 64, 3)
    expected = np.array([[5, 5, 30, 40], [10, 20, 70, 55], [40, 10, 60, 30]]) / [80, 60, 80, 60]
    np.testing.assert_allclose(boxes, expected, atol=1e-6)
    assert labels.tolist() == [0, 1, 3]
    np.testing.assert_array_equal(image, pictures[Key(7, 1)].image)


@pytest.mark.parametrize(("train_difficult", "expected"), [(True, [0, 1, 3]), (False, [0, 1])])
def test_crowds_are_never_learned_and_difficult_objects_by_choice(
    samples: list[Sample], train_difficult: bool, expected: list[int]
) -> None:
    plain = TrainingPictures(samples, SIZE, augmentation=None, train_difficult=train_difficult)
    assert plain[Key(0, 0)].labels.tolist() == expected
    chance = TrainingPictures(
        samples, SIZE, augmentation=augmentation(), train_difficult=train_difficult
    )
    shown = {label for epoch in range(30) for label in chance[Key(epoch, 0)].labels.tolist()}
    assert shown == set(expected)


def test_an_extra_augmentation_comes_first_and_with_the_pictures_own_chance(
    samples: list[Sample],
) -> None:
    drawn: list[float] = []

    def paint(
        image: npt.NDArray[np.uint8], sample: Sample, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], Sample]:
        assert image.shape == (60, 80, 3)  # as in the file
        assert sample.labels.tolist() == [0, 1, 3]
        drawn.append(float(rng.random()))
        return np.full_like(image, 7), sample.select(np.array([1]))

    pictures = TrainingPictures(samples, SIZE, augmentation=None, extra=paint)
    image, _, labels = pictures[Key(2, 1)]
    assert (image == 7).all()
    assert labels.tolist() == [1]
    pictures[Key(2, 2)]
    pictures[Key(2, 1)]
    assert drawn[0] == drawn[2] != drawn[1]


@settings(max_examples=20)
@given(data=st.data())
def test_objects_that_cannot_be_coded_are_left_out(data: st.DataObject) -> None:
    number = st.floats(-50, 150, width=32)
    boxes = data.draw(st.lists(st.tuples(number, number, number, number), max_size=5))
    image = np.zeros((60, 80, 3), np.uint8)
    sample = Sample.of(image, boxes, [0] * len(boxes), width=80, height=60)
    shown = TrainingPictures([sample], SIZE, augmentation=None)[Key(0, 0)].boxes
    visible = [
        box
        for box in np.clip(sample.boxes, 0, [80, 60, 80, 60])
        if box[2] > box[0] and box[3] > box[1]
    ]
    assert len(shown) <= len(visible)
    assert (shown[:, 2:] > shown[:, :2]).all()
    large = [box for box in visible if min(box[2] - box[0], box[3] - box[1]) > 0.01]
    assert len(shown) >= len(large)


def test_a_picture_without_objects(samples: list[Sample]) -> None:
    empty = replace(samples[0].select(np.array([], np.intp)))
    for chance in (None, augmentation()):
        picture = TrainingPictures([empty], SIZE, augmentation=chance)[Key(0, 0)]
        assert picture.boxes.shape == (0, 4)
        assert picture.labels.shape == (0,)


def test_an_unreadable_picture_is_named(samples: list[Sample]) -> None:
    path = samples[1].image
    assert isinstance(path, Path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ImageError, match=r"1\.png"):
        TrainingPictures(samples, SIZE, augmentation=None)[Key(0, 1)]
