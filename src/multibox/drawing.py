"""Pictures for people: boxes with labels, and sheets of many pictures."""

import colorsys
import math
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from multibox.detections import Detections
from multibox.imaging import Image

Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_WEIGHT = 500  # of the letters: between regular (400) and semibold (600)
_SHEET_GROUND = (32, 32, 32)
_SHEET_GAP = 6


@cache
def class_colour(index: int) -> Colour:
    """The RGB colour of class ``index``, the same in every picture and run.

    Steps of the golden ratio around the hue circle keep any number of classes as far apart as
    they can be; every other turn is paler or darker.
    """
    hue = (0.02 + index * _GOLDEN_RATIO) % 1
    saturation, value = ((0.85, 1.0), (0.6, 0.95), (0.9, 0.72))[index // 7 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_detections(image: Image, detections: Detections) -> Image:
    """Draw the boxes with "cat 0.93" labels on a copy of an RGB ``[H, W, 3]`` uint8 picture.

    One colour a class; the best detection lies on top.
    """
    found = list(detections)[::-1]
    return draw_boxes(
        image,
        np.array([each.box for each in found], np.float32).reshape(-1, 4),
        [f"{each.label} {each.score:.2f}" for each in found],
        [class_colour(label) for label in detections.labels.tolist()[::-1]],
    )


def draw_boxes(
    image: Image,
    boxes: npt.NDArray[np.floating],
    texts: Sequence[str],
    colours: Sequence[Colour],
    *,
    dashed: bool = False,
) -> Image:
    """Draw ``boxes [n, 4]`` (x0, y0, x1, y1 in pixels) with a label each on a copy of the picture.

    ``texts`` and ``colours`` (RGB) have n entries; an empty text gives no label. Line width and
    letters grow with the picture. ``dashed`` tells ground truth from predictions.
    """
    drawn = np.array(image, np.uint8, order="C")
    height, width = drawn.shape[:2]
    thickness = max(1, round(math.sqrt(height * width) / 260))
    limit = (width - 1, height - 1, width - 1, height - 1)
    inside = np.clip(np.nan_to_num(np.asarray(boxes, np.float64)), 0, limit)
    corners: list[Rectangle] = [(a, b, c, d) for a, b, c, d in np.rint(inside).astype(int).tolist()]
    for corner, colour in zip(corners, colours, strict=True):
        _outline(drawn, corner, colour, thickness, dashed)
    # Labels come after all lines, so that none is crossed. The last box chooses its place first,
    # and where no place is free its label still lies on top.
    size = round(min(max(math.sqrt(height * width) / 32, 11), 64))
    letters = _HersheyFont(size) if _font() is None else _TrueTypeFont(size)
    labels: list[_Label] = []
    for corner, text, colour in reversed(list(zip(corners, texts, colours, strict=True))):
        if text:
            labels.append(_place_label(drawn, corner, text, colour, letters, labels))
    for label in reversed(labels):
        cv2.rectangle(drawn, label.place[:2], label.place[2:], label.colour, cv2.FILLED)
        origin = (label.place[0] + letters.pad, label.place[1] + letters.pad)
        letters.write(drawn, label.text, origin, _ink(label.colour))
    return drawn


def contact_sheet(images: Sequence[Image], columns: int = 4, width: int = 1600) -> Image:
    """Put RGB uint8 pictures of any sizes on one sheet ``width`` pixels wide, row by row.

    Every picture is scaled to fit its cell, its proportions kept; all cells are equal, as high
    as the picture of median proportions needs.
    """
    columns = max(1, min(columns, len(images)))
    cell_width = max(1, (width - _SHEET_GAP * (columns + 1)) // columns)
    proportions = [picture.shape[0] / picture.shape[1] for picture in images] or [1.0]
    cell_height = max(1, round(cell_width * float(np.median(proportions))))
    rows = max(1, math.ceil(len(images) / columns))
    shape = (rows * (cell_height + _SHEET_GAP) + _SHEET_GAP, width, 3)
    sheet = np.full(shape, _SHEET_GROUND, np.uint8)
    for place, picture in enumerate(images):
        row, column = divmod(place, columns)
        scale = min(cell_height / picture.shape[0], cell_width / picture.shape[1])
        h = min(cell_height, max(1, round(picture.shape[0] * scale)))
        w = min(cell_width, max(1, round(picture.shape[1] * scale)))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        top = _SHEET_GAP + row * (cell_height + _SHEET_GAP) + (cell_height - h) // 2
        left = _SHEET_GAP + column * (cell_width + _SHEET_GAP) + (cell_width - w) // 2
        sheet[top : top + h, left : left + w] = cv2.resize(picture, (w, h), interpolation=how)
    return sheet


def _outline(
    image: Image, corners: Rectangle, colour: Colour, thickness: int, dashed: bool
) -> None:
    x0, y0, x1, y1 = corners
    if not dashed:
        cv2.rectangle(image, (x0, y0), (x1, y1), colour, thickness)
        return
    dash = 5 * thickness
    for x in range(x0, x1 + 1, 2 * dash):
        for y in (y0, y1):
            cv2.line(image, (x, y), (min(x + dash, x1), y), colour, thickness)
    for y in range(y0, y1 + 1, 2 * dash):
        for x in (x0, x1):
            cv2.line(image, (x, y), (x, min(y + dash, y1)), colour, thickness)


class _Label(NamedTuple):
    text: str
    colour: Colour
    place: Rectangle


def _place_label(
    image: Image,
    corners: Rectangle,
    text: str,
    colour: Colour,
    letters: "_TrueTypeFont | _HersheyFont",
    others: list[_Label],
) -> _Label:
    """A label at a corner of its box, inside the picture and, where possible, clear of others."""
    text_width, text_height = letters.measure(text)
    w, h = text_width + 2 * letters.pad, text_height + 2 * letters.pad
    x0, y0, x1, y1 = corners
    height, width = image.shape[:2]
    tops = [top for top in (y0 - h, y0, y1 - h, y1) if 0 <= top <= height - h] or [0]
    lefts = (max(0, min(x0, width - w)), max(0, min(x1 - w, width - w)))
    places = [(left, top, left + w, top + h) for left in lefts for top in tops]
    free = [p for p in places if not any(_overlap(p, other.place) for other in others)]
    return _Label(text, colour, (free or places)[0])


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink(ground: Colour) -> Colour:
    """Black or white, whichever reads better on ``ground`` (luma of ITU-R BT.601)."""
    luma = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2]
    return (0, 0, 0) if luma > 140 else (255, 255, 255)


@cache
def _font() -> Any:
    """OpenCV 5's own unicode font; None before OpenCV 5."""
    return cv2.FontFace() if hasattr(cv2, "FontFace") else None


class _TrueTypeFont:
    """Letters of nearly every script; the few that are missing become question marks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pad = max(2, size // 5)

    def measure(self, text: str) -> tuple[int, int]:
        # A height that does not depend on the letters keeps all labels of a picture alike. The
        # picture's size only matters for wrapping, which is off.
        _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(), self.size, _WEIGHT)
        return int(width), round(self.size * 0.95)

    def write(self, image: Image, text: str, corner: tuple[int, int], ink: Colour) -> None:
        baseline = corner[1] + round(self.size * 0.77)
        cv2.putText(image, text, (corner[0], baseline), ink, _font(), self.size, _WEIGHT)


class _HersheyFont:
    """The only letters before OpenCV 5: ASCII. Accents are dropped, the rest becomes "?"."""

    def __init__(self, size: int) -> None:
        self.pad = max(2, size // 5)
        self.scale = size / 30
        self.thickness = max(1, round(size / 14))

    def measure(self, text: str) -> tuple[int, int]:
        (width, height), below = cv2.getTextSize(
            to_ascii(text), cv2.FONT_HERSHEY_SIMPLEX, self.scale, self.thickness
        )
        return width, height + below

    def write(self, image: Image, text: str, corner: tuple[int, int], ink: Colour) -> None:
        text = to_ascii(text)
        (_, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, self.scale, self.thickness)
        origin = (corner[0], corner[1] + height)
        cv2.putText(
            image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, self.scale, ink, self.thickness,
            cv2.LINE_AA,
        )  # fmt: skip


def to_ascii(text: str) -> str:
    """Drop accents; write every other character beyond ASCII as "?"."""
    parts = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in parts)
