"""The integer distortions against the same steps in floating point."""

import colorsys
from dataclasses import fields

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multibox.data.photometric import Distortion, Photometric, distort


def slow_distort(image: np.ndarray, d: Distortion) -> np.ndarray:
    """The steps of the paper in float64, saturating but never rounding."""
    pixels = np.clip(image + d.brightness, 0, 255)
    if not d.contrast_last:
        pixels = np.clip(pixels * d.contrast, 0, 255)
    turned = np.empty_like(pixels)
    for place in np.ndindex(image.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*pixels[place] / 255)
        turned[place] = colorsys.hsv_to_rgb((h + d.hue / 360) % 1, min(s * d.saturation, 1), v)
    pixels = turned * 255
    return np.clip(pixels * d.contrast, 0, 255) if d.contrast_last else pixels


def picture(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


distortions = st.builds(
    Distortion,
    brightness=st.one_of(st.just(0.0), st.floats(-32, 32)),
    contrast=st.one_of(st.just(1.0), st.floats(0.5, 1.5)),
    saturation=st.one_of(st.just(1.0), st.floats(0.5, 1.5)),
    hue=st.one_of(st.just(0.0), st.floats(-36, 36)),
    contrast_last=st.booleans(),
)


@given(distortions, st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_distortion_agrees_with_floating_point(distortion, seed):
    image = picture(seed)
    before = image.copy()
    result = distort(image, distortion)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    error = np.abs(result - slow_distort(image, distortion))
    # Hue is rounded thrice to steps of 1.4 degrees: up to 10 levels, which contrast multiplies.
    assert error.max() <= 16
    assert error.mean() <= 2


@pytest.mark.parametrize(
    ("distortion", "expected"),
    [
        (Distortion(brightness=20), [[30, 120, 255]]),
        (Distortion(brightness=-20), [[0, 80, 230]]),
        (Distortion(contrast=1.5), [[15, 150, 255]]),
        (Distortion(brightness=20, contrast=0.5), [[15, 60, 128]]),
    ],
)
def test_brightness_and_contrast_are_exact(distortion, expected):
    np.testing.assert_array_equal(
        distort(np.array([[[10, 100, 250]]], np.uint8), distortion)[0], expected
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 4), (4, 3)])
def test_brightness_of_the_smallest_pictures(shape):
    """OpenCV must not take its 4-entry scalar for a picture."""
    image = np.full((*shape, 3), 100, np.uint8)
    assert (distort(image, Distortion(brightness=7)) == 107).all()


def test_grey_has_no_colour_to_turn():
    image = np.repeat(picture(0)[..., :1], 3, axis=2)
    np.testing.assert_array_equal(distort(image, Distortion(saturation=1.5, hue=30)), image)


@pytest.mark.parametrize(
    ("wraps", "hue", "start", "expected"),
    [
        (True, -36, (255, 0, 0), (255, 0, 153)),  # 0 degrees to 324
        (False, -36, (255, 0, 0), (255, 0, 0)),  # stopped at 0
        (True, -36, (255, 85, 0), (255, 0, 68)),  # 20 degrees to 344
        (False, -36, (255, 85, 0), (255, 0, 0)),
        (True, 36, (255, 0, 85), (255, 68, 0)),  # 340 degrees to 16
        (False, 36, (255, 0, 85), (255, 68, 0)),  # on the way up Caffe goes around, too
        (False, -36, (0, 255, 0), (153, 255, 0)),  # 120 degrees to 84
    ],
)
def test_hue_goes_around_the_circle_or_stops_at_red(wraps, hue, start, expected):
    image = np.full((4, 1, 3), start, np.uint8)
    turned = distort(image, Distortion(hue=hue, hue_wraps=wraps))
    assert np.abs(turned.astype(int) - expected).max() <= 5


def test_caffes_hue_is_its_own_arithmetic():
    """``AdjustHue`` of im_transforms.cpp: OpenCV's 180 levels, added to with saturation."""
    image = picture(3, 40, 40)
    hsv = cv2.cvtColor(image[..., ::-1].copy(), cv2.COLOR_BGR2HSV)
    shifted = np.clip(hsv[..., 0].astype(float) - 11, 0, 255).astype(np.uint8)
    expected = cv2.cvtColor(np.dstack([shifted, hsv[..., 1:]]), cv2.COLOR_HSV2BGR)[..., ::-1]
    np.testing.assert_array_equal(distort(image, Distortion(hue=-22, hue_wraps=False)), expected)


@pytest.mark.parametrize("wraps", [True, False])
def test_what_is_drawn_knows_whether_hue_wraps(wraps):
    drawn = Photometric(hue_wraps=wraps).draw(np.random.default_rng(0))
    assert drawn.hue_wraps == wraps


def test_a_view_of_a_picture_is_distorted_like_a_copy():
    image = picture(1, 20, 20)
    d = Distortion(brightness=9, contrast=1.2, saturation=0.7, hue=20)
    view = image[3:15, 4:19]
    np.testing.assert_array_equal(distort(view, d), distort(view.copy(), d))


def test_draws_have_the_papers_ranges_and_frequencies():
    rng = np.random.default_rng(0)
    drawn = [Photometric().draw(rng) for _ in range(4000)]
    limits = {
        "brightness": (0, -32, 32),
        "contrast": (1, 0.5, 1.5),
        "saturation": (1, 0.5, 1.5),
        "hue": (0, -36, 36),
    }
    for name, (neutral, low, high) in limits.items():
        values = np.array([getattr(each, name) for each in drawn])
        used = values[values != neutral]
        assert len(used) / len(values) == pytest.approx(0.5, abs=0.04)
        assert low <= used.min() < low + 0.01 * (high - low)
        assert high >= used.max() > high - 0.01 * (high - low)
        assert used.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
    assert np.mean([each.contrast_last for each in drawn]) == pytest.approx(0.5, abs=0.04)


def test_probability_zero_leaves_the_picture_itself():
    never = Photometric(probability=0).draw(np.random.default_rng(0))
    for field in fields(Distortion):
        if field.name != "contrast_last":
            assert getattr(never, field.name) == field.default
    image = picture(2)
    assert distort(image, never) is image
