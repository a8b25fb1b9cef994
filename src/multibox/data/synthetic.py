"""Labelled scenes made by the computer: a data set that needs no download.

A scene is a background with the statistics of natural images and up to six shaded objects that
cast soft shadows, overlap, and hang over the picture's edge. Kinds differ in shape and in
texture, never in colour alone. ``python -m multibox.data.synthetic FOLDER`` writes a VOC folder.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree

import cv2
import numpy as np
import numpy.typing as npt

from multibox.data.samples import Sample
from multibox.data.synthetic_background import Floats, background
from multibox.data.synthetic_objects import KINDS, SceneObject, Window
from multibox.errors import InputError
from multibox.imaging import write_image

CLASSES = KINDS

SPLITS: Mapping[str, float] = MappingProxyType({"train": 0.7, "val": 0.15, "test": 0.15})

# An object's size is the square root of its frame's area, as a share of the shorter side.
SMALLEST, LARGEST = 0.08, 0.6

_SMALLEST_PICTURE = 64
_WITHOUT_OBJECTS = 0.04
_OBJECTS_WEIGHTS = (0.22, 0.26, 0.22, 0.15, 0.10, 0.05)  # of 1 to 6 objects
_DIFFICULT_BELOW = 0.3  # share of the object in sight
_UNSEEN_BELOW = 0.05


def scene(rng: np.random.Generator, size: tuple[int, int] = (320, 240)) -> Sample:
    """One picture of ``size`` (width, height) with its labels, drawn from ``rng``.

    A box is the tight box, within the picture, of the pixels at least half covered by the object,
    whether or not another object hides them; its coordinates are whole numbers. An object with
    less than 30 % of itself in sight is difficult; one with less than 5 % is not labelled,
    because nobody could know it is there.
    """
    width, height = size
    picture = background(rng, height, width)
    light = rng.uniform(0, 2 * np.pi)
    picture *= _illumination(rng, light, height, width)

    number = 1 + rng.choice(6, p=_OBJECTS_WEIGHTS) if rng.random() > _WITHOUT_OBJECTS else 0
    things = [_draw_object(rng, size, light) for _ in range(number)]
    masks = [_paint(picture, thing, rng, light) for thing in things]

    blurred = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 0.8))
    grain = rng.standard_normal(picture.shape, np.float32) * np.float32(rng.uniform(1, 6))
    visible = _visible_shares(things, masks)
    seen = [i for i, share in enumerate(visible) if share >= _UNSEEN_BELOW]
    return Sample.of(
        np.clip(np.round(blurred + grain), 0, 255).astype(np.uint8),
        [_tight_box(masks[i]) for i in seen],
        [CLASSES.index(things[i].kind) for i in seen],
        difficult=[visible[i] < _DIFFICULT_BELOW for i in seen],
        width=width,
        height=height,
    )


def generate(
    folder: Path,
    *,
    images: int = 240,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    splits: Mapping[str, float] = SPLITS,
) -> Path:
    """Write ``images`` scenes of ``size`` (width, height) as a VOC folder, and return the folder.

    ``splits`` gives each split's share; the shares sum to 1. Scene number i depends on (seed, i)
    and ``size`` alone. Raises InputError for a folder that holds something already, and for a
    number, size or share that makes no sense.
    """
    width, height = size
    if min(size) < _SMALLEST_PICTURE:
        raise InputError(f"size={width}x{height}: a side needs at least {_SMALLEST_PICTURE} pixels")
    if seed < 0:
        raise InputError(f"seed={seed}: must not be negative")
    if min(splits.values(), default=0) <= 0 or abs(sum(splits.values()) - 1) > 1e-6:
        raise InputError(f"splits={dict(splits)}: the shares must be positive and sum to 1")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: not an empty folder; name another one or delete it")

    ends = np.round(np.cumsum(list(splits.values())) * images).astype(int).tolist()
    begins = [0, *ends[:-1]]
    if any(begin >= end for begin, end in zip(begins, ends, strict=True)):
        raise InputError(f"images={images}: too few for one image at least in each of {[*splits]}")

    names = [f"scene_{index:05d}" for index in range(images)]
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        rng = np.random.default_rng((seed, index))
        sample = scene(rng, size)
        jpeg = folder / "JPEGImages" / f"{name}.jpg"
        write_image(jpeg, np.asarray(sample.image), quality=int(rng.integers(60, 96)))
        tree = ElementTree.ElementTree(_voc_annotation(sample, jpeg.name))
        ElementTree.indent(tree)
        tree.write(folder / "Annotations" / f"{name}.xml", encoding="utf-8")

    for split, begin, end in zip(splits, begins, ends, strict=True):
        listing = "".join(f"{name}\n" for name in names[begin:end])
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(listing, encoding="utf-8")
    return folder


def _draw_object(rng: np.random.Generator, size: tuple[int, int], light: float) -> SceneObject:
    """Choose an object: any kind, more small ones than large ones, its centre in the picture."""
    kind = CLASSES[rng.integers(len(CLASSES))]
    side = (SMALLEST + (LARGEST - SMALLEST) * rng.beta(1.2, 1.8)) * min(size)
    stretch = np.exp(rng.uniform(-0.2, 0.2))
    # Away from the edge by a quarter of the object, so that most of it is in the picture.
    centre = tuple(rng.uniform(side / 4, length - side / 4) for length in size)
    dark, bright = rng.uniform(5, 90, 3), rng.uniform(150, 255, 3)
    swapped = kind != "ball" and rng.random() < 0.5
    return SceneObject(
        kind=kind,
        centre=(centre[0], centre[1]),
        half_size=(side / 2 * stretch, side / 2 / stretch),
        angle=light if kind == "ball" else rng.uniform(0, 2 * np.pi),
        colours=np.array([bright, dark] if swapped else [dark, bright], np.float32),
        repeats=int(rng.integers(2, 4)),
    )


def _paint(
    picture: Floats, thing: SceneObject, rng: np.random.Generator, light: float
) -> npt.NDArray[np.bool_]:
    """Draw ``thing`` and its shadow into ``picture [h, w, 3]``; return its mask ``[h, w]``."""
    height, width = picture.shape[:2]
    reach = max(thing.half_size)
    softness = 1 + 0.12 * reach
    offset = -rng.uniform(0.05, 0.25) * reach * np.array([np.cos(light), np.sin(light)])

    outline = np.concatenate(thing.contours())
    margin = 3 * softness + 0.25 * reach
    x0, y0 = (int(max(0, low)) for low in outline.min(axis=0) - margin)
    x1 = int(min(width, outline[:, 0].max() + margin + 1))
    y1 = int(min(height, outline[:, 1].max() + margin + 1))
    window = Window(x0, y0, x1 - x0, y1 - y0)
    inside = slice(y0, y1), slice(x0, x1)

    cover = thing.coverage(window)
    shift = np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float32)
    shadow = cv2.warpAffine(cover, shift, (window.width, window.height))
    shadow = cv2.GaussianBlur(shadow, (0, 0), softness) * np.float32(rng.uniform(0.3, 0.6))
    surface = thing.surface(window) * _illumination(rng, light, window.height, window.width)

    picture[inside] *= 1 - shadow[..., None]
    picture[inside] += cover[..., None] * (surface - picture[inside])
    mask = np.zeros((height, width), bool)
    mask[inside] = cover >= 0.5
    return mask


def _illumination(rng: np.random.Generator, light: float, height: int, width: int) -> Floats:
    """Factors ``[height, width, 1]`` about 1 that rise linearly towards the light."""
    strength = rng.uniform(0.1, 0.35)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(np.cos(light))
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(light))
    factors: Floats = 1 + np.float32(strength / 1.42) * (across + down)
    return factors[..., None]


def _visible_shares(things: list[SceneObject], masks: list[npt.NDArray[np.bool_]]) -> list[float]:
    """How much of each object, given back to front, is in the picture and behind no other."""
    shares: list[float] = []
    covered = np.zeros((1, 1), bool)
    for thing, mask in zip(reversed(things), reversed(masks), strict=True):
        shares.append(float((mask & ~covered).sum() / thing.area()))
        covered = covered | mask
    return shares[::-1]


def _tight_box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _voc_annotation(sample: Sample, filename: str) -> ElementTree.Element:
    """The scene in VOC's terms: corners are 1-based and inclusive."""
    root = ElementTree.Element("annotation")
    _add(root, filename=filename)
    _add(ElementTree.SubElement(root, "size"), width=sample.width, height=sample.height, depth=3)
    for box, label, difficult in zip(sample.boxes, sample.labels, sample.difficult, strict=True):
        x0, y0, x1, y1 = box.astype(int).tolist()
        node = ElementTree.SubElement(root, "object")
        _add(node, name=CLASSES[label], difficult=int(difficult))
        _add(ElementTree.SubElement(node, "bndbox"), xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)
    return root


def _add(parent: ElementTree.Element, **children: str | int) -> None:
    for name, value in children.items():
        ElementTree.SubElement(parent, name).text = str(value)


def main(arguments: list[str] | None = None) -> int:
    """Write a data set from the command line; returns the exit code (2 for a wrong call)."""
    parser = argparse.ArgumentParser(
        "multibox.data.synthetic", description="Write a VOC folder of labelled scenes."
    )
    parser.add_argument("folder", type=Path, help="a folder that is new or empty")
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        generate(options.folder, images=options.images, seed=options.seed)
    except InputError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{options.images} pictures of {', '.join(CLASSES)} in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
