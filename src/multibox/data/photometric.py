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
        image = _shift(image, [round(distortion.brightness)] * 3)
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
        hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), np.uint8)
        turn = np.zeros((image.shape[1], 3), np.uint8)
        turn[:, 0] = round(distortion.hue * 256 / 360) % 256
        # Row by row: NumPy has long rows to add, where a channel of its own would be strided.
        rows = hsv.reshape(len(hsv), -1)
        rows += turn.reshape(-1)
        back = cv2.COLOR_HSV2RGB_FULL
    else:
        # 180 levels: stopped at 0, and above 179 the way back goes around the circle.
        hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.uint8)
        hsv = _shift(hsv, [round(distortion.hue / 2), 0, 0])
        back = cv2.COLOR_HSV2RGB
    if distortion.saturation != 1:
        s = np.asarray(cv2.extractChannel(hsv, 1), np.uint8)
        cv2.insertChannel(_scale(s, distortion.saturation), hsv, 1)
    return np.asarray(cv2.cvtColor(hsv, back), np.uint8)


def _shift(image: Image, by: list[int]) -> Image:
    """Add whole levels to each of three channels, saturated at 0 and 255."""
    scalar = np.array([*by, 0], np.float64)  # as OpenCV wants it
    return np.asarray(cv2.add(image, scalar), np.uint8)


def _scale(samples: Image, factor: float) -> Image:
    """round(samples * factor), saturated at 255."""
    if factor == 1:
        return samples
    return np.asarray(cv2.convertScaleAbs(samples, alpha=factor), np.uint8)
