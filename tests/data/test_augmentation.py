"""The fast chain against a slow one that takes the same decisions pixel by pixel."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multibox.card import Preprocessing
from multibox.data.augmentation import Augmentation, Decision, plain_resize
from multibox.data.crops import Window
from multibox.data.photometric import Distortion, distort
from multibox.data.samples import Sample
from multibox.data.seeding import sample_rng
from multibox.errors import InputError
from multibox.imaging import to_network_input

FILL = (123, 117, 104)


def smooth_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Waves of colour: interpolation errors stay small, misplacement does not."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = []
    for _ in range(3):
        a, b, phase = rng.uniform(0.02, 0.08), rng.uniform(0.02, 0.08), rng.uniform(0, 6)
        waves.append(128 + 100 * np.sin(a * x + b * y + phase))
    return np.dstack(waves).astype(np.uint8)


def make_sample(image: np.ndarray, boxes) -> Sample:
    n = len(boxes)
    return Sample.of(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.arange(n),
        width=image.shape[1],
        height=image.shape[0],
        difficult=np.arange(n) % 2 == 1,
        crowd=np.arange(n) % 3 == 2,
        id="picture",
    )


def slow_apply(image, decision: Decision, size, fill) -> tuple[np.ndarray, np.ndarray]:
    """Build the whole canvas, distort the picture on it, sample it bilinearly, pixel by pixel.

    Returns the picture and the mask of pixels more than two pixels away from any edge.
    """
    window, (height, width) = decision.window, size
    coloured = distort(image, decision.distortion)
    pad = 2 + max(-window.x0, -window.y0, window.x1 - image.shape[1], window.y1 - image.shape[0], 0)
    canvas = np.empty((image.shape[0] + 2 * pad, image.shape[1] + 2 * pad, 3))
    canvas[:] = fill
    canvas[pad:-pad, pad:-pad] = coloured
    result = np.zeros((height, width, 3))
    inner = np.zeros((height, width), bool)
    for row in range(height):
        y = window.y0 + (row + 0.5) * (window.y1 - window.y0) / height - 0.5
        for column in range(width):
            x = window.x0 + (column + 0.5) * (window.x1 - window.x0) / width - 0.5
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            fx, fy = x - x0, y - y0
            patch = canvas[y0 + pad : y0 + pad + 2, x0 + pad : x0 + pad + 2]
            result[row, column] = (
                patch[0, 0] * (1 - fx) * (1 - fy)
                + patch[0, 1] * fx * (1 - fy)
                + patch[1, 0] * (1 - fx) * fy
                + patch[1, 1] * fx * fy
            )
            step_x = 2 * max(1, (window.x1 - window.x0) / width)
            step_y = 2 * max(1, (window.y1 - window.y0) / height)
            far_x = min(abs(x + 0.5), abs(x + 0.5 - image.shape[1])) > step_x
            far_y = min(abs(y + 0.5), abs(y + 0.5 - image.shape[0])) > step_y
            edge = step_x < x - window.x0 < window.x1 - window.x0 - step_x
            edge &= step_y < y - window.y0 < window.y1 - window.y0 - step_y
            inner[row, column] = far_x and far_y and edge
    if decision.mirror:
        result, inner = result[:, ::-1], inner[:, ::-1]
    return result, inner


@pytest.mark.parametrize("seed", range(12))
def test_pixels_agree_with_the_naive_chain(seed):
    image = smooth_picture(90, 120, seed)
    sample = make_sample(image, [[20, 15, 100, 80], [5, 5, 40, 40]])
    augment = Augmentation((48, 64), FILL, interpolations=("linear",))
    decision = augment.decide(120, 90, sample, np.random.default_rng(seed))
    result, _ = augment.apply(decision, image, sample)
    slow, inner = slow_apply(image, decision, augment.size, FILL)
    assert result.shape == (48, 64, 3)
    assert inner.mean() > 0.3
    # An expanded picture lies up to half an input pixel beside its ideal place.
    window = decision.window
    inside = window.x0 >= 0 and window.y0 >= 0 and window.x1 <= 120 and window.y1 <= 90
    down, across = np.gradient(slow, axis=(0, 1))
    half_a_pixel = 0 if inside else 0.5 * (np.abs(down) + np.abs(across))[inner].max()
    assert np.abs(result - slow)[inner].max() <= 1.5 + 1.2 * half_a_pixel


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_boxes_sit_on_their_objects(seed):
    """Objects are bright rectangles on black: their boxes must fit what can be seen of them."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(60, 200, 2)
    corner = rng.integers(0, (width - 25, height - 25))
    x0, y0, x1, y1 = (*corner, *(corner + rng.integers(20, 26, 2)))
    image = np.zeros((height, width, 3), np.uint8)
    image[y0:y1, x0:x1] = 255
    sample = make_sample(image, [[x0, y0, x1, y1]])
    augment = Augmentation((90, 120), (0, 0, 0), photometric=None, interpolations=("linear",))
    result, found = augment(image, sample, rng)
    rows, columns = np.nonzero(result[..., 0] > 127)
    for box in found.boxes:
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(box - seen).max() <= 1.01


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 80),
    st.integers(1, 80),
    st.integers(0, 8),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
