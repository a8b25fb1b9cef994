"""Reduced decoding against full decoding, and boxes against the pixels they belong to."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from multibox.data.augmentation import Augmentation, Decision
from multibox.data.batches import Key, TrainingPictures
from multibox.data.crops import Window
from multibox.data.photometric import Distortion
from multibox.data.placement import place
from multibox.data.samples import Sample
from multibox.data.seeding import sample_rng
from multibox.imaging import EncodedPicture, read_encoded


def jpeg(image: np.ndarray, orientation: int = 1) -> EncodedPicture:
    tags = PillowImage.Exif()
    tags[0x0112] = orientation
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "JPEG", quality=95, exif=tags)
    return read_encoded(buffer.getvalue(), "made")


def smooth(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height // 20 + 2, width // 20 + 2, 3))
    return cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_boxes_of_a_reduced_picture_fit_what_is_seen(seed: int) -> None:
    """A bright rectangle on black, in pictures of which every reduction is drawn."""
    rng = np.random.default_rng(seed)
    width, height = rng.integers(150, 500, 2).tolist()
    sides = rng.integers(60, 100, 2)
    x0, y0 = rng.integers(0, (width - sides[0], height - sides[1])).tolist()
    x1, y1 = (x0 + int(sides[0]), y0 + int(sides[1]))
    image = np.zeros((height, width, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    sample = Sample.of(image, [[x0, y0, x1, y1]], [0], width=width, height=height)
    augment = Augmentation(
        (40, 50), (0, 0, 0), photometric=None, interpolations=("linear",), exact=False
    )
    picture = jpeg(image)
    decision = augment.decide(width, height, sample, rng)
    placement = augment.plan(decision, picture)
    decoded = picture.decode(placement.reduction)
    result, found = augment.apply(decision, decoded, sample, placement=placement)
    rows, columns = np.nonzero(result[..., 0] > 127)
    for box in found.boxes:
        if min(box[2] - box[0], box[3] - box[1]) < 4:
            continue
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(box - seen).max() <= 1.5


@given(
    st.integers(1, 400), st.integers(1, 300), st.sampled_from([2, 4, 8]), st.integers(0, 2**32 - 1)
)
@settings(max_examples=200, deadline=None)
def test_a_reduced_source_lies_in_the_reduced_picture_near_where_it_was(
    width: int, height: int, reduction, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x0, x1 = np.sort(rng.choice(np.arange(-50, width + 51), 2, replace=False)).tolist()
    y0, y1 = np.sort(rng.choice(np.arange(-50, height + 51), 2, replace=False)).tolist()
    placed = place(Window(x0, y0, x1, y1), width, height, (20, 30))
    if placed.empty or not placed.shrinks_by(reduction):
        return
    reduced = placed.reduced(reduction, width, height)
    assert reduced.target == placed.target
    decoded = np.zeros((-(-height // reduction), -(-width // reduction), 3), np.uint8)
    left, top, right, bottom = reduced.source
    assert reduced.cut(decoded).shape == ((bottom - top) / reduction, (right - left) / reduction, 3)
    assert min(reduced.cut(decoded).shape) > 0
    assert np.abs(np.subtract(reduced.source, placed.source)).max() < reduction


@pytest.mark.parametrize(("zoom", "reduction"), [(1.0, 1), (1.9, 1), (2.1, 2), (4.1, 4), (16.1, 8)])
def test_no_more_is_decoded_than_is_seen(zoom: float, reduction: int) -> None:
    picture = jpeg(smooth(240, 320))
    window = Window(0, 0, round(320 * zoom), round(240 * zoom))
    decision = Decision(window, Distortion(), "linear", mirror=False)
    size, fill = (240, 320), (0, 0, 0)
    assert Augmentation(size, fill, exact=False).plan(decision, picture).reduction == reduction
    assert Augmentation(size, fill).plan(decision, picture).reduction == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_reduced_like_an_upright_one(orientation: int) -> None:
    picture = jpeg(smooth(160, 240), orientation)
    assert picture.can_be_reduced(8)
    upright, small = picture.decode(), picture.decode(4)
    assert small.shape == (upright.shape[0] // 4, upright.shape[1] // 4, 3)
    mean = cv2.resize(upright, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - mean).max() <= 12
    odd = jpeg(smooth(161, 241), orientation)
    assert odd.can_be_reduced(2) == (orientation == 1)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_turned_and_grey_pictures_are_shown_alike_both_ways(
    tmp_path: Path, mode: str, orientation: int
) -> None:
    """From the file: what is decoded smaller is the part of the upright picture that is cut."""
    tags = PillowImage.Exif()
    tags[0x0112] = orientation
    path = tmp_path / "a.jpg"
    PillowImage.fromarray(smooth(480, 640)).convert(mode).save(path, quality=95, exif=tags)
    width, height = (480, 640) if orientation == 6 else (640, 480)
    sample = Sample.of(
        path, [[50, 60, 300, 310], [200, 100, 470, 430]], [0, 1], width=width, height=height
    )
    size = (72, 96)
    exact, quick = (
        TrainingPictures([sample], size, augmentation=Augmentation(size, (9, 9, 9), exact=each))
        for each in (True, False)
    )
    for epoch in range(12):
        expected, found = exact[Key(epoch, 0)], quick[Key(epoch, 0)]
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1.01 / 72)
        # Colours are distorted after averaging; another part of the picture would be 50 off.
        assert np.abs(found.image.astype(int) - expected.image).mean() < 16


def test_other_formats_are_not_reduced() -> None:
    buffer = io.BytesIO()
    PillowImage.fromarray(smooth(160, 240)).save(buffer, "PNG")
    assert not read_encoded(buffer.getvalue(), "made").can_be_reduced(2)


def test_the_quick_way_decides_the_same_and_paints_nearly_the_same() -> None:
    """Over many decisions, reduced and not: the same boxes but for their rounding, like colours."""
    image = smooth(375, 500)
    sample = Sample.of(
        image, [[50, 60, 300, 310], [200, 100, 480, 370]], [0, 1], width=500, height=375
    )
    picture, reductions = jpeg(image), set()
    decoded = picture.decode()
    exact = Augmentation((100, 100), (9, 9, 9))
    quick = Augmentation((100, 100), (9, 9, 9), exact=False)
    for index in range(60):
        decision = quick.decide(500, 375, sample, sample_rng(0, 0, index))
        assert decision == exact.decide(500, 375, sample, sample_rng(0, 0, index))
        placement = quick.plan(decision, picture)
        reductions.add(placement.reduction)
        out = np.full((100, 100, 3), 77, np.uint8)
        result, found = quick.apply(
            decision, picture.decode(placement.reduction), sample, placement=placement, out=out
        )
        assert result is out
        expected, boxes = exact.apply(decision, decoded, sample)
        np.testing.assert_array_equal(found.labels, boxes.labels)
        np.testing.assert_allclose(found.boxes, boxes.boxes, atol=1.01)
        # A reduced picture is smoother than one of which pixels are passed over.
        largest = 3 if placement.reduction == 1 else 10
        assert np.abs(result.astype(int) - expected).mean() < largest
    assert reductions >= {1, 2, 4}
