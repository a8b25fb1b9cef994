"""Mosaics: which pixels and objects of four pictures are where, and that a key fixes all of it."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from multibox.boxes import centre_inside
from multibox.data.augmentation import Augmentation
from multibox.data.batches import _MOSAIC_STREAMS, Key, TrainingPicture, TrainingPictures
from multibox.data.mosaic import Mosaic, Tile
from multibox.data.samples import Sample
from multibox.data.seeding import sample_rng
from multibox.imaging import Image

SIZE = (64, 96)
COLOURS = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [250, 250, 10], [10, 250, 250]])


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Pictures of one colour each, grey around a rectangle in it: the object."""
    folder = tmp_path_factory.mktemp("pictures")
    result = []
    for number, colour in enumerate(COLOURS):
        image = np.full((400, 600, 3), 128, np.uint8)
        image[80:320, 150:480] = colour
        path = folder / f"{number}.jpg"
        cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        result.append(Sample.of(path, [[150, 80, 480, 320]], [number], width=600, height=400))
    return result


def pictures(
    samples: list[Sample], probability: float = 1.0, epochs: int = 99, seed: int = 0
) -> TrainingPictures:
    plain = Augmentation(SIZE, (1, 2, 3), photometric=None, interpolations=("linear",), exact=False)
    mosaic = Mosaic(probability, epochs) if probability else None
    return TrainingPictures(samples, SIZE, augmentation=plain, mosaic=mosaic, seed=seed)


def tiles_of(seed: int, epoch: int, number: int) -> tuple[Tile, ...]:
    rng = sample_rng(seed, epoch, _MOSAIC_STREAMS + number)
    return Mosaic(1, 9).tiles(epoch, number, len(COLOURS), SIZE, rng)


def hull(image: Image, colour: npt.NDArray[np.int64]) -> list[int]:
    """Of the pixels that have this colour."""
    ys, xs = np.nonzero(np.abs(image.astype(int) - colour).max(axis=2) < 60)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_tiles_cover_the_picture_once_with_its_own_picture_among_them() -> None:
    for seed in range(50):
        tiles = tiles_of(seed, 0, 3)
        covered = np.zeros(SIZE, int)
        for tile in tiles:
            x0, y0, x1, y1 = tile.area
            covered[y0:y1, x0:x1] += 1
            assert (y1 - y0, x1 - x0) == tile.size
            assert np.divide(tile.size, SIZE).min() > 0.37
        assert (covered == 1).all()
        assert tiles[0].picture == 3
    assert len({tiles_of(seed, 0, 3)[0].area[:2] for seed in range(50)}) > 10


def test_every_object_is_where_its_pixels_are(samples: list[Sample]) -> None:
    shown = pictures(samples)
    objects, counts = 0, set()
    for key in (Key(epoch, number) for epoch in range(8) for number in range(len(samples))):
        image, boxes, labels = shown[key]
        counts.add(len(labels))
        pixels = boxes * np.array([*SIZE[::-1], *SIZE[::-1]])
        found = 0
        for tile in tiles_of(0, *key):
            x0, y0, x1, y1 = tile.area
            for box in pixels[
                (labels == tile.picture) & centre_inside(pixels, np.array(tile.area))
            ]:
                there = hull(image[y0:y1, x0:x1], COLOURS[tile.picture])
                np.testing.assert_allclose(box - [x0, y0, x0, y0], there, atol=2)
                found += 1
        assert found == len(labels)
        objects += found
    assert objects > 100
    assert max(counts) == 4


def same(a: TrainingPicture, b: TrainingPicture) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(a, b, strict=True))


def test_a_key_fixes_its_mosaic_and_the_seed_changes_it(samples: list[Sample]) -> None:
    forwards, backwards = pictures(samples, 0.5), pictures(samples, 0.5)
    keys = [Key(epoch, number) for epoch in range(6) for number in range(5)]
    late = {key: backwards[key] for key in reversed(keys)}
    assert all(same(forwards[key], late[key]) for key in keys)
    other = pictures(samples, 0.5, seed=1)
    assert not any(same(forwards[key], other[key]) for key in keys)


def test_the_other_pictures_are_as_without_mosaics(samples: list[Sample]) -> None:
    plain, mixed, early = pictures(samples, 0), pictures(samples, 0.4), pictures(samples, 1, 3)
    keys = [Key(epoch, number) for epoch in range(20) for number in range(5)]
    unchanged = sum(same(plain[key], mixed[key]) for key in keys)
    assert 45 <= unchanged <= 75
    assert [same(plain[key], early[key]) for key in keys] == [key.epoch >= 3 for key in keys]


def test_it_is_known_which_pictures_are_shown(samples: list[Sample]) -> None:
    mosaics, plain = pictures(samples, 1, epochs=3), pictures(samples, 0)
    for number in range(len(samples)):
        four = [tile.picture for tile in tiles_of(0, 2, number)]
        assert mosaics.shown(Key(2, number)) == four
        assert four[0] == number
        assert mosaics.shown(Key(3, number)) == plain.shown(Key(2, number)) == [number]


def test_a_picture_is_written_where_it_is_wanted(samples: list[Sample]) -> None:
    shown, out = pictures(samples), np.zeros((*SIZE, 3), np.uint8)
    written = shown.write(Key(0, 1), out)
    assert written.image is out
    assert same(written, shown[Key(0, 1)])


def test_without_augmentation_every_object_is_there(samples: list[Sample]) -> None:
    shown = TrainingPictures(samples, SIZE, augmentation=None, mosaic=Mosaic(1, 9))
    for number in range(5):
        labels = [tile.picture for tile in tiles_of(0, 0, number)]
        assert shown[Key(0, number)].labels.tolist() == labels