@settings(max_examples=150, deadline=None)
def test_any_picture_gives_a_valid_sample(seed, height, width, n, size):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    corners = np.sort(rng.uniform(0, 1, (n, 2, 2)), axis=1).reshape(n, 4)
    sample = make_sample(image, corners * (width, height, width, height))
    before = image.copy()
    augment = Augmentation(size, FILL)
    result, found = augment(image, sample, rng)

    assert result.shape == (*size, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(image, before)
    assert found.image is result
    assert (found.height, found.width) == size
    assert found.id == "picture"
    assert found.boxes.dtype == np.float32
    assert (found.boxes >= 0).all()
    assert (found.boxes <= (size[1], size[0]) * 2).all()
    assert ((found.boxes[:, 2:] - found.boxes[:, :2]) >= augment.min_side).all()
    # make_sample numbers the objects: flags must have travelled with their labels.
    np.testing.assert_array_equal(found.difficult, found.labels % 2 == 1)
    np.testing.assert_array_equal(found.crowd, found.labels % 3 == 2)


def test_objects_are_kept_by_their_centre_and_clipped():
    image = smooth_picture(100, 100)
    sample = make_sample(image, [[0, 0, 60, 60], [70, 70, 100, 100], [20, 20, 40, 40]])
    decision = Decision(Window(25, 25, 75, 75), Distortion(), "linear", mirror=False)
    _, found = Augmentation((100, 100), FILL).apply(decision, image, sample)
    np.testing.assert_array_equal(found.labels, [0, 2])
    np.testing.assert_allclose(found.boxes, [[0, 0, 70, 70], [0, 0, 30, 30]])
    _, mirrored = Augmentation((100, 100), FILL).apply(
        replace(decision, mirror=True), image, sample
    )
    np.testing.assert_allclose(mirrored.boxes, [[30, 0, 100, 70], [70, 0, 100, 30]])


def test_the_fill_is_not_distorted_and_the_picture_is():
    image = np.full((50, 50, 3), 100, np.uint8)
    decision = Decision(Window(-50, -50, 50, 50), Distortion(brightness=30), "linear", mirror=False)
    result, _ = Augmentation((60, 60), FILL).apply(decision, image, make_sample(image, []))
    assert (result[30:, 30:] == 130).all()
    outside = np.ones((60, 60), bool)
    outside[30:, 30:] = False
    assert (result[outside] == FILL).all()


def test_a_window_beside_the_picture_shows_only_fill():
    image = np.full((50, 50, 3), 100, np.uint8)
    decision = Decision(Window(60, 0, 90, 30), Distortion(), "linear", mirror=False)
    result, found = Augmentation((20, 20), FILL).apply(
        decision, image, make_sample(image, [[0, 0, 9, 9]])
    )
    assert (result == FILL).all()
    assert len(found.boxes) == 0


def test_crowd_regions_are_not_offered_to_the_samplers():
    image = smooth_picture(100, 100)
    crowd = replace(make_sample(image, [[10, 10, 90, 90]]), crowd=np.array([True]))
    augment = Augmentation((30, 30), FILL, expand_probability=0)
    rng = np.random.default_rng(0)
    assert {augment.decide(100, 100, crowd, rng).window.sampler for _ in range(30)} == {0}


def test_a_picture_without_objects_is_used_whole_or_expanded():
    image = smooth_picture(40, 60)
    augment = Augmentation((30, 30), FILL)
    for index in range(20):
        decision = augment.decide(60, 40, make_sample(image, []), sample_rng(0, 0, index))
        assert decision.window.sampler == 0
        _, found = augment.apply(decision, image, make_sample(image, []))
        assert found.boxes.shape == (0, 4)


def test_everything_switched_off_is_a_plain_resize():
    image = smooth_picture(70, 50)
    sample = make_sample(image, [[5, 6, 40, 60], [0, 0, 50, 70]])
    augment = Augmentation(
        (30, 40), FILL, photometric=None, expand_probability=0, crop=False, mirror=0,
        interpolations=("linear",),
    )  # fmt: skip
    result, found = augment(image, sample, np.random.default_rng(0))
    plain, expected = plain_resize(image, sample, (30, 40))
    np.testing.assert_array_equal(result, plain)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_allclose(expected.boxes[0], [4, 6 * 3 / 7, 32, 60 * 3 / 7], rtol=1e-6)


def test_a_plain_resize_is_the_networks_input_and_keeps_every_object():
    image = smooth_picture(70, 50)
    preprocessing = Preprocessing(image_size=(30, 40), mean=(0, 0, 0), std=(1, 1, 1))
    sample = make_sample(image, [[5, 5, 5.1, 5.1], [-9, 0, 60, 80]])
    result, found = plain_resize(image, sample, (30, 40))
    np.testing.assert_array_equal(result, to_network_input(image, preprocessing))
    assert len(found.boxes) == 2
    np.testing.assert_allclose(found.boxes[1], [0, 0, 40, 30])
    assert (found.width, found.height) == (40, 30)


def test_one_sample_can_be_reproduced_alone_and_on_any_number_of_threads():
    image = smooth_picture(375, 500)
    sample = make_sample(image, [[50, 60, 300, 310], [200, 100, 480, 370]])
    augment = Augmentation((300, 300), FILL)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        first = [augment(image, sample, sample_rng(7, 3, i)) for i in range(12)]
        cv2.setNumThreads(4)
        for i in reversed(range(12)):
            pixels, found = augment(image, sample, sample_rng(7, 3, i))
            np.testing.assert_array_equal(pixels, first[i][0])
            np.testing.assert_array_equal(found.boxes, first[i][1].boxes)
    finally:
        cv2.setNumThreads(threads)


def test_seed_epoch_and_index_each_give_another_stream():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**40, 0, 0), (0, 1, 1)]
    drawn = {key: tuple(sample_rng(*key).random(4)) for key in keys}
    assert len(set(drawn.values())) == len(keys)
    assert tuple(sample_rng(0, 1, 0).random(4)) == drawn[(0, 1, 0)]
    assert drawn[(0, 0, 0)][0] == pytest.approx(0.6369616873214543, abs=1e-15)


