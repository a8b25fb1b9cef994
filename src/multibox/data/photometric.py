"""Photometric distortion: brightness, contrast, saturation and hue, on uint8 pixels.

Paper section 2.2 ("photo-metric distortions") with the strengths and the order of Caffe SSD
(``DistortionParameter`` in ``ssd_pascal.py``, ``ApplyDistort`` in ``im_transforms.cpp``).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from multibox.imaging import Image


@dataclass(frozen=True, slots=True)
class Distortion:
    """What is done to the colours of one picture; the defaults leave them alone.

    Brightness first; then contrast, saturation, hue, or with ``contrast_last`` saturation, hue,
    contrast. Each step rounds to whole levels and saturates at 0 and 255.
    """

    brightness: float = 0.0
    """Added to every sample, levels of 0..255."""
    contrast: float = 1.0
    """Factor of every sample."""
    saturation: float = 1.0
    """Factor of the S of HSV."""
    hue: float = 0.0
    """Degrees added to the H of HSV, on the circle of 360."""
    contrast_last: bool = False
    hue_wraps: bool = True
    """False: a hue turned back beyond red, 0 degrees, stays red (Caffe, in steps of 2 degrees)."""


@dataclass(frozen=True, slots=True)
class Photometric:
    """The strengths of the distortions: each is drawn evenly, and applied with ``probability``.

    Caffe's hue of 18 is on OpenCV's half circle of 180, hence 36 degrees here.
    """

    brightness: float = 32.0
    """Largest change either way, levels of 0..255."""
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 36.0
    """Largest change either way, degrees."""
    probability: float = 0.5
    hue_wraps: bool = True
    """False: hues turned back beyond red stay red, as Caffe's 8-bit arithmetic leaves them."""

    def draw(self, rng: np.random.Generator) -> Distortion:
        """Draw one picture's distortion; always takes nine numbers from ``rng``."""
        chances = rng.random(5)
        at = rng.random(4)
        brightness, contrast, saturation, hue = (chances[:4] < self.probability).tolist()
        low_contrast, high_contrast = self.contrast
        low_saturation, high_saturation = self.saturation
        drawn = (
            -self.brightness + 2 * self.brightness * at[0],
            low_contrast + (high_contrast - low_contrast) * at[1],
            low_saturation + (high_saturation - low_saturation) * at[2],
            -self.hue + 2 * self.hue * at[3],
        )
        return Distortion(
            brightness=float(drawn[0]) if brightness else 0.0,
            contrast=float(drawn[1]) if contrast else 1.0,
            saturation=float(drawn[2]) if saturation else 1.0,
            hue=float(drawn[3]) if hue else 0.0,
            contrast_last=bool(chances[4] < 0.5),
            hue_wraps=self.hue_wraps,
        )


def distort(image: Image, distortion: Distortion) -> Image:
    """Apply ``distortion`` to an RGB ``[H, W, 3]`` uint8 picture; the input is left as it was."""
    if distortion.brightness:
        shift = np.full(4, round(distortion.brightness), np.float64)  # an OpenCV scalar
        image = np.asarray(cv2.add(image, shift), np.uint8)
    if not distortion.contrast_last:
        image = _scale(image, distortion.contrast)
    if distortion.saturation != 1 or distortion.hue:
        image = _change_colours(image, distortion)
    if distortion.contrast_last:
        image = _scale(image, distortion.contrast)
    return image


def _change_colours(image: Image, distortion: Distortion) -> Image:
    if distortion.hue_wraps:
        # HSV_FULL puts the circle on 256 levels: adding to uint8 then wraps around it by itself.
        h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
        h = h + np.uint8(round(distortion.hue * 256 / 360) % 256)
        back = cv2.COLOR_HSV2RGB_FULL
    else:
        # 180 levels: stopped at 0, and above 179 the way back goes around the circle.
        h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
        h = np.maximum(h + np.int16(round(distortion.hue / 2)), 0).astype(np.uint8)
        back = cv2.COLOR_HSV2RGB
    hsv = cv2.merge([h, _scale(np.asarray(s, np.uint8), distortion.saturation), v])
    return np.asarray(cv2.cvtColor(hsv, back), np.uint8)


def _scale(samples: Image, factor: float) -> Image:
    """round(samples * factor), saturated at 255."""
    if factor == 1:
        return samples
    return np.asarray(cv2.convertScaleAbs(samples, alpha=factor), np.uint8)
