"""Backgrounds of the synthetic scenes: noise with the statistics of natural images."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

# Opponent axes in RGB, and how much of a photograph's contrast lies along each: nearly all is
# luminance, then yellow-blue, then red-green (Ruderman, Cronin and Chiao, 1998).
_OPPONENT_AXES = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]], np.float32)
_OPPONENT_AXES /= np.linalg.norm(_OPPONENT_AXES, axis=1, keepdims=True)
_OPPONENT_CONTRAST = np.array([1.0, 0.25, 0.1], np.float32)


def pink_noise(
    rng: np.random.Generator, channels: int, height: int, width: int, exponent: float
) -> Floats:
    """Random fields ``[channels, height, width]`` whose power falls as 1 / frequency^exponent.

    Mean 0 and variance 1 each. Photographs have an exponent near 2 (Field, 1987); a larger one
    is smoother.
    """
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    white = rng.standard_normal((channels, height, width), np.float32)
    amplitude = (frequency ** (-exponent / 2)).astype(np.float32)
    noise = np.fft.irfft2(np.fft.rfft2(white) * amplitude, (height, width))
    scaled: Floats = (noise / noise.std(axis=(1, 2), keepdims=True)).astype(np.float32)
    return scaled


def background(rng: np.random.Generator, height: int, width: int) -> Floats:
    """An RGB picture ``[height, width, 3]``, about 0..255 and not clipped, without objects.

    Two or three irregular regions of different colours give the edges that noise lacks; pink
    noise along randomised opponent axes gives the texture.
    """
    lie_of_the_land = pink_noise(rng, 1, height, width, 3.2)[0]
    borders = np.sort(rng.normal(0, 0.8, rng.integers(1, 3)))
    brightness = rng.uniform(60, 190)
    regions = brightness + rng.normal(0, (30, 10, 6), (len(borders) + 1, 3)) @ _OPPONENT_AXES
    picture: Floats = regions.astype(np.float32)[np.digitize(lie_of_the_land, borders)]

    texture = pink_noise(rng, 3, height, width, rng.uniform(1.7, 2.4))
    contrast = rng.uniform(12, 45) * _OPPONENT_CONTRAST * rng.uniform(0.5, 1.5, 3)
    mixing = contrast.astype(np.float32)[:, None] * _OPPONENT_AXES
    picture += np.moveaxis(texture, 0, -1) @ mixing
    return picture