def test_mirroring_and_interpolations_are_drawn_evenly():
    image = smooth_picture(20, 20)
    augment, sample = Augmentation((10, 10), FILL), make_sample(image, [[2, 2, 18, 18]])
    drawn = [augment.decide(20, 20, sample, sample_rng(0, 0, i)) for i in range(1500)]
    assert np.mean([d.mirror for d in drawn]) == pytest.approx(0.5, abs=0.05)
    for name in augment.interpolations:
        assert np.mean([d.interpolation == name for d in drawn]) == pytest.approx(0.2, abs=0.04)


def test_one_interpolation_is_always_drawn():
    image = smooth_picture(20, 20)
    augment = Augmentation((10, 10), FILL, interpolations=("linear",))
    sample = make_sample(image, [[2, 2, 18, 18]])
    drawn = {augment.decide(20, 20, sample, sample_rng(0, 0, i)).interpolation for i in range(50)}
    assert drawn == {"linear"}


@pytest.mark.parametrize(("sampler", "always"), [("caffe", False), ("torchvision", True)])
def test_the_crop_sampler_is_the_chosen_one(sampler, always):
    """Only torchvision's holds the centre of some object in every window."""
    image = smooth_picture(200, 200)
    augment = Augmentation((10, 10), FILL, crop_sampler=sampler, expand_probability=0)
    sample = make_sample(image, [[20, 20, 24, 24]])
    windows = [augment.decide(200, 200, sample, sample_rng(0, 0, i)).window for i in range(100)]
    assert all(w.x0 < 22 < w.x1 and w.y0 < 22 < w.y1 for w in windows) == always


@pytest.mark.parametrize(
    "wrong",
    [{"size": (0, 300)}, {"expand_ratio": 0.5}, {"min_side": 0}, {"interpolations": ()}],
)
def test_values_without_sense_are_refused(wrong):
    with pytest.raises(InputError, match="augmentation"):
        Augmentation(**{"size": (300, 300), "fill": FILL, **wrong})
